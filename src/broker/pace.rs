//! How soon and how boldly the next generation begins, by how the ones before it ended. Pure.
//!
//! A message that the client library cannot even read (a property that is not UTF-8) ends the connection as soon as it
//! is delivered, and the broker delivers it again. Everything fetched together with it is given back as well, and counted
//! each time, until the broker takes good requests for bad ones. So after two generations that ended as soon as they
//! began, requests are fetched one by one and the next attempt comes at once: the bad one alone uses up its deliveries,
//! and the broker moves it to the dead-letter queue.

use std::time::Duration;

/// Shortest pause before another generation, before jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause. A generation that lasted longer than this was a good one, and the pauses start anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A generation that ends sooner after it began to consume may have been ended by what it consumed.
const SHORT: Duration = Duration::from_secs(3);
/// So many of them in a row make the next one careful.
const SHORT_IN_A_ROW: u32 = 2;
/// Pause between careful generations: the broker answers, so it is not hammered by it.
const CAREFUL_PAUSE: Duration = Duration::from_millis(100);
/// A careful generation that lasts so long has passed the bad message, and is replaced by a bold one.
pub(crate) const CAREFUL_FOR: Duration = Duration::from_secs(10);

/// How a generation is to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With the configured prefetch.
    Bold,
    /// One request at a time, and only for [`CAREFUL_FOR`].
    Careful,
}

/// Remembers how generations ended.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failures: u32,
    short: u32,
}

impl Pace {
    /// How the next generation is to be built.
    pub(crate) fn manner(&self) -> Manner {
        if self.short >= SHORT_IN_A_ROW { Manner::Careful } else { Manner::Bold }
    }

    /// A generation consumed for `lasted` and failed. The pause before the next; `dice` is in `0.0..1.0`.
    pub(crate) fn lost(&mut self, lasted: Duration, dice: f64) -> Duration {
        if lasted < SHORT {
            self.short = self.short.saturating_add(1);
        } else {
            self.short = 0;
        }
        if lasted > LONGEST_PAUSE {
            self.failures = 0;
        }
        match self.manner() {
            Manner::Careful => CAREFUL_PAUSE,
            Manner::Bold => self.not_built(dice),
        }
    }

    /// A careful generation has lasted its time.
    pub(crate) fn calm(&mut self) {
        *self = Self::default();
    }

    /// No generation could be built. The pause before the next attempt: doubled each time up to the longest, of which
    /// `dice` takes away up to a half, so that many workers do not come back at the same moment.
    pub(crate) fn not_built(&mut self, dice: f64) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - dice.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_keep_at_least_half_of_it() {
        let mut pace = Pace::default();
        assert_eq!(pace.not_built(0.0), Duration::from_millis(500));
        assert_eq!(pace.not_built(0.0), Duration::from_secs(1));
        assert_eq!(pace.not_built(1.0), Duration::from_secs(1));
        pace.failures = u32::MAX;
        assert_eq!(pace.not_built(0.0), LONGEST_PAUSE);
        assert_eq!(pace.not_built(1.0), LONGEST_PAUSE / 2);
    }

    #[test]
    fn generations_that_end_as_soon_as_they_begin_make_the_next_ones_careful_until_one_lasts() {
        let mut pace = Pace::default();
        pace.lost(Duration::from_millis(10), 0.0);
        assert_eq!(pace.manner(), Manner::Bold);
        for _ in 0..20 {
            assert_eq!(pace.lost(Duration::from_millis(10), 0.0), CAREFUL_PAUSE);
            assert_eq!(pace.manner(), Manner::Careful);
        }
        pace.calm();
        assert_eq!(pace.manner(), Manner::Bold);
    }

    #[test]
    fn a_broker_that_goes_away_now_and_then_is_no_reason_to_be_careful() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.lost(Duration::from_secs(60), 0.0);
            assert_eq!(pace.manner(), Manner::Bold);
        }
        // An outage in between says nothing about messages.
        pace.lost(Duration::from_millis(10), 0.0);
        pace.not_built(0.0);
        assert_eq!(pace.manner(), Manner::Bold);
    }
}
