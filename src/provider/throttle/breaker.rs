//! pure: Whether a provider that keeps failing is left alone for a while, and when one call may see how it is.
//!
//! It looks at the last calls only. Refusals for the rate are no failures: the throttle answers those.

use std::time::{Duration, Instant};

/// How many calls are looked at.
const WINDOW: u32 = 32;
/// It opens with at least so many failures among them, and at least half of them failed.
const ENOUGH: u32 = 10;
/// How long it stays open at first; doubled whenever the one call that may try fails.
const FIRST: Duration = Duration::from_secs(1);
/// The longest that it stays open.
const LONGEST: Duration = Duration::from_secs(30);

/// The state of one account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Breaker {
    /// The last outcomes, the newest in the lowest bit; 1 for a failure.
    failures: u32,
    /// How many of them there are.
    seen: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    lasts: Duration,
    /// The call that sees how the provider is.
    probing: bool,
}

/// What the breaker says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be made.
    Pass,
    /// It may be made, alone, to see how the provider is.
    Probe,
    /// It has to wait for the end of the one that sees how the provider is.
    Probing,
    /// It may not be made before.
    Wait(Instant),
}

impl Breaker {
    /// Whether a call may be made. A probe is not taken by asking.
    pub fn verdict(&self, now: Instant) -> Verdict {
        match self.open {
            None => Verdict::Pass,
            Some(open) if now < open.until => Verdict::Wait(open.until),
            Some(open) if open.probing => Verdict::Probing,
            Some(_) => Verdict::Probe,
        }
    }

    /// The end of the time for which no call is made, where `now` is inside it.
    pub fn open_until(&self, now: Instant) -> Option<Instant> {
        self.open.map(|open| open.until).filter(|until| *until > now)
    }

    /// Whether calls are held back, also while one sees how the provider is.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The probe was granted.
    pub fn probing(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// The probe ended without saying anything of the provider.
    pub fn probe_given_up(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// The provider answered.
    pub fn worked(&mut self) {
        if self.open.take().is_some() {
            (self.failures, self.seen) = (0, 0);
        }
        self.note(0);
    }

    /// The provider failed; `jitter` in `0.0..1.0` makes the time longer by up to a tenth. True where this opened it.
    pub fn failed(&mut self, now: Instant, jitter: f64) -> bool {
        self.note(1);
        let lasts = match self.open {
            Some(open) if open.probing => (open.lasts * 2).min(LONGEST),
            // An echo of calls that were under way.
            Some(_) => return false,
            None if self.failures.count_ones() >= ENOUGH && self.failures.count_ones() * 2 >= self.seen => FIRST,
            None => return false,
        };
        let until = now + lasts.mul_f64(1.0 + 0.1 * jitter.clamp(0.0, 1.0));
        self.open = Some(Open { until, lasts, probing: false });
        true
    }

    fn note(&mut self, outcome: u32) {
        self.failures = (self.failures << 1) | outcome;
        self.seen = (self.seen + 1).min(WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = (Breaker::default(), start());
        assert!((0..9).all(|_| !breaker.failed(now, 0.0)));
        assert!(breaker.failed(now, 0.0));
        (breaker, now)
    }

    #[test]
    fn a_few_failures_do_not_open_it() {
        let (mut breaker, now) = (Breaker::default(), start());
        for _ in 0..1000 {
            assert!(!breaker.failed(now, 0.0));
            breaker.worked();
            breaker.worked();
            assert_eq!(breaker.verdict(now), Verdict::Pass);
        }
    }

    #[test]
    fn a_provider_that_keeps_failing_is_left_alone_and_then_asked_once() {
        let (mut breaker, now) = opened();
        assert_eq!(breaker.verdict(now), Verdict::Wait(now + FIRST));
        let later = now + FIRST;
        assert_eq!(breaker.verdict(later), Verdict::Probe);
        breaker.probing();
        assert_eq!(breaker.verdict(later), Verdict::Probing);
        breaker.worked();
        assert_eq!(breaker.verdict(later), Verdict::Pass);
        assert!((0..9).all(|_| !breaker.failed(later, 0.0)), "the failures before are forgotten");
    }

    #[test]
    fn each_probe_that_fails_doubles_the_wait_up_to_the_longest() {
        let (mut breaker, mut now) = opened();
        let mut waits = Vec::new();
        for _ in 0..7 {
            now = breaker.open_until(now).unwrap();
            breaker.probing();
            assert!(breaker.failed(now, 0.0));
            waits.push((breaker.open_until(now).unwrap() - now).as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn calls_that_were_under_way_neither_prolong_it_nor_spoil_a_probe() {
        let (mut breaker, now) = opened();
        assert!(!breaker.failed(now, 0.0));
        assert_eq!(breaker.open_until(now), Some(now + FIRST));
        breaker.probing();
        breaker.probe_given_up();
        assert_eq!(breaker.verdict(now + FIRST), Verdict::Probe);
    }
}
