//! The in-memory door: the same pipeline without a broker, for `sharelink demo` and for tests.
//!
//! It keeps the broker's rules: at most `prefetch` deliveries unsettled, a delivery given back comes again marked as
//! redelivered, a delayed one comes back by itself after its time. What it does not have is a memory that outlives
//! the process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::{Envelope, Reply, Travel};
use crate::pipeline::ports::{DeathNote, Handler, Outbox, PublishFailure};
use crate::pipeline::settle::{Receipt, RequeueCause, Settlement};
use crate::telemetry::metrics::{Metrics, NO_PROVIDER};

/// Proof that a reply was taken by [`Memory`].
#[derive(Debug, PartialEq)]
pub struct Replied(());

/// Proof that a request was put aside by [`Memory`].
#[derive(Debug, PartialEq)]
pub struct Moved(());

/// A dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Buried {
    /// The request.
    pub envelope: Envelope,
    /// Why it is dead.
    pub note: DeathNote,
}

/// The queues, in memory.
pub struct Memory {
    requests: UnboundedSender<Envelope>,
    replies: UnboundedSender<(Envelope, Reply)>,
    dead: Mutex<Vec<Buried>>,
    open: AtomicUsize,
    idle: Notify,
}

/// The receiving ends of a [`Memory`].
pub struct Ends {
    requests: UnboundedReceiver<Envelope>,
    replies: Option<Replies>,
}

/// Every reply, with the request it answers.
pub type Replies = UnboundedReceiver<(Envelope, Reply)>;

impl Ends {
    /// The replies, once.
    pub fn take_replies(&mut self) -> Option<Replies> {
        self.replies.take()
    }
}

/// Makes an empty door.
pub fn door() -> (Arc<Memory>, Ends) {
    let (requests, requests_end) = unbounded_channel();
    let (replies, replies_end) = unbounded_channel();
    let memory =
        Memory { requests, replies, dead: Mutex::new(Vec::new()), open: AtomicUsize::new(0), idle: Notify::new() };
    (Arc::new(memory), Ends { requests: requests_end, replies: Some(replies_end) })
}

impl Memory {
    /// Puts a request into the queue.
    pub fn submit(&self, envelope: Envelope) {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.enqueue(envelope);
    }

    /// Waits until every submitted request is acknowledged or dead.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// The dead letters so far.
    pub fn dead(&self) -> Vec<Buried> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn enqueue(&self, envelope: Envelope) {
        // Only fails when the door's run has ended; then nobody waits for the request either.
        let _ = self.requests.send(envelope);
    }

    fn finished(&self) {
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.idle.notify_waiters();
        }
    }
}

impl Outbox for Arc<Memory> {
    type Replied = Replied;
    type Moved = Moved;

    async fn reply(&self, envelope: &Envelope, reply: &Reply) -> Result<Replied, PublishFailure> {
        self.replies
            .send((envelope.clone(), reply.clone()))
            .map(|()| Replied(()))
            .map_err(|_| PublishFailure::Unroutable("nobody reads the replies any more".to_owned()))
    }

    async fn bury(&self, envelope: &Envelope, why: &DeathNote) -> Result<Moved, PublishFailure> {
        let buried = Buried { envelope: envelope.clone(), note: why.clone() };
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).push(buried);
        Ok(Moved(()))
    }

    async fn delay(&self, envelope: &Envelope, wait: Duration, travel: Travel) -> Result<Moved, PublishFailure> {
        let memory = Self::clone(self);
        let delayed = Envelope { travel, ..envelope.clone() };
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            memory.enqueue(delayed);
        });
        Ok(Moved(()))
    }
}

/// Hands out requests, at most `prefetch` at once, until `stopping` is cancelled; then lets those in flight end.
/// Returns the receiving ends.
pub async fn run<H: Handler<Arc<Memory>>>(
    memory: Arc<Memory>,
    mut ends: Ends,
    handler: Arc<H>,
    prefetch: usize,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
) -> Ends {
    let slots = Arc::new(Semaphore::new(prefetch));
    let (settler, mut settlements) = unbounded_channel::<(u64, Settlement<Replied, Moved>)>();
    let mut held: HashMap<u64, (Envelope, Instant)> = HashMap::new();
    let mut next_tag = 0;
    loop {
        let may_take = !stopping.is_cancelled() && slots.available_permits() > 0;
        if stopping.is_cancelled() && held.is_empty() {
            return ends;
        }
        tokio::select! {
            Some((tag, settlement)) = settlements.recv() => {
                if let Some((envelope, since)) = held.remove(&tag) {
                    slots.add_permits(1);
                    settle(&memory, &metrics, envelope, since, settlement);
                }
            }
            Some(envelope) = ends.requests.recv(), if may_take => {
                // The permit comes back with the settlement, not with the task: a slot is a delivery not yet settled.
                if let Ok(permit) = slots.try_acquire() {
                    permit.forget();
                }
                next_tag += 1;
                held.insert(next_tag, (envelope.clone(), Instant::now()));
                let receipt = Receipt::new(next_tag, settler.clone());
                let (memory, handler, stopping) = (memory.clone(), handler.clone(), stopping.clone());
                tokio::spawn(async move {
                    receipt.settle(handler.handle(&envelope, &memory, &stopping).await);
                });
            }
            () = stopping.cancelled(), if !stopping.is_cancelled() => {}
        }
    }
}

fn settle(
    memory: &Memory,
    metrics: &Metrics,
    mut envelope: Envelope,
    since: Instant,
    settlement: Settlement<Replied, Moved>,
) {
    let (label, cause) = settlement.labels();
    metrics.settled(label, cause);
    match settlement {
        Settlement::Ack { answered, .. } => {
            let provider = answered.provider.as_deref().unwrap_or(NO_PROVIDER);
            metrics.finished(provider, answered.status, since.elapsed().as_secs_f64());
            memory.finished();
        }
        Settlement::DeadLetter { .. } => memory.finished(),
        // It is still open: the copy comes back.
        Settlement::Delay { .. } => {}
        Settlement::Requeue(RequeueCause::Stopping | RequeueCause::Unconfirmed | RequeueCause::Dropped) => {
            envelope.travel.redelivered = true;
            envelope.travel.deliveries += 1;
            memory.enqueue(envelope);
        }
    }
}
