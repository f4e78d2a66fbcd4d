//! Request coalescing (single flight): at most one fetch per key. The first request becomes the leader
//! and polls the fetch inside its own task, so an unshared miss needs no task and no channel. Each
//! participant has its own deadline. If the leader is dropped, the fetch moves to a spawned task.
//! Misses, `no-cache` requests and background refreshes all use it. The fetch is passed in as a future,
//! so that this module depends on neither the cache nor the nodes.
//!
//! ```text
//! join(key) -- no fetch in progress --> Leader   -- polls the fetch --+--> outcome
//!           |                             | dropped                   |
//!           |                             v                           |
//!           |                       spawned task --- completes -------+
//!           +- fetch in progress -----> Follower <--- outcome --------+
//! ```

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::message::CacheKey;
use crate::task::boxed;

/// The fetches in progress, one per key. `T` is the outcome, cloned for each participant.
#[derive(Debug)]
pub struct SingleFlight<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    hasher: RandomState,
}

type Shard<T> = Mutex<HashMap<CacheKey, Arc<InFlightFetch<T>>, RandomState>>;

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Creates the set without any fetch.
    pub fn new() -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::default())),
            hasher: RandomState::default(),
        }
    }

    /// Joins the fetch of `key` as follower, or starts `fetch` as leader. The fetch runs while the
    /// leader awaits the outcome, and in a spawned task once the leader is dropped.
    ///
    /// `fetch` is called without a lock held; it must only build the future.
    pub fn join<F>(&self, key: &CacheKey, fetch: impl FnOnce() -> F) -> Role<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let index = self.index(key);
        let guard = {
            let mut shard = self.shard(index).lock();
            if let Some(fetch) = shard.get(key) {
                return Role::Follower(fetch.clone());
            }
            let fetch = Arc::new(InFlightFetch::default());
            shard.insert(key.clone(), fetch.clone());
            CompletionGuard {
                shards: self.shards.clone(),
                index,
                key: key.clone(),
                fetch,
                is_removed: false,
            }
        };
        Role::Leader(Leader {
            fetch: Some(Box::pin(fetch())),
            guard: Some(guard),
        })
    }

    /// Forgets the fetches of all keys that `matches`: later requests start new ones. Their current
    /// participants still receive the result.
    pub fn forget(&self, matches: impl Fn(&CacheKey) -> bool) {
        for shard in self.shards.iter() {
            shard.lock().retain(|key, _| !matches(key));
        }
    }

    /// Returns the number of fetches in progress that may be joined.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no fetch is in progress.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn index(&self, key: &CacheKey) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash select a shard equally well"
        )]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        index
    }

    fn shard(&self, index: usize) -> &Shard<T> {
        &self.shards[index % SHARDS]
    }
}

impl<T: Clone + Send + Sync + 'static> Default for SingleFlight<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The role of one request in a fetch.
#[derive(Debug)]
pub enum Role<T: Clone + Send + Sync + 'static> {
    /// It started the fetch and polls it.
    Leader(Leader<T>),
    /// It joined a fetch in progress and waits for the outcome.
    Follower(Arc<InFlightFetch<T>>),
}

impl<T: Clone + Send + Sync + 'static> Role<T> {
    /// Whether this request started the fetch.
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader(_))
    }

    /// Waits for the outcome; call once. Returns `None` if the fetch panicked or its runtime was shut
    /// down.
    pub async fn outcome(&mut self) -> Option<T> {
        match self {
            Self::Leader(leader) => poll_fn(|cx| leader.poll(cx)).await,
            Self::Follower(fetch) => fetch.outcome().await,
        }
    }
}

/// The leader's handle. Dropping it before completion moves the fetch to a spawned task.
pub struct Leader<T: Clone + Send + Sync + 'static> {
    fetch: Option<BoxedFetch<T>>,
    guard: Option<CompletionGuard<T>>,
}

type BoxedFetch<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Clone + Send + Sync + 'static> Leader<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        // Taken out first, so that a fetch that panicked is not polled again.
        let Some(mut fetch) = self.fetch.take() else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| fetch.as_mut().poll(context))) {
            Ok(Poll::Pending) => {
                self.fetch = Some(fetch);
                Poll::Pending
            }
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(match self.guard.take() {
                Some(guard) => guard.complete(outcome),
                None => outcome,
            })),
            Err(_) => {
                self.guard = None;
                Poll::Ready(None)
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Leader<T> {
    fn drop(&mut self) {
        let (Some(fetch), Some(guard)) = (self.fetch.take(), self.guard.take()) else {
            return;
        };
        // Without a runtime the worker is shutting down, and the fetch is dropped with it.
        if Handle::try_current().is_ok() {
            #[expect(
                clippy::disallowed_methods,
                reason = "the fetch must outlive the request that started it"
            )]
            tokio::spawn(boxed(async move {
                let (guard, fetch) = (guard, fetch);
                let outcome = fetch.await;
                guard.complete(outcome);
            }));
        }
    }
}

impl<T: Clone + Send + Sync + 'static> std::fmt::Debug for Leader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leader").finish_non_exhaustive()
    }
}

/// A fetch in progress, shared by its followers.
#[derive(Debug)]
pub struct InFlightFetch<T> {
    /// `Some(None)`: the fetch ended without an outcome.
    outcome: OnceLock<Option<T>>,
    completed: Notify,
}

impl<T: Clone> InFlightFetch<T> {
    async fn outcome(&self) -> Option<T> {
        let mut completed = pin!(self.completed.notified());
        // Registered before the check, so that a completion in between is not missed.
        completed.as_mut().enable();
        if self.outcome.get().is_none() {
            completed.await;
        }
        self.outcome.get().cloned().flatten()
    }
}

impl<T> Default for InFlightFetch<T> {
    fn default() -> Self {
        Self {
            outcome: OnceLock::new(),
            completed: Notify::new(),
        }
    }
}

/// Completes the fetch when dropped, also by panic: removes the key, then wakes the followers. The key
/// is removed first: later requests start a new fetch, current followers still receive this result.
struct CompletionGuard<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    index: usize,
    key: CacheKey,
    fetch: Arc<InFlightFetch<T>>,
    is_removed: bool,
}

impl<T: Clone> CompletionGuard<T> {
    /// Shares the outcome with the followers, if any, and returns it.
    fn complete(mut self, outcome: T) -> T {
        self.remove_key();
        // With the key removed, only followers hold further references.
        if Arc::strong_count(&self.fetch) > 1 {
            let _ = self.fetch.outcome.set(Some(outcome.clone()));
        }
        outcome
    }
}

impl<T> CompletionGuard<T> {
    fn remove_key(&mut self) {
        if !std::mem::replace(&mut self.is_removed, true) {
            let mut shard = self.shards[self.index % SHARDS].lock();
            // After `forget`, the map may hold a later fetch of the key.
            let is_own = |fetch: &Arc<_>| Arc::ptr_eq(fetch, &self.fetch);
            if shard.get(&self.key).is_some_and(is_own) {
                shard.remove(&self.key);
            }
        }
    }
}

impl<T> Drop for CompletionGuard<T> {
    fn drop(&mut self) {
        self.remove_key();
        let _ = self.fetch.outcome.set(None);
        self.fetch.completed.notify_waiters();
    }
}

/// Number of shards. Our choice: two workers that lock at the same moment contend in one of 32 cases.
const SHARDS: usize = 32;

#[cfg(test)]
mod tests;
