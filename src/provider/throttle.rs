//! When the next call of an account may be made: the told rate, paced evenly, and the pause that the provider asked for.
//!
//! Pure: time is passed in. Two grants are never closer than the interval, and none falls inside a pause.

use std::time::{Duration, Instant};

/// The answer to "may I call now?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Yes, and the slot is taken.
    Now,
    /// Not before this time. Nothing is reserved: whoever waits asks again then, and whoever gives up owes nothing.
    At(Instant),
}

/// The pacing of one account.
#[derive(Debug, Clone)]
pub struct Throttle {
    /// Shortest time between two grants; zero where no rate is known.
    interval: Duration,
    /// No grant before this.
    next: Option<Instant>,
    /// End of the pause; may lie in the past.
    paused: Option<Instant>,
}

impl Throttle {
    /// A throttle for a rate that the configuration tells, in calls a minute; 0 where none is known.
    pub fn told(requests_per_minute: u32) -> Self {
        let interval = match requests_per_minute {
            0 => Duration::ZERO,
            // Rounded up, or a rate that does not divide a minute would be exceeded by a hair.
            calls => Duration::from_nanos(60_000_000_000_u64.div_ceil(u64::from(calls))),
        };
        Self { interval, next: None, paused: None }
    }

    /// Calls a second now allowed; infinite where no limit is known.
    pub fn rate(&self) -> f64 {
        if self.interval.is_zero() { f64::INFINITY } else { 1.0 / self.interval.as_secs_f64() }
    }

    /// Asks for a slot.
    pub fn admit(&mut self, now: Instant) -> Grant {
        let at = self.earliest(now);
        if at > now {
            return Grant::At(at);
        }
        if !self.interval.is_zero() {
            self.next = now.checked_add(self.interval);
        }
        Grant::Now
    }

    /// When a call that has `ahead` others before it can expect its slot, if none of them gives up.
    pub fn expected(&self, now: Instant, ahead: u32) -> Instant {
        let at = self.earliest(now);
        at.checked_add(self.interval.saturating_mul(ahead)).unwrap_or(at)
    }

    /// No grant before `until`. A pause is only ever made longer.
    pub fn pause(&mut self, until: Instant) {
        self.paused = Some(self.paused.map_or(until, |end| end.max(until)));
    }

    /// The end of the pause, where `now` is inside one.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused.filter(|end| *end > now)
    }

    fn earliest(&self, now: Instant) -> Instant {
        [self.next, self.paused].into_iter().flatten().fold(now, Instant::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn without_a_known_rate_every_call_is_let_through_at_once() {
        let (mut throttle, now) = (Throttle::told(0), start());
        assert!((0..1000).all(|_| throttle.admit(now) == Grant::Now));
        assert!(throttle.rate().is_infinite());
    }

    #[test]
    fn a_told_rate_is_spread_evenly_and_never_saved_up() {
        let (mut throttle, now) = (Throttle::told(60), start());
        let second = Duration::from_secs(1);
        assert_eq!(throttle.admit(now), Grant::Now);
        assert_eq!(throttle.admit(now), Grant::At(now + second));
        // A long idle time buys one call, not a burst.
        assert_eq!(throttle.admit(now + second * 100), Grant::Now);
        assert_eq!(throttle.admit(now + second * 100), Grant::At(now + second * 101));
        assert!((throttle.rate() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_refused_call_leaves_no_trace() {
        let (mut throttle, now) = (Throttle::told(60), start());
        assert_eq!(throttle.admit(now), Grant::Now);
        let refused = throttle.admit(now);
        assert_eq!(throttle.admit(now), refused);
        assert_eq!(throttle.expected(now, 3), now + Duration::from_secs(4));
    }

    #[test]
    fn a_shorter_pause_does_not_end_a_longer_one() {
        let (mut throttle, now) = (Throttle::told(0), start());
        throttle.pause(now + Duration::from_secs(60));
        throttle.pause(now + Duration::from_secs(5));
        assert_eq!(throttle.paused_until(now), Some(now + Duration::from_secs(60)));
        assert_eq!(throttle.admit(now + Duration::from_secs(59)), Grant::At(now + Duration::from_secs(60)));
        assert_eq!(throttle.admit(now + Duration::from_secs(60)), Grant::Now);
        assert_eq!(throttle.paused_until(now + Duration::from_secs(60)), None);
    }

    proptest! {
        #[test]
        fn grants_keep_their_distance_and_stay_out_of_every_pause(
            rate in 1_u32..100_000,
            steps in proptest::collection::vec((0_u64..5_000, proptest::option::of(1_u64..20_000)), 1..200),
        ) {
            let mut throttle = Throttle::told(rate);
            let shortest = Duration::from_secs(60) / rate;
            let (mut now, mut last, mut pause_end) = (start(), None::<Instant>, None::<Instant>);
            for (advance, pause) in steps {
                now += Duration::from_millis(advance);
                if let Some(wait) = pause {
                    let until = now + Duration::from_millis(wait);
                    throttle.pause(until);
                    pause_end = Some(pause_end.map_or(until, |end| end.max(until)));
                }
                match throttle.admit(now) {
                    Grant::Now => {
                        prop_assert!(last.is_none_or(|last| now - last >= shortest));
                        prop_assert!(pause_end.is_none_or(|end| now >= end));
                        last = Some(now);
                    }
                    Grant::At(at) => {
                        prop_assert!(at > now);
                        // The time it names is true: asked again then, it grants.
                        prop_assert_eq!(throttle.clone().admit(at), Grant::Now);
                    }
                }
            }
        }
    }
}
