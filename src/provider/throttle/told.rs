//! pure: What the provider tells of its limit in `RateLimit-Limit`, `-Remaining` and `-Reset`, as a rate.
//!
//! SharePoint tells them for the application's limit of one minute, from 80 % use on, as best it can; units are its
//! resource units. Others' use of the same limit is in what remains.

use std::time::{Duration, Instant};

/// The limit is counted by the minute (SharePoint's documentation; the headers do not say).
const WINDOW: Duration = Duration::from_secs(60);
/// A limit that was told stays believed for so long after it was last told.
const BELIEVED: Duration = Duration::from_secs(600);
/// Kept free of the limit: clocks and counts differ a little.
const MARGIN: f64 = 0.985;

/// The three headers of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gauge {
    /// Units a window.
    pub limit: f64,
    /// Units left in this window.
    pub remaining: f64,
    /// Until the window ends.
    pub reset: Duration,
}

impl Gauge {
    /// The same in calls of so many units each.
    pub fn in_calls(self, units: f64) -> Self {
        Self { limit: self.limit / units, remaining: self.remaining / units, ..self }
    }
}

/// What was told last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    last: Option<(Instant, Gauge)>,
}

impl Told {
    /// Takes up what an answer said.
    pub fn heard(&mut self, now: Instant, gauge: Gauge) {
        if gauge.limit > 0.0 && gauge.remaining >= 0.0 {
            self.last = Some((now, gauge));
        }
    }

    /// Units a second; `None` where nothing was told, or too long ago.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let (at, gauge) = self.last?;
        let age = now.saturating_duration_since(at);
        if age > BELIEVED {
            return None;
        }
        let even = gauge.limit / WINDOW.as_secs_f64() * MARGIN;
        if age >= gauge.reset {
            return Some(even);
        }
        // Never nothing: what remains was counted when the answer left, and the window may be a gliding one.
        let rest = gauge.remaining / gauge.reset.as_secs_f64().max(1.0);
        Some(even.min(rest.max(even * 0.05)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_spread_over_the_rest_of_the_window_and_then_the_limit_is_known() {
        let (mut told, now) = (Told::default(), tokio::time::Instant::now().into_std());
        assert_eq!(told.rate(now), None);
        told.heard(now, Gauge { limit: 1200.0, remaining: 120.0, reset: Duration::from_secs(30) });
        assert_eq!(told.rate(now), Some(4.0));
        assert_eq!(told.rate(now + Duration::from_secs(30)), Some(20.0 * MARGIN));
        assert_eq!(told.rate(now + BELIEVED * 2), None);
    }

    #[test]
    fn nothing_left_slows_down_and_does_not_stop() {
        let (mut told, now) = (Told::default(), tokio::time::Instant::now().into_std());
        told.heard(now, Gauge { limit: 1200.0, remaining: 0.0, reset: Duration::ZERO });
        assert_eq!(told.rate(now), Some(20.0 * MARGIN));
        told.heard(now, Gauge { limit: 1200.0, remaining: 0.0, reset: Duration::from_secs(9) });
        assert_eq!(told.rate(now), Some(20.0 * MARGIN * 0.05));
    }
}
