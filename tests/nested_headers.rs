//! A message whose headers are nested without end is one malformed request more, and does not end the worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/client.rs"]
mod client;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/wire.rs"]
mod wire;
#[path = "support/worker_process.rs"]
mod worker_process;

use std::time::Duration;

use client::Requester;
use rabbit::Rabbit;
use sharelink::simulate::{self, Options};
use tokio::net::TcpListener;
use wire::{Wire, length};
use worker_process::Home;

/// Some times of what ended a worker before it made room; the stack of a test build holds it too.
const LEVELS: usize = 4000;

/// A list in a list in a list, as a table on the wire.
fn nested(levels: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..levels {
        value = [&b"A"[..], &length(&value), &value].concat();
    }
    let entry = [&b"\x01h"[..], &value].concat();
    [&length(&entry)[..], &entry].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_nested_thousands_deep_do_not_end_the_worker() {
    let node = tokio::task::block_in_place(Rabbit::shared);
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Options::default()).await;
    let urls = [node.url()];
    let home = Home::new(&urls, simulator.addresses(), 16);
    let mut worker = home.start(None);
    home.said("connected to the broker", 1).await;
    let requester = Requester::connect(&urls).await;

    let (port, queue) = (node.port(), home.request_queue.clone());
    tokio::task::block_in_place(|| Wire::open(port).publish(&queue, wire::HEADERS, &nested(LEVELS), b"not a request"));

    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    // The copy comes first, then the reply.
    while requester.ready(&home.dead_letter_queue).await + requester.ready(&home.reply_queue).await < 2 {
        assert!(worker.runs(), "the worker ended:\n{}", home.log());
        assert!(
            tokio::time::Instant::now() < deadline,
            "no copy of the malformed request, or no reply:\n{}",
            home.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(requester.ready(&home.reply_queue).await, 1);
    assert_eq!(requester.ready(&home.dead_letter_queue).await, 1);
    assert_eq!(requester.ready(&home.request_queue).await, 0);
    assert_eq!(worker.stop().await.code(), Some(0));
}
