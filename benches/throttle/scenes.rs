//! The scenes: which providers, which workers, for how long; and the table that is made of them.

use std::fmt::Write;
use std::time::Duration;

use super::providers::{Provider, Rule};
use super::world::{Report, Scene, Worker, play};

/// Calls a second that the providers allow.
pub const RATE: f64 = 20.0;
/// Plays of each scene; used and refused are their means.
pub const PLAYS: u64 = 10;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Allows a second's calls at once and closes for two seconds when overrun.
pub fn closing() -> Provider {
    Provider::new(Rule::Bucket { burst: RATE }, RATE).closing(seconds(2))
}

/// The ways of limiting, by name.
pub fn providers() -> Vec<(&'static str, Provider)> {
    let (second, minute) = (seconds(1), seconds(60));
    let rule = |rule| Provider::new(rule, RATE);
    vec![
        ("closes for 2 s when a second's calls, coming back evenly, are used up", closing()),
        (
            "closes for 2 s after 20 calls in a second of the clock",
            rule(Rule::Window { length: second }).closing(second * 2),
        ),
        ("closes for 2 s after 20 calls in any second", rule(Rule::Sliding { length: second }).closing(second * 2)),
        ("token bucket that holds a second's calls", rule(Rule::Bucket { burst: RATE })),
        ("the same, refusing without `Retry-After`", rule(Rule::Bucket { burst: RATE }).silent()),
        ("token bucket that holds a minute's calls", rule(Rule::Bucket { burst: RATE * 60.0 })),
        ("20 calls in a second of the clock", rule(Rule::Window { length: second })),
        ("1,200 calls in a minute of the clock", rule(Rule::Window { length: minute })),
        ("the same, telling `RateLimit` headers from 80 % on", rule(Rule::Window { length: minute }).telling(0.8)),
        ("1,200 calls in any minute", rule(Rule::Sliding { length: minute })),
    ]
}

/// A worker with 32 requests at a time.
pub fn worker(told: Option<f64>) -> Worker {
    Worker { at_once: 32, told, begins: Duration::ZERO, ends: None }
}

/// These workers at this provider for ten minutes, 50 ms there and back.
pub fn ten_minutes(provider: Provider, workers: Vec<Worker>, seed: u64) -> Scene {
    Scene { provider, workers, latency: Duration::from_millis(50), lasts: seconds(600), requests: None, seed }
}

/// A limit that falls to a half and rises to the double.
pub fn moving() -> Provider {
    closing().then(seconds(200), RATE / 2.0).then(seconds(400), RATE * 2.0)
}

/// One worker from the start and one that joins after five minutes, for half an hour.
pub fn joining(seed: u64) -> Scene {
    let late = Worker { begins: seconds(300), ..worker(None) };
    Scene { lasts: seconds(1800), ..ten_minutes(closing(), vec![worker(None), late], seed) }
}

/// Of a scene's plays: the used and the refused share on average, and the smallest share of a worker in any play, over
/// an even one.
pub fn means(scene: impl Fn(u64) -> Scene) -> (f64, f64, f64) {
    let plays: Vec<Report> = (1..=PLAYS).map(|seed| play(&scene(seed))).collect();
    let mean = |of: &dyn Fn(&Report) -> f64| plays.iter().map(of).sum::<f64>() / PLAYS as f64;
    let least = |report: &Report| {
        let all: u64 = report.taken.iter().sum();
        let least = report.taken.iter().min().copied().unwrap_or(0);
        least as f64 * report.taken.len() as f64 / all.max(1) as f64
    };
    let smallest = plays.iter().map(least).fold(f64::INFINITY, f64::min);
    (mean(&|report| report.used), mean(&|report| report.refused_share), smallest)
}

/// The table of the documents.
pub fn table() -> String {
    let mut table = String::from(
        "| the provider allows 20 calls a second and | told the rate: used | refused | learning: used | refused | \
         three workers learning: used | refused | smallest share of an even one |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (name, provider) in providers() {
        let cells = [vec![worker(Some(RATE))], vec![worker(None)], vec![worker(None); 3]].map(|workers| {
            let (used, refused, least) = means(|seed| ten_minutes(provider.clone(), workers.clone(), seed));
            let mut cell = format!("{:.1} % | {:.2} %", used * 100.0, refused * 100.0);
            if workers.len() > 1 {
                let _ = write!(cell, " | {:.0} %", least * 100.0);
            }
            cell
        });
        let _ = writeln!(table, "| {name} | {} |", cells.join(" | "));
    }
    let _ = writeln!(table, "\n| other scenes at the first of these providers | used | refused |\n|---|--:|--:|");
    let scenes: [(&str, &dyn Fn(u64) -> Scene); 4] = [
        ("the limit falls to a half after 200 s and rises to the double of the first after 400 s", &|seed| {
            ten_minutes(moving(), vec![worker(None)], seed)
        }),
        ("a second worker joins after 5 of 30 minutes", &joining),
        ("400 requests, learning", &|seed| Scene {
            requests: Some(400),
            ..ten_minutes(closing(), vec![worker(None)], seed)
        }),
        ("400 requests, told", &|seed| Scene {
            requests: Some(400),
            ..ten_minutes(closing(), vec![worker(Some(RATE))], seed)
        }),
    ];
    for (name, scene) in scenes {
        let (used, refused, _) = means(scene);
        let _ = writeln!(table, "| {name} | {:.1} % | {:.2} % |", used * 100.0, refused * 100.0);
    }
    table
}
