//! One fetch per key at a time. The first comer starts it, everybody, the first included, awaits it
//! with his own deadline; it survives whoever leaves. Miss, no-cache and renewal all go through here.
//! Knows neither the cache nor the nodes: the fetch is handed in.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tokio::sync::watch;

use crate::call::CacheKey;

/// What is being fetched now. `T` is the outcome, shared with all who wait.
#[derive(Debug)]
pub struct Flights<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    hash: RandomState,
}

type Shard<T> = Mutex<HashMap<CacheKey, watch::Receiver<Option<T>>, RandomState>>;

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Nothing in the air.
    pub fn new() -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::default())),
            hash: RandomState::default(),
        }
    }

    /// Joins the fetch of `key`, or starts `fetch` as a task of its own.
    ///
    /// `fetch` is called under no lock but must be cheap: it only builds the future.
    pub fn join<F>(&self, key: &CacheKey, fetch: impl FnOnce() -> F) -> Seat<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let index = self.index(key);
        let landing = {
            let mut shard = lock(self.shard(index));
            if let Some(receiver) = shard.get(key) {
                return Seat {
                    started: false,
                    receiver: receiver.clone(),
                };
            }
            let (sender, receiver) = watch::channel(None);
            shard.insert(key.clone(), receiver.clone());
            Landing {
                shards: self.shards.clone(),
                index,
                key: key.clone(),
                sender,
                receiver,
            }
        };
        let receiver = landing.receiver.clone();
        let fetch = fetch();
        #[expect(
            clippy::disallowed_methods,
            reason = "the fetch must survive its first client"
        )]
        tokio::spawn(async move {
            let landing = landing;
            let outcome = fetch.await;
            landing.sender.send_replace(Some(outcome));
        });
        Seat {
            started: true,
            receiver,
        }
    }

    /// How many fetches are in the air.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn index(&self, key: &CacheKey) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of a hash will do"
        )]
        let index = self.hash.hash_one(key) as usize % SHARDS;
        index
    }

    fn shard(&self, index: usize) -> &Shard<T> {
        &self.shards[index % SHARDS]
    }
}

impl<T: Clone + Send + Sync + 'static> Default for Flights<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A place on a fetch.
#[derive(Debug)]
pub struct Seat<T> {
    started: bool,
    receiver: watch::Receiver<Option<T>>,
}

impl<T: Clone> Seat<T> {
    /// Did this call start the fetch?
    pub fn started(&self) -> bool {
        self.started
    }

    /// The outcome; `None` if the fetch ended without one, by panic or because its worker ended.
    pub async fn outcome(mut self) -> Option<T> {
        let landed = self.receiver.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

/// Frees the key when the fetch ends, also by panic: with the slot removed first, whoever comes later
/// starts anew, and whoever sits already still sees the outcome (or the sender gone).
struct Landing<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    index: usize,
    key: CacheKey,
    sender: watch::Sender<Option<T>>,
    receiver: watch::Receiver<Option<T>>,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut shard = lock(&self.shards[self.index % SHARDS]);
        // Only our own slot: nobody can have replaced it while it was there, but be sure.
        if shard
            .get(&self.key)
            .is_some_and(|seat| seat.same_channel(&self.receiver))
        {
            shard.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough that two workers seldom meet on one lock.
const SHARDS: usize = 32;

#[cfg(test)]
mod tests;
