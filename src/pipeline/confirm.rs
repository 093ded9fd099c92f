//! Publishing until the broker confirms: how long, and with what pauses.
//!
//! Whatever is not confirmed in the end is said to be so, and its request goes back.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ports::PublishFailure;

/// How long something that the broker does not confirm is published again before the request is given back. Giving it back
/// helps nobody: it is handed out again to the same end, and each time counts towards its deliveries. A queue may be full,
/// or be without a leader, for minutes.
pub const CONFIRMED_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The pause before the second try; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Publishes until the broker confirms it or says that no queue takes it, for at most [`CONFIRMED_WITHIN`], and once only
/// where the worker is stopping or its connection is gone.
pub(crate) async fn until_confirmed<T, P>(
    what: &str,
    stopping: &CancellationToken,
    mut publish: impl FnMut() -> P,
) -> Result<T, PublishFailure>
where
    P: Future<Output = Result<T, PublishFailure>>,
{
    let began = Instant::now();
    let mut wait = FIRST_PAUSE;
    loop {
        let error = match publish().await {
            Err(PublishFailure::Unconfirmed(error)) => error,
            settled => return settled,
        };
        let last = stopping.is_cancelled() || began.elapsed() + wait > CONFIRMED_WITHIN;
        let tried_for_ms = began.elapsed().as_millis();
        if last {
            warn!(what, error, tried_for_ms, "not confirmed; given up");
            return Err(PublishFailure::Unconfirmed(error));
        }
        // A whole prefetch of requests may be waiting for the same queue: one line each is enough.
        if wait == FIRST_PAUSE {
            warn!(what, error, "not confirmed; tried again");
        } else {
            debug!(what, error, tried_for_ms, "not confirmed; tried again");
        }
        pause(wait, stopping).await;
        wait = wait.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Waits, but not for a worker that is stopping.
async fn pause(wait: Duration, stopping: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stopping.cancelled() => {}
    }
}

/// Without a pause a broker that refuses what is published would get the same request back at full speed.
pub(crate) async fn pause_before_requeue(stopping: &CancellationToken) {
    pause(FIRST_PAUSE, stopping).await;
}
