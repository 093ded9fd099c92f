//! Telling the broker how each delivery ended, on the channel it came on and on no other.
//!
//! One task a generation. A settlement that comes after its channel is gone is stale: it is counted and never sent,
//! because the broker gives the delivery out again by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::lifeline::Lifeline;
use super::{Moved, Replied};
use crate::pipeline::crash_point::{Point, reached};
use crate::pipeline::settle::{Answered, Settlement};
use crate::telemetry::metrics::{Metrics, NO_PROVIDER};

/// A settlement on its way from a receipt.
pub(crate) type Settled = (u64, Settlement<Replied, Moved>);

/// Settlements gathered for one round at most.
const BATCH: usize = 256;

/// How long a settlement waits for others to go out with it. Each one that goes out alone wakes a thread of the client
/// library, is a write to the broker's log, and brings the next delivery alone: gathered, all of that is shared.
const GATHERED_WITHIN: Duration = Duration::from_millis(5);

/// This part of the prefetch is enough for a round. What waits here keeps the broker from handing out as many.
const PART_OF_PREFETCH: u16 = 10;

/// Settles until the last receipt is gone. `delivered` says of every delivery when it came, before its receipt is out.
pub(crate) async fn settle(
    channel: Channel,
    mut delivered: UnboundedReceiver<(u64, Instant)>,
    mut settled: UnboundedReceiver<Settled>,
    prefetch: u16,
    metrics: Arc<Metrics>,
    lifeline: Lifeline,
) {
    let enough = usize::from(prefetch / PART_OF_PREFETCH).min(BATCH);
    let mut held: BTreeMap<u64, Instant> = BTreeMap::new();
    let mut batch = Vec::with_capacity(BATCH);
    while gather(&mut settled, &mut batch, enough).await {
        while let Ok((tag, when)) = delivered.try_recv() {
            held.insert(tag, when);
        }
        let mut acks = BTreeMap::new();
        let mut nacks = Vec::new();
        for (tag, settlement) in batch.drain(..) {
            let Some(since) = held.remove(&tag) else { continue };
            match settlement {
                Settlement::Requeue(_) => nacks.push((tag, settlement)),
                settled => {
                    acks.insert(tag, (settled, since));
                }
            }
        }
        for (tag, settlement) in nacks {
            let options = BasicNackOptions { multiple: false, requeue: true };
            let sent = channel.basic_nack(tag, options).await;
            count(&metrics, &lifeline, sent, &settlement);
        }
        let tags: Vec<u64> = acks.keys().copied().collect();
        let up_to = contiguous(&tags, held.keys().next().copied());
        // All of a round go out together: each is queued when it is polled first, in this order, and then all of them
        // are waited for. One by one, each would cost a turn of the client library's thread.
        let channel = &channel;
        let sending = steps(&tags, up_to).map(|(tag, covers)| async move {
            (channel.basic_ack(tag, BasicAckOptions { multiple: covers > 1 }).await, covers)
        });
        for (sent, covers) in join_all(sending).await {
            reached(Point::Acknowledged);
            for _ in 0..covers {
                let Some((_, (settlement, since))) = acks.pop_first() else { break };
                if count(&metrics, &lifeline, sent.clone(), &settlement) {
                    finished(&metrics, &settlement, since);
                }
            }
        }
    }
}

/// Takes the settlements of one round; none where the last receipt is gone. After the first one it waits a moment for
/// others, until there are enough.
async fn gather<T>(settled: &mut UnboundedReceiver<T>, batch: &mut Vec<T>, enough: usize) -> bool {
    if settled.recv_many(batch, BATCH).await == 0 {
        return false;
    }
    let until = Instant::now() + GATHERED_WITHIN;
    while batch.len() < enough {
        match timeout_at(until, settled.recv_many(batch, BATCH - batch.len())).await {
            Ok(more) if more > 0 => {}
            _ => break,
        }
    }
    true
}

/// Counts a settlement that was sent, or a stale one; says which.
fn count(
    metrics: &Metrics,
    lifeline: &Lifeline,
    sent: lapin::Result<()>,
    settlement: &Settlement<Replied, Moved>,
) -> bool {
    match sent {
        Ok(()) => {
            let (how, why) = settlement.labels();
            metrics.settled(how, why);
            true
        }
        Err(error) => {
            metrics.settled("stale", "connection_lost");
            lifeline.end(format!("a delivery could not be settled: {error}"));
            false
        }
    }
}

fn finished(metrics: &Metrics, settlement: &Settlement<Replied, Moved>, since: Instant) {
    if let Settlement::Ack { answered: Answered { provider, status, .. }, .. } = settlement {
        metrics.finished(provider.as_deref().unwrap_or(NO_PROVIDER), *status, since.elapsed().as_secs_f64());
    }
}

/// How many of `tags` (in rising order) come before every delivery that is still held: one acknowledgement with
/// `multiple` covers them, and nothing else.
fn contiguous(tags: &[u64], first_held: Option<u64>) -> usize {
    tags.partition_point(|tag| first_held.is_none_or(|held| *tag < held))
}

/// The acknowledgements to send, as tag and how many of `tags` each covers.
fn steps(tags: &[u64], up_to: usize) -> impl Iterator<Item = (u64, usize)> {
    let together = up_to.checked_sub(1).and_then(|last| tags.get(last)).map(|tag| (*tag, up_to));
    together.into_iter().chain(tags.iter().skip(up_to).map(|tag| (*tag, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use tokio::sync::mpsc::unbounded_channel;

    #[tokio::test(start_paused = true)]
    async fn settlements_of_one_moment_go_out_together_and_none_waits_longer() {
        let (sender, mut settled) = unbounded_channel();
        let later = sender.clone();
        sender.send(1).unwrap();
        tokio::spawn(async move {
            for (after, settlement) in [(3, 2), (3, 3)] {
                tokio::time::sleep(Duration::from_millis(after)).await;
                later.send(settlement).unwrap();
            }
        });
        let (began, mut batch) = (Instant::now(), Vec::new());
        assert!(gather(&mut settled, &mut batch, 10).await);
        assert_eq!((batch, began.elapsed()), (vec![1, 2], GATHERED_WITHIN));
    }

    #[tokio::test(start_paused = true)]
    async fn enough_settlements_and_the_last_ones_wait_for_nothing() {
        let (sender, mut settled) = unbounded_channel();
        let (began, mut batch) = (Instant::now(), Vec::new());
        (1..=10).for_each(|settlement| sender.send(settlement).unwrap());
        assert!(gather(&mut settled, &mut batch, 10).await);
        assert_eq!(batch.len(), 10);
        sender.send(11).unwrap();
        assert!(gather(&mut settled, &mut batch, 0).await, "a small prefetch gathers nothing");
        sender.send(12).unwrap();
        drop(sender);
        assert!(gather(&mut settled, &mut batch, 100).await);
        assert!(!gather(&mut settled, &mut batch, 100).await);
        assert_eq!((batch.len(), began.elapsed()), (12, Duration::ZERO));
    }

    fn plan(tags: &[u64], first_held: Option<u64>) -> Vec<(u64, usize)> {
        steps(tags, contiguous(tags, first_held)).collect()
    }

    #[test]
    fn deliveries_before_the_first_held_one_are_acknowledged_together() {
        assert_eq!(plan(&[1, 2, 3, 7], Some(5)), [(3, 3), (7, 1)]);
        assert_eq!(plan(&[1, 2], None), [(2, 2)]);
        assert_eq!(plan(&[7, 8], Some(5)), [(7, 1), (8, 1)]);
        assert_eq!(plan(&[], Some(5)), []);
    }

    proptest! {
        #[test]
        fn acknowledging_takes_exactly_what_was_settled_and_nothing_that_is_held(
            tags in proptest::collection::btree_set(1_u64..60, 0..40),
            held in proptest::collection::btree_set(1_u64..60, 0..40),
        ) {
            let tags: Vec<u64> = tags.difference(&held).copied().collect();
            let mut open: BTreeSet<u64> = tags.iter().copied().chain(held.iter().copied()).collect();
            for (tag, covers) in plan(&tags, held.first().copied()) {
                // What the broker does.
                let before = open.len();
                if covers > 1 {
                    open.retain(|other| *other > tag);
                } else {
                    prop_assert!(open.remove(&tag), "an unknown tag would end the channel");
                }
                prop_assert_eq!(before - open.len(), covers);
            }
            prop_assert_eq!(open, held);
        }
    }
}
