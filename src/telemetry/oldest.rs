//! Since when the oldest request has been held: a gauge that follows the requests as they come and go.
//!
//! The gauge is a time, not an age, so that it is right however seldom it is read: +Inf while nothing is held, which
//! makes an age computed from it negative and never large.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::Gauge;

/// The requests that are held.
pub(super) struct Oldest {
    gauge: Gauge,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// When each came, and which one it is: several may come in one moment.
    since: BTreeSet<(Timestamp, u64)>,
    last: u64,
}

/// One request, held until this is dropped.
pub struct Holding {
    oldest: Arc<Oldest>,
    key: (Timestamp, u64),
}

impl Oldest {
    /// Nothing held; `gauge` is set from here alone.
    pub(super) fn new(gauge: Gauge) -> Arc<Self> {
        let oldest = Self { gauge, held: Mutex::default() };
        oldest.change(|_| ());
        Arc::new(oldest)
    }

    /// Holds a request that came at `now`.
    pub(super) fn hold(self: &Arc<Self>, now: Timestamp) -> Holding {
        let key = self.change(|held| {
            held.last = held.last.wrapping_add(1);
            let key = (now, held.last);
            held.since.insert(key);
            key
        });
        Holding { oldest: self.clone(), key }
    }

    /// Changes what is held, and sets the gauge before anybody else can.
    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let made = change(&mut held);
        let since = held.since.first().map(|(since, _)| since.as_duration().as_secs_f64());
        self.gauge.set(since.unwrap_or(f64::INFINITY));
        made
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.oldest.change(|held| held.since.remove(&self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_gauge_is_the_time_of_the_oldest_request_that_is_held_and_infinite_without_one() {
        let gauge = Gauge::new("g", "g").unwrap();
        let oldest = Oldest::new(gauge.clone());
        assert_eq!(gauge.get(), f64::INFINITY);
        let second = oldest.hold(at(20));
        // The clock of the day may go back.
        let first = oldest.hold(at(10));
        let twin = oldest.hold(at(10));
        assert_eq!(gauge.get(), 10.0);
        drop(first);
        assert_eq!(gauge.get(), 10.0);
        drop(twin);
        assert_eq!(gauge.get(), 20.0);
        drop(second);
        assert_eq!(gauge.get(), f64::INFINITY);
    }
}
