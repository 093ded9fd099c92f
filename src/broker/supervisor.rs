//! Keeps the worker at the broker: builds a generation of connections, and another one after it, for as long as the
//! worker runs.
//!
//! No failure after the first generation ends the worker. Before it, what a person has to put right does: a wrong
//! address, a refused login, queues that are missing where none may be declared.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{ConnectError, Dialer};
use super::depth;
use super::generation::{BuildError, Context, End, Generation};
use super::publisher::Publisher;
use super::topology::TopologyError;
use super::watchdog::Watchdog;
use crate::config;
use crate::pipeline::ports::Handler;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Shortest pause before another generation, before jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A generation that lasted longer than this was a good one, and the pauses start anew: on a network that breaks every
/// minute the worker is not to wait half of it.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// So many times in a row messages may be found waiting, and none delivered in between.
const STALLED_LOOKS: u32 = 3;

/// Why the worker cannot start; each needs somebody to change something.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is wrong, or the broker refuses us.
    #[error(transparent)]
    Connect(ConnectError),
    /// Queues are missing, or have impossible names.
    #[error(transparent)]
    Topology(TopologyError),
}

/// Consumes requests and hands them to `handler` until `stopping`, then drains: in-flight requests get
/// `shutdown_grace`, the rest goes back to the queue.
///
/// # Errors
/// Only before the worker was ready for the first time, and only what another attempt cannot help.
pub async fn run<H: Handler<Publisher>>(
    settings: &config::Broker,
    worker_name: String,
    handler: Arc<H>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown_grace: Duration,
    stopping: CancellationToken,
) -> Result<(), StartError> {
    let dialer = Dialer::new(settings).map_err(StartError::Connect)?;
    let (publisher, jobs) = Publisher::new(settings, worker_name.clone());
    let context = Context {
        settings: settings.clone(),
        worker_name,
        handler,
        metrics,
        health: health.clone(),
        grace: shutdown_grace,
        stopping,
        publisher,
        jobs: Arc::new(Mutex::new(jobs)),
    };
    tokio::select! {
        biased;
        // In one task with the work, so that a tick means that the work is not stuck.
        never = tick(&health) => match never {},
        ended = supervise(dialer, &context) => ended,
    }
}

async fn tick(health: &Health) -> Infallible {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        health.tick(tick.tick().await);
    }
}

async fn supervise<H: Handler<Publisher>>(mut dialer: Dialer, context: &Context<H>) -> Result<(), StartError> {
    let Context { health, stopping, .. } = context;
    let mut was_ready = false;
    let mut failures = 0;
    let mut watchdog = Watchdog::new(depth::every(&context.settings).saturating_mul(STALLED_LOOKS));
    loop {
        let built = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            built = Generation::build(&mut dialer, context) => built,
        };
        let why = match built {
            Ok(generation) => {
                info!(request_queue = context.settings.request_queue, "connected to the broker and consuming");
                was_ready = true;
                let since = Instant::now();
                match generation.serve(context, &mut watchdog).await {
                    End::Stopped => break,
                    End::Lost(why) => {
                        if since.elapsed() > GOOD_AFTER {
                            failures = 0;
                        }
                        why
                    }
                }
            }
            Err(BuildError::Connect(error @ (ConnectError::Url(_) | ConnectError::Refused { .. }))) if !was_ready => {
                return Err(StartError::Connect(error));
            }
            Err(BuildError::Topology(error @ (TopologyError::Missing(_) | TopologyError::Name(_)))) if !was_ready => {
                return Err(StartError::Topology(error));
            }
            Err(error) => error.to_string(),
        };
        health.down(&why);
        let pause = pause(failures, fastrand::f64());
        warn!(why, next_attempt_ms = pause.as_millis(), "not connected to the broker");
        failures = failures.saturating_add(1);
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            () = sleep(pause) => {}
        }
        context.metrics.broker_reconnects.inc();
    }
    health.stopping();
    Ok(())
}

/// The pause after so many failures in a row: doubled each time up to the longest, of which `dice` (0 to 1) takes
/// away up to a half, so that many workers do not come back at the same moment.
fn pause(failures: u32, dice: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE);
    full.mul_f64(1.0 - dice.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_keep_at_least_half_of_it() {
        assert_eq!(pause(0, 0.0), Duration::from_millis(500));
        assert_eq!(pause(1, 0.0), Duration::from_secs(1));
        assert_eq!(pause(3, 1.0), Duration::from_secs(2));
        assert_eq!(pause(u32::MAX, 0.0), LONGEST_PAUSE);
        assert_eq!(pause(u32::MAX, 1.0), LONGEST_PAUSE / 2);
    }
}
