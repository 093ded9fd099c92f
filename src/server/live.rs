//! The page while somebody watches: a sample a second into the history, and a stream of what changed to each browser.
//!
//! Without a watcher nothing is rendered. A browser that reads slowly misses moments, never makes any wait, and holds no
//! more than one moment; there are never more than [`SEATS`] streams.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::page;
use super::parts::{self, Parts};
use super::view::{Moment, View};
use super::{Probes, WallClock};
use crate::telemetry::history::History;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::snapshot::Snapshot;

/// So many browsers can watch at once.
pub const SEATS: usize = 32;

/// How often a sample is taken, and sent to who watches.
const EVERY: Duration = Duration::from_secs(1);

/// After this long a browser whose stream ended asks again.
const RETRY: Duration = Duration::from_secs(2);

/// The page's memory, and who watches it.
pub struct Live {
    metrics: Arc<Metrics>,
    probes: Probes,
    wall: WallClock,
    began: Instant,
    history: Mutex<History>,
    frames: watch::Sender<Arc<Frame>>,
    seats: Arc<Semaphore>,
}

/// One moment, rendered.
struct Frame {
    /// Counted up from one with every frame of this process.
    number: u64,
    parts: Parts,
}

/// One browser's place in the stream.
struct Watcher {
    frames: watch::Receiver<Arc<Frame>>,
    sent: Option<Arc<Frame>>,
    stopping: CancellationToken,
    _seat: OwnedSemaphorePermit,
}

impl Live {
    /// With an empty history that begins now.
    pub fn new(metrics: Arc<Metrics>, probes: Probes, wall: WallClock) -> Self {
        Self {
            metrics,
            probes,
            wall,
            began: Instant::now(),
            history: Mutex::default(),
            frames: watch::Sender::new(Arc::new(Frame { number: 0, parts: Vec::new() })),
            seats: Arc::new(Semaphore::new(SEATS)),
        }
    }

    /// Takes samples for ever; renders them while somebody watches.
    pub async fn run(&self) -> Infallible {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let now = Snapshot::of(&self.metrics);
            self.history().push(self.began.elapsed(), &now);
            if self.frames.receiver_count() > 0 {
                self.publish(now);
            }
        }
    }

    /// The page of this moment.
    pub fn page(&self) -> String {
        page::document(&self.render(Snapshot::of(&self.metrics)))
    }

    /// What changes from now on, beginning with everything; ends when `stopping` is cancelled. `None` where no seat is free.
    pub fn watch(&self, stopping: CancellationToken) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        let mut frames = self.frames.subscribe();
        self.publish(Snapshot::of(&self.metrics));
        frames.mark_changed();
        Some(stream::unfold(Watcher { frames, sent: None, stopping, _seat: seat }, async |mut watcher| {
            let event = watcher.next().await?;
            Some((Ok(event), watcher))
        }))
    }

    fn publish(&self, now: Snapshot) {
        let parts = self.render(now);
        self.frames.send_modify(|frame| *frame = Arc::new(Frame { number: frame.number + 1, parts }));
    }

    fn render(&self, now: Snapshot) -> Parts {
        let at = self.began.elapsed();
        let (ready, live) = ((self.probes.ready)(), (self.probes.live)());
        let moment = Moment { at, instant: Instant::now().into_std(), wall: (self.wall)(), ready, live };
        let view = View::new(moment, now, &self.history());
        parts::render(&view)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// The next event that says anything; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                changed = self.frames.changed() => changed.ok()?,
            }
            let frame = self.frames.borrow_and_update().clone();
            let changed = frame.changed_since(self.sent.as_deref());
            self.sent = Some(frame.clone());
            if !changed.is_empty() {
                let event = Event::default().event("page").id(frame.number.to_string()).retry(RETRY);
                // One line: JSON writes line ends as `\\n`.
                return Some(event.data(Value::Object(changed).to_string()));
            }
        }
    }
}

impl Frame {
    /// The parts that are not what they were, by their ids.
    fn changed_since(&self, earlier: Option<&Frame>) -> Map<String, Value> {
        let before = |id: &str| earlier.and_then(|frame| frame.parts.iter().find(|(name, _)| *name == id));
        let changed = self.parts.iter().filter(|(id, inside)| before(id).is_none_or(|(_, then)| then != inside));
        changed.map(|(id, inside)| ((*id).to_owned(), Value::String(inside.clone()))).collect()
    }
}
