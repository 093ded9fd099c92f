//! Whether the worker is alive and whether it can take work, in words for the person who asks.
//!
//! Alive means that the supervisor's loop turns; a broker outage does not change it. Ready means really consuming and
//! able to publish, and nothing less.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// The loop ticks every second; after this long without a tick something in the process hangs.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// What the door to the broker can do at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Door {
    /// Neither consuming nor publishing.
    Down(String),
    /// Connected, but the broker takes nothing, so nothing is consumed either.
    Blocked(String),
    /// Consuming and able to publish.
    Open,
}

/// Health as the supervisor writes it and the HTTP server reads it. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Health {
    door: watch::Sender<Door>,
    stopping: watch::Sender<bool>,
    ticked: Mutex<Instant>,
}

impl Health {
    /// Not ready, and alive as of `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            door: watch::Sender::new(Door::Down("the worker is starting".to_owned())),
            stopping: watch::Sender::new(false),
            ticked: Mutex::new(now),
        }
    }

    /// Consuming and able to publish.
    pub fn open(&self) {
        self.door.send_replace(Door::Open);
    }

    /// The broker takes nothing for now, in the broker's words; consuming is paused.
    pub fn blocked(&self, why: &str) {
        self.door.send_replace(Door::Blocked(why.to_owned()));
    }

    /// No usable connection, and why.
    pub fn down(&self, why: &str) {
        self.door.send_replace(Door::Down(why.to_owned()));
    }

    /// The worker finishes what it holds and takes nothing new; there is no way back.
    pub fn stopping(&self) {
        self.stopping.send_replace(true);
    }

    /// The loop turned.
    pub fn tick(&self, now: Instant) {
        *self.last_tick() = now;
    }

    /// Whether the loop turned lately.
    ///
    /// # Errors
    /// The sentence that says since when it has not.
    pub fn live(&self, now: Instant) -> Result<(), String> {
        let silent = now.saturating_duration_since(*self.last_tick());
        if silent <= LIVE_WITHIN {
            return Ok(());
        }
        Err(format!("the worker's loop has not turned for {} s", silent.as_secs()))
    }

    /// Whether work can be taken.
    ///
    /// # Errors
    /// The sentence that says why not.
    pub fn ready(&self) -> Result<(), String> {
        if *self.stopping.borrow() {
            return Err("the worker is stopping: it finishes what it holds and takes nothing new".to_owned());
        }
        match &*self.door.borrow() {
            Door::Open => Ok(()),
            Door::Blocked(why) => Err(format!("the broker accepts no messages, so none are taken: {why}")),
            Door::Down(why) => Err(format!("not connected to the broker: {why}")),
        }
    }

    /// Returns as soon as the worker is ready.
    pub async fn until_ready(&self) {
        self.until(|door| *door == Door::Open).await;
    }

    /// Returns as soon as the worker is not ready because of the broker.
    pub async fn until_not_ready(&self) {
        self.until(|door| *door != Door::Open).await;
    }

    async fn until(&self, wanted: impl FnMut(&Door) -> bool) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.door.subscribe().wait_for(wanted).await;
    }

    fn last_tick(&self) -> MutexGuard<'_, Instant> {
        self.ticked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_means_consuming_and_publishing_and_the_answer_says_what_is_missing() {
        let health = Health::new(Instant::now());
        assert!(health.ready().is_err_and(|why| why.contains("starting")));
        health.open();
        assert_eq!(health.ready(), Ok(()));
        health.blocked("low on memory");
        assert!(health.ready().is_err_and(|why| why.contains("low on memory")));
        health.down("connection refused");
        assert!(health.ready().is_err_and(|why| why.contains("connection refused")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_worker_is_not_ready_whatever_its_connections_do() {
        let health = Health::new(Instant::now());
        health.stopping();
        health.open();
        assert!(health.ready().is_err_and(|why| why.contains("stopping")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_outage_leaves_the_worker_alive_and_a_hanging_loop_does_not() {
        let start = Instant::now();
        let health = Health::new(start);
        health.down("connection refused");
        assert_eq!(health.live(start + LIVE_WITHIN), Ok(()));
        assert!(health.live(start + LIVE_WITHIN + Duration::from_secs(1)).is_err());
        health.tick(start + LIVE_WITHIN);
        assert_eq!(health.live(start + LIVE_WITHIN + Duration::from_secs(1)), Ok(()));
    }
}
