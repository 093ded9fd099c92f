//! Workers that are stopped, killed and cut off in the middle of their work: no request is lost, no link is doubled.

use std::collections::{BTreeMap, BTreeSet};

use super::requester::{Mailbox, Requester, asking, until};
use serde_json::json;

use super::{Rabbit, Setup, World, request, simulator, slow_requests};

const REQUESTS: usize = 120;
/// How many of them have a mail sent.
const MAILS: u64 = 30;
/// Few enough that most requests still wait when a worker is stopped after its first answers.
const PREFETCH: &str = "12";

/// Sends the whole batch; returns the correlation ids.
async fn send_all(requester: &Requester, requests: &str, reply_to: &str) -> BTreeSet<String> {
    let mut sent = BTreeSet::new();
    for (number, body) in slow_requests(REQUESTS).iter().enumerate() {
        let correlation = format!("request-{number:03}");
        requester.publish("", requests, body.to_string().as_bytes(), asking(reply_to, &correlation)).await;
        sent.insert(correlation);
    }
    sent
}

/// Every request is answered with a link, no other message came, and what was answered twice was answered alike.
fn check_answers(sent: &BTreeSet<String>, replies: &Mailbox) {
    let all = replies.all();
    let answered: BTreeSet<String> = all.iter().map(super::Message::correlation_id).collect();
    assert_eq!(sent.difference(&answered).collect::<Vec<_>>(), Vec::<&String>::new(), "lost");
    assert_eq!(answered.difference(sent).collect::<Vec<_>>(), Vec::<&String>::new(), "unexpected");
    let mut first: BTreeMap<String, (String, String)> = BTreeMap::new();
    for reply in &all {
        assert!(["created", "reused"].contains(&reply.outcome().as_str()), "{}", reply.text());
        let told = (reply.message_id(), reply.url());
        let before = first.entry(reply.correlation_id()).or_insert_with(|| told.clone());
        assert_eq!(*before, told, "answered twice and differently");
    }
}

async fn all_answered(sent: &BTreeSet<String>, replies: &Mailbox) {
    until("every request is answered", async || replies.counts().len() >= sent.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_stop_finishes_what_it_holds_and_a_second_one_answers_the_rest_exactly_once() {
    let world = World::with(|setup| setup.set("BROKER__PREFETCH", PREFETCH)).await;
    let World { simulator, setup, worker, requester } = world;
    let requests = setup.names.requests.clone();
    let sent = send_all(&requester, &requests, &requester.queue).await;
    until("the first answers", async || requester.replies.all().len() >= 10).await;
    worker.terminate().await;
    let (status, log) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");

    // Each request is now either answered or in the queue again, and none is both.
    until("the last answers", async || {
        let waiting = usize::try_from(requester.ready(&requests).await.unwrap()).unwrap();
        waiting > 0 && waiting + requester.replies.all().len() == REQUESTS
    })
    .await;

    let second = setup.ready().await;
    all_answered(&sent, &requester.replies).await;
    check_answers(&sent, &requester.replies);
    second.terminate().await;
    let (status, log) = second.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(requester.replies.all().len(), REQUESTS, "each is answered once");
    assert_eq!(requester.ready(&requests).await, Some(0));
    assert_eq!(requester.ready(&setup.names.dead).await, Some(0));
    let stats = simulator.state.stats();
    assert_eq!((stats.all.tally.created, stats.all.tally.reused, stats.all.doubled), (120, 0, 0));
    assert_eq!(stats.mails, MAILS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_worker_at_once_and_its_request_is_in_the_queue_again() {
    let world = World::new().await;
    let slow = request("contoso", &json!({ "itemId": "slow-20000-item" })).to_string();
    let own = asking(&world.requester.queue, "slow");
    world.requester.publish("", world.requests(), slow.as_bytes(), own).await;
    until("the call is under way", async || {
        let series = "sharelink_in_flight{provider=\"contoso\"}";
        world.worker.metrics().await.value(series) >= 1.0
    })
    .await;
    world.worker.terminate().await;
    until("it finishes what it holds", async || world.worker.log().contains("those in flight end first")).await;
    world.worker.terminate().await;
    let (status, log) = world.worker.ended().await;
    assert_eq!(status.code(), Some(130), "{log}");
    let requests = world.setup.names.requests.clone();
    until("the request is back", async || world.requester.ready(&requests).await == Some(1)).await;
    assert_eq!(world.requester.replies.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_loses_no_request_and_doubles_no_link() {
    let world = World::with(|setup| setup.set("BROKER__PREFETCH", PREFETCH)).await;
    let World { simulator, setup, mut worker, requester } = world;
    let requests = setup.names.requests.clone();
    let sent = send_all(&requester, &requests, &requester.queue).await;
    for kill in 1..=3 {
        until("more answers", async || requester.replies.counts().len() >= kill * 10).await;
        worker.kill().await;
        assert!(requester.replies.counts().len() < REQUESTS, "killed in the middle");
        worker = setup.ready().await;
    }
    all_answered(&sent, &requester.replies).await;
    worker.terminate().await;
    let (status, log) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    check_answers(&sent, &requester.replies);
    assert_eq!(requester.ready(&requests).await, Some(0));
    assert_eq!(requester.ready(&setup.names.dead).await, Some(0));
    let stats = simulator.state.stats();
    assert_eq!((stats.all.tally.created, stats.all.doubled), (120, 0));
    assert_eq!(stats.mails, MAILS, "nobody is written to twice");
    // The killed workers had made links that they could not tell of any more.
    let told_again = requester.replies.all().iter().any(|reply| reply.outcome() == "reused");
    assert!(told_again && stats.all.tally.calls > 160, "no worker was killed with calls under way: {stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_in_the_middle_costs_no_request_and_the_worker_lives_on() {
    let node = tokio::task::block_in_place(Rabbit::new);
    let simulator = simulator().await;
    let mut setup = Setup::new(&node.url(), simulator.address);
    setup.set("BROKER__PREFETCH", PREFETCH);
    let mut worker = setup.ready().await;
    let requester = Requester::new(&node.url()).await;
    // Nobody listens there before the broker is back, so that no reply is lost on its way to a listener.
    let answers = requester.other_queue().await;
    tokio::task::block_in_place(|| node.remember_queues());
    let sent = send_all(&requester, &setup.names.requests, &answers).await;
    until("the work is under way", async || simulator.state.stats().all.tally.created >= 30).await;
    node.crash();
    until("not ready", async || worker.get("/readyz").await.0 == 503).await;
    let made = simulator.state.stats().all.tally.created;
    assert!(made < 120, "the broker went away in the middle");
    assert_eq!(worker.get("/livez").await.0, 200);

    tokio::task::block_in_place(|| node.start());
    worker.until_ready().await;
    let requester = Requester::with_queue(&node.url(), &answers).await;
    all_answered(&sent, &requester.replies).await;
    assert!(worker.runs());
    let metrics = worker.metrics().await;
    assert!(metrics.value("sharelink_broker_reconnects_total") >= 1.0);
    for role in ["consume", "publish"] {
        assert_eq!(metrics.value(&format!("sharelink_broker_connected{{role=\"{role}\"}}")), 1.0);
    }
    worker.terminate().await;
    let (status, log) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    check_answers(&sent, &requester.replies);
    assert_eq!(requester.ready(&setup.names.requests).await, Some(0));
    assert_eq!(requester.ready(&setup.names.dead).await, Some(0));
    let stats = simulator.state.stats();
    assert_eq!((stats.all.tally.created, stats.all.doubled), (120, 0));
    assert_eq!(stats.mails, MAILS, "nobody is written to twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_on_one_queue_share_the_work() {
    let world = World::with(|setup| setup.set("BROKER__PREFETCH", PREFETCH)).await;
    let second = world.setup.ready().await;
    let sent = send_all(&world.requester, world.requests(), &world.requester.queue).await;
    all_answered(&sent, &world.requester.replies).await;
    check_answers(&sent, &world.requester.replies);
    for worker in [&world.worker, &second] {
        let (status, text) = worker.get("/metrics").await;
        assert_eq!(status, 200);
        let links = text.lines().filter(|line| line.starts_with("sharelink_links_total{outcome=\"created\""));
        let links: f64 = links.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        assert!(links > 0.0, "{text}");
    }
    assert_eq!(world.simulator.state.stats().all.doubled, 0);
}
