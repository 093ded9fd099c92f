//! Time of day and dice, handed to whoever needs them, so that tests can hold both still.

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time of day. Everything that compares with a time in a message asks one of these.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A random number in `0.0..1.0`.
pub type Dice = fn() -> f64;

/// The machine's clock.
pub fn system_clock() -> Clock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the pipeline's clock comes from")]
    Arc::new(Timestamp::now)
}

/// A clock that starts at `start` and moves with tokio's time, which tests can pause and advance.
pub fn clock_from(start: Timestamp) -> Clock {
    let origin = tokio::time::Instant::now();
    Arc::new(move || {
        let passed = jiff::SignedDuration::try_from(origin.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
        start.checked_add(passed).unwrap_or(Timestamp::MAX)
    })
}

/// The time from `earlier` to `later`; zero where it is the other way round.
pub fn between(earlier: Timestamp, later: Timestamp) -> std::time::Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}
