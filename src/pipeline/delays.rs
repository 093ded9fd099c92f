//! The delays that our own backoff proposes, from the `backoff` crate. The only file that knows that crate:
//! [`super::retry`] decides, this proposes, so the crate's own retry loop (which lets a server's Retry-After bypass
//! every limit, and takes each unnamed error for a transient one) is not used at all.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Proposes exponentially growing, jittered delays.
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Growth from one delay to the next, before jitter.
    const MULTIPLIER: f64 = 2.0;
    /// Jitter: up to this share is added or taken away.
    const RANDOMIZATION: f64 = 0.5;

    /// Starts at `initial`, grows to `max`, as if `attempts` delays had been taken already.
    pub fn resume(initial: Duration, max: Duration, attempts: u32) -> Self {
        let grown = initial.as_secs_f64() * Self::MULTIPLIER.powi(i32::try_from(attempts).unwrap_or(i32::MAX).min(64));
        let current = Duration::try_from_secs_f64(grown).unwrap_or(max).min(max);
        Self(ExponentialBackoff {
            initial_interval: initial,
            current_interval: current,
            multiplier: Self::MULTIPLIER,
            randomization_factor: Self::RANDOMIZATION,
            max_interval: max,
            // Our own policy ends the attempts; the crate's clock is not one that tests can pause.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// The next delay. The crate jitters after its cap, so this may exceed `max` by the jitter; the policy caps again.
    pub fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn delays_grow_to_the_maximum_and_are_never_zero(initial_ms in 1u64..5_000, factor in 1u64..100, attempts in 0u32..2_000) {
            let initial = Duration::from_millis(initial_ms);
            let max = initial * u32::try_from(factor).unwrap();
            let mut delays = Delays::resume(initial, max, attempts);
            for _ in 0..20 {
                let delay = delays.next();
                prop_assert!(delay >= initial / 2 - Duration::from_nanos(1), "{delay:?}");
                prop_assert!(delay <= max.mul_f64(1.0 + Delays::RANDOMIZATION) + Duration::from_millis(1), "{delay:?}");
            }
        }
    }

    #[test]
    fn a_resumed_sequence_goes_on_where_it_was() {
        let first = Delays::resume(Duration::from_millis(500), Duration::from_secs(30), 0).next();
        let fifth = Delays::resume(Duration::from_millis(500), Duration::from_secs(30), 4).next();
        assert!(first <= Duration::from_millis(750), "{first:?}");
        assert!(fifth >= Duration::from_secs(4), "{fifth:?}");
    }
}
