//! Stage 3: the only loop. It drives the pure machine of [`super::retry`], sleeps, calls the provider, and stops early
//! when the worker stops.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clock::{Clock, Dice};
use super::crash_point::{Point, reached};
use super::delays::Delays;
use super::ports::{CallError, CallFailure, Hold, Retry, Share};
use super::retry::{Attempts, RetryPolicy, Step};
use super::settle::DelayCause;
use crate::model::{ErrorKind, Failure, LinkOutcome, Travel};
use crate::telemetry::metrics::Metrics;

/// A delivery is held at most this long; then the request waits outside. Far below the broker's consumer timeout
/// (30 minutes), after which it would take the channel away.
pub const HANDLING_LIMIT: Duration = Duration::from_secs(600);

/// The wait after which a request that used up [`HANDLING_LIMIT`] comes back.
const AFTER_HANDLING_LIMIT: Duration = Duration::from_secs(1);

/// How the attempts of this delivery ended.
#[derive(Debug)]
pub enum Ended {
    /// A link, wider than asked or not.
    Shared(LinkOutcome),
    /// No link.
    Failed(Box<Failure>),
    /// Not yet: put the request aside.
    Leave(Duration, DelayCause),
    /// Not yet: the worker is stopping.
    Stopped,
}

/// What the loop needs besides the request.
pub struct Means<'a> {
    /// `[retry]`.
    pub policy: RetryPolicy,
    /// First delay of our own backoff.
    pub initial_interval: Duration,
    /// Time of day.
    pub clock: &'a Clock,
    /// Jitter.
    pub dice: Dice,
    /// Counts retries.
    pub metrics: &'a Metrics,
    /// The account's name, for the metrics.
    pub provider: &'a str,
    /// Cancelled when the worker stops.
    pub stopping: &'a CancellationToken,
}

/// Calls the provider until there is an answer for the requester, or the request has to wait elsewhere. Returns it with
/// the state of the attempts, which travels with a request that leaves.
pub async fn attempt(
    share: &dyn Share,
    travel: &Travel,
    deadline: Option<jiff::Timestamp>,
    means: Means<'_>,
) -> (Ended, Attempts) {
    let Means { policy, clock, stopping, .. } = means;
    let began = Instant::now();
    let mut attempts = Attempts::resume(policy, travel, deadline, clock());
    let mut delays = Delays::resume(means.initial_interval, policy.max_interval, travel.attempts);
    let mut step = attempts.next(clock());
    loop {
        match step {
            Step::Call => {
                // Between two calls only: one that is under way may still bring its link, and its time is bounded.
                if stopping.is_cancelled() {
                    return (Ended::Stopped, attempts);
                }
                // The call may stand in line for its turn; what is left of the time has to be enough for that.
                if began.elapsed() > HANDLING_LIMIT / 2 {
                    return (Ended::Leave(AFTER_HANDLING_LIMIT, DelayCause::Turn), attempts);
                }
                let budget = if attempts.made() > 0 { share.repeat_after() } else { Duration::ZERO };
                if !budget.is_zero() {
                    step = Step::Wait(budget);
                    continue;
                }
                attempts.called(clock());
                let left = HANDLING_LIMIT.saturating_sub(began.elapsed());
                reached(Point::Called);
                let result = timeout(left, share.ensure_link(attempts.history())).await;
                reached(Point::Answered);
                step = match result {
                    Ok(Ok(outcome)) => return (Ended::Shared(outcome), attempts),
                    Ok(Err(CallError::Held { wait, hold })) => {
                        let held = attempts.held(wait, hold, clock());
                        // Whoever stood in line was sent away because of it, and goes back to the queue as it came.
                        if stopping.is_cancelled() && hold == Hold::Turn {
                            return (Ended::Stopped, attempts);
                        }
                        held
                    }
                    Ok(Err(CallError::Failed(failure))) => note_retry(&mut attempts, failure, &mut delays, &means),
                    Err(_) => note_retry(&mut attempts, handling_took_too_long(), &mut delays, &means),
                };
            }
            Step::Wait(wait) if began.elapsed() + wait > HANDLING_LIMIT => {
                return (Ended::Leave(wait.max(AFTER_HANDLING_LIMIT), DelayCause::Backoff), attempts);
            }
            Step::Wait(wait) => {
                tokio::select! {
                    () = sleep(wait) => step = attempts.next(clock()),
                    () = stopping.cancelled() => return (Ended::Stopped, attempts),
                }
            }
            Step::Leave(wait, cause) => return (Ended::Leave(wait, cause), attempts),
            Step::GiveUp(failure) => return (Ended::Failed(failure), attempts),
        }
    }
}

fn note_retry(attempts: &mut Attempts, failure: CallFailure, delays: &mut Delays, means: &Means<'_>) -> Step {
    let kind = failure.failure.kind;
    let step = attempts.failed(failure, delays.next(), (means.dice)(), (means.clock)());
    if !matches!(step, Step::GiveUp(_)) {
        means.metrics.retried(means.provider, kind);
    }
    step
}

fn handling_took_too_long() -> CallFailure {
    CallFailure {
        failure: Failure::new(
            ErrorKind::TimedOut,
            format!("the provider did not finish within {} s", HANDLING_LIMIT.as_secs()),
        ),
        retry: Retry::Yes,
        retry_after: None,
        may_have_happened: true,
    }
}
