//! One at a time for each key, inside this process. A key that nobody holds or waits for takes no memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The turns of all keys.
#[derive(Debug)]
pub(super) struct Turns<K: std::hash::Hash + Eq + Clone> {
    locks: Mutex<HashMap<K, Lock>>,
}

impl<K: std::hash::Hash + Eq + Clone> Default for Turns<K> {
    fn default() -> Self {
        Self { locks: Mutex::default() }
    }
}

/// A turn; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a, K: std::hash::Hash + Eq + Clone> {
    // Dropped before the place, which counts who is left.
    _held: OwnedMutexGuard<()>,
    _place: Place<'a, K>,
}

impl<K: std::hash::Hash + Eq + Clone> Turns<K> {
    /// Waits until nobody else has the key. In the order of asking.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it gives up its place.
    pub(super) async fn take(&self, key: K) -> Turn<'_, K> {
        let lock = Arc::clone(self.locks().entry(key.clone()).or_default());
        let place = Place { turns: self, key, lock: Some(Arc::clone(&lock)) };
        Turn { _held: lock.lock_owned().await, _place: place }
    }

    /// How many keys are held or waited for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.locks().len()
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<K, Lock>> {
        // Nothing is ever left half done under this lock.
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line for a key.
#[derive(Debug)]
struct Place<'a, K: std::hash::Hash + Eq + Clone> {
    turns: &'a Turns<K>,
    key: K,
    lock: Option<Lock>,
}

impl<K: std::hash::Hash + Eq + Clone> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut locks = self.turns.locks();
        // Given up under the map's lock, or two that leave together would each count the other.
        drop(self.lock.take());
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn one_key_is_held_by_one_at_a_time_and_other_keys_do_not_wait() {
        let turns = Turns::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let visit = async |key: &'static str| {
            let _turn = turns.take(key).await;
            if key == "a" {
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            if key == "a" {
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        };
        let start = tokio::time::Instant::now();
        tokio::join!(visit("a"), visit("a"), visit("b"), visit("a"));
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(turns.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let held = turns.take(1).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), turns.take(1)).await.is_err());
        assert_eq!(turns.len(), 1);
        drop(held);
        assert_eq!(turns.len(), 0);
        drop(turns.take(1).await);
        assert_eq!(turns.len(), 0);
    }
}
