//! A cluster of three RabbitMQ nodes on this machine, and the worker that loses the node it is connected to, which leads
//! its queues, in the middle of its work: nothing is lost, no link is made twice, and the worker's process goes on.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/set_check.rs"]
mod set_check;
#[path = "support/worker_process.rs"]
mod worker_process;

use std::time::Duration;

use client::Requester;
use rabbit::{Cluster, Rabbit};
use set_check::{SetCheck, links};
use sharelink::simulate::{self, Options};
use tokio::net::TcpListener;
use tokio::task::block_in_place;
use tokio::time::Instant;
use worker_process::Home;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_node_is_killed_and_the_worker_goes_on_at_another_one() {
    let requests: usize =
        std::env::var("SHARELINK_TEST_CLUSTER_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    let cluster = block_in_place(Cluster::new);
    let urls: Vec<String> = cluster.nodes.iter().map(Rabbit::url).collect();
    let options = Options { latency: Duration::from_millis(20), ..Options::default() };
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), options).await;
    let home = Home::new(&urls, simulator.addresses(), 64);
    let mut worker = home.start(None);
    home.said("connected to the broker and consuming", 1).await;
    let leader = block_in_place(|| cluster.leader(&home.request_queue)).expect("the request queue has a leader");
    assert_eq!(leader.url(), urls[0], "the leader runs on the node to which the worker is connected");

    block_in_place(|| leader.remember_queues());

    let others = &urls[1..];
    let requester = Requester::connect(others).await;
    let mut check = SetCheck::watching(cluster.nodes.iter().map(Rabbit::operator));
    check.ask(&requester, &home, links(0..requests)).await;
    let began = Instant::now();
    check.collect(others, &home, requests / 3, Duration::from_secs(60)).await;
    assert!(requester.ready(&home.request_queue).await > 0, "it is killed in the middle of the work");
    leader.crash();
    check.collect(others, &home, requests, Duration::from_secs(60)).await;
    check.settle(others, &home).await;

    let report = check.report(&simulator.state.stats());
    println!(
        "{report}; the leader's node killed; publish channels replaced {}; {:.1} s",
        home.log().matches("the publish channel is replaced").count(),
        began.elapsed().as_secs_f64()
    );
    report.must_hold();
    assert!(worker.runs(), "the worker was never restarted");
    home.said("connected to the broker and consuming", 2).await;
    assert_eq!(worker.stop().await.code(), Some(0));
    assert_eq!(requester.ready(&home.request_queue).await, 0);
}
