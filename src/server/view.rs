//! Everything the status page is made from, for one moment, pure: the metrics now, what changed lately, and the time.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::telemetry::history::{Change, Counts, History, REMEMBERED};
use crate::telemetry::snapshot::{ProviderNumbers, Snapshot};

/// What "now" means for rates: long enough to be calm, short enough to follow.
const MINUTE: Duration = Duration::from_secs(60);
/// What the verdict looks at.
const VERDICT_OVER: Duration = Duration::from_secs(300);
/// What the rate on the tile is taken over.
const RATE_OVER: Duration = Duration::from_secs(10);

/// One moment.
pub struct Moment {
    /// Since the history began.
    pub at: Duration,
    /// For the end of pauses.
    pub instant: Instant,
    /// Time of day.
    pub wall: Timestamp,
    /// Whether work can be taken, or why not.
    pub ready: Result<(), String>,
    /// Whether the process runs its loop, or since when it does not.
    pub live: Result<(), String>,
}

/// The view.
pub struct View {
    /// The moment.
    pub moment: Moment,
    /// The metrics.
    pub now: Snapshot,
    /// What changed in the time that the page shows.
    pub shown: Change,
    /// What changed in the time that the verdict looks at.
    pub lately: Change,
    /// What changed in the last minute.
    pub minute: Change,
    /// Requests answered a second, just now.
    pub rate: f64,
    /// The bars of the chart.
    pub bars: Vec<Counts>,
}

impl View {
    /// For how long the oldest request has been held; `None` where none is.
    pub fn held_for(&self) -> Option<Duration> {
        let since = self.now.oldest?;
        Duration::try_from_secs_f64(self.moment.wall.as_duration().as_secs_f64() - since).ok()
    }

    /// Gathers it.
    pub fn new(moment: Moment, now: Snapshot, history: &History) -> Self {
        let change = |span| history.change(moment.at, &now, span);
        Self {
            shown: change(REMEMBERED),
            lately: change(VERDICT_OVER),
            minute: change(MINUTE),
            rate: history.rate(moment.at, &now, RATE_OVER),
            bars: history.bars(moment.at, &now),
            moment,
            now,
        }
    }

    /// How long the account makes no calls yet, and because of what; `None` where it makes some, or nobody knows.
    pub fn pause(&self, numbers: &ProviderNumbers) -> Option<(Duration, &'static str)> {
        let pause = numbers.pause.filter(|_| numbers.paused)?;
        let left = pause.end.checked_duration_since(self.moment.instant).filter(|left| !left.is_zero())?;
        Some((left, pause.why))
    }

    /// Since the process started.
    pub fn uptime(&self) -> Duration {
        if self.now.started <= 0.0 {
            return self.moment.at;
        }
        let seconds = self.moment.wall.as_duration().as_secs_f64() - self.now.started;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}
