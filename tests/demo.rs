//! `sharelink demo` as a person runs it: the real program, in memory and through a real RabbitMQ node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/process.rs"]
mod process;
#[path = "support/rabbit.rs"]
mod rabbit;

use std::process::Stdio;
use std::time::Duration;

use process::{Ended, run, sharelink};
use rabbit::Rabbit;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

async fn demo(arguments: &[&str]) -> Ended {
    run(sharelink().arg("demo").args(arguments)).await
}

/// The table is there, its sums are right, and it counts so many requests.
fn check_table(ended: &Ended, requests: u64) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let numbers = |name: &str| -> Vec<u64> {
        let row = ended.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("no row {name} in\n{}", ended.stdout));
        row.split_whitespace().skip(1).map(|cell| cell.parse().unwrap()).collect()
    };
    let all = numbers("all");
    let accounts = ["contoso", "personal", "content", "(unreadable)"].map(numbers);
    for (column, sum) in all.iter().enumerate() {
        assert_eq!(accounts.iter().map(|row| row[column]).sum::<u64>(), *sum, "{}", ended.stdout);
    }
    assert_eq!(all[..3].iter().sum::<u64>(), requests);
    assert!(all[..3].iter().all(|count| *count > 0), "{all:?}");
    for line in [&format!("{requests} of {requests} requests answered"), "failed by kind", "Where to look next"] {
        assert!(ended.stdout.contains(line), "{line} in\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("http://127.0.0.1:") && ended.stdout.contains("/metrics"), "{}", ended.stdout);
    assert!(!ended.stderr.contains("WARN") && !ended.stderr.contains("ERROR"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_needs_nothing_and_ends_with_a_table() {
    check_table(&demo(&["--requests", "300"]).await, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_the_status_page_and_does_not_wait_for_who_watches_it() {
    let mut child =
        sharelink().args(["demo", "--requests", "1000"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("a line with the address");
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split_once('/').unwrap().0.parse().unwrap();
        }
    };
    let (status, page) = process::get(address, "/").await;
    assert_eq!(status, 200);
    for words in ["<h2 id=\"h-providers\">Providers</h2>", "contoso", "personal", "requests come from memory"] {
        assert!(page.contains(words), "{words} in\n{page}");
    }
    let mut watching = TcpStream::connect(address).await.unwrap();
    watching.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    // To the end: the stream ends with the demo.
    timeout(Duration::from_secs(90), watching.read_to_string(&mut seen)).await.expect("the stream ends").unwrap();
    assert!(seen.contains("event: page"), "{seen}");
    while lines.next_line().await.unwrap().is_some() {}
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_goes_through_rabbitmq_and_leaves_nothing_behind_there() {
    let node = tokio::task::block_in_place(Rabbit::shared);
    check_table(&demo(&["--requests", "300", "--broker", &node.url()]).await, 300);
    tokio::task::block_in_place(|| {
        assert_eq!(node.ctl(&["list_queues", "-q", "--no-table-headers", "name"]).trim(), "");
        let exchanges = node.ctl(&["list_exchanges", "-q", "--no-table-headers", "name"]);
        assert!(exchanges.contains("amq.topic") && !exchanges.contains("demo"), "{exchanges}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_ends_the_demo_with_69_and_a_plain_sentence() {
    let began = Instant::now();
    // Nobody listens on port 1.
    let ended = demo(&["--broker", "amqp://guest:pass-word@127.0.0.1:1/%2f"]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    let said = ended.stderr.trim();
    assert!(said.starts_with("the broker: 127.0.0.1:1") && said.contains("refused"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains("pass-word"));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_address_that_is_none_is_told_as_the_option_it_was_given_with() {
    let ended = demo(&["--broker", "http://127.0.0.1"]).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.starts_with("--broker: ") && ended.stderr.contains("amqp://"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("SHARELINK__"), "{}", ended.stderr);
}
