//! `sharelink dead` over a real node: what stays, what goes back to work, what is removed, whatever happens in between.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/command.rs"]
mod command;
#[path = "support/rabbit.rs"]
mod rabbit;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use command::Config;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use rabbit::Rabbit;
use serde_json::{Value, json};
use sharelink::broker::dead::{DeadLetters, Held};
use sharelink::broker::{self, topology};
use sharelink::config;
use sharelink::simulate;
use tokio::time::timeout;

/// Long enough for a busy machine; no test waits for it unless it fails.
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {} s", SOON.as_secs()))
}

/// A broker with the worker's queues, under names of this test's own.
struct World {
    settings: config::Broker,
    config: Config,
    connection: Connection,
    channel: Channel,
}

impl World {
    async fn new() -> Self {
        let world = Self::empty("").await;
        topology::establish(&world.connection, &world.settings).await.unwrap();
        world
    }

    /// Nothing is declared yet. `more` follows the broker's section.
    async fn empty(more: &str) -> Self {
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        let text = format!(
            "[broker]\nurl = \"{}\"\nrequest_queue = \"{prefix}.requests\"\nreply_queue = \"{prefix}.replies\"\n\
             dead_letter_queue = \"{prefix}.dead\"\nexchange = \"{prefix}.sharelink\"\nmax_deliveries = 1\n\
             connect_timeout = \"30s\"\npublish_timeout = \"30s\"\n[server]\nlisten = \"127.0.0.1:0\"\n{more}",
            Rabbit::shared().url()
        );
        let config = Config::new(&text);
        let needs = config::Needs { broker: true, providers: false };
        let loaded = config::load_for(needs, Some(&config.path()), std::iter::empty());
        let settings = loaded.unwrap_or_else(|problems| panic!("{problems}")).settings.broker;
        let connection = broker::connect(&settings, "test").await.expect("the node answers");
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { settings, config, connection, channel }
    }

    async fn publish(&self, queue: &str, body: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm = self.channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
        assert_eq!(confirm.await.unwrap().await.unwrap(), Confirmation::Ack(None));
    }

    /// A letter as the worker writes it.
    async fn bury(&self, id: &str, reason: &str, provider: &str) {
        let body = json!({"id": id, "provider": provider, "link": {"type": "view", "password": "hunter2"}});
        self.publish(&self.settings.dead_letter_queue, &body.to_string(), letter(id, reason)).await;
    }

    async fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions::default().passive();
        let channel = self.connection.create_channel().await.unwrap();
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count()
    }

    async fn dead(&self) -> u32 {
        self.ready(&self.settings.dead_letter_queue).await
    }

    async fn requests(&self) -> u32 {
        self.ready(&self.settings.request_queue).await
    }

    async fn until<F: Future<Output = bool>>(&self, what: &str, mut holds: impl FnMut() -> F) {
        soon(what, async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Waits until so many letters and requests are ready: the broker counts a moment after it has confirmed.
    async fn there(&self, dead: u32, requests: u32) {
        let mut seen = (0, 0);
        let counted = timeout(SOON, async {
            while seen != (dead, requests) {
                seen = (self.dead().await, self.requests().await);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(counted.await.is_ok(), "{seen:?} letters and requests instead of {:?}", (dead, requests));
    }

    /// Takes everything out of a queue: how often each message id is there.
    async fn drain(&self, queue: &str) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(queue.into(), options).await.unwrap() {
            let id = message.properties.message_id().as_ref().map(ShortString::to_string).unwrap_or_default();
            *ids.entry(id).or_default() += 1;
        }
        ids
    }

    async fn listed(&self) -> BTreeSet<String> {
        let ended = self.config.run(&["dead", "list", "--each", "--json"]).await.with(0);
        ended.objects().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn letter(id: &str, reason: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, text) in [
        ("sharelink-reason", reason),
        ("sharelink-error", "what was wrong"),
        ("sharelink-first-seen", "2026-11-22T10:00:00Z"),
        ("sharelink-worker", "worker-1"),
        ("mine", "kept"),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    }
    headers.insert("sharelink-attempts".into(), AMQPValue::LongLongInt(7));
    BasicProperties::default()
        .with_headers(headers)
        .with_message_id(id.into())
        .with_correlation_id(format!("c-{id}").into())
        .with_reply_to("answers".into())
}

fn name(held: &Held) -> String {
    held.letter.properties["message_id"].as_str().unwrap().to_owned()
}

fn ids(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("letter-{number}")).collect()
}

#[tokio::test]
async fn listing_25_times_leaves_every_letter_in_place_whatever_limit_the_queue_has() {
    let own = World::new().await;
    let limited = |limit: i64| async move {
        let world = World::empty("").await;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        let queue = world.settings.dead_letter_queue.as_str();
        let options = QueueDeclareOptions::durable();
        world.channel.queue_declare(queue.into(), options, arguments).await.unwrap();
        world
    };
    let by_policy = World::new().await;
    let queue = &by_policy.settings.dead_letter_queue;
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    let policy = ["set_policy", queue, &pattern, r#"{"delivery-limit": 4}"#, "--apply-to", "queues"];
    Rabbit::shared().ctl(&policy);
    let classic = World::empty("").await;
    let name = classic.settings.dead_letter_queue.as_str();
    classic.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();

    for world in [own, limited(20).await, limited(3).await, by_policy, classic] {
        for id in ids(7) {
            world.bury(&id, "malformed", "contoso").await;
        }
        for round in 0..25 {
            world.until("all are ready", || async { world.dead().await == 7 }).await;
            assert_eq!(world.listed().await, ids(7), "round {round}");
        }
        world.until("all are ready", || async { world.dead().await == 7 }).await;
        let left = world.drain(&world.settings.dead_letter_queue).await;
        assert_eq!(left, ids(7).into_iter().map(|id| (id, 1)).collect());
    }
}

/// The count of a quorum queue lags behind what was given back to it, so that one session in forty or so is misled by it.
#[tokio::test]
async fn a_session_right_after_another_sees_every_letter() {
    let world = World::new().await;
    world.bury("letter-0", "malformed", "contoso").await;
    for round in 0..30 {
        assert_eq!(world.listed().await, ids(1), "round {round}");
    }
    for id in ["letter-1", "letter-2"] {
        world.bury(id, "malformed", "contoso").await;
    }
    for round in 0..200 {
        let mut session = DeadLetters::open(&world.settings, "test").await.unwrap();
        assert_eq!(session.ready(), 3, "round {round}");
        let mut seen = BTreeSet::new();
        while let Some(held) = session.next().await.unwrap() {
            seen.insert(name(&held));
            session.keep(held).await.unwrap();
        }
        assert_eq!(seen, ids(3), "round {round}");
        session.close().await.unwrap();
    }
    world.there(3, 0).await;
}

#[tokio::test]
async fn a_letter_that_somebody_else_is_about_to_give_back_is_waited_for() {
    let world = World::new().await;
    world.bury("letter-0", "malformed", "contoso").await;
    let queue = world.settings.dead_letter_queue.as_str();
    let held = world.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap().unwrap();
    let back = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let again = BasicNackOptions { multiple: false, requeue: true };
        world.channel.basic_nack(held.delivery_tag, again).await.unwrap();
    };
    let (session, ()) = tokio::join!(DeadLetters::open(&world.settings, "test"), back);
    let mut session = session.unwrap();
    assert_eq!(session.ready(), 1);
    assert_eq!(name(&session.next().await.unwrap().unwrap()), "letter-0");
    session.close().await.unwrap();
    world.there(1, 0).await;
}

#[tokio::test]
async fn a_session_that_takes_nothing_wears_no_letter_out() {
    let world = World::new().await;
    world.bury("letter-0", "malformed", "contoso").await;
    let queue = &world.settings.dead_letter_queue;
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    let policy = ["set_policy", queue, &pattern, r#"{"delivery-limit": 4}"#, "--apply-to", "queues"];
    Rabbit::shared().ctl(&policy);
    for _ in 0..12 {
        DeadLetters::open(&world.settings, "test").await.unwrap().close().await.unwrap();
    }
    assert_eq!(world.listed().await, ids(1));
}

#[tokio::test]
async fn a_letter_that_comes_while_a_session_works_is_left_to_the_next_one() {
    let world = World::new().await;
    for id in ids(2) {
        world.bury(&id, "malformed", "contoso").await;
    }
    let mut session = DeadLetters::open(&world.settings, "test").await.unwrap();
    let mut taken = 0;
    while let Some(held) = session.next().await.unwrap() {
        taken += 1;
        session.redrive(held).await.unwrap();
        world.bury("back again", "malformed", "contoso").await;
    }
    session.close().await.unwrap();
    assert_eq!(taken, 2);
    world.there(2, 2).await;
}

#[tokio::test]
async fn letters_are_listed_by_reason_and_the_rest_is_counted() {
    let world = World::new().await;
    for (id, reason) in [("a", "malformed"), ("b", "malformed"), ("c", "unroutable")] {
        world.bury(id, reason, "contoso").await;
    }
    let groups = world.config.run(&["dead", "list", "--json"]).await.with(0).objects();
    let told: Vec<_> =
        groups.iter().map(|group| (group["reason"].as_str().unwrap(), group["count"].as_u64().unwrap())).collect();
    assert_eq!(told, [("malformed", 2), ("unroutable", 1)]);
    assert_eq!(groups[0]["example"], json!({"id": "a", "error": "what was wrong"}));

    let table = world.config.run(&["dead", "list", "--reason", "unroutable"]).await.with(0);
    assert!(table.out.contains("unroutable") && !table.out.contains("malformed"), "{table:?}");
    assert!(table.err.starts_with("1 of 3 letters"), "{table:?}");

    let some = world.config.run(&["dead", "list", "--limit", "2"]).await.with(0);
    assert!(some.err.contains("looked at 2 of 3 letters"), "{some:?}");
    world.there(3, 0).await;
}

#[tokio::test]
async fn a_letter_is_shown_in_full_and_without_its_password() {
    let world = World::new().await;
    for id in ["a", "b"] {
        world.bury(id, "malformed", "contoso").await;
    }
    let shown = world.config.run(&["dead", "show", "c-b"]).await.with(0);
    for part in ["what was wrong", "reply_to: answers", "mine: kept", "\"password\": \"***\""] {
        assert!(shown.out.contains(part), "{part} in {}", shown.out);
    }
    let object = world.config.run(&["dead", "show", "--index", "2", "--json"]).await.with(0);
    assert_eq!(object.objects()[0]["id"], "b");
    assert_eq!(object.objects()[0]["body"]["link"], json!({"type": "view", "password": "***"}));
    for ended in [shown, object, world.config.run(&["dead", "list", "--each"]).await] {
        assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    }
    let none = world.config.run(&["dead", "show", "nobody"]).await.with(1);
    assert!(none.err.contains("nobody") && none.out.is_empty(), "{none:?}");
    world.there(2, 0).await;
}

#[tokio::test]
async fn redriving_moves_what_matches_as_the_request_that_it_was_and_leaves_the_rest() {
    let world = World::new().await;
    for (id, reason, provider) in
        [("a", "unroutable", "contoso"), ("b", "malformed", "contoso"), ("c", "unroutable", "content")]
    {
        world.bury(id, reason, provider).await;
    }
    let filters = ["dead", "redrive", "--reason", "unroutable", "--provider", "contoso"];
    let dry = world.config.run(&[&filters[..], &["--dry-run"]].concat()).await.with(0);
    assert!(dry.err.contains("1 of 3 letters"), "{dry:?}");
    world.there(3, 0).await;

    world.config.run(&filters).await.with(0);
    world.there(2, 1).await;
    let queue = world.settings.request_queue.as_str();
    let got = world.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let text = |property: &Option<ShortString>| property.as_ref().map(ShortString::to_string);
    assert_eq!(text(got.properties.message_id()).as_deref(), Some("a"));
    assert_eq!(text(got.properties.correlation_id()).as_deref(), Some("c-a"));
    assert_eq!(text(got.properties.reply_to()).as_deref(), Some("answers"));
    assert_eq!(*got.properties.delivery_mode(), Some(2));
    let headers = got.properties.headers().clone().unwrap();
    assert!(headers.contains_key("mine"));
    for gone in
        ["sharelink-attempts", "sharelink-first-seen", "sharelink-reason", "sharelink-error", "sharelink-worker"]
    {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    let body: Value = serde_json::from_slice(&got.data).unwrap();
    assert_eq!(body["link"]["password"], "hunter2");

    world.config.run(&["dead", "redrive", "--limit", "1"]).await.with(0);
    world.there(1, 1).await;
}

#[tokio::test]
async fn a_letter_whose_body_was_cut_is_not_redriven() {
    let world = World::new().await;
    let properties = letter("a", "malformed");
    let mut headers = properties.headers().clone().unwrap();
    headers.insert("sharelink-body-bytes".into(), AMQPValue::LongLongInt(9_000_000));
    world.publish(&world.settings.dead_letter_queue, "{", properties.with_headers(headers)).await;
    world.bury("b", "malformed", "contoso").await;
    let ended = world.config.run(&["dead", "redrive"]).await.with(1);
    assert!(ended.err.contains("\"a\" stays") && ended.err.contains("9000000"), "{ended:?}");
    world.there(1, 1).await;
}

#[tokio::test]
async fn a_redrive_without_a_request_queue_says_so_and_loses_nothing() {
    let world = World::new().await;
    for id in ids(3) {
        world.bury(&id, "unroutable", "contoso").await;
    }
    let queue = world.settings.request_queue.as_str();
    world.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    let ended = world.config.run(&["dead", "redrive"]).await.with(69);
    assert!(ended.err.contains(queue) && ended.err.contains("NO_ROUTE"), "{ended:?}");
    world.until("all are back", || async { world.dead().await == 3 }).await;
}

/// Kills the command where it stands, again and again, until everything has been redriven.
#[tokio::test]
async fn a_redrive_that_is_killed_again_and_again_loses_no_letter() {
    const LETTERS: usize = 300;
    const KILLS: u32 = 5;
    let world = World::new().await;
    for id in ids(LETTERS) {
        world.bury(&id, "unroutable", "contoso").await;
    }
    for kill in 1..=KILLS {
        let mut redrive = world.config.start(&["dead", "redrive"]);
        let before = world.requests().await;
        world.until("some have gone", || async { world.requests().await >= before + 10 }).await;
        redrive.kill().await.unwrap();
        let there = || async { world.dead().await + world.requests().await };
        world.until("the broker has the letters in hand back", || async { there().await >= 300 }).await;
        assert!(there().await <= 300 + kill, "more than one letter is there twice for each kill");
    }
    assert!(world.dead().await > 0, "every kill came too late to matter");
    world.config.run(&["dead", "redrive"]).await.with(0);
    world.until("none is left", || async { world.dead().await == 0 }).await;
    let redriven = world.drain(&world.settings.request_queue).await;
    assert_eq!(redriven.keys().cloned().collect::<BTreeSet<_>>(), ids(LETTERS));
}

#[tokio::test]
async fn a_session_that_is_dropped_at_any_moment_loses_no_letter() {
    const LETTERS: usize = 60;
    let world = World::new().await;
    for id in ids(LETTERS) {
        world.bury(&id, "unroutable", "contoso").await;
    }
    for step in 0..20_u64 {
        let mut session = DeadLetters::open(&world.settings, "test").await.unwrap();
        let work = async {
            while let Some(held) = session.next().await.unwrap() {
                session.redrive(held).await.unwrap();
            }
        };
        // Each time a little later: between taking, publishing, the confirm and the acknowledgement.
        let _ = timeout(Duration::from_micros(300 * step), work).await;
        drop(session);
    }
    let all = || async { world.dead().await + world.requests().await };
    world.until("everything is back", || async { all().await >= 60 }).await;
    let mut there = world.drain(&world.settings.dead_letter_queue).await;
    assert!(!there.is_empty(), "every session came to its end, so none was dropped at its work");
    there.extend(world.drain(&world.settings.request_queue).await);
    assert_eq!(there.into_keys().collect::<BTreeSet<_>>(), ids(LETTERS));
}

#[cfg(unix)]
#[tokio::test]
async fn a_slow_redrive_keeps_its_rate_and_stops_when_it_is_told_to() {
    let world = World::new().await;
    for id in ids(50) {
        world.bury(&id, "unroutable", "contoso").await;
    }
    let redrive = world.config.start(&["dead", "redrive", "--rate", "5"]);
    world.until("three have gone", || async { world.requests().await >= 3 }).await;
    let pid = redrive.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = soon("the command stops", redrive.wait_with_output()).await.unwrap();
    let words = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{words}");
    assert!(words.contains("stopped"), "{words}");
    world.until("all are there", || async { world.dead().await + world.requests().await == 50 }).await;
    let went = world.requests().await;
    assert!((3..40).contains(&went), "{went} went in spite of the rate");
}

#[tokio::test]
async fn purging_respects_the_filters_and_wants_a_yes() {
    let world = World::new().await;
    for (id, reason) in [("a", "malformed"), ("b", "malformed"), ("c", "unroutable")] {
        world.bury(id, reason, "contoso").await;
    }
    let purge = ["dead", "purge", "--reason", "malformed"];
    let refused = world.config.run(&purge).await.with(2);
    assert!(refused.err.contains("2 of 3 letters") && refused.err.contains("--yes"), "{refused:?}");
    let dry = world.config.run(&[&purge[..], &["--dry-run", "--yes"]].concat()).await.with(0);
    assert!(dry.err.contains("2 of 3 letters"), "{dry:?}");
    world.there(3, 0).await;

    world.config.run(&[&purge[..], &["--yes"]].concat()).await.with(0);
    let left = world.drain(&world.settings.dead_letter_queue).await;
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(world.requests().await, 0);
}

#[tokio::test]
async fn what_the_broker_buried_itself_is_redriven_and_answered_by_a_worker() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let simulator = simulate::serve(listener, simulate::Options::default()).await;
    let account = format!(
        "[providers.contoso]\nkind = \"onedrive\"\nbase_url = \"http://{}/graph/v1.0\"\n\
         [providers.contoso.auth]\nmethod = \"bearer\"\ntoken = \"t\"\n",
        simulator.address
    );
    let world = World::empty(&account).await;
    topology::establish(&world.connection, &world.settings).await.unwrap();
    let answers = format!("{}.answers", world.settings.exchange);
    let options = QueueDeclareOptions::durable();
    world.channel.queue_declare(answers.as_str().into(), options, FieldTable::default()).await.unwrap();
    let body = json!({"id": "a", "item": {"itemId": "01ABC"}, "link": {"type": "view", "scope": "organization"}});
    let asking = BasicProperties::default()
        .with_message_id("a".into())
        .with_correlation_id("c-a".into())
        .with_reply_to(answers.as_str().into());
    world.publish(&world.settings.request_queue, &body.to_string(), asking).await;

    // A consumer that never comes to an end, until the broker has had enough of it.
    let queue = world.settings.request_queue.as_str();
    world
        .until("the broker buries it", || async {
            if let Some(message) = world.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
                let again = BasicNackOptions { multiple: false, requeue: true };
                world.channel.basic_nack(message.delivery_tag, again).await.unwrap();
            }
            world.dead().await == 1
        })
        .await;
    let groups = world.config.run(&["dead", "list", "--json"]).await.with(0).objects();
    assert_eq!((&groups[0]["reason"], &groups[0]["example"]["id"]), (&json!("delivery_limit"), &json!("a")));
    assert!(groups[0]["example"]["error"].as_str().unwrap().contains(queue), "{groups:?}");

    let mut worker = world.config.start(&["worker"]);
    world.config.run(&["dead", "redrive", "--reason", "delivery_limit"]).await.with(0);
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = world.channel.basic_consume(answers.as_str().into(), "".into(), options, FieldTable::default());
    let reply = soon("the reply", consumer.await.unwrap().next()).await.unwrap().unwrap();
    assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "c-a");
    let reply: Value = serde_json::from_slice(&reply.data).unwrap();
    assert_eq!((&reply["status"], &reply["attempts"]), (&json!("created"), &json!(1)), "{reply}");
    world.there(0, 0).await;
    worker.kill().await.unwrap();
}

#[tokio::test]
async fn what_keeps_a_command_from_its_work_is_told_by_its_exit_code() {
    let world = World::empty("").await;
    let missing = world.config.run(&["dead", "list"]).await.with(69);
    assert!(missing.err.contains(&world.settings.dead_letter_queue), "{missing:?}");

    let unused = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let nobody = Config::new(&format!("[broker]\nurl = \"amqp://guest:hunter2@{unused}/%2f\"\n"));
    let unreachable = nobody.run(&["dead", "list"]).await.with(69);
    assert!(!unreachable.err.contains("hunter2"), "{unreachable:?}");

    let wrong = Config::new("[broker]\nurl = \"amqp://h\"\nprefetch = 0\n").run(&["dead", "list"]).await.with(78);
    assert!(wrong.err.contains("prefetch"), "{wrong:?}");
    world.config.run(&["dead", "redrive", "--rate", "0"]).await.with(2);
}
