//! Pure machine of one request's attempts: when to call, how long to wait and where, when to give up.
//!
//! It bounds attempts by number, by time since the first attempt and by the request's deadline at once, because each
//! alone has a hole: a provider that always sends Retry-After never ends by number of tries in sensible time, and one
//! that fails at once never ends by time. A wait that would end past one of the limits is not waited at all: the
//! answer would be the same, only later.

use std::time::Duration;

use jiff::Timestamp;

use super::clock::between;
use super::ports::{CallFailure, Hold, Retry};
use super::settle::DelayCause;
use crate::model::{ErrorKind, Failure, History, ProviderSays, Travel};

/// No provider's wait is believed beyond a day, so a header that says more was not written by a worker.
const LONGEST_WAIT: Duration = Duration::from_secs(25 * 60 * 60);

/// The configured limits. See `[retry]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub max_attempts: u32,
    /// No wait of our own choosing is longer, jitter included. A provider's Retry-After may be.
    pub max_interval: Duration,
    /// From the first attempt to the last.
    pub max_elapsed: Duration,
    /// Longer waits leave the process.
    pub inline_limit: Duration,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Call the provider now.
    Call,
    /// Wait here for so long, then ask again.
    Wait(Duration),
    /// Put the request aside for so long.
    Leave(Duration, DelayCause),
    /// Answer with this failure.
    GiveUp(Box<Failure>),
}

/// The attempts at one request, over all its deliveries.
#[derive(Debug, Clone)]
pub struct Attempts {
    policy: RetryPolicy,
    deadline: Option<Timestamp>,
    made: u32,
    first: Option<Timestamp>,
    not_before: Option<Timestamp>,
    last_failure: Option<Box<Failure>>,
    unsure: bool,
}

impl Attempts {
    /// Takes up the count where earlier deliveries left it.
    pub fn resume(policy: RetryPolicy, travel: &Travel, deadline: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            policy,
            deadline,
            made: travel.attempts,
            first: travel.first_attempt,
            not_before: travel.not_before.filter(|at| between(now, *at) <= LONGEST_WAIT),
            last_failure: None,
            unsure: travel.redelivered || travel.unsure,
        }
    }

    /// Attempts made so far, earlier deliveries included.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// When the first attempt was made.
    pub fn first_attempt(&self) -> Option<Timestamp> {
        self.first
    }

    /// No call before this time.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Whether an attempt so far, in this delivery or another, may have made the link although no answer came.
    pub fn history(&self) -> History {
        if self.unsure { History::MayHaveHappened } else { History::Fresh }
    }

    /// Whether a call may be made now.
    pub fn next(&mut self, now: Timestamp) -> Step {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return self.past_deadline();
        }
        match self.not_before {
            Some(at) if at > now => self.wait(between(now, at), now, DelayCause::Backoff),
            _ => Step::Call,
        }
    }

    /// A call is being made. Counted before its outcome is known, so that a crash counts it too.
    pub fn called(&mut self, now: Timestamp) {
        self.made = self.made.saturating_add(1);
        self.first.get_or_insert(now);
        self.not_before = None;
    }

    /// The call failed. `suggested` is the next delay of our own backoff; `jitter` in `0.0..1.0` is added to a
    /// provider's Retry-After, never taken away from it.
    pub fn failed(&mut self, failure: CallFailure, suggested: Duration, jitter: f64, now: Timestamp) -> Step {
        self.unsure |= failure.may_have_happened;
        let (at_most, at_least) = match failure.retry {
            Retry::Never => return Step::GiveUp(Box::new(failure.failure)),
            Retry::Yes => (u32::MAX, Duration::ZERO),
            Retry::Sparingly { at_most, at_least } => (at_most, at_least),
        };
        self.last_failure = Some(Box::new(failure.failure));
        if self.made >= self.policy.max_attempts.min(at_most) {
            return self.give_up();
        }
        let own = suggested.min(self.policy.max_interval).max(at_least);
        let wait = failure.retry_after.map_or(own, |asked| with_jitter(asked, jitter).max(at_least));
        self.wait(wait, now, DelayCause::Backoff)
    }

    /// No call was made because the account has to wait. That is no attempt, and a request that only waits for its turn is
    /// not given up for it.
    pub fn held(&mut self, wait: Duration, hold: Hold, now: Timestamp) -> Step {
        self.made = self.made.saturating_sub(1);
        if self.made == 0 {
            self.first = None;
        }
        let Hold::Closed { barren, kind, http_status } = hold else { return self.wait(wait, now, DelayCause::Turn) };
        // A pause longer than all the time there is for a request: it is told so now instead of then. And where the provider
        // has let nothing through for as long, each pause being followed by the next, nobody waits for ever.
        if wait > self.policy.max_elapsed || barren > self.policy.max_elapsed {
            self.last_failure.get_or_insert_with(|| {
                let message =
                    "the provider asked for a pause that is longer than retry.max_elapsed, or for one after the other";
                let provider = ProviderSays { http_status, ..ProviderSays::default() };
                Box::new(Failure::by_provider(kind, message, provider))
            });
            return self.give_up();
        }
        self.wait(wait, now, DelayCause::Paused)
    }

    fn wait(&mut self, wait: Duration, now: Timestamp, cause: DelayCause) -> Step {
        let until = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        if self.deadline.is_some_and(|deadline| until >= deadline) {
            return self.past_deadline();
        }
        let too_late = self.first.is_some_and(|first| between(first, until) > self.policy.max_elapsed);
        if too_late && cause != DelayCause::Turn {
            return self.give_up();
        }
        self.not_before = Some(until);
        if wait > self.policy.inline_limit { Step::Leave(wait, cause) } else { Step::Wait(wait) }
    }

    fn past_deadline(&mut self) -> Step {
        let last = self.last_failure.take();
        let mut message = String::from("the request's deadline has passed, or would pass before the next attempt");
        if let Some(last) = &last {
            message.push_str("; the last attempt failed: ");
            message.push_str(&last.message);
        }
        let mut failure = Failure::new(ErrorKind::DeadlineExceeded, message);
        failure.provider = last.map(|last| last.provider).unwrap_or_default();
        Step::GiveUp(Box::new(failure))
    }

    fn give_up(&mut self) -> Step {
        let mut failure = self
            .last_failure
            .take()
            .unwrap_or_else(|| Box::new(Failure::new(ErrorKind::Unavailable, "there was no time left for an attempt")));
        failure.exhausted = true;
        Step::GiveUp(failure)
    }
}

/// Adds up to a tenth, at most five seconds: everybody who was told the same Retry-After must not come back at once.
fn with_jitter(asked: Duration, jitter: f64) -> Duration {
    let share = asked.mul_f64(0.1).min(Duration::from_secs(5));
    asked.saturating_add(share.mul_f64(jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 4,
            max_interval: Duration::from_secs(30),
            max_elapsed: Duration::from_secs(900),
            inline_limit: Duration::from_secs(5),
        }
    }

    fn start() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn failure(retry: Retry, retry_after: Option<Duration>) -> CallFailure {
        CallFailure {
            failure: Failure::new(ErrorKind::Unavailable, "no"),
            retry,
            retry_after,
            may_have_happened: false,
        }
    }

    fn fresh(deadline: Option<Timestamp>) -> Attempts {
        Attempts::resume(policy(), &Travel::default(), deadline, start())
    }

    fn called(deadline: Option<Timestamp>) -> Attempts {
        let mut attempts = fresh(deadline);
        assert_eq!(attempts.next(start()), Step::Call);
        attempts.called(start());
        attempts
    }

    fn kind(step: &Step) -> Option<ErrorKind> {
        match step {
            Step::GiveUp(failure) => Some(failure.kind),
            _ => None,
        }
    }

    #[test]
    fn a_final_failure_is_answered_at_once() {
        assert_eq!(
            kind(&called(None).failed(failure(Retry::Never, None), seconds(1), 0.0, start())),
            Some(ErrorKind::Unavailable)
        );
    }

    #[test]
    fn only_an_attempt_without_a_known_outcome_makes_the_next_one_look_first() {
        let history = |travel| Attempts::resume(policy(), &travel, None, start()).history();
        assert_eq!(history(Travel { attempts: 3, ..Travel::default() }), History::Fresh);
        assert_eq!(history(Travel { unsure: true, ..Travel::default() }), History::MayHaveHappened);
        assert_eq!(history(Travel { redelivered: true, ..Travel::default() }), History::MayHaveHappened);
        let mut attempts = called(None);
        attempts.failed(failure(Retry::Yes, None), seconds(1), 0.0, start());
        assert_eq!(attempts.history(), History::Fresh);
        attempts.called(start());
        let lost = CallFailure { may_have_happened: true, ..failure(Retry::Yes, None) };
        attempts.failed(lost, seconds(1), 0.0, start());
        assert_eq!(attempts.history(), History::MayHaveHappened);
    }

    #[test]
    fn used_up_attempts_are_told_as_retryable_whatever_the_kind() {
        let mut attempts = called(None);
        let mut conflict = failure(Retry::Sparingly { at_most: 1, at_least: seconds(1) }, None);
        conflict.failure.kind = ErrorKind::Conflict;
        let Step::GiveUp(last) = attempts.failed(conflict, seconds(1), 0.0, start()) else { panic!("goes on") };
        assert!(last.is_retryable());
    }

    #[test]
    fn a_short_wait_stays_in_the_process_and_a_long_one_leaves_it() {
        let step = |wait| called(None).failed(failure(Retry::Yes, None), wait, 0.0, start());
        assert_eq!(step(seconds(5)), Step::Wait(seconds(5)));
        assert_eq!(step(seconds(6)), Step::Leave(seconds(6), DelayCause::Backoff));
    }

    #[test]
    fn our_own_wait_is_capped_but_retry_after_is_kept() {
        let step = |hint| called(None).failed(failure(Retry::Yes, hint), seconds(99), 0.0, start());
        assert_eq!(step(None), Step::Leave(seconds(30), DelayCause::Backoff));
        assert_eq!(step(Some(seconds(120))), Step::Leave(seconds(120), DelayCause::Backoff));
    }

    #[test]
    fn the_attempts_are_counted_over_all_deliveries() {
        let travel = Travel { attempts: 3, first_attempt: Some(start()), ..Travel::default() };
        let mut attempts = Attempts::resume(policy(), &travel, None, start());
        attempts.called(start());
        assert_eq!(attempts.made(), 4);
        assert_eq!(
            kind(&attempts.failed(failure(Retry::Yes, None), seconds(1), 0.0, start())),
            Some(ErrorKind::Unavailable)
        );
    }

    #[test]
    fn a_failure_that_may_be_retried_sparingly_has_its_own_smaller_limit() {
        let sparing = || failure(Retry::Sparingly { at_most: 2, at_least: seconds(10) }, None);
        let mut attempts = called(None);
        assert_eq!(attempts.failed(sparing(), seconds(1), 0.0, start()), Step::Leave(seconds(10), DelayCause::Backoff));
        attempts.called(start());
        assert_eq!(kind(&attempts.failed(sparing(), seconds(1), 0.0, start())), Some(ErrorKind::Unavailable));
    }

    #[test]
    fn a_wait_that_would_end_past_the_deadline_is_not_waited() {
        let deadline = start().checked_add(seconds(3)).unwrap();
        let step = called(Some(deadline)).failed(failure(Retry::Yes, None), seconds(3), 0.0, start());
        assert_eq!(kind(&step), Some(ErrorKind::DeadlineExceeded));
        assert_eq!(kind(&fresh(Some(start())).next(start())), Some(ErrorKind::DeadlineExceeded));
    }

    #[test]
    fn a_wait_past_the_longest_time_ends_with_the_last_failure() {
        let step = called(None).failed(failure(Retry::Yes, Some(seconds(3600))), seconds(1), 0.0, start());
        assert_eq!(kind(&step), Some(ErrorKind::Unavailable));
    }

    #[test]
    fn a_held_call_is_no_attempt_and_does_not_start_the_clock() {
        let mut attempts = called(None);
        assert_eq!(attempts.held(seconds(900), closed(0), start()), Step::Leave(seconds(900), DelayCause::Paused));
        assert_eq!((attempts.made(), attempts.first_attempt()), (0, None));
        attempts.called(start());
        assert_eq!(kind(&attempts.held(seconds(901), closed(0), start())), Some(ErrorKind::RateLimited));
    }

    fn closed(barren: u64) -> Hold {
        Hold::Closed { barren: seconds(barren), kind: ErrorKind::RateLimited, http_status: Some(429) }
    }

    #[test]
    fn pause_after_pause_without_one_call_taken_ends_but_waiting_for_a_turn_does_not() {
        assert!(matches!(called(None).held(seconds(60), closed(900), start()), Step::Leave(..)));
        assert_eq!(kind(&called(None).held(seconds(60), closed(901), start())), Some(ErrorKind::RateLimited));
        let mut tried = called(None);
        tried.failed(failure(Retry::Yes, None), seconds(1), 0.0, start());
        tried.called(start());
        let later = start().checked_add(seconds(800)).unwrap();
        assert_eq!(tried.held(seconds(600), Hold::Turn, later), Step::Leave(seconds(600), DelayCause::Turn));
    }

    #[test]
    fn a_request_that_comes_back_early_waits_for_the_rest() {
        let travel = Travel { not_before: Some(start().checked_add(seconds(7)).unwrap()), ..Travel::default() };
        let mut attempts = Attempts::resume(policy(), &travel, None, start());
        assert_eq!(attempts.next(start()), Step::Leave(seconds(7), DelayCause::Backoff));
        let later = start().checked_add(seconds(4)).unwrap();
        assert_eq!(attempts.next(later), Step::Wait(seconds(3)));
        assert_eq!(attempts.next(start().checked_add(seconds(7)).unwrap()), Step::Call);
    }

    #[test]
    fn a_forged_wait_of_years_is_not_waited() {
        let travel = Travel { not_before: Some("2099-01-01T00:00:00Z".parse().unwrap()), ..Travel::default() };
        assert_eq!(Attempts::resume(policy(), &travel, None, start()).next(start()), Step::Call);
    }

    fn any_failure() -> impl Strategy<Value = CallFailure> {
        let retry = prop_oneof![
            Just(Retry::Never),
            Just(Retry::Yes),
            (1u32..6, 0u64..40).prop_map(|(at_most, s)| Retry::Sparingly { at_most, at_least: seconds(s) })
        ];
        (retry, proptest::option::of(0u64..100_000)).prop_map(|(retry, hint)| failure(retry, hint.map(seconds)))
    }

    proptest! {
        /// Whatever the provider answers: the machine ends, within the attempts, within the time, never before the
        /// deadline has a say, and never earlier than a Retry-After.
        #[test]
        fn every_script_of_failures_ends_within_all_limits(
            script in proptest::collection::vec((any_failure(), 1u64..200, 0.0f64..1.0, any::<bool>()), 0..40),
            deadline in proptest::option::of(1u64..2_000),
        ) {
            let deadline = deadline.map(|s| start().checked_add(seconds(s)).unwrap());
            let mut attempts = fresh(deadline);
            let mut now = start();
            let mut calls = 0;
            let mut ended = false;
            for (failure, suggested, jitter, held) in script {
                prop_assert!(!ended);
                let mut step = attempts.next(now);
                if step == Step::Call {
                    prop_assert!(deadline.is_none_or(|deadline| now < deadline));
                    attempts.called(now);
                    let hint = failure.retry_after;
                    step = if held {
                        attempts.held(seconds(suggested), closed(0), now)
                    } else {
                        calls += 1;
                        attempts.failed(failure, seconds(suggested), jitter, now)
                    };
                    if let (Step::Wait(wait) | Step::Leave(wait, _), Some(hint), false) = (&step, hint, held) {
                        prop_assert!(*wait >= hint);
                    }
                }
                match step {
                    Step::Call => prop_assert!(false, "a call follows a failure without a wait"),
                    Step::Wait(wait) => {
                        prop_assert!(wait <= policy().inline_limit);
                        now = now.checked_add(wait).unwrap();
                    }
                    Step::Leave(wait, _) => {
                        prop_assert!(wait > policy().inline_limit);
                        now = now.checked_add(wait).unwrap();
                    }
                    Step::GiveUp(_) => ended = true,
                }
                if let Some(first) = attempts.first_attempt() {
                    prop_assert!(between(first, now) <= policy().max_elapsed);
                }
                if ended { break; }
            }
            prop_assert!(calls <= policy().max_attempts);
        }
    }
}
