//! pure: Queues that refuse what they are sent, and when that is a reason to try another channel.
//!
//! A queue refuses (`basic.nack`) because it is full, or has no leader, or because this channel alone cannot reach it:
//! a channel that meets a quorum queue for the first time while its leader's node is gone, and before another leader is
//! known, asks that node and no other for as long as it lives (RabbitMQ 3.10, `rabbit_fifo_client:enqueue/3` answers
//! `{badrpc, nodedown}` with `reject_publish` and remembers nothing; met in `tests/cluster.rs`). Another channel asks again
//! who leads. Where that does not help, the next one is tried later.

use std::collections::HashMap;
use std::time::Duration;

use crate::pipeline::ports::PublishFailure;

/// A queue may refuse for so long before the channel is suspected.
const FIRST: Duration = Duration::from_secs(1);
/// After other channels did not help either, at most so long.
const LONGEST: Duration = Duration::from_secs(60);

/// Since when a queue has refused, and how long that is borne.
#[derive(Debug, Clone, Copy)]
struct Refusing {
    since: Duration,
    patience: Duration,
}

/// The queues that refuse now.
#[derive(Debug, Default)]
pub(crate) struct Refusals(HashMap<String, Refusing>);

impl Refusals {
    /// Takes down what became of a message to this queue, `at` on any clock that goes forward. Says whether another
    /// channel should be tried.
    pub(crate) fn note(&mut self, queue: &str, verdict: &Result<(), PublishFailure>, at: Duration) -> bool {
        match verdict {
            Err(PublishFailure::Unconfirmed(_)) => self.refused(queue, at),
            // A message that came back says that there is no such queue.
            Ok(()) | Err(PublishFailure::Unroutable(_)) => {
                self.0.remove(queue);
                false
            }
        }
    }

    fn refused(&mut self, queue: &str, at: Duration) -> bool {
        // A queue that nobody has sent to for long is forgotten.
        self.0.retain(|_, refusing| at.saturating_sub(refusing.since) < LONGEST * 3);
        let refusing = self.0.entry(queue.to_owned()).or_insert(Refusing { since: at, patience: FIRST });
        if at.saturating_sub(refusing.since) < refusing.patience {
            return false;
        }
        *refusing = Refusing { since: at, patience: refusing.patience.saturating_mul(2).min(LONGEST) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nack() -> Result<(), PublishFailure> {
        Err(PublishFailure::Unconfirmed("basic.nack".to_owned()))
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_refusal_is_no_reason_and_a_second_of_them_is() {
        let mut refusals = Refusals::default();
        assert!(!refusals.note("a", &nack(), at(10)));
        assert!(!refusals.note("a", &nack(), at(10)));
        assert!(refusals.note("a", &nack(), at(11)));
    }

    #[test]
    fn a_queue_that_takes_a_message_in_between_starts_anew_and_each_queue_counts_for_itself() {
        let mut refusals = Refusals::default();
        assert!(!refusals.note("a", &nack(), at(0)));
        assert!(!refusals.note("b", &nack(), at(1)));
        assert!(!refusals.note("a", &Ok(()), at(1)));
        assert!(!refusals.note("a", &nack(), at(2)));
        assert!(refusals.note("b", &nack(), at(2)));
    }

    #[test]
    fn a_queue_that_stays_full_has_the_channel_replaced_more_and_more_seldom() {
        let mut refusals = Refusals::default();
        let replaced = (0..600).filter(|second| refusals.note("full", &nack(), at(*second))).collect::<Vec<_>>();
        assert_eq!(replaced, [1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363, 423, 483, 543]);
    }

    #[test]
    fn queues_that_nobody_sends_to_any_more_are_forgotten() {
        let mut refusals = Refusals::default();
        for number in 0..1000_u64 {
            refusals.note(&number.to_string(), &nack(), at(number));
        }
        assert!(refusals.0.len() <= 180, "{}", refusals.0.len());
    }
}
