//! Which published message is safe and which came back: pure bookkeeping over what the client library reports.
//!
//! The broker sends a returned message before the confirm of the same message, but lapin keeps returned messages in
//! one queue a channel and hands the oldest to whichever confirm completes next (lapin 4.12.3,
//! src/acknowledgement.rs, `complete_pending`). So a confirm may carry another message's return. What holds instead:
//!
//! - A confirm that carries nothing completed while that queue was empty. A return of its own message was then handed
//!   to a confirm that completed earlier.
//! - A confirm that carries another's return says nothing about its own message until a later confirm carries
//!   nothing, or until no confirm is left to come.
//!
//! A batch must therefore hold every confirm that completed before the last one in it; `publishing` sees to that.

use std::collections::HashMap;

use crate::pipeline::ports::PublishFailure;

/// A returned message: whose it is by its publish id, and the broker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Returned {
    /// The publish id that the message carries.
    pub id: u64,
    /// Why it came back.
    pub why: String,
}

/// A completed confirm, with the return that the library put beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// `basic.ack`
    Ack(Option<Returned>),
    /// `basic.nack`
    Nack(Option<Returned>),
}

/// What is known so far on one channel.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Returns whose own confirm has not been judged yet.
    returned: HashMap<u64, String>,
    /// Acknowledged, but beside another's return.
    unsure: Vec<u64>,
}

impl Ledger {
    /// Takes a batch of completed confirms, by publish id, and says which messages are judged. `to_come` is how many
    /// confirms are still missing after this batch.
    pub(crate) fn judge(
        &mut self,
        batch: Vec<(u64, Confirmed)>,
        to_come: usize,
    ) -> Vec<(u64, Result<(), PublishFailure>)> {
        let mut quiet = to_come == 0;
        let mut acknowledged = Vec::new();
        let mut carrying = Vec::new();
        let mut refused = Vec::new();
        for (id, confirmed) in batch {
            let (list, beside) = match confirmed {
                Confirmed::Ack(None) => (&mut acknowledged, None),
                Confirmed::Ack(beside) => (&mut carrying, beside),
                Confirmed::Nack(beside) => (&mut refused, beside),
            };
            list.push(id);
            quiet |= beside.is_none();
            if let Some(Returned { id, why }) = beside {
                self.returned.insert(id, why);
            }
        }
        let mut verdicts = Vec::new();
        for id in refused {
            let failure = self.take(id).err();
            let refusal = PublishFailure::Unconfirmed("the broker refused the message (basic.nack)".to_owned());
            verdicts.push((id, Err(failure.unwrap_or(refusal))));
        }
        for id in acknowledged {
            verdicts.push((id, self.take(id)));
        }
        // A quiet confirm of this batch came later than every unsure one of an earlier batch, but perhaps not later
        // than those of this one.
        let earlier = std::mem::take(&mut self.unsure);
        for (id, sure) in
            earlier.into_iter().map(|id| (id, quiet)).chain(carrying.into_iter().map(|id| (id, to_come == 0)))
        {
            match self.take(id) {
                Ok(()) if !sure => self.unsure.push(id),
                verdict => verdicts.push((id, verdict)),
            }
        }
        verdicts
    }

    fn take(&mut self, id: u64) -> Result<(), PublishFailure> {
        self.returned.remove(&id).map_or(Ok(()), |why| Err(PublishFailure::Unroutable(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    fn back(id: u64) -> Option<Returned> {
        Some(Returned { id, why: "NO_ROUTE".to_owned() })
    }

    fn lost() -> Result<(), PublishFailure> {
        Err(PublishFailure::Unroutable("NO_ROUTE".to_owned()))
    }

    #[test]
    fn an_acknowledgement_alone_is_success() {
        assert_eq!(Ledger::default().judge(vec![(1, Confirmed::Ack(None))], 3), [(1, Ok(()))]);
    }

    #[test]
    fn an_acknowledgement_beside_its_own_return_is_unroutable() {
        assert_eq!(Ledger::default().judge(vec![(1, Confirmed::Ack(back(1)))], 3), [(1, lost())]);
    }

    #[test]
    fn a_return_beside_anothers_confirm_counts_for_the_message_that_came_back() {
        let mut ledger = Ledger::default();
        // Two was returned, but one was confirmed first and carries it; whether one came back too is not known yet.
        assert_eq!(ledger.judge(vec![(1, Confirmed::Ack(back(2)))], 1), []);
        let verdicts = ledger.judge(vec![(2, Confirmed::Ack(None))], 0);
        assert_eq!(verdicts, [(2, lost()), (1, Ok(()))]);
    }

    #[test]
    fn a_refused_message_is_never_a_success() {
        let verdicts = Ledger::default().judge(vec![(1, Confirmed::Nack(None))], 0);
        assert!(matches!(verdicts.as_slice(), [(1, Err(PublishFailure::Unconfirmed(_)))]));
    }

    /// What a broker and lapin do: returns go into one queue before their own confirm, every confirm takes the oldest.
    fn play(fates: &[(bool, usize)], batches: &[usize]) -> BTreeMap<u64, Result<(), PublishFailure>> {
        // Confirms complete in the order of the random keys; a return comes right at the start or before its confirm.
        let mut order: Vec<usize> = (0..fates.len()).collect();
        order.sort_by_key(|index| fates[*index].1);
        let mut queue: VecDeque<u64> = VecDeque::new();
        let mut early: Vec<u64> = Vec::new();
        for (index, (routable, key)) in fates.iter().enumerate() {
            if !routable && key % 2 == 0 {
                queue.push_back(index as u64);
                early.push(index as u64);
            }
        }
        let mut completed: VecDeque<(u64, Confirmed)> = VecDeque::new();
        for index in order {
            let id = index as u64;
            if !fates[index].0 && !early.contains(&id) {
                queue.push_back(id);
            }
            completed.push_back((id, Confirmed::Ack(queue.pop_front().and_then(back))));
        }
        let mut ledger = Ledger::default();
        let mut verdicts = BTreeMap::new();
        let mut sizes = batches.iter().copied().chain(std::iter::repeat(1));
        while !completed.is_empty() {
            let size = sizes.next().unwrap_or(1).clamp(1, completed.len());
            // Within a batch the order is not known, so it is turned round.
            let batch = completed.drain(..size).rev().collect();
            for (id, verdict) in ledger.judge(batch, completed.len()) {
                assert!(verdicts.insert(id, verdict).is_none(), "{id} was judged twice");
            }
        }
        assert!(ledger.unsure.is_empty() && ledger.returned.is_empty());
        verdicts
    }

    proptest! {
        #[test]
        fn every_message_is_judged_once_and_rightly_however_returns_and_confirms_are_mixed(
            fates in proptest::collection::vec((any::<bool>(), 0_usize..1000), 1..40),
            batches in proptest::collection::vec(1_usize..6, 0..40),
        ) {
            let verdicts = play(&fates, &batches);
            for (index, (routable, _)) in fates.iter().enumerate() {
                let expected = if *routable { Ok(()) } else { lost() };
                prop_assert_eq!(verdicts.get(&(index as u64)), Some(&expected));
            }
        }
    }
}
