//! pure: How many calls may be under way at once: quickly up while all is well, down when calls fail or become slow.
//!
//! Between 1 and the configured most. It grows only while it is what calls wait for.

use std::time::Duration;

/// Calls at once in the beginning.
const FIRST: f64 = 4.0;
/// It is lowered to this share.
const CUT: f64 = 0.7;
/// Calls are slow where their mean is so many times the best mean so far, …
const SLOW: f64 = 4.0;
/// … and longer than it by this, because short times vary by chance.
const SLOW_BY: Duration = Duration::from_secs(1);
/// It is lowered where this share of the calls failed.
const FAILING: f64 = 0.2;
/// The best mean is forgotten slowly: a share for each look.
const FORGET: f64 = 0.02;

/// The limit of one account.
#[derive(Debug, Clone)]
pub struct Concurrency {
    limit: f64,
    most: f64,
    /// No cut so far: doubles with each round of calls.
    starting: bool,
    best: Option<f64>,
    calls: u32,
    failed: u32,
    seconds: f64,
}

impl Concurrency {
    /// A limit that never exceeds `most`.
    pub fn new(most: u32) -> Self {
        let most = f64::from(most.max(1));
        Self { limit: FIRST.min(most), most, starting: true, best: None, calls: 0, failed: 0, seconds: 0.0 }
    }

    /// Calls that may be under way at once.
    pub fn limit(&self) -> u32 {
        // Between 1 and a u32.
        self.limit as u32
    }

    /// A call ended after `lasted`; `in_flight` were under way, itself included.
    pub fn ended(&mut self, in_flight: u32, lasted: Duration, failed: bool) {
        self.calls += 1;
        self.failed += u32::from(failed);
        self.seconds += lasted.as_secs_f64();
        if !failed && f64::from(in_flight) >= f64::from(self.limit()) * 0.8 {
            let more = if self.starting { 1.0 } else { 1.0 / self.limit };
            self.limit = (self.limit + more).min(self.most);
        }
        if f64::from(self.calls) >= self.limit.max(16.0) {
            self.look();
        }
    }

    fn look(&mut self) {
        let calls = f64::from(self.calls);
        let mean = self.seconds / calls;
        let best = self.best.map_or(mean, |best| (best * (1.0 + FORGET)).min(mean));
        let slow = mean > best * SLOW && mean > best + SLOW_BY.as_secs_f64();
        if slow || f64::from(self.failed) >= calls * FAILING {
            self.limit = (self.limit * CUT).max(1.0);
            self.starting = false;
        }
        self.best = Some(best);
        (self.calls, self.failed, self.seconds) = (0, 0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: Duration = Duration::from_millis(50);

    fn run(concurrency: &mut Concurrency, calls: u32, lasted: Duration, fails_each: u32) {
        for call in 1..=calls {
            concurrency.ended(concurrency.limit(), lasted, fails_each > 0 && call % fails_each == 0);
        }
    }

    #[test]
    fn it_doubles_with_each_round_up_to_the_most() {
        let mut concurrency = Concurrency::new(100);
        assert_eq!(concurrency.limit(), 4);
        run(&mut concurrency, 4, QUICK, 0);
        assert_eq!(concurrency.limit(), 8);
        run(&mut concurrency, 200, QUICK, 0);
        assert_eq!(concurrency.limit(), 100);
    }

    #[test]
    fn it_does_not_grow_while_it_is_not_used() {
        let mut concurrency = Concurrency::new(100);
        for _ in 0..1000 {
            concurrency.ended(2, QUICK, false);
        }
        assert_eq!(concurrency.limit(), 4);
    }

    #[test]
    fn many_failures_lower_it_and_few_do_not() {
        let mut concurrency = Concurrency::new(64);
        run(&mut concurrency, 1000, QUICK, 0);
        run(&mut concurrency, 1000, QUICK, 33);
        assert_eq!(concurrency.limit(), 64);
        run(&mut concurrency, 1000, QUICK, 2);
        assert!(concurrency.limit() < 10, "{}", concurrency.limit());
        run(&mut concurrency, 20_000, QUICK, 0);
        assert!(concurrency.limit() >= 63, "it comes back: {}", concurrency.limit());
    }

    #[test]
    fn a_provider_that_becomes_slow_gets_fewer_calls_at_once_and_a_little_noise_changes_nothing() {
        let mut concurrency = Concurrency::new(64);
        run(&mut concurrency, 1000, QUICK, 0);
        run(&mut concurrency, 1000, QUICK * 10, 0);
        assert_eq!(concurrency.limit(), 64);
        run(&mut concurrency, 500, Duration::from_secs(5), 0);
        assert!(concurrency.limit() < 20, "{}", concurrency.limit());
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_the_most(
            most in 0u32..500,
            calls in proptest::collection::vec((0u32..600, 0u64..100_000, any::<bool>()), 0..300),
        ) {
            let mut concurrency = Concurrency::new(most);
            for (in_flight, millis, failed) in calls {
                concurrency.ended(in_flight, Duration::from_millis(millis), failed);
                prop_assert!((1..=most.max(1)).contains(&concurrency.limit()));
            }
        }
    }
}
