//! Messages wait and none arrive: when that has lasted so long that the subscription must be dead.
//!
//! A subscription can be dead without a word: the broker has forgotten it, or it hangs somewhere between the socket and
//! the worker. The broker's own count of waiting messages gives it away. Where a rebuilt generation gets nothing either
//! (a standby of a single active consumer never does), the next look is longer.

use std::time::Duration;

/// The longest patience.
const LONGEST: Duration = Duration::from_secs(1800);

/// What is known when the broker has told how many messages wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Since the generation began.
    pub at: Duration,
    /// Messages ready in the request queue.
    pub ready: u32,
    /// Deliveries of this generation until now.
    pub taken: u64,
    /// Deliveries in hand.
    pub held: usize,
    /// As many may be.
    pub prefetch: u16,
    /// The worker takes nothing on purpose.
    pub paused: bool,
}

/// Watches the subscriptions of all generations, one after the other.
#[derive(Debug)]
pub(crate) struct Watchdog {
    first: Duration,
    patience: Duration,
    /// Since when messages have waited, and how many deliveries there had been then.
    waiting: Option<(Duration, u64)>,
}

impl Watchdog {
    /// A watchdog that waits this long for a delivery while messages are ready.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { first: patience, patience, waiting: None }
    }

    /// Another generation begins: its count of deliveries and its time start anew.
    pub(crate) fn begin(&mut self) {
        self.waiting = None;
    }

    /// Says what is wrong where messages have waited too long; the next time it waits twice as long for it.
    pub(crate) fn look(&mut self, look: Look) -> Option<String> {
        let Look { at, ready, taken, held, prefetch, paused } = look;
        if taken > 0 {
            self.patience = self.first;
        }
        if ready == 0 || paused || held >= usize::from(prefetch) {
            self.waiting = None;
            return None;
        }
        let since = match self.waiting {
            Some((since, before)) if before == taken => since,
            _ => {
                self.waiting = Some((at, taken));
                return None;
            }
        };
        let waited = at.saturating_sub(since);
        if waited < self.patience {
            return None;
        }
        self.patience = self.patience.saturating_mul(2).min(LONGEST);
        self.waiting = None;
        Some(format!(
            "{ready} messages wait in the request queue and none was delivered for {} s, although {held} of {prefetch} are in hand",
            waited.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u64 = 45;

    fn watchdog() -> Watchdog {
        Watchdog::new(Duration::from_secs(PATIENCE))
    }

    /// A dead subscription, as seen after so many seconds.
    fn dead(at: u64) -> Look {
        Look { at: Duration::from_secs(at), ready: 5, taken: 7, held: 2, prefetch: 8, paused: false }
    }

    /// Whether it barks, looking every 15 s until then.
    fn barks(watchdog: &mut Watchdog, until: u64, look: impl Fn(u64) -> Look) -> Option<u64> {
        (0..=until).step_by(15).find(|at| watchdog.look(look(*at)).is_some())
    }

    #[test]
    fn waiting_messages_without_a_delivery_are_told_when_the_patience_is_over() {
        assert_eq!(barks(&mut watchdog(), 600, dead), Some(PATIENCE));
    }

    #[test]
    fn the_reason_says_how_many_wait_and_for_how_long() {
        let mut watchdog = watchdog();
        assert_eq!(watchdog.look(dead(0)), None);
        let why = watchdog.look(dead(50)).unwrap();
        assert!(why.starts_with("5 messages wait") && why.contains("50 s") && why.contains("2 of 8"), "{why}");
    }

    #[test]
    fn an_empty_queue_a_full_prefetch_a_pause_and_progress_are_all_in_order() {
        let innocent: [fn(u64) -> Look; 4] = [
            |at| Look { ready: 0, ..dead(at) },
            |at| Look { held: 8, ..dead(at) },
            |at| Look { paused: true, ..dead(at) },
            |at| Look { taken: at, ..dead(at) },
        ];
        for look in innocent {
            assert_eq!(barks(&mut watchdog(), 3600, look), None, "{:?}", look(0));
        }
    }

    #[test]
    fn one_moment_in_order_starts_the_patience_anew() {
        let look = |at| Look { ready: if at == 30 { 0 } else { 5 }, ..dead(at) };
        assert_eq!(barks(&mut watchdog(), 600, look), Some(45 + PATIENCE));
    }

    #[test]
    fn a_generation_that_gets_nothing_either_is_given_twice_the_time_up_to_half_an_hour() {
        let mut watchdog = watchdog();
        let standby = |at| Look { taken: 0, held: 0, ..dead(at) };
        let mut times = Vec::new();
        for _ in 0..8 {
            watchdog.begin();
            times.push(barks(&mut watchdog, 3600, standby).unwrap());
        }
        assert_eq!(times, [45, 90, 180, 360, 720, 1440, 1800, 1800]);
        // A delivery shows that the subscription lives, and the patience is the first one again.
        watchdog.begin();
        assert_eq!(barks(&mut watchdog, 3600, dead), Some(PATIENCE));
    }
}
