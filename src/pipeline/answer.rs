//! What is known of an answer before its result: it becomes the reply, the dead letter's note and what is counted.

use std::sync::Arc;

use jiff::Timestamp;

use super::clock::between;
use super::ports::{DeathNote, DeathReason};
use super::settle::Answered;
use crate::model::{Difference, Failure, Granted, Made, Object, Reply, Status};

/// All of a reply but its result.
pub(super) struct Answer {
    /// The request's id.
    pub id: String,
    /// The account, where one is configured under the name.
    pub provider: Option<Arc<str>>,
    /// The name that the request gives.
    pub asked_provider: Option<String>,
    /// The request's `item`, as it came.
    pub item: Option<Object>,
    /// When the request was first delivered.
    pub first_seen: Timestamp,
    /// Attempts made at the provider.
    pub attempts: u32,
    /// The request could not be read.
    pub malformed: bool,
}

impl Answer {
    /// The reply; it takes the request's id and item, which nobody needs after it.
    pub fn reply(
        &mut self,
        result: Result<(Made, Granted), Failure>,
        warnings: Vec<Difference>,
        now: Timestamp,
    ) -> Reply {
        Reply {
            id: std::mem::take(&mut self.id),
            provider: self.provider.as_deref().map(ToOwned::to_owned).or_else(|| self.asked_provider.take()),
            item: self.item.take(),
            result,
            warnings,
            attempts: self.attempts,
            elapsed_ms: u64::try_from(between(self.first_seen, now).as_millis()).unwrap_or(u64::MAX),
            completed_at: now,
        }
    }

    /// What a dead letter says of it.
    pub fn note(&self, reason: DeathReason, failure: &Failure) -> DeathNote {
        DeathNote {
            reason,
            error: failure.message.clone(),
            attempts: self.attempts,
            first_seen: self.first_seen,
            reply: None,
        }
    }

    /// What is counted when it is acknowledged.
    pub fn answered(&self, status: Status) -> Answered {
        Answered { provider: self.provider.clone(), status, malformed: self.malformed }
    }
}
