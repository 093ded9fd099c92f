//! The gate of an account: every call passes it one by one, in the order of asking, and waits there for its turn.
//!
//! Nobody waits longer than the account's patience; whose turn comes later is told at once how long to stay away.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::retry_after;
use super::throttle::{Grant, Throttle};
use crate::config::Limits;
use crate::model::{ErrorKind, Failure};
use crate::pipeline::ports::{CallError, CallFailure};
use crate::telemetry::metrics::ProviderMetrics;

/// A pause is made longer by at most this share of itself, so that not every worker comes back in the same moment.
const PAUSE_JITTER: f64 = 0.1;
/// And by at most this much.
const LONGEST_JITTER: Duration = Duration::from_secs(5);

/// The gate. See the module.
pub struct Gate {
    state: Arc<Mutex<State>>,
    /// Held by the one caller at the head of the queue; tokio's mutex is first come, first served.
    head: tokio::sync::Mutex<()>,
    /// Callers between asking and being let through.
    waiting: AtomicU32,
    permits: Arc<Semaphore>,
    patience: Duration,
    metrics: ProviderMetrics,
}

struct State {
    throttle: Throttle,
    /// A task is waiting for the end of the pause to clear the metric.
    watched: bool,
}

/// The right to make one call; given back when dropped.
pub struct Turn {
    metrics: ProviderMetrics,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
    }
}

/// Counts a caller as waiting for as long as it lives, also when its future is dropped.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// A gate with the configured limits, at which nobody waits longer than `patience`.
    pub fn new(limits: &Limits, patience: Duration, metrics: ProviderMetrics) -> Self {
        let throttle = Throttle::told(limits.requests_per_minute);
        metrics.throttle_limit.set(throttle.rate());
        let permits = usize::try_from(limits.max_in_flight).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            state: Arc::new(Mutex::new(State { throttle, watched: false })),
            head: tokio::sync::Mutex::new(()),
            waiting: AtomicU32::new(0),
            permits: Arc::new(Semaphore::new(permits)),
            patience,
            metrics,
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`CallError::Held`] where the turn comes, or would come, later than can be waited for.
    pub async fn turn(&self) -> Result<Turn, CallError> {
        let asked = Instant::now();
        let latest = asked + self.patience;
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let expected = self.expected(asked, ahead);
        if expected > latest {
            return Err(held(asked, expected));
        }
        let outcome = tokio::time::timeout_at(latest, self.pass(latest)).await;
        let now = Instant::now();
        self.metrics.throttle_wait.inc_by((now - asked).as_secs_f64());
        // Running out of patience at the in-flight limit says nothing of when a call will end; as long again is a guess.
        outcome.unwrap_or_else(|_| Err(held(now, self.expected(now, ahead).max(now + self.patience))))
    }

    /// Goes through the gate, as soon as everybody who came earlier has.
    async fn pass(&self, latest: Instant) -> Result<Turn, CallError> {
        let _head = self.head.lock().await;
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| {
            CallFailure::final_(Failure::new(ErrorKind::Internal, "the gate of the provider account was closed"))
        })?;
        loop {
            let now = Instant::now();
            let grant = self.state().throttle.admit(now.into_std());
            match grant {
                Grant::Now => {
                    self.metrics.in_flight.inc();
                    return Ok(Turn { metrics: self.metrics.clone(), _permit: permit });
                }
                Grant::At(at) if Instant::from_std(at) > latest => return Err(held(now, Instant::from_std(at))),
                Grant::At(at) => tokio::time::sleep_until(Instant::from_std(at)).await,
            }
        }
    }

    /// Lets nobody through for `wait` and a little longer, never shorter.
    pub fn pause(&self, wait: Duration) {
        let wait = wait.min(retry_after::LONGEST);
        let jitter = wait.mul_f64(PAUSE_JITTER).min(LONGEST_JITTER).mul_f64(fastrand::f64());
        let until = Instant::now() + wait + jitter;
        let mut state = self.state();
        state.throttle.pause(until.into_std());
        self.metrics.paused.set(1);
        if let (false, Ok(runtime)) = (state.watched, tokio::runtime::Handle::try_current()) {
            state.watched = true;
            runtime.spawn(watch(self.state.clone(), self.metrics.clone()));
        }
    }

    fn expected(&self, now: Instant, ahead: u32) -> Instant {
        Instant::from_std(self.state().throttle.expected(now.into_std(), ahead))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Clears the metric when the pause, however often it was made longer, is over.
async fn watch(state: Arc<Mutex<State>>, metrics: ProviderMetrics) {
    loop {
        let end = {
            let mut state = lock(&state);
            match state.throttle.paused_until(Instant::now().into_std()) {
                Some(end) => end,
                None => {
                    // Under the lock, or a pause that begins now would be cleared.
                    metrics.paused.set(0);
                    state.watched = false;
                    return;
                }
            }
        };
        tokio::time::sleep_until(Instant::from_std(end)).await;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn held(now: Instant, until: Instant) -> CallError {
    CallError::Held { wait: until.saturating_duration_since(now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn gate(max_in_flight: u32, requests_per_minute: u32, patience: u64) -> (Arc<Gate>, ProviderMetrics) {
        let metrics = Metrics::new(&["p"], &[]).unwrap().provider("p");
        let limits = Limits { max_in_flight, requests_per_minute };
        (Arc::new(Gate::new(&limits, Duration::from_secs(patience), metrics.clone())), metrics)
    }

    fn wait(outcome: Result<Turn, CallError>) -> Duration {
        match outcome {
            Err(CallError::Held { wait }) => wait,
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("let through"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn paced_calls_go_through_in_order_and_one_interval_apart() {
        let (gate, metrics) = gate(64, 60, 5);
        let begin = Instant::now();
        let tasks: Vec<_> = (0..5_u64)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.turn().await.map(|_| begin.elapsed().as_secs()).ok() })
            })
            .collect();
        let mut passed = Vec::new();
        for task in tasks {
            passed.push(task.await.unwrap());
        }
        assert_eq!(passed, [0, 1, 2, 3, 4].map(Some));
        assert!((metrics.throttle_limit.get() - 1.0).abs() < 1e-9);
        assert!((metrics.throttle_wait.get() - 10.0).abs() < 0.1, "{}", metrics.throttle_wait.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_turn_comes_too_late_is_told_at_once_when_to_come_back() {
        let (gate, _) = gate(64, 6, 5);
        drop(gate.turn().await.unwrap());
        let begin = Instant::now();
        assert_eq!(wait(gate.turn().await), Duration::from_secs(10));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_than_allowed_are_under_way_and_a_turn_given_back_is_used() {
        let (gate, metrics) = gate(2, 0, 5);
        let (first, second) = (gate.turn().await.unwrap(), gate.turn().await.unwrap());
        assert_eq!(metrics.in_flight.get(), 2);
        assert_eq!(wait(gate.turn().await), Duration::from_secs(5));
        let third = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn().await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(third.await.unwrap());
        drop(second);
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_leaves_no_trace() {
        let (gate, _) = gate(1, 0, 60);
        let turn = gate.turn().await.unwrap();
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::from_millis(1), gate.turn()).await.is_err());
        }
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
        drop(turn);
        assert!(gate.turn().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_is_never_shorter_and_clears_its_metric() {
        let (gate, metrics) = gate(64, 0, 5);
        gate.pause(Duration::from_secs(100));
        assert_eq!(metrics.paused.get(), 1);
        let held = wait(gate.turn().await);
        assert!((100.0..=105.0).contains(&held.as_secs_f64()), "{held:?}");
        tokio::time::sleep(Duration::from_secs(99)).await;
        // The rest is short enough to be waited for.
        let begin = Instant::now();
        match gate.turn().await {
            Ok(_) => assert!(begin.elapsed() >= Duration::from_secs(1)),
            Err(_) => assert!(held > Duration::from_secs(104)),
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(metrics.paused.get(), 0);
        let begin = Instant::now();
        assert!(gate.turn().await.is_ok());
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_begins_while_a_call_waits_for_its_turn_holds_that_call_too() {
        let (gate, _) = gate(64, 60, 5);
        drop(gate.turn().await.unwrap());
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn().await }
        });
        tokio::task::yield_now().await;
        gate.pause(Duration::from_secs(60));
        assert!(wait(waiting.await.unwrap()) >= Duration::from_secs(59));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_spread_by_chance_but_never_shortened() {
        let mut ends = Vec::new();
        for _ in 0..50 {
            let (gate, _) = gate(1, 0, 0);
            gate.pause(Duration::from_secs(20));
            ends.push(wait(gate.turn().await));
        }
        assert!(ends.iter().all(|end| (20.0..=22.0).contains(&end.as_secs_f64())), "{ends:?}");
        assert!(ends.iter().any(|end| *end != ends[0]));
    }
}
