//! How soon and how boldly the next generation begins, by how the ones before it ended. Pure.
//!
//! A message that the client library cannot even read (a property that is not UTF-8) ends the connection as soon as it
//! is delivered, and the broker delivers it again. Everything fetched together with it is given back as well, and counted
//! each time, until the broker takes good requests for bad ones. So after two generations that ended as soon as they
//! began, requests are fetched a few at a time until one of these generations is lost too: the bad message is among the
//! next few. Then they are fetched one by one, and the next attempt comes at once: the bad one alone uses up its
//! deliveries, and the broker moves it to the dead-letter queue.

use std::time::Duration;

/// Shortest pause before another generation, before jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A generation that lasted longer than this was a good one, and the pauses start anew: on a network that breaks every
/// minute the worker is not to wait half of it.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// A generation that ends sooner after it began to consume may have been ended by what it consumed.
const SHORT: Duration = Duration::from_secs(3);
/// So many of them in a row make the next one careful.
const SHORT_IN_A_ROW: u32 = 2;
/// Pause between careful generations: the broker answers, so it is not hammered by it.
const CAREFUL_PAUSE: Duration = Duration::from_millis(100);

/// How a generation is to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With the configured prefetch.
    Bold,
    /// A few requests at a time: a bad message is somewhere ahead.
    Searching,
    /// One request at a time: a bad message is one of the next.
    OneByOne,
}

impl Manner {
    /// Requests held at once, and for how long such a generation works before a bold one replaces it.
    pub(crate) fn bounds(self, configured: u16) -> (u16, Option<Duration>) {
        match self {
            Self::Bold => (configured, None),
            Self::Searching => (configured.min(8), Some(Duration::from_secs(5 * 60))),
            Self::OneByOne => (1, Some(Duration::from_secs(10))),
        }
    }
}

/// Remembers how generations ended.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failures: u32,
    short: u32,
    manner: Option<Manner>,
}

impl Pace {
    /// How the next generation is to be built.
    pub(crate) fn manner(&self) -> Manner {
        self.manner.unwrap_or(Manner::Bold)
    }

    /// A generation consumed for `lasted` and failed. The pause before the next; `dice` is in `0.0..1.0`.
    pub(crate) fn lost(&mut self, lasted: Duration, dice: f64) -> Duration {
        self.short = if lasted < SHORT { self.short.saturating_add(1) } else { 0 };
        if lasted > GOOD_AFTER {
            self.failures = 0;
        }
        match self.manner() {
            Manner::Bold if self.short < SHORT_IN_A_ROW => return self.not_built(dice),
            Manner::Bold => self.manner = Some(Manner::Searching),
            Manner::Searching | Manner::OneByOne => self.manner = Some(Manner::OneByOne),
        }
        CAREFUL_PAUSE
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
    fn generations_that_end_as_soon_as_they_begin_lead_to_a_search_and_then_to_one_at_a_time_until_one_lasts() {
        let mut pace = Pace::default();
        pace.lost(Duration::from_millis(10), 0.0);
        assert_eq!(pace.manner(), Manner::Bold);
        assert_eq!(pace.lost(Duration::from_millis(10), 0.0), CAREFUL_PAUSE);
        assert_eq!(pace.manner(), Manner::Searching);
        // It may take a while to get there.
        assert_eq!(pace.lost(Duration::from_secs(60), 0.0), CAREFUL_PAUSE);
        for _ in 0..20 {
            assert_eq!(pace.manner(), Manner::OneByOne);
            assert_eq!(pace.lost(Duration::from_millis(10), 0.0), CAREFUL_PAUSE);
        }
        pace.calm();
        assert_eq!(pace.manner(), Manner::Bold);
    }

    #[test]
    fn a_careful_generation_never_holds_more_than_a_bold_one() {
        assert_eq!(Manner::Bold.bounds(256), (256, None));
        assert_eq!(Manner::Searching.bounds(256).0, 8);
        assert_eq!(Manner::Searching.bounds(3).0, 3);
        assert_eq!(Manner::OneByOne.bounds(3).0, 1);
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
