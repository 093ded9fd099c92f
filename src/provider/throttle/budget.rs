//! pure: The retry budget: repeated calls may add at most a fifth to those that the provider takes, beyond an allowance.
//!
//! Without it a provider that fails half of its calls gets twice the load just then.

use std::time::{Duration, Instant};

/// Repeated calls for each one that was taken.
const SHARE: f64 = 0.2;
/// Repeated calls a second that may be made in any case, so that a few requests can always be tried again. Finagle's
/// retry budget allows as many.
const ALLOWED: f64 = 10.0;
/// The most that is saved up.
const MOST: f64 = 100.0;

/// The budget of one account.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    saved: f64,
    at: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { saved: MOST, at: None }
    }
}

impl Budget {
    /// The provider took a call.
    pub fn earned(&mut self) {
        self.saved = (self.saved + SHARE).min(MOST);
    }

    /// Takes a repeated call, or says how long to wait before asking again.
    pub fn take(&mut self, now: Instant) -> Duration {
        let since = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.saved = (self.saved + since * ALLOWED).min(MOST);
        if self.saved < 1.0 {
            return Duration::from_secs_f64((1.0 - self.saved) / ALLOWED);
        }
        self.saved -= 1.0;
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_beyond_a_fifth_and_the_allowance_wait() {
        let (mut budget, begin) = (Budget::default(), tokio::time::Instant::now().into_std());
        let (mut repeats, mut now) = (0.0, begin);
        // A thousand calls a second are taken, and as many repeated as may be, for a minute.
        for _ in 0..60_000 {
            now += Duration::from_millis(1);
            budget.earned();
            if budget.take(now).is_zero() {
                repeats += 1.0;
            }
        }
        let most = 60_000.0 * SHARE + 60.0 * ALLOWED + MOST;
        assert!((most - 2.0..=most).contains(&repeats), "{repeats} of {most}");
    }

    #[test]
    fn whoever_waits_as_told_may_repeat() {
        let (mut budget, mut now) = (Budget::default(), tokio::time::Instant::now().into_std());
        for _ in 0..500 {
            let wait = budget.take(now);
            if !wait.is_zero() {
                now += wait + Duration::from_micros(1);
                assert_eq!(budget.take(now), Duration::ZERO);
            }
        }
    }
}
