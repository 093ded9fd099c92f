//! `make bench`: the whole worker beside the workers that a user would write, each against the same private RabbitMQ node
//! and the same simulated provider, in turn and repeatedly, so that whatever else the machine does hits all of them.
//!
//! `BENCH_ROUNDS` (3), `BENCH_ONLY` (`sharelink,go`), `BENCH_LATENCIES` (`0,50,250`, in ms), `BENCH_REQUESTS` (for each
//! latency; by default as many as take some seconds), `BENCH_PREFETCH` (100), `BENCH_FULL=1` (200,000 waiting requests as
//! well, once), `BENCH_WRITE=0` (no table and no picture is written).

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measuring program stops where it fails, and reads the clock"
)]

mod contender;
mod plain;
#[path = "../../tests/support/process.rs"]
mod process;
#[path = "../../tests/support/rabbit.rs"]
mod rabbit;
mod report;
mod run;
mod usage;

use std::collections::BTreeMap;

use contender::Contender;
use run::{Measured, Series};

/// As many requests as take a few seconds at each latency, in ms.
fn usual_requests(latency: u64) -> usize {
    match latency {
        0 => 20_000,
        1..100 => 10_000,
        _ => 4_000,
    }
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<usize> {
    text(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")))
}

/// What is measured, in order.
fn plan(full: bool, contenders: &[Contender]) -> Vec<(Series, Contender, usize)> {
    let rounds = number("BENCH_ROUNDS").unwrap_or(3);
    let latencies = text("BENCH_LATENCIES").unwrap_or_else(|| "0,50,250".to_owned());
    let latencies: Vec<u64> =
        latencies.split(',').map(|latency| latency.trim().parse().expect("BENCH_LATENCIES are numbers")).collect();
    let prefetch = number("BENCH_PREFETCH").map_or(100, |prefetch| u16::try_from(prefetch).expect("a prefetch"));
    let mut plan = Vec::new();
    for round in 0..rounds {
        for latency in &latencies {
            let requests = number("BENCH_REQUESTS").unwrap_or_else(|| usual_requests(*latency));
            let series = Series { latency: *latency, requests, prefetch, body: 0 };
            for contender in contenders {
                // Whoever takes minutes is measured once.
                if contender.is_quick() || round == 0 {
                    let requests = if contender.is_quick() { requests } else { (requests / 5).max(1) };
                    plan.push((Series { requests, ..series }, *contender, round));
                }
            }
        }
        if number("BENCH_REQUESTS").is_none() && text("BENCH_LATENCIES").is_none() {
            let base = Series { latency: 0, requests: 10_000, prefetch: 100, body: 0 };
            let mut own = vec![
                Series { requests: 1_000, ..base },
                base,
                Series { prefetch: 10, ..base },
                Series { prefetch: 256, ..base },
                Series { prefetch: 1000, ..base },
                Series { body: 4_096, ..base },
                Series { body: 65_536, requests: 5_000, ..base },
                Series { latency: 50, prefetch: 256, ..base },
            ];
            if full && round == 0 {
                own.push(Series { requests: 200_000, ..base });
            }
            for series in own {
                if contenders.contains(&Contender::Sharelink) {
                    plan.push((series, Contender::Sharelink, round));
                }
                if contenders.contains(&Contender::Go) && (series.requests == 200_000 || series == base) {
                    plan.push((series, Contender::Go, round));
                }
            }
        }
    }
    plan
}

fn main() {
    // The alternative in Rust is a process of its own, as the others are.
    if std::env::args().nth(1).as_deref() == Some("plain-worker") {
        return plain::run();
    }
    if !std::env::args().any(|argument| argument == "run") {
        println!("the whole worker beside others, some minutes: make bench");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let full = text("BENCH_FULL").is_some_and(|value| value != "0");
    let only = text("BENCH_ONLY");
    let wanted =
        |contender: &Contender| only.as_deref().is_none_or(|only| only.split(',').any(|name| name == contender.key()));
    let mut skipped = Vec::new();
    let contenders: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(wanted)
        .filter(|contender| match contender.prepare() {
            Ok(()) => true,
            Err(why) => {
                println!("{} is skipped: {why}", contender.name());
                skipped.push((*contender, why));
                false
            }
        })
        .collect();
    let node = rabbit::Rabbit::new();
    let mut results: BTreeMap<(Series, Contender), Vec<Measured>> = BTreeMap::new();
    let plan = plan(full, &contenders);
    for (at, (series, contender, round)) in plan.iter().enumerate() {
        let measured = run::run(&node, *series, *contender).await;
        println!(
            "{:>3}/{} round {} {:<16} {:>4} ms {:>7} requests prefetch {:>4} body +{:<6} {:>6.0} /s {:>7.1} µs CPU {:>6.1} MiB",
            at + 1,
            plan.len(),
            round + 1,
            contender.name(),
            series.latency,
            series.requests,
            series.prefetch,
            series.body,
            measured.rate,
            measured.cpu,
            measured.memory
        );
        results.entry((*series, *contender)).or_default().push(measured);
    }
    let medians: BTreeMap<(Series, Contender), Measured> =
        results.into_iter().map(|(key, list)| (key, Measured::median(&list))).collect();
    report::write(&medians, &skipped, text("BENCH_WRITE").is_none_or(|value| value != "0"));
}
