//! The gate of an account: every call passes it one by one, in the order of asking, and waits there for its turn.
//!
//! A turn that only the rate delays is waited for here, as long as there is room; a provider that is closed for longer
//! than the account's patience is told at once, so that nobody holds a place for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::throttle::{Event, Gauge, Grant, Limits, Outcome, Throttle, Ticket, Why};
use crate::model::{ErrorKind, Failure, ProviderSays};
use crate::pipeline::ports::{CallError, CallFailure, Hold, Retry};
use crate::telemetry::metrics::ProviderMetrics;

/// How often the metric of a closed account is looked at while one call sees how the provider is.
const LOOK: Duration = Duration::from_millis(250);

/// How an account's callers wait.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The longest that a closed provider is waited for in the process.
    pub patience: Duration,
    /// How many callers may stand in line and call, where the account does not get on.
    pub room: u32,
    /// Other accounts share the places: see `room`.
    pub shared: bool,
    /// A provider that has taken no call for so long, although it was asked, is not waited for any more.
    pub gives_up_after: Duration,
    /// Cancelled when the worker stops: nobody waits any more.
    pub stopping: CancellationToken,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the end of the line.
    Line,
    /// Before the line: an earlier call of the same attempt was made.
    Follows,
    /// At the end of the line, for others who stand there themselves.
    Leads,
}

/// The gate. See the module. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Held by the one caller at the head of the line; tokio's mutex is first come, first served.
    head: tokio::sync::Mutex<()>,
    /// The same for those whose attempt has begun already: they go before the line.
    inner: tokio::sync::Mutex<()>,
    /// How many of those there are.
    urgent: AtomicU32,
    /// Callers in line.
    pub(super) line: AtomicU32,
    /// A call has ended, or the last of the urgent ones has passed.
    moved: Notify,
    pub(super) waiting: Waiting,
    /// The rate is configured.
    pub(super) told: bool,
    pub(super) metrics: ProviderMetrics,
}

pub(super) struct State {
    pub(super) throttle: Throttle,
    /// When the next caller who finds no room in line should come back.
    pub(super) horizon: Option<Instant>,
    /// When somebody last went through.
    pub(super) passed: Instant,
    /// What the provider's last failure was, for those who are not let through because of it.
    failure: Option<(ErrorKind, Option<u16>)>,
    /// A task is waiting for the end of the pause to clear the metric.
    watched: bool,
}

/// The right to make one call. How it ends has to be told; dropped untold, nothing is learned from it.
pub struct Turn {
    gate: Gate,
    ticket: Ticket,
    units: f64,
    told: bool,
}

impl Turn {
    /// The call is dearer than was said, by so many units: the next one waits longer.
    pub fn charge(&mut self, units: f64) {
        self.gate.state().throttle.charge(Instant::now().into_std(), units);
        self.units += units;
    }

    /// A call that carried several ended so; the provider took this many units of it.
    pub fn ended_in_parts(mut self, taken: f64, outcome: Outcome, failure: Option<&Failure>) {
        self.told = true;
        self.gate.ended(&self, taken, outcome, failure);
    }

    /// The call ended so. `failure` is the provider's word where the outcome is [`Outcome::Failed`].
    pub fn ended(mut self, outcome: Outcome, failure: Option<&Failure>) {
        self.told = true;
        let taken = if outcome == Outcome::Taken { self.units } else { 0.0 };
        self.gate.ended(&self, taken, outcome, failure);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.told {
            self.gate.ended(self, 0.0, Outcome::Unknown, None);
        }
    }
}

/// Counts an urgent caller for as long as it lives, also when its future is dropped.
struct Counted<'a>(&'a AtomicU32, &'a Notify);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32, last: &'a Notify) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count, last)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.1.notify_waiters();
        }
    }
}

impl Gate {
    /// A gate with these limits that begins with a rate, in units a second, that was learned before.
    pub fn new(limits: Limits, remembered: Option<f64>, waiting: Waiting, metrics: ProviderMetrics) -> Self {
        let throttle = Throttle::new(limits, remembered);
        let now = Instant::now().into_std();
        metrics.throttle_limit.set(throttle.calls_a_second(now));
        metrics.in_flight_limit.set(i64::from(throttle.in_flight_limit()));
        let state = State { throttle, horizon: None, passed: Instant::now(), failure: None, watched: false };
        let shared = Shared {
            state: Mutex::new(state),
            head: tokio::sync::Mutex::new(()),
            inner: tokio::sync::Mutex::new(()),
            urgent: AtomicU32::new(0),
            line: AtomicU32::new(0),
            moved: Notify::new(),
            waiting,
            told: limits.rate.is_some(),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Waits for a turn to make a call of so many units, no longer than until `deadline`.
    ///
    /// # Errors
    /// [`CallError::Held`] where the turn comes, or would come, later than can be waited for. [`CallError::Failed`] where
    /// the provider keeps failing and is left alone for a while.
    pub async fn turn(&self, units: f64, place: Place, deadline: Option<Instant>) -> Result<Turn, CallError> {
        let shared = &*self.shared;
        let turn = match place {
            Place::Follows => {
                let asked = Instant::now();
                let _urgent = Counted::new(&shared.urgent, &shared.moved);
                let turn = tokio::select! {
                    biased;
                    turn = async { let _first = shared.inner.lock().await; self.pass(units, true).await } => turn,
                    held = self.until_too_long(asked, deadline, None) => Err(held),
                };
                shared.metrics.throttle_wait.inc_by(asked.elapsed().as_secs_f64());
                turn
            }
            Place::Line => {
                let standing = self.stand(deadline)?;
                tokio::select! {
                    biased;
                    turn = async { let _first = shared.head.lock().await; self.pass(units, false).await } => turn,
                    held = standing.until_too_long() => Err(held),
                }
            }
            Place::Leads => tokio::select! {
                biased;
                turn = async { let _first = shared.head.lock().await; self.pass(units, false).await } => turn,
                () = shared.waiting.stopping.cancelled() => Err(held(Duration::from_secs(1))),
            },
        }?;
        // Past it no call is made, however near the turn was.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(held(Duration::ZERO));
        }
        Ok(turn)
    }

    /// How long a request that was tried before has to wait, so that repeated calls stay few. Where that is nothing, the
    /// repetition is counted.
    pub fn repeat_after(&self) -> Duration {
        self.state().throttle.repeat_after(Instant::now().into_std())
    }

    /// Takes up what an answer told of the limit, in units.
    pub fn told(&self, gauge: Gauge) {
        self.state().throttle.told(Instant::now().into_std(), gauge);
    }

    /// The learned rate in units a second, where there is one.
    pub fn learned(&self) -> Option<f64> {
        self.state().throttle.learned()
    }

    /// Goes through the gate as soon as the throttle allows it; to be called by one at a time.
    async fn pass(&self, units: f64, urgent: bool) -> Result<Turn, CallError> {
        let shared = &*self.shared;
        loop {
            let moved = shared.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if !urgent && shared.urgent.load(Ordering::Acquire) > 0 {
                moved.await;
                continue;
            }
            let now = Instant::now();
            let grant = {
                let mut state = self.state();
                match state.throttle.admit(now.into_std(), units) {
                    Grant::At(at, Why::Paused) if Instant::from_std(at) > now + shared.waiting.patience => {
                        return Err(state.closed(now, Instant::from_std(at)));
                    }
                    Grant::At(at, Why::Broken) => return Err(state.broken(now, Instant::from_std(at))),
                    Grant::At(at, _) if state.throttle.barren_for(now.into_std()) > shared.waiting.gives_up_after => {
                        return Err(state.closed(now, Instant::from_std(at)));
                    }
                    Grant::Now(ticket) => {
                        state.passed = now;
                        Grant::Now(ticket)
                    }
                    grant => grant,
                }
            };
            match grant {
                Grant::Now(ticket) => {
                    shared.metrics.in_flight.inc();
                    return Ok(Turn { gate: self.clone(), ticket, units, told: false });
                }
                Grant::Full => moved.await,
                Grant::At(at, _) => tokio::time::sleep_until(Instant::from_std(at)).await,
            }
        }
    }

    fn ended(&self, turn: &Turn, taken: f64, outcome: Outcome, failure: Option<&Failure>) {
        let shared = &*self.shared;
        let now = Instant::now().into_std();
        shared.metrics.in_flight.dec();
        let mut state = self.state();
        let was_open = state.throttle.closed_until(now).is_none();
        let event = state.throttle.ended(now, turn.ticket, taken, outcome, fastrand::f64());
        if let Outcome::Failed(_) | Outcome::Refused(_) = outcome {
            state.failure = failure.map(|failure| (failure.kind, failure.provider.http_status));
        }
        shared.metrics.throttle_limit.set(state.throttle.calls_a_second(now));
        shared.metrics.in_flight_limit.set(i64::from(state.throttle.in_flight_limit()));
        if let Some(event) = event {
            let asked = if outcome == Outcome::Refused(None) { "refused calls" } else { "Retry-After" };
            self.closes(&mut state, event, was_open, asked);
        }
        drop(state);
        shared.moved.notify_waiters();
    }

    /// The account is closed for a while: counted and shown, until it is over. `asked` says what a pause is due to.
    fn closes(&self, state: &mut State, event: Event, was_open: bool, asked: &'static str) {
        let metrics = &self.shared.metrics;
        if was_open {
            match event {
                Event::Paused => metrics.pauses_retry_after.inc(),
                Event::Broken => metrics.pauses_breaker.inc(),
            }
        }
        metrics.paused.set(1);
        if let Some((end, why)) = state.throttle.closed_until(Instant::now().into_std()) {
            let why = match why {
                Why::Turn | Why::Paused => asked,
                Why::Broken => "calls that failed one after another",
            };
            metrics.paused_until(end, why);
        }
        if let (false, Ok(runtime)) = (state.watched, tokio::runtime::Handle::try_current()) {
            state.watched = true;
            runtime.spawn(watch(self.shared.clone()));
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

impl State {
    pub(super) fn closed(&self, now: Instant, until: Instant) -> CallError {
        let barren = self.throttle.barren_for(now.into_std());
        let (kind, http_status) = self.failure.unwrap_or((ErrorKind::RateLimited, None));
        let wait = until.saturating_duration_since(now);
        CallError::Held { wait, hold: Hold::Closed { barren, kind, http_status } }
    }

    /// No call was made because the last ones failed: for the request that is an attempt that failed like them.
    fn broken(&self, now: Instant, until: Instant) -> CallError {
        let message = "the provider keeps failing, so no call was made this time";
        // Kind and status of the last failure; its words were about another request.
        let (kind, http_status) = self.failure.unwrap_or((ErrorKind::Unavailable, None));
        let provider = ProviderSays { http_status, ..ProviderSays::default() };
        CallError::Failed(CallFailure {
            failure: Failure::by_provider(kind, message, provider),
            retry: Retry::Yes,
            retry_after: Some(until.saturating_duration_since(now)),
            may_have_happened: false,
        })
    }
}

/// Clears the metric when the time for which the account is closed, however often it was made longer, is over.
async fn watch(shared: Arc<Shared>) {
    loop {
        let end = {
            let mut state = lock(&shared.state);
            let now = Instant::now();
            if !state.throttle.is_closed(now.into_std()) {
                // Under the lock, or a pause that begins now would be cleared.
                shared.metrics.paused.set(0);
                state.watched = false;
                return;
            }
            state.throttle.closed_until(now.into_std()).map_or(now + LOOK, |(end, _)| Instant::from_std(end))
        };
        tokio::time::sleep_until(end).await;
    }
}

/// Not now; nobody is to blame.
pub(super) fn held(wait: Duration) -> CallError {
    CallError::Held { wait, hold: Hold::Turn }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn gate_with(max_in_flight: u32, a_minute: u32, patience: u64, room: u32) -> (Gate, ProviderMetrics) {
        let metrics = Metrics::new(&["p"], &[]).unwrap().provider("p");
        let rate = (a_minute > 0).then(|| f64::from(a_minute) / 60.0);
        let limits = Limits { max_in_flight, rate, unit: 1.0 };
        let waiting = Waiting {
            patience: Duration::from_secs(patience),
            room,
            shared: room < 1000,
            gives_up_after: Duration::from_secs(900),
            stopping: CancellationToken::new(),
        };
        (Gate::new(limits, None, waiting, metrics.clone()), metrics)
    }

    fn gate(max_in_flight: u32, a_minute: u32, patience: u64) -> (Gate, ProviderMetrics) {
        gate_with(max_in_flight, a_minute, patience, 1000)
    }

    /// The wait, and whether the account is closed.
    fn sent_away(outcome: Result<Turn, CallError>) -> (Duration, bool) {
        match outcome {
            Err(CallError::Held { wait, hold }) => (wait, hold != Hold::Turn),
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("let through"),
        }
    }

    async fn refused(gate: &Gate, wait: u64) {
        gate.turn(1.0, Place::Line, None).await.unwrap().ended(Outcome::Refused(Some(Duration::from_secs(wait))), None);
    }

    async fn call(gate: &Gate) {
        gate.turn(1.0, Place::Line, None).await.unwrap().ended(Outcome::Taken, None);
    }

    #[tokio::test(start_paused = true)]
    async fn paced_calls_go_through_in_order_and_one_interval_apart() {
        let (gate, metrics) = gate(64, 60, 5);
        let begin = Instant::now();
        let tasks: Vec<_> = (0..5_u64)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move {
                    call(&gate).await;
                    begin.elapsed().as_secs()
                })
            })
            .collect();
        let mut passed = Vec::new();
        for task in tasks {
            passed.push(task.await.unwrap());
        }
        assert_eq!(passed, [0, 1, 2, 3, 4]);
        assert!((metrics.throttle_limit.get() - 1.0).abs() < 0.03, "{}", metrics.throttle_limit.get());
        assert!((metrics.throttle_wait.get() - 10.0).abs() < 0.3, "{}", metrics.throttle_wait.get());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_in_line_is_told_to_come_back_each_one_turn_after_the_other() {
        let (gate, _) = gate_with(64, 60, 5, 20);
        // The first is through at once.
        let line: Vec<_> = (0..21)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { call(&gate).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let begin = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..3 {
            let (wait, closed) = sent_away(gate.turn(1.0, Place::Line, None).await);
            assert!(!closed);
            waits.push(wait.as_secs());
        }
        assert_eq!((waits, begin.elapsed()), (vec![6, 7, 8], Duration::ZERO));
        for caller in line {
            caller.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_stands_in_line_for_longer_than_two_minutes() {
        let (gate, _) = gate(64, 1, 5);
        call(&gate).await;
        call(&gate).await;
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { sent_away(gate.turn(1.0, Place::Line, None).await) }
        });
        tokio::task::yield_now().await;
        // The next one's turn is two minutes away, the one after it would be three.
        let (wait, closed) = sent_away(gate.turn(1.0, Place::Line, None).await);
        assert!(!closed && wait > Duration::from_secs(60), "{wait:?}");
        waiting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stands_in_line_leaves_it_when_the_worker_stops() {
        let (gate, _) = gate(64, 1, 5);
        call(&gate).await;
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { sent_away(gate.turn(1.0, Place::Line, None).await) }
        });
        tokio::task::yield_now().await;
        gate.shared.waiting.stopping.cancel();
        let begin = Instant::now();
        waiting.await.unwrap();
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_an_attempt_that_has_begun_goes_before_the_line() {
        let (gate, _) = gate(64, 60, 5);
        call(&gate).await;
        let begin = Instant::now();
        let spawn = |follows: bool| {
            let gate = gate.clone();
            tokio::spawn(async move {
                gate.turn(1.0, if follows { Place::Follows } else { Place::Line }, None)
                    .await
                    .unwrap()
                    .ended(Outcome::Taken, None);
                begin.elapsed().as_secs_f64().round()
            })
        };
        let line = [spawn(false), spawn(false), spawn(false)];
        tokio::task::yield_now().await;
        assert_eq!(spawn(true).await.unwrap(), 1.0);
        let mut rest = Vec::new();
        for caller in line {
            rest.push(caller.await.unwrap());
        }
        assert_eq!(rest, [2.0, 3.0, 4.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_than_allowed_are_under_way_and_a_turn_given_back_is_used() {
        let (gate, metrics) = gate(2, 0, 5);
        let (first, second) =
            (gate.turn(1.0, Place::Line, None).await.unwrap(), gate.turn(1.0, Place::Line, None).await.unwrap());
        assert_eq!((metrics.in_flight.get(), metrics.in_flight_limit.get()), (2, 2));
        let third = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn(1.0, Place::Line, None).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        first.ended(Outcome::Taken, None);
        assert!(third.await.unwrap());
        drop(second);
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_leaves_no_trace() {
        let (gate, _) = gate(1, 0, 60);
        let turn = gate.turn(1.0, Place::Line, None).await.unwrap();
        for place in [Place::Line, Place::Follows].repeat(50) {
            assert!(tokio::time::timeout(Duration::from_millis(1), gate.turn(1.0, place, None)).await.is_err());
        }
        let counts = (gate.shared.line.load(Ordering::Relaxed), gate.shared.urgent.load(Ordering::Relaxed));
        assert_eq!(counts, (0, 0));
        drop(turn);
        call(&gate).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_is_never_shorter_and_clears_its_metric() {
        let (gate, metrics) = gate(64, 0, 5);
        refused(&gate, 100).await;
        assert_eq!((metrics.paused.get(), metrics.pauses_retry_after.get()), (1, 1));
        let (wait, closed) = sent_away(gate.turn(1.0, Place::Line, None).await);
        assert!(closed && (100.0..=105.0).contains(&wait.as_secs_f64()), "{wait:?}");
        tokio::time::sleep(wait - Duration::from_secs(1)).await;
        // The rest is short enough to be waited for.
        let begin = Instant::now();
        call(&gate).await;
        assert!(begin.elapsed() >= Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(metrics.paused.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_begins_while_a_call_waits_for_its_turn_sends_that_call_away() {
        let (gate, _) = gate(64, 60, 5);
        let under_way = gate.turn(1.0, Place::Line, None).await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn(1.0, Place::Line, None).await }
        });
        tokio::task::yield_now().await;
        under_way.ended(Outcome::Refused(Some(Duration::from_secs(60))), None);
        let refused = Instant::now();
        let (wait, closed) = sent_away(waiting.await.unwrap());
        // It is told when its turn would have come.
        assert!(closed && refused.elapsed() + wait >= Duration::from_secs(60), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_spread_by_chance_but_never_shortened() {
        let mut ends = Vec::new();
        for _ in 0..50 {
            let (gate, _) = gate(1, 0, 0);
            refused(&gate, 20).await;
            ends.push(sent_away(gate.turn(1.0, Place::Line, None).await).0);
        }
        assert!(ends.iter().all(|end| (20.0..=22.0).contains(&end.as_secs_f64())), "{ends:?}");
        assert!(ends.iter().any(|end| *end != ends[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_page_is_told_whether_a_pause_was_asked_for() {
        let registry = Metrics::new(&["p"], &[]).unwrap();
        let waiting = gate(1, 0, 5).0.shared.waiting.clone();
        let limits = Limits { max_in_flight: 1, rate: None, unit: 1.0 };
        let gate = Gate::new(limits, None, waiting, registry.provider("p"));
        for (wait, why) in [(None, "refused calls"), (Some(Duration::from_secs(1)), "Retry-After")] {
            gate.turn(1.0, Place::Line, None).await.unwrap().ended(Outcome::Refused(wait), None);
            assert_eq!(registry.recent().pause("p").unwrap().why, why);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_keeps_failing_is_left_alone_and_the_request_told_what_the_last_failure_was() {
        let (gate, metrics) = gate(64, 0, 5);
        let said = ProviderSays { http_status: Some(502), ..ProviderSays::default() };
        let failure = Failure::by_provider(ErrorKind::Unavailable, "item 7 is away", said);
        for _ in 0..10 {
            gate.turn(1.0, Place::Line, None).await.unwrap().ended(Outcome::Failed(None), Some(&failure));
        }
        assert_eq!((metrics.paused.get(), metrics.pauses_breaker.get()), (1, 1));
        let Err(CallError::Failed(told)) = gate.turn(1.0, Place::Line, None).await else {
            panic!("a call was let through")
        };
        assert_eq!((told.failure.kind, told.failure.provider.http_status), (ErrorKind::Unavailable, Some(502)));
        assert!(!told.failure.message.contains("item 7") && !told.may_have_happened);
        let wait = told.retry_after.unwrap();
        assert!((1.0..=1.1).contains(&wait.as_secs_f64()), "{wait:?}");
        tokio::time::sleep(wait).await;
        let probe = gate.turn(1.0, Place::Line, None).await.unwrap();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.turn(1.0, Place::Line, None).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one call alone sees how the provider is");
        probe.ended(Outcome::Taken, None);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_never_answers_keeps_no_more_places_than_its_own() {
        let (gate, _) = gate_with(64, 0, 5, 20);
        let spawn = || {
            let gate = gate.clone();
            tokio::spawn(async move {
                let turn = gate.turn(1.0, Place::Line, None).await;
                match turn {
                    Ok(turn) => {
                        std::future::pending::<()>().await;
                        drop(turn);
                        true
                    }
                    Err(_) => false,
                }
            })
        };
        let callers: Vec<_> = (0..100).map(|_| spawn()).collect();
        tokio::time::sleep(Duration::from_secs(11)).await;
        let gone = callers.iter().filter(|caller| caller.is_finished()).count();
        assert!((80..=84).contains(&gone), "{gone} of 100 have left");
        // Whoever comes now is told at once.
        assert!(!sent_away(gate.turn(1.0, Place::Line, None).await).1);
        callers.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn past_its_deadline_a_caller_is_not_let_through_and_does_not_wait() {
        let (gate, _) = gate(64, 60, 5);
        call(&gate).await;
        let begin = Instant::now();
        let deadline = begin + Duration::from_millis(300);
        for place in [Place::Line, Place::Follows] {
            assert_eq!(sent_away(gate.turn(1.0, place, Some(deadline)).await), (Duration::ZERO, false));
        }
        assert_eq!(begin.elapsed(), Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn short_pauses_one_after_the_other_end_the_waiting_too() {
        let (gate, _) = gate(64, 0, 5);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1000) {
            match gate.turn(1.0, Place::Line, None).await {
                Ok(turn) => turn.ended(Outcome::Refused(Some(Duration::from_secs(2))), None),
                Err(CallError::Held { hold: Hold::Closed { barren, .. }, .. }) => {
                    assert!(barren > Duration::from_secs(900));
                    return;
                }
                // The rate that was learned is so low by now that the turn is minutes away.
                Err(CallError::Held { wait, .. }) => tokio::time::sleep(wait).await,
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("it goes on for ever");
    }
}
