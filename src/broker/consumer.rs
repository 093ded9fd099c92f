//! Deliveries in: each becomes an envelope and a receipt, and gets a task of its own.
//!
//! How many there are at once is bounded by the prefetch. Every delivery that comes in is settled: by its handler, or
//! given back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::headers::short;
use super::settler::Settled;
use super::{Moved, Publisher, Replied, properties};
use crate::pipeline::ports::Handler;
use crate::pipeline::settle::{Receipt, RequeueCause, Settlement};

/// A request whose answer the broker does not take is held back this long before it is handed out again: without a
/// pause it would come round at full speed, and each time it counts towards the delivery limit.
const UNCONFIRMED_PAUSE: Duration = Duration::from_secs(5);

/// How long the broker may take to end a subscription.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// Subscribes to the request queue. The channel's prefetch must be set already.
pub(crate) async fn subscribe(channel: &Channel, queue: &str, worker_name: &str) -> lapin::Result<Consumer> {
    let options = BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
    channel.basic_consume(short(queue), short(worker_name), options, FieldTable::default()).await
}

/// Ends a subscription and returns what had been delivered on it and not taken yet.
pub(crate) async fn unsubscribe(channel: &Channel, mut consumer: Consumer) -> Vec<Delivery> {
    let cancelled = channel.basic_cancel(consumer.tag(), BasicCancelOptions { nowait: false });
    let _ = timeout(CANCEL_WITHIN, cancelled).await;
    let mut left = Vec::new();
    while let Ok(Some(Ok(delivery))) = timeout(CANCEL_WITHIN, consumer.next()).await {
        left.push(delivery);
    }
    left
}

/// Hands deliveries of one generation to the handler.
pub(crate) struct Intake<H> {
    handler: Arc<H>,
    publisher: Publisher,
    delivered: UnboundedSender<(u64, Instant)>,
    settled: UnboundedSender<Settled>,
    /// Cancelled: what only waits is given back.
    stopping: CancellationToken,
    /// Cancelled: everything is given back.
    abandon: CancellationToken,
    /// An intake that is dropped in mid-work gives everything back.
    abandoned: DropGuard,
    trips: TaskTracker,
    taken: u64,
}

impl<H: Handler<Publisher>> Intake<H> {
    /// An intake without trips. `stopping` is the generation's own token.
    pub(crate) fn new(
        handler: Arc<H>,
        publisher: Publisher,
        delivered: UnboundedSender<(u64, Instant)>,
        settled: UnboundedSender<Settled>,
        stopping: CancellationToken,
    ) -> Self {
        let abandon = CancellationToken::new();
        let abandoned = abandon.clone().drop_guard();
        let trips = TaskTracker::new();
        Self { handler, publisher, delivered, settled, stopping, abandon, abandoned, trips, taken: 0 }
    }

    /// Starts the trip of a delivery.
    pub(crate) fn start(&mut self, delivery: Delivery) {
        self.taken += 1;
        let receipt = self.receipt(&delivery);
        let Delivery { data, properties, redelivered, .. } = delivery;
        let envelope = properties::envelope(Bytes::from(data), &properties, redelivered);
        let outbox = self.publisher.of(properties);
        let handler = self.handler.clone();
        let stopping = self.stopping.clone();
        let abandon = self.abandon.clone();
        self.trips.spawn(async move {
            let settlement = tokio::select! {
                biased;
                settlement = handler.handle(&envelope, &outbox, &stopping) => settlement,
                () = abandon.cancelled() => Settlement::Requeue(RequeueCause::Stopping),
            };
            if matches!(settlement, Settlement::Requeue(RequeueCause::Unconfirmed)) {
                let _ = timeout(UNCONFIRMED_PAUSE, stopping.cancelled()).await;
            }
            receipt.settle(settlement);
        });
    }

    /// Gives a delivery back without a trip.
    pub(crate) fn give_back(&self, delivery: &Delivery) {
        self.receipt(delivery).settle(Settlement::Requeue(RequeueCause::Stopping));
    }

    fn receipt(&self, delivery: &Delivery) -> Receipt<Replied, Moved> {
        // The settler has to know of a delivery before it can be settled.
        let _ = self.delivered.send((delivery.delivery_tag, Instant::now()));
        Receipt::new(delivery.delivery_tag, self.settled.clone())
    }

    /// Trips started until now.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Trips under way.
    pub(crate) fn held(&self) -> usize {
        self.trips.len()
    }

    /// Lets the trips finish within `grace`, then gives back the rest.
    pub(crate) async fn finish(self, grace: Duration) {
        self.trips.close();
        tokio::select! {
            () = self.trips.wait() => return,
            () = sleep(grace) => self.abandon.cancel(),
        }
        // A trip that is abandoned ends at its next await.
        self.trips.wait().await;
    }

    /// Leaves the trips to themselves: their connection is gone, and what they settle is stale.
    pub(crate) fn leave(self) {
        self.stopping.cancel();
        self.abandoned.disarm();
    }
}
