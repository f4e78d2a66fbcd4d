//! One fetch per key at a time. Who comes first flies it: the fetch runs inside his own task, so a
//! miss that nobody shares costs no task and no channel. Everybody, he included, waits with his own
//! deadline; if he leaves, the fetch goes on as a task of its own. Miss, no-cache and renewal all go
//! through here. Knows neither the cache nor the nodes: the fetch is handed in.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use foldhash::fast::RandomState;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::message::CacheKey;

/// What is being fetched now. `T` is the outcome, shared with all who wait.
#[derive(Debug)]
pub struct SingleFlight<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    hasher: RandomState,
}

type Shard<T> = Mutex<HashMap<CacheKey, Arc<InFlightFetch<T>>, RandomState>>;

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Nothing in the air.
    pub fn new() -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::default())),
            hasher: RandomState::default(),
        }
    }

    /// Joins the fetch of `key`, or starts `fetch`, which runs as the seat is waited on, and by itself
    /// once the seat is dropped.
    ///
    /// `fetch` is called under no lock but must be cheap: it only builds the future.
    pub fn join<F>(&self, key: &CacheKey, fetch: impl FnOnce() -> F) -> Role<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let index = self.index(key);
        let landing = {
            let mut shard = lock(self.shard(index));
            if let Some(flight) = shard.get(key) {
                return Role::Follower(flight.clone());
            }
            let flight = Arc::new(InFlightFetch::default());
            shard.insert(key.clone(), flight.clone());
            CompletionGuard {
                shards: self.shards.clone(),
                index,
                key: key.clone(),
                fetch: flight,
                is_removed: false,
            }
        };
        Role::Leader(Leader {
            fetch: Some(Box::pin(fetch())),
            guard: Some(landing),
        })
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

/// A place on a fetch.
#[derive(Debug)]
pub enum Role<T: Clone + Send + Sync + 'static> {
    /// Of whoever started it.
    Leader(Leader<T>),
    /// Of whoever came while it was under way.
    Follower(Arc<InFlightFetch<T>>),
}

impl<T: Clone + Send + Sync + 'static> Role<T> {
    /// Did this call start the fetch?
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader(_))
    }

    /// The outcome, to be asked for once; `None` if the fetch ended without one, by panic or because
    /// its worker ended.
    pub async fn outcome(&mut self) -> Option<T> {
        match self {
            Self::Leader(pilot) => poll_fn(|cx| pilot.poll(cx)).await,
            Self::Follower(flight) => flight.outcome().await,
        }
    }
}

/// Flies the fetch; dropped before its end, he leaves it to a task of its own.
pub struct Leader<T: Clone + Send + Sync + 'static> {
    fetch: Option<BoxedFetch<T>>,
    guard: Option<CompletionGuard<T>>,
}

type BoxedFetch<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Clone + Send + Sync + 'static> Leader<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        // Taken out, so that a fetch that panics is not flown on.
        let Some(mut fetch) = self.fetch.take() else {
            return Poll::Ready(None);
        };
        match catch_unwind(AssertUnwindSafe(|| fetch.as_mut().poll(context))) {
            Ok(Poll::Pending) => {
                self.fetch = Some(fetch);
                Poll::Pending
            }
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(match self.guard.take() {
                Some(landing) => landing.complete(outcome),
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
        let (Some(fetch), Some(landing)) = (self.fetch.take(), self.guard.take()) else {
            return;
        };
        // Without a runtime the worker has ended, and the fetch with it.
        if Handle::try_current().is_ok() {
            #[expect(
                clippy::disallowed_methods,
                reason = "the fetch must survive its first client"
            )]
            tokio::spawn(async move {
                let (landing, fetch) = (landing, fetch);
                let outcome = fetch.await;
                landing.complete(outcome);
            });
        }
    }
}

impl<T: Clone + Send + Sync + 'static> std::fmt::Debug for Leader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pilot").finish_non_exhaustive()
    }
}

/// A fetch under way, as those see it who wait for it.
#[derive(Debug)]
pub struct InFlightFetch<T> {
    /// `None` inside: it ended without an outcome.
    outcome: OnceLock<Option<T>>,
    completed: Notify,
}

impl<T: Clone> InFlightFetch<T> {
    async fn outcome(&self) -> Option<T> {
        let mut landed = pin!(self.completed.notified());
        // Enlisted before the look, so that a landing in between is not missed.
        landed.as_mut().enable();
        if self.outcome.get().is_none() {
            landed.await;
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

/// Frees the key when the fetch ends, also by panic: with the slot removed first, whoever comes later
/// starts anew, and whoever sits already still sees the outcome.
struct CompletionGuard<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    index: usize,
    key: CacheKey,
    fetch: Arc<InFlightFetch<T>>,
    is_removed: bool,
}

impl<T: Clone> CompletionGuard<T> {
    /// Shares the outcome with the passengers, if there are any, and hands it back.
    fn complete(mut self, outcome: T) -> T {
        self.remove_key();
        // Only passengers hold the flight besides this and, until it was freed, the slot.
        if Arc::strong_count(&self.fetch) > 1 {
            let _ = self.fetch.outcome.set(Some(outcome.clone()));
        }
        outcome
    }
}

impl<T> CompletionGuard<T> {
    fn remove_key(&mut self) {
        if !std::mem::replace(&mut self.is_removed, true) {
            // The slot is ours: nobody takes one that is there.
            lock(&self.shards[self.index % SHARDS]).remove(&self.key);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough that two workers seldom meet on one lock.
const SHARDS: usize = 32;

#[cfg(test)]
mod tests;
