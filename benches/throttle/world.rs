//! A world without network: workers with the real throttle, always with something to do, at a simulated provider.
//! Thousands of simulated minutes take seconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::providers::Provider;
use sharelink::provider::throttle::{Gauge, Grant, Limits, Outcome, Throttle, Ticket};

/// A worker of the scene.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// Requests at a time.
    pub at_once: u32,
    /// The configured rate in calls a second.
    pub told: Option<f64>,
    /// When it begins.
    pub begins: Duration,
    /// When it ends, where it does.
    pub ends: Option<Duration>,
}

/// What is played.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The provider.
    pub provider: Provider,
    /// The workers.
    pub workers: Vec<Worker>,
    /// There and back; varies by a fifth.
    pub latency: Duration,
    /// How long.
    pub lasts: Duration,
    /// Requests in all; no end where absent.
    pub requests: Option<u64>,
    /// For the dice.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Calls that the provider took, by worker.
    pub taken: Vec<u64>,
    /// Calls that it refused.
    pub refused: u64,
    /// Calls that came while it was closed by a pause that the worker had already heard of.
    pub while_paused: u64,
    /// When the last one was taken.
    pub ended: Duration,
    /// Taken over what was allowed in the time.
    pub used: f64,
    /// Refused over all calls.
    pub refused_share: f64,
    /// Calls taken in each second, and refused.
    pub by_second: Vec<(u32, u32)>,
    /// The limits, in calls a second, each second, by worker.
    pub limits: Vec<Vec<f64>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Arrive(usize, usize),
    Ended(usize, usize),
    Look,
}

struct Call {
    ticket: Ticket,
    answer: Option<super::providers::Answer>,
}

struct Running {
    throttle: Throttle,
    line: VecDeque<bool>,
    wakes: Option<Duration>,
    worker: Worker,
    /// No call may leave before: what it has heard.
    closed: Duration,
}

/// Plays a scene.
pub fn play(scene: &Scene) -> Report {
    let origin = tokio_now();
    let mut dice = Dice(scene.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut provider = scene.provider.clone();
    let mut workers: Vec<Running> = scene
        .workers
        .iter()
        .map(|worker| Running {
            throttle: Throttle::new(Limits { max_in_flight: 64, rate: worker.told, unit: 1.0 }, None),
            line: (0..worker.at_once).map(|_| false).collect(),
            wakes: None,
            worker: *worker,
            closed: Duration::ZERO,
        })
        .collect();
    let mut calls: Vec<Call> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events: BinaryHeap<Reverse<(Duration, u64, Event)>> = BinaryHeap::new();
    let mut order = 0;
    let mut report =
        Report { taken: vec![0; workers.len()], limits: vec![Vec::new(); workers.len()], ..Report::default() };
    let mut begun = 0;
    let mut push = |events: &mut BinaryHeap<_>, at: Duration, event: Event| {
        order += 1;
        events.push(Reverse((at, order, event)));
    };
    for (index, running) in workers.iter().enumerate() {
        push(&mut events, running.worker.begins, Event::Wake(index));
    }
    push(&mut events, Duration::ZERO, Event::Look);
    while let Some(Reverse((now, _, event))) = events.pop() {
        if now > scene.lasts || scene.requests.is_some_and(|all| report.taken.iter().sum::<u64>() >= all) {
            break;
        }
        match event {
            Event::Look => {
                report.by_second.push((0, 0));
                for (index, running) in workers.iter().enumerate() {
                    report.limits[index].push(running.throttle.calls_a_second(origin + now));
                }
                push(&mut events, now + Duration::from_secs(1), Event::Look);
            }
            Event::Wake(index) => {
                let running = &mut workers[index];
                if running.wakes.is_some_and(|at| at > now) || running.worker.ends.is_some_and(|end| now >= end) {
                    continue;
                }
                running.wakes = None;
                while let Some(repeat) = running.line.front().copied() {
                    if !repeat && scene.requests.is_some_and(|all| begun >= all) {
                        break;
                    }
                    match running.throttle.admit(origin + now, 1.0) {
                        Grant::Now(ticket) => {
                            running.line.pop_front();
                            begun += u64::from(!repeat);
                            report.while_paused += u64::from(now < running.closed);
                            let call = Call { ticket, answer: None };
                            let id = match free.pop() {
                                Some(id) => {
                                    calls[id] = call;
                                    id
                                }
                                None => {
                                    calls.push(call);
                                    calls.len() - 1
                                }
                            };
                            let half = scene.latency.mul_f64(0.4 + 0.2 * dice.roll());
                            push(&mut events, now + half, Event::Arrive(index, id));
                        }
                        Grant::Full => break,
                        Grant::At(at, _) => {
                            // A timer is late by up to two milliseconds.
                            let late = Duration::from_micros(1 + (2000.0 * dice.roll()) as u64);
                            let at = at.duration_since(origin).max(now) + late;
                            running.wakes = Some(at);
                            push(&mut events, at, Event::Wake(index));
                            break;
                        }
                    }
                }
            }
            Event::Arrive(index, id) => {
                let answer = provider.call(now);
                calls[id].answer = Some(answer);
                if answer.taken {
                    report.taken[index] += 1;
                    report.ended = now;
                } else {
                    report.refused += 1;
                }
                if let Some((taken, refused)) = report.by_second.last_mut() {
                    *taken += u32::from(answer.taken);
                    *refused += u32::from(!answer.taken);
                }
                let half = scene.latency.mul_f64(0.4 + 0.2 * dice.roll());
                push(&mut events, now + half, Event::Ended(index, id));
            }
            Event::Ended(index, id) => {
                let running = &mut workers[index];
                let Some(answer) = calls[id].answer else { continue };
                let at = origin + now;
                if let Some((limit, remaining, reset)) = answer.gauge {
                    running.throttle.told(at, Gauge { limit, remaining, reset });
                }
                let outcome = if answer.taken { Outcome::Taken } else { Outcome::Refused(answer.retry_after) };
                let taken = if answer.taken { 1.0 } else { 0.0 };
                running.throttle.ended(at, calls[id].ticket, taken, outcome, dice.roll());
                if let (false, Some(wait)) = (answer.taken, answer.retry_after) {
                    running.closed = running.closed.max(now + wait);
                }
                free.push(id);
                if answer.taken {
                    running.line.push_back(false)
                } else {
                    running.line.push_front(true)
                }
                push(&mut events, now, Event::Wake(index));
            }
        }
    }
    let end = if scene.requests.is_some() { report.ended } else { scene.lasts };
    let taken: u64 = report.taken.iter().sum();
    report.used = taken as f64 / scene.provider.allowance(Duration::ZERO, end);
    report.refused_share = report.refused as f64 / (taken + report.refused).max(1) as f64;
    report
}

/// Only differences of instants count.
#[allow(clippy::disallowed_methods, reason = "the origin of simulated time")]
fn tokio_now() -> Instant {
    Instant::now()
}

/// A small generator: the same seed, the same play.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
