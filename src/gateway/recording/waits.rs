//! Clients that wait for recordings which do not exist yet (`Prefer: wait=N`): at most one poll a second for
//! each cache key, however many clients wait for it, and a pace of polls for clusters and access keys.
//!
//! The waiters of a key compete for its `PollState`; the one that holds it leads and polls. When it leaves,
//! the next one goes on where it stopped.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::FetchOutcome;
use crate::auth::AccessKey;
use crate::gauge::{Gauge, GaugeGuard};
use crate::message::CacheKey;

/// All waiting clients of the process.
#[derive(Debug)]
pub struct Waits {
    keys: Mutex<HashMap<CacheKey, Arc<KeyWait>, RandomState>>,
    waiters: Gauge,
    pace: Pace,
    /// Whether the gateway drains, so that no client waits any longer.
    is_closed: watch::Sender<bool>,
    /// The shortest time between two polls of one key.
    poll_interval: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self::polling_every(POLL_INTERVAL)
    }
}

/// Limits of waiting, of the configuration of a request.
#[derive(Clone, Copy, Debug)]
pub struct WaitSettings {
    /// The longest wait; zero is off.
    pub max_wait: Duration,
    /// Waiting clients in all.
    pub max_waiters: usize,
    /// Polls a second for one cluster.
    pub max_polls: u32,
}

impl Waits {
    fn polling_every(poll_interval: Duration) -> Self {
        Self {
            keys: Mutex::default(),
            waiters: Gauge::default(),
            pace: Pace::default(),
            is_closed: watch::Sender::new(false),
            poll_interval,
        }
    }

    /// Releases all waiting clients; none waits from now on.
    pub fn close(&self) {
        self.is_closed.send_replace(true);
    }

    /// Forgets the waits of all keys that `matches`: clients that ask from now on do not share their polls.
    pub(in crate::gateway) fn forget(&self, matches: impl Fn(&CacheKey) -> bool) {
        self.keys.lock().retain(|key, _| !matches(key));
    }

    /// Returns the number of clients that wait.
    pub fn waiters(&self) -> usize {
        self.waiters.count()
    }

    /// Takes a place among the waiters of `key`; `None` without room.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        account: (&Gauge, usize),
        settings: WaitSettings,
    ) -> Option<Seat> {
        let (waiters, limit) = account;
        let permits = [
            self.waiters.try_enter(settings.max_waiters)?,
            waiters.try_enter(limit)?,
        ];
        if *self.is_closed.borrow() {
            return None;
        }
        let begin = || Arc::new(KeyWait::starting_at(Instant::now() + self.poll_interval));
        let wait = self
            .keys
            .lock()
            .entry(key.clone())
            .or_insert_with(begin)
            .clone();
        Some(Seat {
            waits: self.clone(),
            key: key.clone(),
            wait,
            settings,
            _permits: permits,
        })
    }
}

/// The clients that wait for one key.
#[derive(Debug)]
struct KeyWait {
    state: tokio::sync::Mutex<PollState>,
    outcome: OnceLock<WaitEnd>,
    ended: Notify,
}

impl KeyWait {
    fn starting_at(at: Instant) -> Self {
        let stage = Stage::Second;
        Self {
            state: tokio::sync::Mutex::new(PollState { stage, at }),
            outcome: OnceLock::new(),
            ended: Notify::new(),
        }
    }
}

/// What the next poll of a key waits for, and until when.
#[derive(Clone, Copy, Debug)]
struct PollState {
    stage: Stage,
    at: Instant,
}

/// The stages before a poll, in order.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The interval of the key.
    Second,
    /// The pace of the access key.
    AccessKey,
    /// The pace of the cluster.
    Cluster,
}

/// How the wait of all clients of a key ends.
#[derive(Clone, Debug)]
pub(super) enum WaitEnd {
    /// With a recording.
    Found(FetchOutcome),
    /// The access key was removed or disabled.
    Revoked,
}

/// How one poll ended.
#[derive(Debug)]
pub(super) enum Polled {
    /// All who wait for the key are done.
    Ended(WaitEnd),
    /// There is no recording yet, or the poll failed.
    Nothing,
    /// The leader has no budget: the next waiter leads, at once.
    NoBudget,
}

/// How the wait of one client ended.
#[derive(Debug)]
pub(super) enum Waited {
    /// With this end, which its own poll brought or another client's.
    Ended(WaitEnd, IsLeader),
    /// Without a recording.
    InVain,
}

/// Whether a client made the poll whose outcome it gets.
pub(super) type IsLeader = bool;

/// The place of one waiting client. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Seat {
    waits: Arc<Waits>,
    key: CacheKey,
    wait: Arc<KeyWait>,
    settings: WaitSettings,
    _permits: [GaugeGuard; 2],
}

impl Seat {
    /// Waits until `deadline` for a recording, the end of the gateway, or the own lack of budget. While this
    /// client leads, `poll` is called once a second at most.
    pub(super) async fn wait<F>(
        &self,
        cluster: &Arc<str>,
        deadline: Instant,
        poll: impl Fn() -> F,
    ) -> Waited
    where
        F: Future<Output = Polled>,
    {
        let mut is_closed = self.waits.is_closed.subscribe();
        let mut ended = std::pin::pin!(self.wait.ended.notified());
        // Registered before the check, so that an end in between is not missed.
        ended.as_mut().enable();
        if let Some(end) = self.wait.outcome.get() {
            return Waited::Ended(end.clone(), false);
        }
        tokio::select! {
            biased;
            () = ended => match self.wait.outcome.get() {
                Some(end) => Waited::Ended(end.clone(), false),
                None => Waited::InVain,
            },
            // An error means that the gateway is gone.
            _ = is_closed.wait_for(|is_closed| *is_closed) => Waited::InVain,
            () = sleep_until(deadline) => Waited::InVain,
            waited = self.lead(cluster, poll) => waited,
        }
    }

    /// Leads when its turn comes, and polls until a poll ends the wait.
    async fn lead<F>(&self, cluster: &Arc<str>, poll: impl Fn() -> F) -> Waited
    where
        F: Future<Output = Polled>,
    {
        let mut state = self.wait.state.lock().await;
        loop {
            sleep_until(state.at).await;
            let (stage, at) = match state.stage {
                Stage::Second => (
                    Stage::AccessKey,
                    self.waits.pace.reserve_access_key(&self.key, self.settings),
                ),
                Stage::AccessKey => (
                    Stage::Cluster,
                    self.waits.pace.reserve_cluster(cluster, self.settings),
                ),
                Stage::Cluster => (Stage::Second, Instant::now() + self.waits.poll_interval),
            };
            *state = PollState { stage, at };
            if let Stage::AccessKey | Stage::Cluster = stage {
                continue;
            }
            match poll().await {
                Polled::Nothing => {}
                Polled::NoBudget => {
                    state.at = Instant::now();
                    return Waited::InVain;
                }
                Polled::Ended(end) => {
                    self.waits.remove(&self.key, &self.wait);
                    let _ = self.wait.outcome.set(end.clone());
                    self.wait.ended.notify_waiters();
                    return Waited::Ended(end, true);
                }
            }
        }
    }
}

impl Waits {
    /// Removes a key if it still has this wait.
    fn remove(&self, key: &CacheKey, wait: &Arc<KeyWait>) {
        let mut keys = self.keys.lock();
        if keys.get(key).is_some_and(|it| Arc::ptr_eq(it, wait)) {
            keys.remove(key);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut keys = self.waits.keys.lock();
        // Held by the map and this seat alone: no other client waits, and none can join while the map is locked.
        let is_last = Arc::strong_count(&self.wait) == 2;
        if is_last
            && keys
                .get(&self.key)
                .is_some_and(|it| Arc::ptr_eq(it, &self.wait))
        {
            keys.remove(&self.key);
        }
    }
}

/// Spaces polls evenly. Each poll reserves the next free moment; keys take their turns in order.
#[derive(Debug, Default)]
struct Pace {
    clusters: Mutex<HashMap<Arc<str>, Instant, RandomState>>,
    access_keys: Mutex<HashMap<AccessKey, Instant, RandomState>>,
}

impl Pace {
    fn reserve_cluster(&self, cluster: &Arc<str>, settings: WaitSettings) -> Instant {
        reserve(&mut self.clusters.lock(), cluster, interval(settings))
    }

    /// An access key has a quarter of the polls of a cluster.
    fn reserve_access_key(&self, key: &CacheKey, settings: WaitSettings) -> Instant {
        let interval = interval(settings) * 4;
        reserve(&mut self.access_keys.lock(), key.access_key(), interval)
    }
}

fn interval(settings: WaitSettings) -> Duration {
    Duration::from_secs(1) / settings.max_polls.max(1)
}

fn reserve<K: Clone + Eq + std::hash::Hash>(
    next: &mut HashMap<K, Instant, RandomState>,
    key: &K,
    interval: Duration,
) -> Instant {
    let now = Instant::now();
    if next.len() >= PRUNED_AT {
        // What is in the future belongs to a waiting client, so that these are bounded.
        next.retain(|_, at| *at > now);
    }
    let free = next.entry(key.clone()).or_insert(now);
    let at = (*free).max(now);
    *free = at + interval;
    at
}

/// One poll a second for each key.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Entries of the past are removed when there are so many.
const PRUNED_AT: usize = 1024;

#[cfg(test)]
mod tests;
