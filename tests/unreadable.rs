//! A message that the client library cannot read at all, among good ones: it ends every connection that it is delivered
//! on, and still its neighbours are answered, the worker's process goes on, and the broker buries it in the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/client.rs"]
mod client;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/set_check.rs"]
mod set_check;
#[path = "support/wire.rs"]
mod wire;
#[path = "support/worker_process.rs"]
mod worker_process;

use std::time::Duration;

use client::Requester;
use rabbit::Rabbit;
use set_check::{SetCheck, links};
use sharelink::simulate::{self, Options};
use tokio::net::TcpListener;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use wire::Wire;
use worker_process::Home;

const NEIGHBOURS: usize = 600;
const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_correlation_id_that_is_no_text_costs_no_neighbour_its_answer_and_ends_in_the_dead_letter_queue() {
    let node = block_in_place(Rabbit::shared);
    let urls = [node.url()];
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Options::default()).await;
    let home = Home::new(&urls, simulator.addresses(), 64);
    // The default, which these tests raise elsewhere: a neighbour that is given back too often is taken for a bad one.
    let mut worker = home.start_with(&[("SHARELINK__BROKER__MAX_DELIVERIES", "16")]);
    home.said("connected to the broker and consuming", 1).await;
    let requester = Requester::connect(&urls).await;
    let mut check = SetCheck::watching([node.operator()]);
    let (port, queue) = (node.port(), home.request_queue.clone());

    check.ask(&requester, &home, links(0..NEIGHBOURS / 2)).await;
    let body = br#"{"id": "bad", "provider": "contoso", "item": {"itemId": "it-bad"}, "link": {"type": "view"}}"#;
    block_in_place(|| Wire::open(port).publish(&queue, wire::CORRELATION_ID, &wire::short(b"\xff\xfe"), body));
    check.ask(&requester, &home, links(NEIGHBOURS / 2..NEIGHBOURS)).await;

    check.collect(&urls, &home, NEIGHBOURS, SOON).await;
    let asked = Instant::now();
    while requester.ready(&home.dead_letter_queue).await == 0 {
        assert!(worker.runs(), "the worker ended:\n{}", home.log());
        assert!(asked.elapsed() < SOON, "the bad message is not buried:\n{}\n{}", node.operator().queues(), home.log());
        sleep(Duration::from_millis(100)).await;
    }
    check.settle(&urls, &home).await;
    check.report(&simulator.state.stats()).must_hold();
    assert_eq!(requester.ready(&home.dead_letter_queue).await, 1, "a neighbour was buried");
    assert_eq!(requester.ready(&home.request_queue).await, 0);
    assert!(worker.runs());
    let served = home.log().matches("connected to the broker and consuming").count();
    println!("{NEIGHBOURS} neighbours answered, the bad message buried, after {served} connections");

    // Nor can `sharelink dead` read it, and says so instead of waiting for an answer.
    let (code, _, said) = block_in_place(|| home.run(&["dead", "list"]));
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("letter 1") && said.contains("not UTF-8") && said.contains(&home.dead_letter_queue),
        "{said}"
    );
    assert_eq!(requester.ready(&home.dead_letter_queue).await, 1);

    // And the worker works as before.
    check.ask(&requester, &home, links(NEIGHBOURS..NEIGHBOURS + 10)).await;
    check.collect(&urls, &home, NEIGHBOURS + 10, SOON).await;
    check.report(&simulator.state.stats()).must_hold();
    assert_eq!(worker.stop().await.code(), Some(0));
}
