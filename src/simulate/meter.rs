//! Resource units of one account: a token bucket that refills evenly over a minute. Pure, the time is passed in.
//!
//! Refused calls are charged too, as SharePoint does it: a client that does not wait makes its own wait longer.

use std::time::Duration;

use tokio::time::Instant;

/// From this share of the limit on, answers tell how much is left.
const TELL_FROM: f64 = 0.8;

/// The limits in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Units that come back in a minute, and the most that can be saved up. 0 for no limit.
    pub units_per_minute: u32,
    /// After an overrun nothing is let through for at least this long.
    pub closed_for: Duration,
}

/// The level of one account's bucket.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    level: f64,
    at: Instant,
    closed_until: Option<Instant>,
}

/// What `RateLimit-Limit`, `-Remaining` and `-Reset` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// Units a minute.
    pub limit: u32,
    /// Units left.
    pub remaining: u32,
    /// Until the bucket is full again; on a refusal until the next call can pass.
    pub reset: Duration,
}

/// Whether a call passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes; the gauge is told from 80 % use on.
    Passes(Option<Gauge>),
    /// It does not; the gauge's reset is the wait.
    Refused(Gauge),
}

impl Meter {
    /// A full bucket.
    pub fn new(limit: Limit, now: Instant) -> Self {
        Self { level: f64::from(limit.units_per_minute), at: now, closed_until: None }
    }

    /// Charges a call of `cost` units.
    pub fn charge(&mut self, cost: u32, limit: Limit, now: Instant) -> Verdict {
        let capacity = f64::from(limit.units_per_minute);
        if limit.units_per_minute == 0 {
            return Verdict::Passes(None);
        }
        let rate = capacity / 60.0;
        let cost = f64::from(cost);
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        // A whole minute of debt at most: the longest punishment is bounded.
        self.level = (self.level + elapsed * rate).min(capacity) - cost;
        self.level = self.level.max(-capacity);
        let closed = self.closed_until.is_some_and(|until| now < until);
        if self.level >= 0.0 && !closed {
            self.closed_until = None;
            let used = 1.0 - self.level / capacity;
            let gauge = Gauge {
                limit: limit.units_per_minute,
                remaining: whole(self.level),
                reset: seconds((capacity - self.level) / rate),
            };
            return Verdict::Passes((used >= TELL_FROM).then_some(gauge));
        }
        if !closed && !limit.closed_for.is_zero() {
            self.closed_until = now.checked_add(limit.closed_for);
        }
        let refilled = seconds((cost.min(capacity) - self.level) / rate);
        let reopened = self.closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        Verdict::Refused(Gauge { limit: limit.units_per_minute, remaining: 0, reset: refilled.max(reopened) })
    }
}

/// Whole units below a level that is not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floored, and between 0 and a u32")]
fn whole(level: f64) -> u32 {
    level.floor() as u32
}

/// A duration of so many seconds, rounded up to a millisecond so that whoever waits it out passes.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64((seconds.max(0.0) * 1000.0).ceil() / 1000.0).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { units_per_minute: 60, closed_for: Duration::ZERO };

    #[tokio::test(start_paused = true)]
    async fn a_minutes_units_pass_at_once_and_the_next_call_is_refused() {
        let mut meter = Meter::new(LIMIT, Instant::now());
        for _ in 0..12 {
            assert!(matches!(meter.charge(5, LIMIT, Instant::now()), Verdict::Passes(_)));
        }
        assert!(matches!(meter.charge(5, LIMIT, Instant::now()), Verdict::Refused(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_as_told_passes() {
        let mut meter = Meter::new(LIMIT, Instant::now());
        meter.charge(60, LIMIT, Instant::now());
        let Verdict::Refused(gauge) = meter.charge(5, LIMIT, Instant::now()) else { panic!("not refused") };
        tokio::time::advance(gauge.reset).await;
        assert!(matches!(meter.charge(5, LIMIT, Instant::now()), Verdict::Passes(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_too_early_waits_longer() {
        let mut meter = Meter::new(LIMIT, Instant::now());
        meter.charge(60, LIMIT, Instant::now());
        let Verdict::Refused(first) = meter.charge(5, LIMIT, Instant::now()) else { panic!("not refused") };
        let Verdict::Refused(second) = meter.charge(5, LIMIT, Instant::now()) else { panic!("not refused") };
        assert!(second.reset > first.reset, "{second:?} after {first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_gauge_is_told_from_eighty_percent_use_on() {
        let mut meter = Meter::new(LIMIT, Instant::now());
        assert_eq!(meter.charge(45, LIMIT, Instant::now()), Verdict::Passes(None));
        let told = Gauge { limit: 60, remaining: 10, reset: Duration::from_secs(50) };
        assert_eq!(meter.charge(5, LIMIT, Instant::now()), Verdict::Passes(Some(told)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_overrun_the_window_stays_closed_although_units_are_back() {
        let limit = Limit { closed_for: Duration::from_secs(300), ..LIMIT };
        let mut meter = Meter::new(limit, Instant::now());
        meter.charge(60, limit, Instant::now());
        let Verdict::Refused(gauge) = meter.charge(5, limit, Instant::now()) else { panic!("not refused") };
        assert_eq!(gauge.reset, Duration::from_secs(300));
        tokio::time::advance(Duration::from_secs(200)).await;
        assert!(matches!(meter.charge(5, limit, Instant::now()), Verdict::Refused(_)));
        tokio::time::advance(Duration::from_secs(101)).await;
        assert!(matches!(meter.charge(5, limit, Instant::now()), Verdict::Passes(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_everything_passes() {
        let limit = Limit { units_per_minute: 0, closed_for: Duration::from_secs(9) };
        let mut meter = Meter::new(limit, Instant::now());
        for _ in 0..1000 {
            assert_eq!(meter.charge(5, limit, Instant::now()), Verdict::Passes(None));
        }
    }
}
