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
use super::pace::Pace;
use super::publisher::Publisher;
use super::topology::TopologyError;
use super::watchdog::Watchdog;
use crate::config;
use crate::pipeline::ports::Handler;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

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
    let mut pace = Pace::default();
    let mut watchdog = Watchdog::new(depth::every(&context.settings).saturating_mul(STALLED_LOOKS));
    loop {
        let built = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            built = Generation::build(&mut dialer, context, pace.manner()) => built,
        };
        let (why, pause) = match built {
            Ok(generation) => {
                info!(request_queue = context.settings.request_queue, "connected to the broker and consuming");
                if was_ready {
                    context.metrics.broker_reconnects.inc();
                }
                was_ready = true;
                let since = Instant::now();
                match generation.serve(context, &mut watchdog).await {
                    End::Stopped => break,
                    End::Calm => {
                        info!("requests are fetched as configured again");
                        pace.calm();
                        continue;
                    }
                    End::Lost(why) => (why, pace.lost(since.elapsed(), fastrand::f64())),
                }
            }
            Err(BuildError::Connect(error @ (ConnectError::Url(_) | ConnectError::Refused { .. }))) if !was_ready => {
                return Err(StartError::Connect(error));
            }
            Err(BuildError::Topology(error @ (TopologyError::Missing(_) | TopologyError::Name(_)))) if !was_ready => {
                return Err(StartError::Topology(error));
            }
            Err(error) => (error.to_string(), pace.not_built(fastrand::f64())),
        };
        health.down(&why);
        warn!(why, next_attempt_ms = pause.as_millis(), manner = ?pace.manner(), "not connected to the broker");
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    health.stopping();
    Ok(())
}
