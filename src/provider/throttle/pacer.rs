//! pure: Even spacing: each grant takes its interval from a schedule, so that a late wake-up costs no rate.
//!
//! Over any span no more is granted than the rate allows, plus one call and what fits into the slack.

use std::time::{Duration, Instant};

/// How far a grant may lag behind the schedule and still be made good: what timers and a busy machine are late by.
/// An eighth of the interval, between these two.
const SLACK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(10));

/// The schedule of one account.
#[derive(Debug, Clone, Default)]
pub struct Pacer {
    next: Option<Instant>,
}

impl Pacer {
    /// The earliest time of the next grant; in the past where it may be made at once.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Takes a grant at `now` that is followed by an interval.
    pub fn take(&mut self, now: Instant, interval: Duration) {
        if interval.is_zero() {
            self.next = None;
            return;
        }
        let slack = (interval / 8).clamp(SLACK.0, SLACK.1);
        let earliest = now.checked_sub(slack).unwrap_or(now);
        let from = self.next.map_or(now, |next| next.max(earliest));
        self.next = from.checked_add(interval);
    }

    /// Forgets the schedule, for the time after a pause.
    pub fn restart(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.max(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Takes whatever can be had, waking up late by `lateness` in milliseconds, one after the other.
    fn taken(interval: Duration, lateness: &[u64]) -> Vec<Duration> {
        let (begin, mut pacer) = (start(), Pacer::default());
        let mut now = begin;
        let mut times = Vec::new();
        for late in lateness {
            now = pacer.next().map_or(now, |next| next.max(now)) + Duration::from_millis(*late);
            pacer.take(now, interval);
            times.push(now - begin);
        }
        times
    }

    #[test]
    fn a_wake_up_that_is_always_late_costs_no_rate() {
        let times = taken(Duration::from_millis(50), &[3; 201]);
        // The first wake-up is late, and so is the last; those between have cost nothing.
        assert_eq!(times[200], Duration::from_millis(200 * 50 + 2 * 3));
    }

    #[test]
    fn an_idle_time_buys_no_burst() {
        let (begin, mut pacer) = (start(), Pacer::default());
        let second = Duration::from_secs(1);
        pacer.take(begin, second);
        pacer.take(begin + second * 100, second);
        assert!(pacer.next().unwrap() >= begin + second * 101 - SLACK.1);
    }

    proptest! {
        /// Whatever the lateness, no span holds more grants than the rate allows, one call and the slack apart.
        #[test]
        fn no_span_holds_more_than_the_rate_allows(
            interval in 1u64..2_000,
            lateness in proptest::collection::vec(0u64..300, 2..60),
        ) {
            let interval = Duration::from_millis(interval);
            let times = taken(interval, &lateness);
            for (first, begin) in times.iter().enumerate() {
                for (later, end) in times.iter().enumerate().skip(first) {
                    let calls = u32::try_from(later - first).unwrap();
                    prop_assert!(*end - *begin + SLACK.1 >= interval * calls);
                }
            }
        }
    }
}
