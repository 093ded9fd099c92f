//! Requests that have to wait for their provider.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::requester::until;
use super::{World, request};

/// What `throttled-9` asks for: longer than `retry.inline_limit`, which is 5 s by default.
const ASKED_FOR: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn a_long_retry_after_is_waited_for_in_a_delay_queue_while_other_accounts_are_served() {
    let world = World::new().await;
    let delayed = format!("{}.delay.5s", world.requests());
    let began = Instant::now();
    let throttled =
        world.requester.send(world.requests(), &request("contoso", &json!({"itemId": "throttled-9"}))).await;
    let delays = |cause: &str| format!("sharelink_settlements_total{{cause=\"{cause}\",settlement=\"delay\"}}");
    let left = async || world.worker.metrics().await.value(&delays("backoff")) == 1.0;
    until("the request leaves the worker", left).await;
    assert_eq!(world.requester.ready(&delayed).await, Some(1));

    let paused = |provider: &str| format!("sharelink_provider_paused{{provider=\"{provider}\"}}");
    let metrics = world.worker.metrics().await;
    assert_eq!(metrics.value(&paused("contoso")), 1.0);
    assert_eq!(metrics.value(&paused("content")), 0.0);
    assert_eq!(metrics.value("sharelink_in_flight{provider=\"contoso\"}"), 0.0);
    assert_eq!(metrics.value(&delays("paused")), 0.0);
    assert_eq!(metrics.value("sharelink_retries_total{provider=\"contoso\",reason=\"rateLimited\"}"), 1.0);

    // A second request of the account is held back without a call; other accounts do not notice.
    let held = world.requester.send(world.requests(), &request("contoso", &json!({"itemId": "01HELD"}))).await;
    for (provider, member) in [("personal", "itemId"), ("content", "folderId"), ("content", "fileId")] {
        assert_eq!(world.ask(&request(provider, &json!({ member: "01FREE" }))).await.outcome(), "created");
    }
    let meanwhile = world.requester.replies.counts();
    assert_eq!(meanwhile.len(), 3, "answered during the pause, and before it ended: {meanwhile:?}");
    assert!(began.elapsed() < ASKED_FOR, "the machine is too slow for this test: {:?}", began.elapsed());

    let answer = world.requester.replies.answer(&throttled).await;
    assert_eq!(answer.outcome(), "created");
    assert!(answer.at - began >= ASKED_FOR, "{:?}", answer.at - began);
    assert_eq!(answer.json()["attempts"], 2);
    assert!(answer.json()["elapsedMs"].as_u64().unwrap() >= 9_000, "{}", answer.text());
    let held = world.requester.replies.answer(&held).await;
    assert_eq!((held.outcome().as_str(), &held.json()["attempts"]), ("created", &json!(1)));
    assert!(held.at - began >= ASKED_FOR);

    // One refused, one for each of the two links.
    assert_eq!(world.simulator.state.stats().providers["graph"].all.tally.calls, 3);
    let metrics = world.worker.metrics().await;
    assert_eq!(metrics.value(&paused("contoso")), 0.0);
    assert_eq!((metrics.value(&delays("backoff")), metrics.value(&delays("paused"))), (1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_and_what_stays_is_answered_as_retryable() {
    let world = World::with(|setup| {
        setup.set("RETRY__INITIAL_INTERVAL", "10ms");
        setup.set("RETRY__MAX_INTERVAL", "50ms");
        setup.set("RETRY__MAX_ATTEMPTS", "4");
    })
    .await;
    for (provider, member) in [("contoso", "itemId"), ("personal", "itemId"), ("content", "folderId")] {
        for word in ["flaky", "reset"] {
            let reply = world.ask(&request(provider, &json!({ member: format!("a-{word}") }))).await;
            assert_eq!(reply.outcome(), "created", "{provider} {word}");
            assert!(reply.json()["attempts"].as_u64().unwrap() > 1, "{provider} {word}: {}", reply.text());
        }
        // The link is made and nobody says so: it is found again instead of made again.
        for word in ["lost", "gateway"] {
            let reply = world.ask(&request(provider, &json!({ member: format!("a-{word}") }))).await;
            assert_eq!(reply.outcome(), if provider == "content" { "created" } else { "reused" }, "{provider} {word}");
        }
        let reply = world.ask(&request(provider, &json!({ member: "a-down" }))).await;
        assert_eq!(reply.outcome(), "failed/unavailable");
        let reply = reply.json();
        assert_eq!((&reply["attempts"], &reply["error"]["retryable"]), (&json!(4), &json!(true)));
    }
    let stats = world.simulator.state.stats();
    assert_eq!((stats.all.tally.created, stats.all.doubled), (12, 0));
}
