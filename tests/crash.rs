//! The real worker dies at each point of the trip, twice, and another one takes over: nothing is lost, nothing is
//! unexpected, no link is made twice, and a repeated reply is the same answer.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/set_check.rs"]
mod set_check;
#[path = "support/worker_process.rs"]
mod worker_process;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use client::Requester;
use rabbit::Rabbit;
use set_check::{Ask, SetCheck, Wanted, links, malformed, throttled};
use sharelink::pipeline::crash_point::Point;
use sharelink::simulate::{self, Options};
use tokio::net::TcpListener;
use worker_process::Home;

const SIGABRT: i32 = 6;

/// One request after the other dies in the second life: late enough that others are under way.
const SECOND_TIME: u32 = 4;

async fn dies_at(point: Point) {
    let node = Rabbit::shared();
    let urls = [node.url()];
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Options::default()).await;
    let home = Home::new(&urls, simulator.addresses(), 16);
    let mut check = SetCheck::default();

    let mut first = home.start(Some(&format!("{}:1", point.as_str())));
    home.said("connected to the broker", 1).await;
    let requester = Requester::connect(&urls).await;
    let mut asks = links(0..30);
    asks.extend(throttled(0..8));
    asks.extend(malformed(0..8));
    check.ask(&requester, &home, asks).await;
    assert_eq!(first.ended().await.signal(), Some(SIGABRT), "the first life ends at {point:?}");

    // Few requests are moved aside: after the first refusal calls are paced, and whoever waits for its turn stays.
    let time = if point == Point::Delayed { 1 } else { SECOND_TIME };
    let mut second = home.start(Some(&format!("{}:{time}", point.as_str())));
    assert_eq!(second.ended().await.signal(), Some(SIGABRT), "the second life ends at {point:?}");

    let third = home.start(None);
    check.collect(&urls, &home, check.asked(), Duration::from_secs(60)).await;
    check.settle(&urls, &home).await;
    assert_eq!(third.stop().await.code(), Some(0));
    let report = check.report(&simulator.state.stats());
    println!("{}: {report}", point.as_str());
    report.must_hold();
    assert!(requester.ready(&home.dead_letter_queue).await >= 8, "each malformed request has a copy");
    assert_eq!(requester.ready(&home.request_queue).await, 0);
}

#[tokio::test]
async fn a_worker_that_dies_with_a_request_just_received_loses_nothing() {
    dies_at(Point::Received).await;
}

#[tokio::test]
async fn a_worker_that_dies_with_a_request_just_read_loses_nothing() {
    dies_at(Point::Decoded).await;
}

#[tokio::test]
async fn a_worker_that_dies_before_the_providers_call_loses_nothing() {
    dies_at(Point::Called).await;
}

#[tokio::test]
async fn a_worker_that_dies_after_the_providers_answer_makes_no_second_link() {
    dies_at(Point::Answered).await;
}

#[tokio::test]
async fn a_worker_that_dies_before_it_sees_the_confirm_repeats_the_same_reply() {
    dies_at(Point::Replied).await;
}

#[tokio::test]
async fn a_worker_that_dies_between_confirm_and_acknowledgement_repeats_the_same_reply() {
    dies_at(Point::Confirmed).await;
}

#[tokio::test]
async fn a_worker_that_dies_with_the_acknowledgement_on_its_way_loses_nothing() {
    dies_at(Point::Acknowledged).await;
}

#[tokio::test]
async fn a_worker_that_dies_while_it_moves_a_request_aside_loses_nothing() {
    dies_at(Point::Delayed).await;
}

#[tokio::test]
async fn a_worker_that_dies_while_it_buries_a_request_still_answers_it() {
    dies_at(Point::Buried).await;
}

#[tokio::test]
async fn a_request_that_keeps_killing_workers_is_answered_buried_and_kills_no_more() {
    let node = Rabbit::shared();
    let urls = [node.url()];
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Options::default()).await;
    let home = Home::new(&urls, simulator.addresses(), 16);
    let deadly = [("SHARELINK_CRASH_AT", "called:1"), ("SHARELINK__BROKER__MAX_DELIVERIES", "2")];
    let mut worker = home.start_with(&deadly);
    home.said("connected to the broker", 1).await;
    let requester = Requester::connect(&urls).await;
    let mut check = SetCheck::default();
    let poison = links(0..1).into_iter().map(|ask| Ask { wanted: Wanted::Refusal("internal"), ..ask });
    check.ask(&requester, &home, poison.collect()).await;
    for life in 1..=3 {
        assert_eq!(worker.ended().await.signal(), Some(SIGABRT), "life {life}");
        worker = home.start_with(&deadly);
    }
    check.collect(&urls, &home, 1, Duration::from_secs(60)).await;
    check.settle(&urls, &home).await;
    check.report(&simulator.state.stats()).must_hold();
    assert!(worker.runs());
    assert_eq!(worker.stop().await.code(), Some(0));
    assert_eq!(requester.ready(&home.dead_letter_queue).await, 1);
    assert_eq!(requester.ready(&home.request_queue).await, 0);
}

#[test]
fn every_crash_point_has_its_test() {
    let tests = include_str!("crash.rs");
    for point in Point::ALL {
        assert!(tests.contains(&format!("dies_at(Point::{point:?}).await")), "{point:?}");
    }
}

#[test]
fn a_release_binary_has_no_crash_points() {
    let source = include_str!("../src/pipeline/crash_point.rs");
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let (before, debug_only) = code.split_once("#[cfg(debug_assertions)]\npub fn reached").expect("a debug-only part");
    for word in ["SHARELINK_CRASH_AT", "abort"] {
        assert!(!before.contains(word), "{word} stands outside of what only debug builds have");
        assert!(debug_only.contains(word), "{word}");
    }
    assert!(before.contains("#[cfg(not(debug_assertions))]\n#[inline(always)]\npub fn reached(_: Point) {}"));
}
