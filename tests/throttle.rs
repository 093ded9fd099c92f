//! The throttle, played against simulated providers for ten minutes each: how much of the allowance is used, how much
//! refused. And the documents' table is what the simulation says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]
#![allow(clippy::cast_precision_loss, reason = "counts of calls in a simulation")]

#[path = "../benches/throttle/providers.rs"]
mod providers;
#[path = "../benches/throttle/scenes.rs"]
mod scenes;
#[path = "../benches/throttle/world.rs"]
mod world;

use std::time::Duration;

use providers::{Provider, Rule};
use scenes::{RATE, joining, means, moving, providers, ten_minutes, worker};
use world::{Scene, Worker, play};

#[test]
fn told_the_rate_nearly_all_of_it_is_used_and_nothing_refused() {
    for (name, provider) in providers() {
        let report = play(&ten_minutes(provider, vec![worker(Some(RATE))], 7));
        assert!(report.used >= 0.97 && report.refused_share <= 0.005, "{name}: {:?}", (report.used, report.refused));
    }
}

#[test]
fn learning_the_rate_more_than_nine_tenths_are_used_and_fewer_than_one_in_fifty_refused() {
    for (name, provider) in providers() {
        let (used, refused, _) = means(|seed| ten_minutes(provider.clone(), vec![worker(None)], seed + 100));
        assert!(used >= 0.90 && refused <= 0.02, "{name}: used {used}, refused {refused}");
    }
}

#[test]
fn three_workers_that_know_nothing_of_each_other_share_what_there_is() {
    for (name, provider) in providers() {
        let (used, refused, least) = means(|seed| ten_minutes(provider.clone(), vec![worker(None); 3], seed + 100));
        assert!(used >= 0.85 && refused <= 0.05, "{name}: used {used}, refused {refused}");
        assert!(least >= 0.5, "{name}: the smallest share is {least} of an even one");
    }
}

#[test]
fn a_worker_that_joins_later_comes_to_its_share() {
    for seed in 11..=16 {
        let report = play(&joining(seed));
        let [first, second] = [0, 1].map(|index: usize| report.limits[index].last().copied().unwrap());
        assert!(second > first / 2.0, "{first} and {second} calls a second after 25 minutes together");
        assert!(report.used >= 0.9, "{}", report.used);
    }
}

#[test]
fn a_limit_that_moves_is_followed_down_at_once_and_up_within_minutes() {
    let report = play(&ten_minutes(moving(), vec![worker(None)], 3));
    let limit = |second: usize| report.limits[0][second];
    assert!(limit(190) > 17.0 && limit(190) < 21.5, "{}", limit(190));
    assert!(limit(230) < 13.5, "{}", limit(230));
    assert!(limit(599) > 30.0, "{}", limit(599));
}

#[test]
fn no_call_is_made_in_a_pause_that_was_heard_of() {
    for (name, provider) in providers() {
        for workers in [1, 3] {
            let report = play(&ten_minutes(provider.clone(), vec![worker(None); workers], 5));
            assert_eq!(report.while_paused, 0, "{name}");
        }
    }
}

#[test]
fn where_nothing_is_refused_nothing_is_held_back() {
    let free = Provider::new(Rule::Bucket { burst: 1e12 }, 1e9);
    let scene = Scene {
        requests: Some(20_000),
        workers: vec![Worker { at_once: 64, ..worker(None) }],
        ..ten_minutes(free, vec![], 1)
    };
    let report = play(&scene);
    let possible = Duration::from_millis(50) * 20_000 / 64;
    assert!(report.ended < possible.mul_f64(1.05), "{:?}, where {possible:?} is possible", report.ended);
}

#[test]
fn performance_md_holds_the_table_that_the_simulation_makes() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/PERFORMANCE.md")).unwrap();
    let held = document
        .split_once("<!-- throttle: begin -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- throttle: end -->"));
    assert_eq!(held.map(|(table, _)| table), Some(scenes::table().as_str()), "run make throttle");
}
