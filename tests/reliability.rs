//! The set check under everything at once: provider faults, `kill -9` of the worker again and again, a broker that dies and
//! comes back. And the long form of it, `make soak`: a worker that loses its connections for as long as one likes must
//! not grow.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/set_check.rs"]
mod set_check;
#[path = "support/worker_process.rs"]
mod worker_process;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use client::Requester;
use rabbit::Rabbit;
use relay::{Relay, Weather};
use set_check::{SetCheck, links};
use sharelink::simulate::{self, Options, Simulator};
use tokio::net::TcpListener;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use worker_process::{Footprint, Home};

/// A number from the environment.
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Both providers with a bad day: 3 % 503, 2 % resets, 2 % of answers lost after the work was done.
async fn faulty() -> Simulator {
    let options = Options {
        latency: Duration::from_millis(30),
        jitter: Duration::from_millis(30),
        fault_503: 0.03,
        reset: 0.02,
        lose_answers: 0.02,
        ..Options::default()
    };
    simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_made_twice_whatever_dies() {
    let requests = number("SHARELINK_TEST_REQUESTS", 1000);
    let kills = number("SHARELINK_TEST_KILLS", 3);
    let restarts = number("SHARELINK_TEST_RESTARTS", 1);
    let node = block_in_place(Rabbit::new);
    let urls = [node.url()];
    let simulator = faulty().await;
    let home = Home::new(&urls, simulator.addresses(), 64);
    let mut worker = home.start(None);
    home.said("connected to the broker and consuming", 1).await;
    let mut check = SetCheck::default();
    check.ask(&Requester::connect(&urls).await, &home, links(0..requests)).await;

    let began = Instant::now();
    let events = kills + restarts;
    let mut restarted = 0;
    for event in 0..events {
        // Evenly over the work, the restarts evenly among the kills.
        check.collect(&urls, &home, requests * (event + 1) / (events + 1), Duration::from_secs(60)).await;
        if (event + 1) * restarts / events > restarted {
            restarted += 1;
            block_in_place(|| node.kill());
            block_in_place(|| node.start());
            assert!(worker.runs(), "the worker outlives its broker");
        } else {
            worker.kill();
            worker = home.start(None);
        }
    }
    check.collect(&urls, &home, requests, Duration::from_secs(60)).await;
    check.settle(&urls, &home).await;
    let report = check.report(&simulator.state.stats());
    println!(
        "{report}; {kills} kill -9 of the worker, {restarts} of the broker; 3 % 503, 2 % resets, 2 % lost answers; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    report.must_hold();
    assert_eq!(worker.stop().await.code(), Some(0));
    assert_eq!(Requester::connect(&urls).await.ready(&home.dead_letter_queue).await, 0);
}

#[tokio::test]
async fn three_stops_in_mid_run_lose_nothing_and_answer_nothing_twice() {
    const REQUESTS: usize = 400;
    let node = Rabbit::shared();
    let urls = [node.url()];
    let options = Options { latency: Duration::from_millis(100), ..Options::default() };
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), options).await;
    let home = Home::new(&urls, simulator.addresses(), 16);
    let mut worker = home.start(None);
    home.said("connected to the broker and consuming", 1).await;
    let requester = Requester::connect(&urls).await;
    let mut check = SetCheck::default();
    check.ask(&requester, &home, links(0..REQUESTS)).await;
    for stop in 1..=3 {
        check.collect(&urls, &home, REQUESTS * stop / 5, Duration::from_secs(60)).await;
        assert!(requester.ready(&home.request_queue).await > 0, "it is stopped in the middle of the work");
        let began = Instant::now();
        assert_eq!(worker.stop().await.code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        worker = home.start(None);
    }
    check.collect(&urls, &home, REQUESTS, Duration::from_secs(60)).await;
    check.settle(&urls, &home).await;
    let report = check.report(&simulator.state.stats());
    println!("{report}; 3 × SIGTERM");
    report.must_hold();
    assert_eq!(report.repeated, 0, "{report}");
}

#[tokio::test]
async fn a_request_that_waits_outside_survives_the_death_of_its_worker_and_holds_up_nobody() {
    let node = Rabbit::shared();
    let urls = [node.url()];
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Options::default()).await;
    let home = Home::new(&urls, simulator.addresses(), 16);
    let worker = home.start(None);
    home.said("connected to the broker and consuming", 1).await;
    let requester = Requester::connect(&urls).await;
    let mut check = SetCheck::default();
    let item = r#""item": {"itemId": "it-throttled-6"}, "link": {"type": "view", "scope": "organization"}"#;
    let waits = set_check::ask("waits", "contoso", item);
    check.ask(&requester, &home, vec![waits]).await;
    let asked = Instant::now();
    let outside = format!("{}.delay.5s", home.request_queue);
    while requester.ready(&outside).await == 0 {
        assert!(asked.elapsed() < Duration::from_secs(30), "it does not leave the process");
        sleep(Duration::from_millis(20)).await;
    }
    worker.kill();
    let worker = home.start(None);
    // Other accounts do not notice.
    let others: Vec<_> = links(0..40).into_iter().filter(|ask| !ask.body.contains("contoso")).collect();
    let wanted = others.len();
    check.ask(&requester, &home, others).await;
    check.collect(&urls, &home, wanted, Duration::from_secs(60)).await;
    assert!(!check.has("waits"), "it is answered only after the pause");
    check.collect(&urls, &home, wanted + 1, Duration::from_secs(60)).await;
    assert!(asked.elapsed() >= Duration::from_secs(5), "{:?}", asked.elapsed());
    check.settle(&urls, &home).await;
    check.report(&simulator.state.stats()).must_hold();
    assert_eq!(worker.stop().await.code(), Some(0));
}

#[tokio::test]
async fn two_workers_with_the_same_requests_at_once_make_no_link_twice() {
    const REQUESTS: usize = 100;
    let node = Rabbit::shared();
    let urls = [node.url()];
    let simulator = faulty().await;
    let home = Home::new(&urls, simulator.addresses(), 16);
    let workers = [home.start(None), home.start(None)];
    home.said("connected to the broker and consuming", 2).await;
    let requester = Requester::connect(&urls).await;
    let mut check = SetCheck::default();
    // One after the other in the queue, so that each worker gets one of the two.
    let twice = (0..REQUESTS).flat_map(|number| [links(number..number + 1), links(number..number + 1)]).flatten();
    check.ask(&requester, &home, twice.collect()).await;
    check.collect(&urls, &home, REQUESTS, Duration::from_secs(60)).await;
    check.settle(&urls, &home).await;
    let report = check.report(&simulator.state.stats());
    println!("{report}; two workers");
    report.must_hold();
    assert_eq!(report.repeated, REQUESTS, "each of the two requests has its answer");
    for worker in workers {
        assert_eq!(worker.stop().await.code(), Some(0));
    }
}

/// Samples are compared in quarters, the first of them after a warm-up.
fn typical(samples: &[Footprint], of: impl Fn(&Footprint) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// `make soak`: SHARELINK_SOAK_MINUTES minutes with SHARELINK_SOAK_RECONNECTS forced reconnects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as one likes: make soak"]
async fn a_worker_that_loses_its_connections_for_long_does_not_grow() {
    let minutes = number("SHARELINK_SOAK_MINUTES", 30);
    let reconnects = number("SHARELINK_SOAK_RECONNECTS", 200).max(8);
    let a_second = number("SHARELINK_SOAK_RATE", 20);
    let node = block_in_place(Rabbit::new);
    let relay = Relay::before(node.port()).await;
    let urls = [node.url()];
    let simulator = faulty().await;
    let home = Home::new(&[relay.url()], simulator.addresses(), 64);
    let mut worker = home.start(None);
    home.said("connected to the broker and consuming", 1).await;
    let requester = Requester::connect(&urls).await;
    let mut replies = requester.replies(&home.reply_queue).await;
    let mut check = SetCheck::default();

    let began = Instant::now();
    let period = Duration::from_secs(60 * minutes as u64) / reconnects as u32;
    let mut samples = Vec::new();
    let mut asked = 0;
    for round in 0..reconnects {
        // A quiet part of the period, so that a generation lasts, then as much work as the whole period is to have: at the
        // cut as much as possible is under way.
        let burst = began + period * round as u32 + period.mul_f64(0.6);
        let ends = began + period * (round as u32 + 1);
        check.collect_until(&mut replies, burst).await;
        let more = (a_second as f64 * period.as_secs_f64()) as usize;
        check.ask(&requester, &home, links(asked..asked + more)).await;
        asked += more;
        // Somewhere in the middle of it, at another place each time.
        let before = check.answered();
        while check.answered() < before + more * (1 + round % 4) / 5 {
            let reply = client::next(&mut replies, Duration::from_secs(120)).await;
            check.note(reply.expect("the replies go on"));
        }
        if round % 20 == 19 {
            // Long enough for the heartbeat to notice, which is 5 s here.
            relay.weather(Weather::BlackHole);
            sleep(period.min(Duration::from_secs(12))).await;
            relay.weather(Weather::Fair);
        }
        relay.cut();
        check.collect_until(&mut replies, ends).await;
        samples.push(worker.footprint());
        if round % 10 == 9 {
            let last = samples[samples.len() - 1];
            println!(
                "{:>4} s  reconnect {:>3}  answered {:>6} of {asked:>6}  {last:?}",
                began.elapsed().as_secs(),
                round + 1,
                check.answered(),
            );
        }
    }
    // What this consumer was given and did not read goes to the next one.
    drop((replies, requester));
    check.collect(&urls, &home, asked, Duration::from_secs(120)).await;
    check.settle(&urls, &home).await;
    let report = check.report(&simulator.state.stats());
    assert!(worker.runs());
    let quarter = samples.len() / 4;
    let (early, late) = (&samples[quarter / 2..quarter + quarter / 2], &samples[samples.len() - quarter..]);
    let of = |what: &str, of: fn(&Footprint) -> u64| {
        let (early, late) = (typical(early, of), typical(late, of));
        println!("{what}: {early} in the first quarter after warm-up, {late} in the last");
        (early, late)
    };
    let memory = of("resident memory, KiB", |sample| sample.rss_kib);
    let descriptors = of("file descriptors", |sample| sample.descriptors);
    let threads = of("threads", |sample| sample.threads);
    println!("{report}; {minutes} min, {reconnects} forced reconnects");
    report.must_hold();
    assert!(memory.1 <= memory.0 + memory.0 / 10 + 4096, "memory grows");
    assert!(descriptors.1 <= descriptors.0 + 16, "file descriptors grow");
    assert!(threads.1 <= threads.0 + 2, "threads grow");
    assert_eq!(worker.stop().await.code(), Some(0));
}

/// RELIABILITY.md names each test as `tests/file.rs::name` or `src/path.rs::name`.
#[test]
fn every_test_that_reliability_md_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("RELIABILITY.md")).unwrap();
    let named: BTreeSet<(&str, &str)> = text
        .split('`')
        .filter_map(|word| word.split_once(".rs::"))
        .filter(|(file, _)| file.starts_with("tests/") || file.starts_with("src/"))
        .collect();
    assert!(named.len() >= 20, "only {} tests are named", named.len());
    for (file, test) in named {
        let source = std::fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
        assert!(source.contains(&format!("fn {test}(")), "RELIABILITY.md names {file}.rs::{test}, which is not there");
    }
}
