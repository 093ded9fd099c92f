//! The RabbitMQ door over a real node: what the broker really does with replies, delays, dead letters, restarts,
//! missing queues and a worker that stops.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/rabbit.rs"]
mod rabbit;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use rabbit::Rabbit;
use sharelink::broker::{self, ConnectError, Moved, Publisher, Replied, StartError};
use sharelink::config::{self, QueueType, Topology};
use sharelink::model::{Envelope, ErrorKind, Failure, Granted, Made, Object, Reply, Secret, Status, Travel};
use sharelink::pipeline::ports::{DeathNote, DeathReason, Handler, Outbox, PublishFailure};
use sharelink::pipeline::settle::{Answered, DelayCause, RequeueCause, Settlement};
use sharelink::telemetry::health::Health;
use sharelink::telemetry::metrics::Metrics;
use tokio::sync::{Barrier, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; no test waits for it unless it fails.
const SOON: Duration = Duration::from_secs(60);

type Outcome = Settlement<Replied, Moved>;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {} s", SOON.as_secs()))
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A handler that does what the test says.
struct Scripted<F>(F);

impl<F, T> Handler<Publisher> for Scripted<F>
where
    F: Fn(Envelope, Publisher, CancellationToken) -> T + Send + Sync + 'static,
    T: Future<Output = Outcome> + Send,
{
    async fn handle(&self, envelope: &Envelope, outbox: &Publisher, stopping: &CancellationToken) -> Outcome {
        (self.0)(envelope.clone(), outbox.clone(), stopping.clone()).await
    }
}

fn settings(node: &Rabbit) -> config::Broker {
    let prefix = uuid::Uuid::new_v4().simple().to_string();
    config::Broker {
        urls: vec![Secret::new(node.url())],
        request_queue: format!("{prefix}.requests"),
        reply_queue: format!("{prefix}.replies"),
        dead_letter_queue: format!("{prefix}.dead"),
        exchange: format!("{prefix}.sharelink"),
        prefetch: 64,
        topology: Topology::Declare,
        queue_type: QueueType::Quorum,
        reply_to_allow: vec!["*".to_owned()],
        max_request_bytes: 1024 * 1024,
        max_deliveries: 5,
        connect_timeout: Duration::from_secs(20),
        publish_timeout: Duration::from_secs(20),
        heartbeat: Duration::from_secs(10),
    }
}

/// A running worker, and a client of the same broker.
struct World {
    settings: config::Broker,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stopping: CancellationToken,
    worker: JoinHandle<Result<(), StartError>>,
    client: Client,
}

/// The requester's side.
struct Client {
    connection: Connection,
    channel: Channel,
}

impl Client {
    async fn new(settings: &config::Broker) -> Self {
        let connection = broker::connect(settings, "test").await.expect("the node answers");
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions { nowait: false }).await.unwrap();
        Self { connection, channel }
    }

    async fn publish(&self, exchange: &str, key: &str, body: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm = self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
        assert_eq!(confirm.await.unwrap().await.unwrap(), Confirmation::Ack(None));
    }

    async fn queue(&self) -> String {
        let name = format!("test.{}", uuid::Uuid::new_v4().simple());
        let options = QueueDeclareOptions::durable();
        self.channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.unwrap();
        name
    }

    async fn consume(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
    }

    async fn take(&self, queue: &str) -> Delivery {
        let mut consumer = self.consume(queue).await;
        soon("a message", consumer.next()).await.expect("the queue is there").unwrap()
    }

    /// Messages ready in a queue.
    async fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions::default().passive();
        let channel = self.connection.create_channel().await.unwrap();
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count()
    }
}

fn worker<F, T>(settings: &config::Broker, grace: Duration, script: F) -> (Parts, JoinHandle<Result<(), StartError>>)
where
    F: Fn(Envelope, Publisher, CancellationToken) -> T + Send + Sync + 'static,
    T: Future<Output = Outcome> + Send + 'static,
{
    let queues = [settings.request_queue.as_str(), &settings.reply_queue, &settings.dead_letter_queue];
    let metrics = Arc::new(Metrics::new(&["contoso"], &queues).unwrap());
    let health = Arc::new(Health::new(Instant::now()));
    let stopping = CancellationToken::new();
    let parts = Parts { metrics: metrics.clone(), health: health.clone(), stopping: stopping.clone() };
    let settings = settings.clone();
    let handler = Arc::new(Scripted(script));
    let worker = tokio::spawn(async move {
        broker::run(&settings, "worker-1".to_owned(), handler, metrics, health, grace, stopping).await
    });
    (parts, worker)
}

struct Parts {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stopping: CancellationToken,
}

impl World {
    async fn new<F, T>(script: F) -> Self
    where
        F: Fn(Envelope, Publisher, CancellationToken) -> T + Send + Sync + 'static,
        T: Future<Output = Outcome> + Send + 'static,
    {
        Self::with(settings(Rabbit::shared()), SOON, script).await
    }

    async fn with<F, T>(settings: config::Broker, grace: Duration, script: F) -> Self
    where
        F: Fn(Envelope, Publisher, CancellationToken) -> T + Send + Sync + 'static,
        T: Future<Output = Outcome> + Send + 'static,
    {
        let (Parts { metrics, health, stopping }, worker) = worker(&settings, grace, script);
        soon("the worker is ready", health.until_ready()).await;
        let client = Client::new(&settings).await;
        Self { settings, metrics, health, stopping, worker, client }
    }

    async fn request(&self, body: &str, properties: BasicProperties) {
        self.client.publish("", &self.settings.request_queue, body, properties).await;
    }

    async fn replies(&self) -> Consumer {
        self.client.consume(&self.settings.reply_queue).await
    }

    async fn stop(&mut self) {
        self.stopping.cancel();
        soon("the worker stops", &mut self.worker).await.unwrap().unwrap();
    }

    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no series {series}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
    }

    fn settlements(&self, settlement: &str, cause: &str) -> u64 {
        self.count(&format!("sharelink_settlements_total{{cause=\"{cause}\",settlement=\"{settlement}\"}}"))
    }

    async fn settled(&self, settlement: &str, cause: &str, times: u64) {
        until(&format!("{times} × {settlement} / {cause}"), || async { self.settlements(settlement, cause) == times })
            .await;
    }
}

fn reply(envelope: &Envelope) -> Reply {
    let link = Granted {
        id: "L1".to_owned(),
        url: "https://contoso.example/x".to_owned(),
        html: None,
        granted: Object::default(),
    };
    Reply {
        id: String::from_utf8_lossy(&envelope.body).into_owned(),
        provider: Some("contoso".to_owned()),
        item: None,
        result: Ok((Made::Created, link)),
        warnings: Vec::new(),
        attempts: 1,
        elapsed_ms: 5,
        completed_at: "2026-11-22T10:00:00Z".parse().unwrap(),
    }
}

fn ack(proof: Replied) -> Outcome {
    let answered = Answered { provider: Some("contoso".into()), status: Status::Created, malformed: false };
    Settlement::Ack { proof, answered }
}

/// Replies and settles as the pipeline does.
async fn answer(envelope: Envelope, outbox: Publisher, _: CancellationToken) -> Outcome {
    match outbox.reply(&envelope, &reply(&envelope)).await {
        Ok(proof) => ack(proof),
        Err(_) => Settlement::Requeue(RequeueCause::Unconfirmed),
    }
}

fn text(delivery: &Delivery, header: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(header)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        other => panic!("{header} is {other:?}"),
    }
}

fn short(property: &Option<ShortString>) -> &str {
    property.as_ref().map_or("", ShortString::as_str)
}

fn id(delivery: &Delivery) -> String {
    let body: serde_json::Value = serde_json::from_slice(&delivery.data).unwrap();
    body["id"].as_str().unwrap().to_owned()
}

fn asking(queue: &str) -> BasicProperties {
    BasicProperties::default().with_reply_to(queue.into())
}

#[tokio::test]
async fn a_request_is_answered_where_it_asked_for_it_and_then_acknowledged() {
    let mut world = World::new(answer).await;
    let mine = world.client.queue().await;
    let properties = asking(&mine).with_correlation_id("c-1".into()).with_message_id("m-1".into());
    world.request("a", properties).await;
    let reply = world.client.take(&mine).await;
    assert_eq!(id(&reply), "a");
    assert_eq!(short(reply.properties.correlation_id()), "c-1");
    assert_eq!(short(reply.properties.content_type()), "application/json");
    assert_eq!(*reply.properties.delivery_mode(), Some(2));
    assert_eq!(text(&reply, "sharelink-status").as_deref(), Some("created"));
    world.settled("ack", "answered", 1).await;
    assert_eq!(world.count("sharelink_request_duration_seconds_count{provider=\"contoso\",status=\"created\"}"), 1);
    assert_eq!(world.count("sharelink_broker_connected{role=\"consume\"}"), 1);
    world.stop().await;
    assert_eq!(world.client.ready(&world.settings.request_queue).await, 0);
    assert_eq!(world.count("sharelink_broker_connected{role=\"publish\"}"), 0);
}

#[tokio::test]
async fn requests_reach_the_queue_through_the_exchange_as_well() {
    let world = World::new(answer).await;
    world.client.publish(&world.settings.exchange, "request", "a", BasicProperties::default()).await;
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
}

#[tokio::test]
async fn a_confirmed_reply_alone_does_not_take_the_request_off_the_queue() {
    let settings = settings(Rabbit::shared());
    let mut world = World::with(settings, Duration::ZERO, |envelope, outbox, _| async move {
        let proof = outbox.reply(&envelope, &reply(&envelope)).await.unwrap();
        std::future::pending::<()>().await;
        ack(proof)
    })
    .await;
    world.request("a", BasicProperties::default()).await;
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
    world.stop().await;
    assert_eq!(world.settlements("requeue", "stopping"), 1);
    until("the request is back", || async { world.client.ready(&world.settings.request_queue).await == 1 }).await;
}

#[tokio::test]
async fn a_reply_that_cannot_be_routed_goes_to_the_configured_queue_and_says_where_it_was_wanted() {
    let world = World::new(answer).await;
    world.request("a", asking("nobody.listens.here")).await;
    let reply = world.client.take(&world.settings.reply_queue).await;
    assert_eq!(id(&reply), "a");
    assert_eq!(text(&reply, "sharelink-reply-to").as_deref(), Some("nobody.listens.here"));
}

#[tokio::test]
async fn a_queue_that_is_not_allowed_and_the_workers_own_queues_get_no_reply() {
    let mut settings = settings(Rabbit::shared());
    settings.reply_to_allow = vec!["allowed.*".to_owned(), format!("{}*", settings.request_queue)];
    let world = World::with(settings, SOON, answer).await;
    let mine = world.client.queue().await;
    let own = [world.settings.request_queue.clone(), format!("{}.delay.1s", world.settings.request_queue)];
    let mut replies = world.replies().await;
    for queue in [mine.clone(), own[0].clone(), own[1].clone()] {
        world.request("a", asking(&queue)).await;
        let reply = soon("a reply", replies.next()).await.unwrap().unwrap();
        assert_eq!(text(&reply, "sharelink-reply-to"), Some(queue));
    }
    world.settled("ack", "answered", 3).await;
    assert_eq!(world.client.ready(&mine).await, 0);
}

#[tokio::test]
async fn a_reply_that_no_queue_takes_is_unroutable_and_the_dead_letter_says_so() {
    let mut world = World::new(|envelope, outbox, _| async move {
        let failure = outbox.reply(&envelope, &reply(&envelope)).await.unwrap_err();
        let PublishFailure::Unroutable(error) = failure else { panic!("{failure}") };
        let note = DeathNote {
            reason: DeathReason::Unroutable,
            error,
            attempts: 2,
            first_seen: "2026-11-22T10:00:00Z".parse().unwrap(),
            reply: Some(Box::new(reply(&envelope))),
        };
        let proof = outbox.bury(&envelope, &note).await.unwrap();
        Settlement::DeadLetter { proof, cause: note.reason }
    })
    .await;
    let reply_queue = world.settings.reply_queue.as_str();
    world.client.channel.queue_delete(reply_queue.into(), QueueDeleteOptions::default()).await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("tenant".into(), AMQPValue::LongString("blue".into()));
    let properties = asking("nobody").with_headers(headers).with_message_id("m-1".into());
    world.request("the body", properties).await;
    let dead = world.client.take(&world.settings.dead_letter_queue).await;
    assert_eq!(dead.data, b"the body");
    assert_eq!(short(dead.properties.message_id()), "m-1");
    assert_eq!(short(dead.properties.reply_to()), "nobody");
    assert_eq!(text(&dead, "sharelink-reason").as_deref(), Some("unroutable"));
    assert!(text(&dead, "sharelink-error").is_some_and(|error| error.contains("NO_ROUTE")));
    assert_eq!(text(&dead, "sharelink-attempts").as_deref(), Some("2"));
    assert_eq!(text(&dead, "sharelink-first-seen").as_deref(), Some("2026-11-22T10:00:00Z"));
    assert_eq!(text(&dead, "sharelink-worker").as_deref(), Some("worker-1"));
    assert_eq!(text(&dead, "tenant").as_deref(), Some("blue"));
    assert!(text(&dead, "sharelink-reply").is_some_and(|reply| reply.contains("contoso.example")));
    world.settled("dead_letter", "unroutable", 1).await;
    world.stop().await;
    assert_eq!(world.client.ready(&world.settings.request_queue).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_replies_at_once_exactly_those_without_a_queue_come_back() {
    const EACH: usize = 150;
    // All of them are in hand before the first is answered, so that returns and confirms overlap as much as they can.
    let mut settings = settings(Rabbit::shared());
    settings.prefetch = 2 * EACH as u16;
    let together = Arc::new(Barrier::new(2 * EACH));
    let world = World::with(settings, SOON, move |envelope, outbox, stopping| {
        let together = together.clone();
        async move {
            together.wait().await;
            answer(envelope, outbox, stopping).await
        }
    })
    .await;
    // A transient queue, as requesters have it: its confirms come fast enough to mix with the returns.
    let options = QueueDeclareOptions::exclusive();
    let mine = world.client.channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
    let mine = mine.name().as_str().to_owned();
    for number in 0..EACH {
        world.request(&format!("here-{number}"), asking(&mine)).await;
        world.request(&format!("lost-{number}"), asking("nobody")).await;
    }
    world.settled("ack", "answered", 2 * EACH as u64).await;
    for (queue, prefix) in [(mine.as_str(), "here-"), (world.settings.reply_queue.as_str(), "lost-")] {
        assert_eq!(world.client.ready(queue).await as usize, EACH, "{prefix}");
        let mut consumer = world.client.consume(queue).await;
        let mut found = BTreeSet::new();
        while found.len() < EACH {
            let reply = soon("a reply", consumer.next()).await.unwrap().unwrap();
            assert!(id(&reply).starts_with(prefix) && found.insert(id(&reply)), "{}", id(&reply));
        }
    }
}

#[tokio::test]
async fn a_delayed_request_comes_back_by_itself_not_early_and_remembers_its_trip() {
    let wait = Duration::from_secs(1);
    let first_seen: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let not_before: Timestamp = "2026-11-22T10:00:01Z".parse().unwrap();
    let (seen, mut visits) = mpsc::unbounded_channel();
    let mut world = World::new(move |envelope: Envelope, outbox: Publisher, stopping| {
        let seen = seen.clone();
        async move {
            seen.send((Instant::now(), envelope.clone())).unwrap();
            if envelope.travel.attempts == 3 {
                return answer(envelope, outbox, stopping).await;
            }
            let travel =
                Travel { attempts: 3, first_seen: Some(first_seen), not_before: Some(not_before), ..envelope.travel };
            let proof = outbox.delay(&envelope, wait, travel).await.unwrap();
            Settlement::Delay { proof, cause: DelayCause::Paused }
        }
    })
    .await;
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString("00-ab-cd-01".into()));
    let properties =
        asking("nobody").with_headers(headers).with_message_id("m-1".into()).with_correlation_id("c-1".into());
    world.request("a", properties).await;
    let (before, first) = soon("the first visit", visits.recv()).await.unwrap();
    let (after, second) = soon("the second visit", visits.recv()).await.unwrap();
    assert!(after - before >= wait, "{:?}", after - before);
    assert_eq!((second.body, second.properties), (first.body, first.properties));
    assert_eq!(second.travel.attempts, 3);
    assert_eq!(second.travel.first_seen, Some(first_seen));
    assert_eq!(second.travel.not_before, Some(not_before));
    assert!(!second.travel.redelivered);
    world.settled("delay", "paused", 1).await;
    world.settled("ack", "answered", 1).await;
    world.stop().await;
    assert_eq!(world.client.ready(&world.settings.request_queue).await, 0);
}

#[tokio::test]
async fn a_worker_that_stops_gives_back_what_only_waits() {
    let (seen, mut visits) = mpsc::unbounded_channel();
    let mut world = World::new(move |_, _, stopping| {
        let seen = seen.clone();
        async move {
            seen.send(()).unwrap();
            stopping.cancelled().await;
            Settlement::Requeue(RequeueCause::Stopping)
        }
    })
    .await;
    for body in ["a", "b", "c"] {
        world.request(body, BasicProperties::default()).await;
        soon("a visit", visits.recv()).await.unwrap();
    }
    world.stop().await;
    assert!(world.health.ready().is_err_and(|why| why.contains("stopping")));
    assert_eq!(world.settlements("requeue", "stopping"), 3);
    until("they are back", || async { world.client.ready(&world.settings.request_queue).await == 3 }).await;
}

#[tokio::test]
async fn a_worker_that_stops_finishes_what_is_in_hand_and_takes_nothing_new() {
    let go = Arc::new(Semaphore::new(0));
    let (seen, mut visits) = mpsc::unbounded_channel();
    let gate = go.clone();
    let mut world = World::new(move |envelope, outbox, stopping: CancellationToken| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            seen.send(stopping.clone()).unwrap();
            gate.acquire().await.unwrap().forget();
            answer(envelope, outbox, stopping).await
        }
    })
    .await;
    world.request("a", BasicProperties::default()).await;
    let told = soon("a visit", visits.recv()).await.unwrap();
    world.stopping.cancel();
    soon("the handler is told", told.cancelled()).await;
    world.request("too late", BasicProperties::default()).await;
    go.add_permits(1);
    world.stop().await;
    assert_eq!(world.settlements("ack", "answered"), 1);
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
    assert_eq!(world.client.ready(&world.settings.request_queue).await, 1);
}

#[tokio::test]
async fn a_handler_that_panics_gives_its_request_back_and_the_next_visit_knows() {
    let visits = Arc::new(AtomicUsize::new(0));
    let (seen, mut second) = mpsc::unbounded_channel();
    let world = World::new(move |envelope: Envelope, outbox, stopping| {
        let (visits, seen) = (visits.clone(), seen.clone());
        async move {
            assert_ne!(visits.fetch_add(1, Ordering::SeqCst), 0, "this panic belongs to the test");
            seen.send(envelope.travel).unwrap();
            answer(envelope, outbox, stopping).await
        }
    })
    .await;
    world.request("a", BasicProperties::default()).await;
    let travel = soon("the second visit", second.recv()).await.unwrap();
    assert!(travel.redelivered);
    assert_eq!(travel.deliveries, 1);
    world.settled("requeue", "dropped", 1).await;
    world.settled("ack", "answered", 1).await;
}

#[tokio::test]
async fn a_reply_too_large_for_the_broker_is_refused_here_and_leaves_the_channel_alone() {
    let world = World::new(|envelope: Envelope, outbox: Publisher, stopping| async move {
        let huge = Failure::new(ErrorKind::Internal, "x".repeat(9 * 1024 * 1024));
        let failure = outbox.reply(&envelope, &Reply { result: Err(huge), ..reply(&envelope) }).await;
        assert!(matches!(failure, Err(PublishFailure::Unroutable(_))), "{failure:?}");
        answer(envelope, outbox, stopping).await
    })
    .await;
    world.request("a", BasicProperties::default()).await;
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
    assert_eq!(world.count("sharelink_broker_reconnects_total"), 0);
}

#[tokio::test]
async fn a_message_with_hostile_properties_is_answered_and_buried_without_harm_to_the_channel() {
    let world = World::new(|envelope: Envelope, outbox: Publisher, stopping| async move {
        let note = DeathNote {
            reason: DeathReason::Malformed,
            error: "ß".repeat(10_000),
            attempts: 0,
            first_seen: Timestamp::UNIX_EPOCH,
            reply: None,
        };
        outbox.bury(&envelope, &note).await.unwrap();
        answer(envelope, outbox, stopping).await
    })
    .await;
    let mut headers = FieldTable::default();
    for number in 0..100 {
        headers.insert(format!("h{number}").into(), AMQPValue::LongString("x".repeat(200).into()));
    }
    headers.insert("sharelink-first-seen".into(), AMQPValue::Boolean(true));
    headers.insert("x-delivery-count".into(), AMQPValue::LongString("many".into()));
    let properties = asking(&"q".repeat(255))
        .with_headers(headers)
        .with_user_id("guest".into())
        .with_correlation_id("c".repeat(255).into())
        .with_timestamp(u64::MAX);
    world.request("a", properties).await;
    let reply = world.client.take(&world.settings.reply_queue).await;
    assert_eq!(short(reply.properties.correlation_id()), "c".repeat(255));
    let dead = world.client.take(&world.settings.dead_letter_queue).await;
    assert_eq!(text(&dead, "sharelink-error").map(|error| error.len()), Some(2048));
    assert_eq!(world.count("sharelink_broker_reconnects_total"), 0);
}

#[tokio::test]
async fn a_queue_deleted_under_the_worker_is_made_again_and_served() {
    let world = World::new(answer).await;
    let queue = world.settings.request_queue.as_str();
    world.client.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    soon("the worker notices", world.health.until_not_ready()).await;
    soon("the worker is ready again", world.health.until_ready()).await;
    world.request("a", BasicProperties::default()).await;
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
    assert_eq!(world.count("sharelink_broker_reconnects_total"), 1);
}

#[tokio::test]
async fn a_trip_that_outlives_its_connection_is_told_to_stop_and_its_settlement_is_stale() {
    let go = Arc::new(Semaphore::new(0));
    let (seen, mut visits) = mpsc::unbounded_channel();
    let gate = go.clone();
    let world = World::new(move |envelope, outbox, stopping: CancellationToken| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            seen.send(stopping.clone()).unwrap();
            drop(gate.acquire().await.unwrap());
            answer(envelope, outbox, stopping).await
        }
    })
    .await;
    world.request("a", BasicProperties::default()).await;
    let told = soon("a visit", visits.recv()).await.unwrap();
    let queue = world.settings.request_queue.as_str();
    world.client.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    soon("the handler is told", told.cancelled()).await;
    soon("the worker is down", world.health.until_not_ready()).await;
    soon("the worker is ready again", world.health.until_ready()).await;
    go.add_permits(1);
    world.settled("stale", "connection_lost", 1).await;
    assert_eq!(world.settlements("ack", "answered"), 0);
    assert_eq!(world.health.ready(), Ok(()));
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_queue_that_is_there_with_other_arguments_is_used_and_the_log_says_so() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let settings = settings(Rabbit::shared());
    let client = Client::new(&settings).await;
    let options = QueueDeclareOptions::durable();
    let queue = settings.request_queue.as_str();
    client.channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    let world = World::with(settings, SOON, answer).await;
    world.request("a", BasicProperties::default()).await;
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
    let log = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let warning = log.lines().find(|line| line.contains("WARN") && line.contains("used as it is")).expect(&log);
    assert!(warning.contains(&world.settings.request_queue), "{warning}");
    assert!(warning.contains("PRECONDITION_FAILED"), "{warning}");
}

#[tokio::test]
async fn verify_declares_nothing_and_names_everything_that_is_missing() {
    let mut settings = settings(Rabbit::shared());
    settings.topology = Topology::Verify;
    let client = Client::new(&settings).await;
    let options = QueueDeclareOptions::durable();
    let present = settings.reply_queue.clone();
    client.channel.queue_declare(present.as_str().into(), options, FieldTable::default()).await.unwrap();
    for _ in 0..2 {
        let (_, worker) = worker(&settings, SOON, answer);
        let error = soon("the worker gives up", worker).await.unwrap().unwrap_err().to_string();
        for missing in [&settings.request_queue, &settings.dead_letter_queue, &settings.exchange] {
            assert!(error.contains(missing.as_str()), "{missing} in {error}");
        }
        assert!(error.contains(".delay.1h"), "{error}");
        assert!(!error.contains(&present), "{error}");
    }
}

#[tokio::test]
async fn a_refused_login_ends_the_start_with_a_message_that_names_the_node_and_not_the_password() {
    let mut settings = settings(Rabbit::shared());
    settings.urls = vec![Secret::new(Rabbit::shared().url().replace("guest:guest", "guest:hunter2"))];
    let (_, worker) = worker(&settings, SOON, answer);
    let error = soon("the worker gives up", worker).await.unwrap().unwrap_err();
    assert!(matches!(&error, StartError::Connect(ConnectError::Refused { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:") && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_worker_stops_at_once_while_no_broker_answers() {
    let mut settings = settings(Rabbit::shared());
    let unused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    settings.urls = vec![Secret::new(format!("amqp://{unused}/%2f"))];
    let (parts, worker) = worker(&settings, SOON, answer);
    until("the outage is told", || async { parts.health.ready().is_err_and(|why| why.contains("refused")) }).await;
    assert_eq!(parts.health.live(Instant::now()), Ok(()));
    parts.stopping.cancel();
    soon("the worker stops", worker).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_nodes_of_a_cluster_are_tried_in_turn() {
    let mut settings = settings(Rabbit::shared());
    let unused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    settings.urls.insert(0, Secret::new(format!("amqp://{unused}/%2f")));
    let world = World::with(settings, SOON, answer).await;
    world.request("a", BasicProperties::default()).await;
    assert_eq!(id(&world.client.take(&world.settings.reply_queue).await), "a");
}

#[tokio::test]
async fn the_depth_of_the_queues_is_asked_of_the_broker() {
    let settings = settings(Rabbit::shared());
    {
        let mut world = World::with(settings.clone(), SOON, answer).await;
        world.stop().await;
        for body in ["a", "b"] {
            world.client.publish("", &settings.dead_letter_queue, body, BasicProperties::default()).await;
        }
        until("both are there", || async { world.client.ready(&settings.dead_letter_queue).await == 2 }).await;
    }
    let world = World::with(settings, SOON, answer).await;
    let series = format!("sharelink_queue_messages_ready{{queue=\"{}\"}}", world.settings.dead_letter_queue);
    until("the gauge says so", || async { world.count(&series) == 2 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_crashes_and_comes_back_costs_no_request_and_no_reply() {
    const EACH: usize = 40;
    let node = Rabbit::new();
    let settings = settings(&node);
    let mut world = World::with(settings.clone(), SOON, answer).await;
    for number in 0..EACH {
        world.request(&format!("before-{number}"), BasicProperties::default()).await;
    }
    // In the middle of it.
    until("some are answered", || async { world.settlements("ack", "answered") > 0 }).await;
    tokio::task::block_in_place(|| node.kill());
    soon("the worker notices", world.health.until_not_ready()).await;
    tokio::task::block_in_place(|| node.start());
    soon("the worker is back", world.health.until_ready()).await;
    world.client = Client::new(&settings).await;
    for number in 0..EACH {
        world.request(&format!("after-{number}"), BasicProperties::default()).await;
    }
    let mut replies = world.replies().await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    while times.len() < 2 * EACH {
        let reply = soon("a reply", replies.next()).await.unwrap().unwrap();
        *times.entry(id(&reply)).or_default() += 1;
    }
    for number in 0..EACH {
        assert!(times.contains_key(&format!("before-{number}")), "{number} was lost");
        assert_eq!(times.get(&format!("after-{number}")), Some(&1));
    }
    assert!(world.count("sharelink_broker_reconnects_total") >= 1);
    world.stop().await;
    assert_eq!(world.client.ready(&settings.request_queue).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_memory_gets_no_requests_taken_from_it_until_it_has_recovered() {
    let node = Rabbit::new();
    let mut settings = settings(&node);
    settings.publish_timeout = Duration::from_secs(1);
    settings.prefetch = 1;
    let go = Arc::new(Semaphore::new(0));
    let (seen, mut visits) = mpsc::unbounded_channel();
    let gate = go.clone();
    let world = World::with(settings, SOON, move |envelope, outbox, stopping| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            seen.send(()).unwrap();
            drop(gate.acquire().await.unwrap());
            answer(envelope, outbox, stopping).await
        }
    })
    .await;
    // Put in before the alarm, which blocks the test's own connection too.
    for body in ["first", "second"] {
        world.request(body, BasicProperties::default()).await;
    }
    soon("the first visit", visits.recv()).await.unwrap();
    tokio::task::block_in_place(|| node.ctl(&["set_vm_memory_high_watermark", "0.00001"]));
    go.add_permits(1);
    soon("consuming is paused", world.health.until_not_ready()).await;
    assert!(world.health.ready().is_err_and(|why| why.contains("accepts no messages")));
    world.settled("requeue", "unconfirmed", 1).await;
    assert!(visits.try_recv().is_err(), "a request was taken while the broker accepts no reply to it");
    tokio::task::block_in_place(|| node.ctl(&["set_vm_memory_high_watermark", "0.9"]));
    soon("consuming is resumed", world.health.until_ready()).await;
    world.settled("ack", "answered", 2).await;
    // The reply that was held up got through as well, so a requester sees it twice and drops one by its id.
    let mut replies = world.replies().await;
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..3 {
        let reply = soon("a reply", replies.next()).await.unwrap().unwrap();
        ids.entry(id(&reply)).or_default().insert(short(reply.properties.message_id()).to_owned());
    }
    assert_eq!(ids.keys().collect::<Vec<_>>(), ["first", "second"]);
    assert!(ids.values().all(|ids| ids.len() == 1), "{ids:?}");
    assert_eq!(world.count("sharelink_broker_reconnects_total"), 0);
}
