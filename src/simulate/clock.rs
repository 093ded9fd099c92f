//! The simulator's clocks, read once a call in the shell and passed on as a value.

use jiff::Timestamp;
use tokio::time::Instant;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For buckets and lifetimes; stands still where a test pauses time.
    pub instant: Instant,
    /// For the times in bodies and for expiry dates.
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    #[allow(clippy::disallowed_methods, reason = "the one place where the simulator reads the wall clock")]
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }
}
