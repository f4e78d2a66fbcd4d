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
pub struct Flights<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    hash: RandomState,
}

type Shard<T> = Mutex<HashMap<CacheKey, Arc<Flight<T>>, RandomState>>;

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Nothing in the air.
    pub fn new() -> Self {
        Self {
            shards: Arc::new(std::array::from_fn(|_| Mutex::default())),
            hash: RandomState::default(),
        }
    }

    /// Joins the fetch of `key`, or starts `fetch`, which runs as the seat is waited on, and by itself
    /// once the seat is dropped.
    ///
    /// `fetch` is called under no lock but must be cheap: it only builds the future.
    pub fn join<F>(&self, key: &CacheKey, fetch: impl FnOnce() -> F) -> Seat<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let index = self.index(key);
        let landing = {
            let mut shard = lock(self.shard(index));
            if let Some(flight) = shard.get(key) {
                return Seat::Passenger(flight.clone());
            }
            let flight = Arc::new(Flight::default());
            shard.insert(key.clone(), flight.clone());
            Landing {
                shards: self.shards.clone(),
                index,
                key: key.clone(),
                flight,
                freed: false,
            }
        };
        Seat::Pilot(Pilot {
            fetch: Some(Box::pin(fetch())),
            landing: Some(landing),
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
pub enum Seat<T: Clone + Send + Sync + 'static> {
    /// Of whoever started it.
    Pilot(Pilot<T>),
    /// Of whoever came while it was under way.
    Passenger(Arc<Flight<T>>),
}

impl<T: Clone + Send + Sync + 'static> Seat<T> {
    /// Did this call start the fetch?
    pub fn started(&self) -> bool {
        matches!(self, Self::Pilot(_))
    }

    /// The outcome, to be asked for once; `None` if the fetch ended without one, by panic or because
    /// its worker ended.
    pub async fn outcome(&mut self) -> Option<T> {
        match self {
            Self::Pilot(pilot) => poll_fn(|cx| pilot.poll(cx)).await,
            Self::Passenger(flight) => flight.outcome().await,
        }
    }
}

/// Flies the fetch; dropped before its end, he leaves it to a task of its own.
pub struct Pilot<T: Clone + Send + Sync + 'static> {
    fetch: Option<Fetch<T>>,
    landing: Option<Landing<T>>,
}

type Fetch<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Clone + Send + Sync + 'static> Pilot<T> {
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
            Ok(Poll::Ready(outcome)) => Poll::Ready(Some(match self.landing.take() {
                Some(landing) => landing.with(outcome),
                None => outcome,
            })),
            Err(_) => {
                self.landing = None;
                Poll::Ready(None)
            }
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for Pilot<T> {
    fn drop(&mut self) {
        let (Some(fetch), Some(landing)) = (self.fetch.take(), self.landing.take()) else {
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
                landing.with(outcome);
            });
        }
    }
}

impl<T: Clone + Send + Sync + 'static> std::fmt::Debug for Pilot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pilot").finish_non_exhaustive()
    }
}

/// A fetch under way, as those see it who wait for it.
#[derive(Debug)]
pub struct Flight<T> {
    /// `None` inside: it ended without an outcome.
    outcome: OnceLock<Option<T>>,
    landed: Notify,
}

impl<T: Clone> Flight<T> {
    async fn outcome(&self) -> Option<T> {
        let mut landed = pin!(self.landed.notified());
        // Enlisted before the look, so that a landing in between is not missed.
        landed.as_mut().enable();
        if self.outcome.get().is_none() {
            landed.await;
        }
        self.outcome.get().cloned().flatten()
    }
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self {
            outcome: OnceLock::new(),
            landed: Notify::new(),
        }
    }
}

/// Frees the key when the fetch ends, also by panic: with the slot removed first, whoever comes later
/// starts anew, and whoever sits already still sees the outcome.
struct Landing<T> {
    shards: Arc<[Shard<T>; SHARDS]>,
    index: usize,
    key: CacheKey,
    flight: Arc<Flight<T>>,
    freed: bool,
}

impl<T: Clone> Landing<T> {
    /// Shares the outcome with the passengers, if there are any, and hands it back.
    fn with(mut self, outcome: T) -> T {
        self.free();
        // Only passengers hold the flight besides this and, until it was freed, the slot.
        if Arc::strong_count(&self.flight) > 1 {
            let _ = self.flight.outcome.set(Some(outcome.clone()));
        }
        outcome
    }
}

impl<T> Landing<T> {
    fn free(&mut self) {
        if !std::mem::replace(&mut self.freed, true) {
            // The slot is ours: nobody takes one that is there.
            lock(&self.shards[self.index % SHARDS]).remove(&self.key);
        }
    }
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        self.free();
        let _ = self.flight.outcome.set(None);
        self.flight.landed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough that two workers seldom meet on one lock.
const SHARDS: usize = 32;

#[cfg(test)]
mod tests;
