//! Crash points: places of the trip where a test can have the process die, to see what the next one makes of it.
//!
//! `SHARELINK_CRASH_AT=confirmed:3` aborts when the third trip reaches [`Point::Confirmed`]. Only in builds with debug
//! assertions; a release binary has no trace of it.

/// A place of the trip, in the order in which a trip comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The delivery is in hand, and nothing was done with it.
    Received,
    /// The request is read.
    Decoded,
    /// The provider is about to be called.
    Called,
    /// The provider has answered, and nobody knows.
    Answered,
    /// The broker has confirmed what was published, and nobody was told.
    Replied,
    /// The reply is known to be safe; the request is not acknowledged.
    Confirmed,
    /// The acknowledgement is on its way.
    Acknowledged,
    /// The copy in a delay queue is safe; the original is not acknowledged.
    Delayed,
    /// The copy in the dead-letter queue is safe; the original is neither answered nor acknowledged.
    Buried,
}

impl Point {
    /// Every point.
    pub const ALL: [Point; 9] = [
        Self::Received,
        Self::Decoded,
        Self::Called,
        Self::Answered,
        Self::Replied,
        Self::Confirmed,
        Self::Acknowledged,
        Self::Delayed,
        Self::Buried,
    ];

    /// The word in `SHARELINK_CRASH_AT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Decoded => "decoded",
            Self::Called => "called",
            Self::Answered => "answered",
            Self::Replied => "replied",
            Self::Confirmed => "confirmed",
            Self::Acknowledged => "acknowledged",
            Self::Delayed => "delayed",
            Self::Buried => "buried",
        }
    }
}

/// A trip has come to this point.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reached(_: Point) {}

/// A trip has come to this point.
#[cfg(debug_assertions)]
pub fn reached(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ORDER: OnceLock<Option<(Point, AtomicU32)>> = OnceLock::new();
    let order = ORDER.get_or_init(|| {
        let order = std::env::var("SHARELINK_CRASH_AT").ok()?;
        let (word, times) = order.split_once(':').unwrap_or((&order, "1"));
        let point = Point::ALL.into_iter().find(|point| point.as_str() == word)?;
        Some((point, AtomicU32::new(times.parse().ok()?)))
    });
    if let Some((at, left)) = order
        && *at == point
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}
