//! The ports of the pipeline: what it needs of a provider and of a door. No client's types cross these lines.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::settle::Settlement;
use crate::model::{Asked, Envelope, ErrorKind, Failure, Granted, History, LinkOutcome, Reply, ShareRequest, Travel};

/// A boxed future, so that providers of different kinds stand in one table.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A provider account.
pub trait Provider: Send + Sync {
    /// Reads `item` and `link` of a request and refuses, before any call, what is wrong or what this provider
    /// cannot do. Pure.
    ///
    /// # Errors
    /// `invalidRequest` naming the member, or `unsupported` naming the option.
    fn prepare(&self, request: &ShareRequest) -> Result<Box<dyn Share>, Failure>;
}

/// One request, read and found possible.
pub trait Share: Send + Sync {
    /// What was asked, for the policy.
    fn asked(&self) -> &Asked;

    /// Makes the link, or finds the one that is there. One attempt; a provider may need several calls for it.
    ///
    /// # Cancel safety
    /// May be dropped at any await point; the link may then exist, and the next attempt has to say
    /// [`History::MayHaveHappened`].
    fn ensure_link(&self, history: History) -> BoxFuture<'_, Result<LinkOutcome, CallError>>;

    /// How long a request that was tried before has to wait before it is tried again, so that repeated calls stay few. Where
    /// that is nothing, the repetition is counted.
    fn repeat_after(&self) -> Duration {
        Duration::ZERO
    }

    /// Takes a link back.
    ///
    /// # Errors
    /// Whatever the provider answered; a link that is gone already is no error.
    fn revoke<'a>(&'a self, link: &'a Granted) -> BoxFuture<'a, Result<(), CallError>>;
}

/// Why an attempt brought no link.
#[derive(Debug, Clone, PartialEq)]
pub enum CallError {
    /// No call was made: the account is paused, or its turn comes later than can be waited for in the process.
    Held {
        /// From now until a call may be made.
        wait: Duration,
        /// What it has to wait for.
        hold: Hold,
    },
    /// A call was made and failed.
    Failed(CallFailure),
}

/// What a request has to wait for that may make no call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Its turn: others of the account are before it.
    Turn,
    /// The end of a pause that the provider asked for.
    Closed {
        /// For how long the provider has taken no call at all although it was asked.
        barren: Duration,
        /// What the answer that closed it was.
        kind: ErrorKind,
        /// And its HTTP status.
        http_status: Option<u16>,
    },
}

/// A failed call, classified by the provider that knows its dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFailure {
    /// What the requester is told if this stays the last word.
    pub failure: Failure,
    /// Whether another attempt makes sense.
    pub retry: Retry,
    /// How long the provider asked us to wait. Already bounded and rounded up, not yet jittered.
    pub retry_after: Option<Duration>,
    /// The provider may have done the work although no answer came.
    pub may_have_happened: bool,
}

/// Whether another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The answer would be the same.
    Never,
    /// Yes, within the configured attempts.
    Yes,
    /// Yes, but not more than so many attempts in all, and none sooner than this.
    Sparingly {
        /// Attempts in all, the first included.
        at_most: u32,
        /// Shortest wait before the next one.
        at_least: Duration,
    },
}

impl CallFailure {
    /// A failure that another attempt would only repeat.
    pub fn final_(failure: Failure) -> Self {
        Self { failure, retry: Retry::Never, retry_after: None, may_have_happened: false }
    }
}

impl From<CallFailure> for CallError {
    fn from(failure: CallFailure) -> Self {
        Self::Failed(failure)
    }
}

/// The way out of a door: replies, delays and dead letters, each proven by the broker's confirm.
///
/// The two proof types are the door's own, so the pipeline cannot make one: a settlement that needs a proof can
/// only be built after the door has said that the message is safe.
pub trait Outbox: Send + Sync + 'static {
    /// Proof that a reply is safe with the broker.
    type Replied: Send + 'static;
    /// Proof that the request itself is safe in another queue.
    type Moved: Send + 'static;

    /// Publishes the reply to whoever asked, else to the configured reply queue.
    fn reply(
        &self,
        envelope: &Envelope,
        reply: &Reply,
    ) -> impl Future<Output = Result<Self::Replied, PublishFailure>> + Send;

    /// Puts a copy of the request into the dead-letter queue.
    fn bury(
        &self,
        envelope: &Envelope,
        why: &DeathNote,
    ) -> impl Future<Output = Result<Self::Moved, PublishFailure>> + Send;

    /// Puts the request aside; it comes back by itself after about `wait`, remembering `travel`.
    fn delay(
        &self,
        envelope: &Envelope,
        wait: Duration,
        travel: Travel,
    ) -> impl Future<Output = Result<Self::Moved, PublishFailure>> + Send;
}

/// Whoever handles deliveries; the pipeline is the real one.
///
/// Total: every delivery ends in a settlement.
pub trait Handler<O: Outbox>: Send + Sync + 'static {
    /// Takes a delivery through its trip. When `stopping` is cancelled the trip ends early with
    /// [`RequeueCause::Stopping`](super::settle::RequeueCause).
    fn handle(
        &self,
        envelope: &Envelope,
        outbox: &O,
        stopping: &tokio_util::sync::CancellationToken,
    ) -> impl Future<Output = Settlement<O::Replied, O::Moved>> + Send;
}

/// Why something published is not known to be safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishFailure {
    /// The broker has no queue for it.
    #[error("no queue takes it: {0}")]
    Unroutable(String),
    /// The broker refused it, went away, or did not confirm in time.
    #[error("not confirmed: {0}")]
    Unconfirmed(String),
}

/// What a dead letter says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DeathNote {
    /// Why it is dead.
    pub reason: DeathReason,
    /// The sentence for a person.
    pub error: String,
    /// Attempts made at the provider.
    pub attempts: u32,
    /// When the request was first seen.
    pub first_seen: jiff::Timestamp,
    /// The reply that could not be delivered, where there is one.
    pub reply: Option<Box<Reply>>,
}

/// The closed list of reasons for a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// The request cannot be read.
    Malformed,
    /// No queue takes its reply.
    Unroutable,
    /// It keeps killing workers.
    Crashing,
}

impl DeathReason {
    /// Every reason.
    pub const ALL: [DeathReason; 3] = [Self::Malformed, Self::Unroutable, Self::Crashing];

    /// The word in the header `sharelink-reason` and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unroutable => "unroutable",
            Self::Crashing => "crashing",
        }
    }
}
