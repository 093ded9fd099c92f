//! Standing in line at the gate: who finds room, and when waiting is over.
//!
//! An account that gets on may have everybody in line, so that the broker keeps the backlog. One that does not, beside
//! others that share the places, keeps no more than its own: the rest leaves, and comes back later.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::{Gate, State, Waiting, held};
use super::throttle::Why;
use crate::pipeline::ports::CallError;

/// Nobody stays in line for longer. Well below the time for which a delivery may be handled.
const LONGEST_LINE: Duration = Duration::from_secs(120);
/// Whoever finds no room in line stays away for at most this long where the rate is learned, because it may rise, …
const LONGEST_AWAY_LEARNED: Duration = Duration::from_secs(60);
/// … and for at most this long where it is configured.
const LONGEST_AWAY_TOLD: Duration = Duration::from_secs(600);
/// How often somebody in line looks whether the account gets on, where its patience is shorter.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// A place in line, for as long as it lives.
pub struct Standing {
    gate: Gate,
    asked: Instant,
    ahead: u32,
    deadline: Option<Instant>,
}

impl Standing {
    /// Ends when waiting is over, with what that means for the request.
    pub async fn until_too_long(&self) -> CallError {
        self.gate.until_too_long(self.asked, self.deadline, Some(self.ahead)).await
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.gate.shared.line.fetch_sub(1, Ordering::AcqRel);
        self.gate.shared.metrics.throttle_wait.inc_by(self.asked.elapsed().as_secs_f64());
    }
}

impl Gate {
    /// Takes a place at the end of the line.
    ///
    /// # Errors
    /// [`CallError::Held`] where there is no room, or the provider is closed for longer than can be waited for.
    pub fn stand(&self, deadline: Option<Instant>) -> Result<Standing, CallError> {
        let asked = Instant::now();
        let ahead = self.shared.line.fetch_add(1, Ordering::AcqRel);
        let standing = Standing { gate: self.clone(), asked, ahead, deadline };
        self.room(asked, ahead)?;
        Ok(standing)
    }

    /// Whether there is room in line for one with `ahead` others before it.
    fn room(&self, now: Instant, ahead: u32) -> Result<(), CallError> {
        let waiting = &self.shared.waiting;
        let mut state = self.state();
        if let Some((until, Why::Paused)) = state.throttle.closed_until(now.into_std()) {
            let until = Instant::from_std(until);
            if until > now + waiting.patience || state.throttle.barren_for(now.into_std()) > waiting.gives_up_after {
                return Err(state.closed(now, until));
            }
        }
        let expected = Instant::from_std(state.throttle.expected(now.into_std(), ahead));
        let is_crowded = waiting.shared && state.is_crowded(ahead, waiting);
        let is_soon = expected <= now + waiting.patience && !state.is_stuck(now, waiting);
        if is_soon || (!is_crowded && expected <= now + LONGEST_LINE) {
            return Ok(());
        }
        let rate = state.throttle.calls_a_second(now.into_std());
        // A learned rate may rise meanwhile: come back a little early, and look.
        let (apart, longest) =
            if self.shared.told { (1.0 / rate, LONGEST_AWAY_TOLD) } else { (0.5 / rate, LONGEST_AWAY_LEARNED) };
        let earliest = now + waiting.patience;
        let turn = state.horizon.map_or(earliest, |horizon| horizon.max(earliest)) + Duration::from_secs_f64(apart);
        let turn = turn.min(earliest + longest);
        state.horizon = Some(turn);
        Err(held(turn.saturating_duration_since(now)))
    }

    /// The end of all waiting since `asked`: the worker stops, the deadline is there, it has lasted too long, or the account
    /// does not get on and one with `ahead` others before it has no place of its own.
    pub(super) async fn until_too_long(
        &self,
        asked: Instant,
        deadline: Option<Instant>,
        ahead: Option<u32>,
    ) -> CallError {
        let waiting = &self.shared.waiting;
        let away = held(waiting.patience + Duration::from_secs(1));
        let end = asked + LONGEST_LINE;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        loop {
            let look = Instant::now() + waiting.patience.max(SHORTEST_LOOK);
            tokio::select! {
                () = tokio::time::sleep_until(look.min(end)) => {}
                () = waiting.stopping.cancelled() => return away,
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return held(Duration::ZERO);
            }
            let state = self.state();
            let crowds = |ahead| waiting.shared && state.is_crowded(ahead, waiting) && state.is_stuck(now, waiting);
            if now >= end || ahead.is_some_and(crowds) {
                return away;
            }
        }
    }
}

impl State {
    /// Whether one with `ahead` others before it, and those that are calling, is more than the account's own places hold.
    fn is_crowded(&self, ahead: u32, waiting: &Waiting) -> bool {
        ahead.saturating_add(self.throttle.in_flight()) >= waiting.room.max(1)
    }

    /// Whether nobody has gone through for longer than is waited for.
    fn is_stuck(&self, now: Instant, waiting: &Waiting) -> bool {
        waiting.shared && now.saturating_duration_since(self.passed) > waiting.patience
    }
}
