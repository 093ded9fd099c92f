//! Whole trips over the in-memory door with a scripted provider and a paused clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sharelink::config::Policy;
use sharelink::memory::{self, Buried, Memory};
use sharelink::model::*;
use sharelink::pipeline::clock::clock_from;
use sharelink::pipeline::ports::*;
use sharelink::pipeline::retry::RetryPolicy;
use sharelink::pipeline::{Account, Limits, Pipeline};
use sharelink::telemetry::metrics::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

type Answer = Result<LinkOutcome, CallError>;

/// Plays the remote side: each attempt takes the next line of the script; the last one repeats.
#[derive(Clone)]
struct Scripted(Arc<Script>);

struct Script {
    lines: Mutex<VecDeque<Line>>,
    calls: Mutex<Vec<(Instant, History)>>,
    revoked: Mutex<Vec<String>>,
}

#[derive(Clone)]
enum Line {
    Say(Answer),
    Slowly(Duration, Answer),
    Panic,
}

impl Scripted {
    fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        Self(Arc::new(Script {
            lines: Mutex::new(lines.into_iter().collect()),
            calls: Mutex::default(),
            revoked: Mutex::default(),
        }))
    }

    fn calls(&self) -> Vec<(Instant, History)> {
        self.0.calls.lock().unwrap().clone()
    }
}

impl Provider for Scripted {
    fn prepare(&self, request: &ShareRequest) -> Result<Box<dyn Share>, Failure> {
        if request.link.contains_key("colour") {
            return Err(Failure::invalid("link.colour is not a member"));
        }
        if request.link.contains_key("password") {
            return Err(Failure::unsupported("link.password cannot be set here"));
        }
        let asked = Asked {
            own_type: "view".into(),
            neutral_type: "view",
            audience: Some(Audience::Anonymous),
            expires: None,
            has_password: false,
        };
        Ok(Box::new(ScriptedShare { script: self.0.clone(), asked }))
    }
}

struct ScriptedShare {
    script: Arc<Script>,
    asked: Asked,
}

impl Share for ScriptedShare {
    fn asked(&self) -> &Asked {
        &self.asked
    }

    fn ensure_link(&self, history: History) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            self.script.calls.lock().unwrap().push((Instant::now(), history));
            let line = {
                let mut lines = self.script.lines.lock().unwrap();
                if lines.len() > 1 { lines.pop_front() } else { lines.front().cloned() }
            };
            match line.expect("a script has a line") {
                Line::Say(answer) => answer,
                Line::Slowly(time, answer) => {
                    tokio::time::sleep(time).await;
                    answer
                }
                Line::Panic => panic!("the provider's code is broken"),
            }
        })
    }

    fn revoke<'a>(&'a self, link: &'a Granted) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move {
            self.script.revoked.lock().unwrap().push(link.id.clone());
            Ok(())
        })
    }
}

fn outcome(made: Made) -> LinkOutcome {
    LinkOutcome {
        link: Granted {
            id: "L1".into(),
            url: "https://links.example/L1".into(),
            html: None,
            granted: json!({ "type": "view" }).as_object().cloned().unwrap(),
        },
        made,
        comparison: Comparison::default(),
    }
}

fn created() -> Line {
    Line::Say(Ok(outcome(Made::Created)))
}

fn failing(kind: ErrorKind, retry: Retry, retry_after: Option<Duration>) -> Line {
    Line::Say(Err(CallError::Failed(CallFailure {
        failure: Failure::new(kind, "said the script"),
        retry,
        retry_after,
        may_have_happened: false,
    })))
}

fn difference(member: &str) -> Difference {
    Difference { member: member.into(), asked: json!("organization"), granted: json!("anonymous") }
}

struct World {
    memory: Arc<Memory>,
    provider: Scripted,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    pipeline: Arc<Pipeline>,
    task: tokio::task::JoinHandle<memory::Ends>,
}

fn world_with(lines: impl IntoIterator<Item = Line>, policy: Policy) -> World {
    let provider = Scripted::new(lines);
    let metrics = Arc::new(Metrics::new(&["contoso"], &["q"]).unwrap());
    let account = Account { name: "contoso".into(), provider: Arc::new(provider.clone()), policy };
    let limits = Limits {
        retry: RetryPolicy {
            max_attempts: 4,
            max_interval: Duration::from_secs(30),
            max_elapsed: Duration::from_secs(900),
            inline_limit: Duration::from_secs(5),
        },
        initial_interval: Duration::from_millis(500),
        max_request_bytes: 1 << 20,
        max_deliveries: 3,
    };
    let clock = clock_from("2026-11-22T10:00:00Z".parse().unwrap());
    let pipeline = Arc::new(Pipeline::new(vec![account], limits, clock, || 0.5, metrics.clone()));
    let (memory, ends) = memory::door();
    let stopping = CancellationToken::new();
    let task = tokio::spawn(memory::run(memory.clone(), ends, pipeline.clone(), 8, metrics.clone(), stopping.clone()));
    World { memory, provider, metrics, stopping, pipeline, task }
}

fn world(lines: impl IntoIterator<Item = Line>) -> World {
    world_with(lines, Policy::default())
}

fn request(body: Value) -> Envelope {
    Envelope { body: body.to_string().into(), properties: Properties::default(), travel: Travel::default() }
}

fn plain() -> Envelope {
    request(json!({ "id": "r1", "provider": "contoso", "item": { "itemId": "1" }, "link": { "type": "view" } }))
}

impl World {
    /// Sends one request and returns its one reply as JSON, with the dead letters.
    async fn answer(self, envelope: Envelope) -> (Value, Vec<Buried>, Ended) {
        self.memory.submit(envelope);
        self.memory.idle().await;
        self.stopping.cancel();
        let mut replies = self.task.await.unwrap().take_replies().unwrap();
        let (_, reply) = replies.try_recv().expect("a request has an answer");
        assert!(replies.try_recv().is_err(), "a request has one answer");
        let ended = Ended { provider: self.provider, metrics: self.metrics };
        (serde_json::to_value(&reply).unwrap(), self.memory.dead(), ended)
    }
}

struct Ended {
    provider: Scripted,
    metrics: Arc<Metrics>,
}

impl Ended {
    fn shows(&self, line: &str) {
        let text = self.metrics.render().unwrap();
        assert!(text.lines().any(|shown| shown == line), "no line {line} in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_created_link_is_answered_with_every_member_of_the_contract() {
    let (reply, dead, ended) = world([created()]).answer(plain()).await;
    assert_eq!(
        reply,
        json!({
            "id": "r1", "provider": "contoso", "status": "created", "item": { "itemId": "1" },
            "link": { "id": "L1", "url": "https://links.example/L1", "html": null, "granted": { "type": "view" } },
            "warnings": [], "error": null, "attempts": 1, "elapsedMs": 0, "completedAt": "2026-11-22T10:00:00Z"
        })
    );
    assert!(dead.is_empty());
    ended.shows(r#"sharelink_links_total{outcome="created",provider="contoso"} 1"#);
    ended.shows(r#"sharelink_settlements_total{cause="answered",settlement="ack"} 1"#);
    ended.shows(r#"sharelink_request_duration_seconds_count{provider="contoso",status="created"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_answered_with_every_member_of_an_error() {
    let mut failure = Failure::new(ErrorKind::NotFound, "the item does not exist");
    failure.provider =
        ProviderSays { http_status: Some(404), code: Some("itemNotFound".into()), request_id: Some("f53b".into()) };
    let (reply, _, ended) = world([Line::Say(Err(CallFailure::final_(failure).into()))]).answer(plain()).await;
    assert_eq!(reply["status"], "failed");
    assert_eq!(reply["link"], Value::Null);
    assert_eq!(
        reply["error"],
        json!({ "kind": "notFound", "message": "the item does not exist", "retryable": false,
                "httpStatus": 404, "code": "itemNotFound", "requestId": "f53b" })
    );
    ended.shows(r#"sharelink_failures_total{kind="notFound",provider="contoso"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_short_failure_is_tried_again_in_the_process_and_counted() {
    let busy = failing(ErrorKind::Unavailable, Retry::Yes, None);
    let (reply, _, ended) = world([busy.clone(), busy, created()]).answer(plain()).await;
    assert_eq!((&reply["status"], &reply["attempts"]), (&json!("created"), &json!(3)));
    ended.shows(r#"sharelink_retries_total{provider="contoso",reason="unavailable"} 2"#);
    ended.shows(r#"sharelink_settlements_total{cause="backoff",settlement="delay"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_oldest_request_is_shown_for_as_long_as_it_is_in_hand() {
    let busy = failing(ErrorKind::Unavailable, Retry::Yes, Some(Duration::from_secs(4)));
    let world = world([busy, created()]);
    world.memory.submit(plain());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let shown = world.metrics.render().unwrap();
    // 2026-11-22T10:00:00Z, when it came, and not two seconds later, when it was looked at.
    assert!(shown.contains("\nsharelink_oldest_request_timestamp_seconds 1795341600\n"), "{shown}");
    world.memory.idle().await;
    let shown = world.metrics.render().unwrap();
    assert!(shown.contains("\nsharelink_oldest_request_timestamp_seconds inf\n"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_long_retry_after_leaves_the_process_is_never_cut_short_and_is_remembered() {
    let closed = failing(ErrorKind::RateLimited, Retry::Yes, Some(Duration::from_secs(30)));
    let began = Instant::now();
    let (reply, _, ended) = world([closed, created()]).answer(plain()).await;
    assert_eq!((&reply["status"], &reply["attempts"]), (&json!("created"), &json!(2)));
    assert!(reply["elapsedMs"].as_u64().unwrap() >= 30_000, "{reply}");
    let calls = ended.provider.calls();
    assert!(calls[1].0 - began >= Duration::from_secs(30));
    assert_eq!(calls[1].1, History::Fresh, "a refused call made nothing");
    ended.shows(r#"sharelink_settlements_total{cause="backoff",settlement="delay"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_remembered_through_a_delay_queue() {
    let lost = Line::Say(Err(CallError::Failed(CallFailure {
        failure: Failure::new(ErrorKind::TimedOut, "no answer"),
        retry: Retry::Sparingly { at_most: 9, at_least: Duration::from_secs(60) },
        retry_after: None,
        may_have_happened: true,
    })));
    let (_, _, ended) = world([lost, created()]).answer(plain()).await;
    assert_eq!(ended.provider.calls()[1].1, History::MayHaveHappened);
    ended.shows(r#"sharelink_settlements_total{cause="backoff",settlement="delay"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_paused_account_costs_no_attempt_and_holds_no_slot() {
    let held = Line::Say(Err(CallError::Held {
        wait: Duration::from_secs(600),
        hold: Hold::Closed { barren: Duration::ZERO, kind: ErrorKind::RateLimited, http_status: Some(429) },
    }));
    let (reply, _, ended) = world([held.clone(), held, created()]).answer(plain()).await;
    assert_eq!((&reply["status"], &reply["attempts"]), (&json!("created"), &json!(1)));
    ended.shows(r#"sharelink_settlements_total{cause="paused",settlement="delay"} 2"#);
}

#[tokio::test(start_paused = true)]
async fn used_up_attempts_are_answered_as_retryable() {
    let (reply, _, _) = world([failing(ErrorKind::Unavailable, Retry::Yes, None)]).answer(plain()).await;
    assert_eq!(reply["attempts"], 4);
    assert_eq!((&reply["error"]["kind"], &reply["error"]["retryable"]), (&json!("unavailable"), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn past_its_deadline_a_request_makes_no_call() {
    let body = json!({ "item": {}, "link": {}, "deadline": "2026-11-22T09:59:59Z" });
    let (reply, _, ended) = world([created()]).answer(request(body)).await;
    assert_eq!(reply["error"]["kind"], "deadlineExceeded");
    assert_eq!(reply["attempts"], 0);
    assert!(ended.provider.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_malformed_request_is_answered_and_a_copy_is_kept_with_its_reason() {
    for (body, named) in [
        (json!({ "item": {}, "link": {}, "expires": 1 }).to_string(), "expires"),
        (json!({ "id": "x", "item": {}, "link": { "colour": "red" } }).to_string(), "link.colour"),
        ("{".to_owned(), "cannot be read as JSON"),
    ] {
        let envelope = Envelope { body: body.clone().into(), ..plain() };
        let (reply, dead, ended) = world([created()]).answer(envelope).await;
        assert_eq!(reply["error"]["kind"], "invalidRequest");
        assert!(reply["error"]["message"].as_str().unwrap().contains(named), "{reply}");
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].note.reason, DeathReason::Malformed);
        assert_eq!(dead[0].envelope.body, body.as_bytes());
        assert!(ended.provider.calls().is_empty());
        ended.shows(r#"sharelink_settlements_total{cause="malformed",settlement="ack"} 1"#);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_answered_without_a_dead_letter() {
    let policy = Policy { require_expiry: true, ..Policy::default() };
    for (body, policy, kind) in [
        (json!({ "provider": "nobody", "item": {}, "link": {} }), Policy::default(), "unknownProvider"),
        (json!({ "item": {}, "link": { "password": "x" } }), Policy::default(), "unsupported"),
        (json!({ "item": {}, "link": {} }), policy, "policyRefused"),
    ] {
        let (reply, dead, ended) = world_with([created()], policy).answer(request(body)).await;
        assert_eq!(reply["error"]["kind"], kind, "{reply}");
        assert!(dead.is_empty());
        assert!(ended.provider.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_wider_than_asked_is_taken_back_and_its_address_kept_in() {
    let mut wide = outcome(Made::Created);
    wide.comparison.wider.push(difference("scope"));
    let (reply, _, ended) = world([Line::Say(Ok(wide))]).answer(plain()).await;
    assert_eq!(reply["error"]["kind"], "widerThanAsked");
    assert_eq!(reply["error"]["retryable"], false);
    assert!(!reply.to_string().contains("links.example"));
    assert_eq!(*ended.provider.0.revoked.lock().unwrap(), ["L1"]);
    ended.shows(r#"sharelink_links_revoked_total{provider="contoso"} 1"#);
    ended.shows(r#"sharelink_links_total{outcome="created",provider="contoso"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn a_wider_link_that_was_there_before_is_not_handed_out_and_not_touched() {
    let mut wide = outcome(Made::Reused);
    wide.comparison.wider.push(difference("scope"));
    let (reply, _, ended) = world([Line::Say(Ok(wide))]).answer(plain()).await;
    assert_eq!(reply["error"]["kind"], "widerThanAsked");
    assert!(reply["error"]["message"].as_str().unwrap().contains("left as it is"));
    assert!(ended.provider.0.revoked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wider_link_that_an_earlier_attempt_may_have_made_is_taken_back() {
    let mut wide = outcome(Made::Reused);
    wide.comparison.wider.push(difference("scope"));
    let envelope = Envelope { travel: Travel { redelivered: true, ..Travel::default() }, ..plain() };
    let (reply, _, ended) = world([Line::Say(Ok(wide))]).answer(envelope).await;
    assert_eq!(reply["error"]["kind"], "widerThanAsked");
    assert!(reply["error"]["message"].as_str().unwrap().contains("taken back"));
    assert_eq!(*ended.provider.0.revoked.lock().unwrap(), ["L1"]);
}

#[tokio::test(start_paused = true)]
async fn a_narrower_link_is_a_success_with_a_warning_for_each_difference() {
    let mut narrow = outcome(Made::Created);
    narrow.comparison.narrower.push(difference("expirationDateTime"));
    let (reply, _, _) = world([Line::Say(Ok(narrow))]).answer(plain()).await;
    assert_eq!(reply["status"], "created");
    assert_eq!(
        reply["warnings"],
        json!([{ "member": "expirationDateTime", "asked": "organization", "granted": "anonymous" }])
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_code_panics_comes_back_and_in_the_end_becomes_an_internal_failure() {
    let (reply, dead, ended) = world([Line::Panic]).answer(plain()).await;
    assert_eq!(reply["error"]["kind"], "internal");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].note.reason, DeathReason::Crashing);
    assert_eq!(ended.provider.calls().len(), 4);
    ended.shows(r#"sharelink_settlements_total{cause="dropped",settlement="requeue"} 4"#);
    ended.shows(r#"sharelink_settlements_total{cause="crashing",settlement="dead_letter"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_never_ends_leaves_the_slot_before_the_broker_takes_it_away() {
    let hangs = Line::Slowly(Duration::from_secs(100_000), Ok(outcome(Made::Created)));
    let (reply, _, ended) = world([hangs, created()]).answer(plain()).await;
    assert_eq!(reply["status"], "created");
    assert_eq!(ended.provider.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_request_tells_the_provider_to_look_before_it_makes_a_link() {
    let envelope = Envelope { travel: Travel { redelivered: true, ..Travel::default() }, ..plain() };
    let (_, _, ended) = world([created()]).answer(envelope).await;
    assert_eq!(ended.provider.calls()[0].1, History::MayHaveHappened);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_gives_back_what_waits_and_finishes_what_is_being_called() {
    let world = world([
        Line::Slowly(Duration::from_millis(100), Ok(outcome(Made::Created))),
        failing(ErrorKind::Unavailable, Retry::Sparingly { at_most: 9, at_least: Duration::from_secs(4) }, None),
    ]);
    world.memory.submit(plain());
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.memory.submit(plain());
    tokio::time::sleep(Duration::from_millis(10)).await;
    world.stopping.cancel();
    let mut replies = world.task.await.unwrap().take_replies().unwrap();
    let (_, reply) = replies.try_recv().unwrap();
    assert_eq!(reply.status(), Status::Created);
    assert!(replies.try_recv().is_err(), "the waiting request is given back, not failed");
    let text = world.metrics.render().unwrap();
    assert!(text.contains(r#"sharelink_settlements_total{cause="stopping",settlement="requeue"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn replies_find_their_way_by_members_of_the_body_where_properties_are_missing() {
    let world = world([created()]);
    world.memory.submit(request(json!({ "item": {}, "link": {}, "replyTo": "mine", "correlationId": "c-1" })));
    world.memory.idle().await;
    world.stopping.cancel();
    let (envelope, _) = world.task.await.unwrap().take_replies().unwrap().try_recv().unwrap();
    assert_eq!(envelope.properties.reply_to.as_deref(), Some("mine"));
    assert_eq!(envelope.properties.correlation_id.as_deref(), Some("c-1"));
}

/// A door whose broker refuses everything until a moment, and then takes it.
#[derive(Clone)]
struct Refusing {
    until: Instant,
    inner: Arc<Memory>,
}

impl Refusing {
    fn refuses(&self) -> Result<(), PublishFailure> {
        if Instant::now() < self.until { Err(PublishFailure::Unconfirmed("basic.nack".into())) } else { Ok(()) }
    }
}

impl Outbox for Refusing {
    type Replied = memory::Replied;
    type Moved = memory::Moved;

    async fn reply(&self, envelope: &Envelope, reply: &Reply) -> Result<Self::Replied, PublishFailure> {
        self.refuses()?;
        self.inner.reply(envelope, reply).await
    }

    async fn bury(&self, envelope: &Envelope, why: &DeathNote) -> Result<Self::Moved, PublishFailure> {
        self.refuses()?;
        self.inner.bury(envelope, why).await
    }

    async fn delay(&self, envelope: &Envelope, wait: Duration, travel: Travel) -> Result<Self::Moved, PublishFailure> {
        self.refuses()?;
        self.inner.delay(envelope, wait, travel).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_refuses_for_minutes_is_kept_and_tried_and_only_then_given_back() {
    let requests = [
        ("a reply", plain(), created(), "ack"),
        ("a copy", request(json!({ "id": "r1", "colour": "red" })), created(), "ack"),
        ("a move", plain(), failing(ErrorKind::RateLimited, Retry::Yes, Some(Duration::from_secs(60))), "delay"),
    ];
    for (what, envelope, line, wanted) in requests {
        for (minutes, wanted) in [(4, wanted), (6, "requeue")] {
            let World { memory, provider, pipeline, .. } = world([line.clone()]);
            let began = Instant::now();
            let door = Refusing { until: began + Duration::from_secs(60 * minutes), inner: memory };
            let settlement = pipeline.handle(&envelope, &door, &CancellationToken::new()).await;
            assert_eq!(settlement.labels().0, wanted, "{what}, refused for {minutes} min");
            assert!(began.elapsed() <= Duration::from_secs(301), "{what}: {:?}", began.elapsed());
            assert!(provider.calls().len() <= 1, "{what}: the provider is not asked again");
        }
    }
}
