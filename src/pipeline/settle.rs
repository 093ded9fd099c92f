//! How a delivery ends: the settlement, and the receipt that is the right to settle it once.
//!
//! A [`Settlement`] that takes the delivery off the queue carries a proof that only the door can make, after the
//! broker's confirm. Acknowledging without one does not compile:
//!
//! ```compile_fail,E0063
//! use sharelink::pipeline::settle::{Answered, Settlement};
//! # fn example(answered: Answered) -> Settlement<sharelink::broker::Replied, sharelink::broker::Moved> {
//! Settlement::Ack { answered } // the proof is missing
//! # }
//! ```
//!
//! Nor can a proof be made up, because its field is private to the publisher:
//!
//! ```compile_fail,E0423
//! let forged = sharelink::broker::Replied(());
//! ```
//!
//! And a receipt is gone once it is used:
//!
//! ```compile_fail,E0382
//! use sharelink::pipeline::settle::{Receipt, RequeueCause, Settlement};
//! # fn example(receipt: Receipt<(), ()>) {
//! receipt.settle(Settlement::Requeue(RequeueCause::Stopping));
//! receipt.settle(Settlement::Requeue(RequeueCause::Stopping)); // used already
//! # }
//! ```

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::model::Status;

/// What is done with a delivery. `R` proves that the reply is safe, `M` that the request is safe in another queue.
#[derive(Debug, PartialEq)]
#[must_use = "a settlement does nothing until a receipt takes it"]
pub enum Settlement<R, M> {
    /// The reply is confirmed; take the delivery off the queue.
    Ack {
        /// Proof of the confirmed reply.
        proof: R,
        /// What was answered.
        answered: Answered,
    },
    /// The request waits in a delay queue; take the delivery off the queue.
    Delay {
        /// Proof of the confirmed copy.
        proof: M,
        /// Why it waits.
        cause: DelayCause,
    },
    /// The request is in the dead-letter queue and nobody could be told; take the delivery off the queue.
    DeadLetter {
        /// Proof of the confirmed copy.
        proof: M,
        /// Why it is dead.
        cause: super::ports::DeathReason,
    },
    /// Give the delivery back.
    Requeue(RequeueCause),
}

/// What was answered, for the metrics that are observed when the delivery is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The provider account; `None` where the request named none.
    pub provider: Option<Arc<str>>,
    /// The status of the reply.
    pub status: Status,
    /// The request could not be read; a copy is in the dead-letter queue.
    pub malformed: bool,
}

/// Why a request waits outside the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelayCause {
    /// Its provider is paused.
    Paused,
    /// Others of its account are before it, and there is no room in line.
    Turn,
    /// Its own next attempt is further away than `retry.inline_limit`.
    Backoff,
}

/// Why a delivery is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequeueCause {
    /// The worker is stopping.
    Stopping,
    /// Something that had to be published was not confirmed.
    Unconfirmed,
    /// The receipt was dropped unused: a fault of ours, or a panic.
    Dropped,
}

impl<R, M> Settlement<R, M> {
    /// The labels `settlement` and `cause` of `sharelink_settlements_total`.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Ack { answered: Answered { malformed: false, .. }, .. } => ("ack", "answered"),
            Self::Ack { .. } => ("ack", "malformed"),
            Self::Delay { cause: DelayCause::Paused, .. } => ("delay", "paused"),
            Self::Delay { cause: DelayCause::Turn, .. } => ("delay", "turn"),
            Self::Delay { cause: DelayCause::Backoff, .. } => ("delay", "backoff"),
            Self::DeadLetter { cause, .. } => ("dead_letter", cause.as_str()),
            Self::Requeue(RequeueCause::Stopping) => ("requeue", "stopping"),
            Self::Requeue(RequeueCause::Unconfirmed) => ("requeue", "unconfirmed"),
            Self::Requeue(RequeueCause::Dropped) => ("requeue", "dropped"),
        }
    }
}

/// The right to settle one delivery, once. Dropped unused it gives the delivery back.
#[derive(Debug)]
#[must_use = "an unsettled delivery goes back to the queue"]
pub struct Receipt<R, M> {
    tag: u64,
    settler: Option<UnboundedSender<(u64, Settlement<R, M>)>>,
}

impl<R, M> Receipt<R, M> {
    /// A receipt for the delivery `tag`; the settlement goes to `settler`, which ends when the last receipt is gone.
    pub fn new(tag: u64, settler: UnboundedSender<(u64, Settlement<R, M>)>) -> Self {
        Self { tag, settler: Some(settler) }
    }

    /// Settles the delivery. Where the settler is gone the connection is lost, and the broker gives the delivery out
    /// again by itself.
    pub fn settle(mut self, settlement: Settlement<R, M>) {
        if let Some(settler) = self.settler.take() {
            let _ = settler.send((self.tag, settlement));
        }
    }
}

impl<R, M> Drop for Receipt<R, M> {
    fn drop(&mut self) {
        if let Some(settler) = self.settler.take() {
            let _ = settler.send((self.tag, Settlement::Requeue(RequeueCause::Dropped)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn a_receipt_that_is_dropped_unused_gives_the_delivery_back() {
        let (sender, mut settled) = unbounded_channel();
        drop(Receipt::<(), ()>::new(7, sender));
        assert_eq!(settled.try_recv().ok(), Some((7, Settlement::Requeue(RequeueCause::Dropped))));
        assert!(settled.try_recv().is_err());
    }

    #[test]
    fn a_used_receipt_settles_once_and_says_nothing_when_it_is_dropped() {
        let (sender, mut settled) = unbounded_channel();
        Receipt::<(), ()>::new(7, sender).settle(Settlement::Requeue(RequeueCause::Stopping));
        assert_eq!(settled.try_recv().ok(), Some((7, Settlement::Requeue(RequeueCause::Stopping))));
        assert!(settled.try_recv().is_err());
    }
}
