//! The lookup of a value that any replica may have stored: one query to the store in the common case.
//! Where no usable value is stored, the query also takes the lease that makes this replica the only
//! one that fetches the value.
//!
//! | the store has                             | step    |
//! |-------------------------------------------|---------|
//! | a usable value                            | `Hit`   |
//! | no usable value, and no lease             | `Lease` |
//! | the lease of another replica, time left   | `Wait`  |
//! | the lease of another replica, no time left| `Miss`  |
//! | the mark of a fetch without a result      | `Miss`  |

use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisResult, Script};
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::lease::{self, Lease};
use super::{ENTRY_KIND, LEASE_KIND, MAX_VALUE_SIZE, PurgeSnapshot, QueryError, Store, WaitBudget};
use crate::message::CacheKey;
use crate::metrics::{Shard, SharedStoreUse};

/// The result of a lookup.
#[derive(Debug)]
pub enum LookupOutcome<T> {
    /// A usable value.
    Hit(T),
    /// No usable value; this replica now holds the lease and fetches for all replicas.
    LeaseAcquired(Lease),
    /// No usable value, and no replica to wait for.
    Miss,
}

/// What to look up.
#[derive(Clone, Copy, Debug)]
pub struct LookupRequest<'a> {
    /// The cache key of the value.
    pub key: &'a CacheKey,
    /// The callId of the request; purges may name it.
    pub call_id: Option<&'a str>,
    /// How long to wait for another replica that is fetching the value.
    pub max_wait: Duration,
}

impl Store {
    /// Looks up a value that `accept` takes. Waits while another replica fetches it.
    pub async fn lookup<T>(
        &self,
        request: LookupRequest<'_>,
        budget: &mut WaitBudget,
        metrics: &Shard,
        accept: impl Fn(&[u8]) -> Option<T>,
    ) -> LookupOutcome<T> {
        let mut lookup = Lookup::new(self, request, accept);
        let outcome = lookup.run(budget, metrics).await;
        if lookup.has_met_unusable {
            metrics.count(SharedStoreUse::LookupUnusable);
        }
        metrics.count(match &outcome {
            Ok(LookupOutcome::Hit(_)) => SharedStoreUse::LookupHit,
            Ok(LookupOutcome::LeaseAcquired(_) | LookupOutcome::Miss) => SharedStoreUse::LookupMiss,
            Err(QueryError::Unavailable) => SharedStoreUse::LookupSkipped,
            Err(QueryError::Failed) => SharedStoreUse::LookupFailed,
        });
        outcome.unwrap_or(LookupOutcome::Miss)
    }
}

/// One lookup in progress.
struct Lookup<'a, A> {
    store: &'a Store,
    request: LookupRequest<'a>,
    accept: A,
    /// The cache key as bytes: what the value is sealed for.
    subject: Vec<u8>,
    value_key: String,
    lease_key: String,
    deadline: Instant,
    poll_interval: Duration,
    /// Set once a stored value turned out to be unusable, and while waiting.
    take_lease_even_if_value: bool,
    has_met_unusable: bool,
    has_waited: bool,
}

/// What one poll of the store results in.
enum Step<T> {
    Hit(T),
    Lease(Lease),
    Miss,
    /// Poll again after this time.
    Wait(Duration),
}

impl<'a, T, A: Fn(&[u8]) -> Option<T>> Lookup<'a, A> {
    fn new(store: &'a Store, request: LookupRequest<'a>, accept: A) -> Self {
        let subject = request.key.to_bytes();
        Self {
            store,
            request,
            accept,
            value_key: store.sealer.storage_key(ENTRY_KIND, &subject, false),
            lease_key: store.sealer.storage_key(LEASE_KIND, &subject, false),
            subject,
            deadline: Instant::now() + request.max_wait,
            poll_interval: MIN_POLL_INTERVAL,
            take_lease_even_if_value: false,
            has_met_unusable: false,
            has_waited: false,
        }
    }

    async fn run(
        &mut self,
        budget: &mut WaitBudget,
        metrics: &Shard,
    ) -> Result<LookupOutcome<T>, QueryError> {
        loop {
            match self.poll_once(budget).await? {
                Step::Hit(value) => return Ok(LookupOutcome::Hit(value)),
                Step::Lease(lease) => return Ok(LookupOutcome::LeaseAcquired(lease)),
                Step::Miss => return Ok(LookupOutcome::Miss),
                Step::Wait(interval) => {
                    if !self.has_waited {
                        metrics.count(SharedStoreUse::LookupWaited);
                    }
                    self.has_waited = true;
                    sleep(interval).await;
                }
            }
        }
    }

    async fn poll_once(&mut self, budget: &mut WaitBudget) -> Result<Step<T>, QueryError> {
        let (mut sealed, mut lease) = self.read_or_lease(budget).await?;
        if let Some(value) = self.open(&sealed) {
            return Ok(Step::Hit(value));
        }
        if !sealed.is_empty() && !self.take_lease_even_if_value {
            self.has_met_unusable = true;
        }
        self.take_lease_even_if_value = true;
        if lease == LeaseState::Free {
            (sealed, lease) = self.read_or_lease(budget).await?;
            if let Some(value) = self.open(&sealed) {
                return Ok(Step::Hit(value));
            }
        }
        match lease {
            LeaseState::Acquired => {
                let lease = Lease {
                    key: self.lease_key.clone(),
                };
                Ok(self.with_lease(lease, budget).await)
            }
            LeaseState::HeldElsewhere if Instant::now() + self.poll_interval < self.deadline => {
                let interval = self.poll_interval;
                self.poll_interval = (interval * 2).min(MAX_POLL_INTERVAL);
                Ok(Step::Wait(interval))
            }
            LeaseState::HeldElsewhere | LeaseState::RecentlyFruitless | LeaseState::Free => {
                Ok(Step::Miss)
            }
        }
    }

    /// Returns the stored value, empty if there is none, and the state of the lease.
    async fn read_or_lease(
        &self,
        budget: &mut WaitBudget,
    ) -> Result<(Vec<u8>, LeaseState), QueryError> {
        // The budget covers the store's own response times. The wait for another replica is bounded by
        // `max_wait` instead, so each poll of it starts with the same budget.
        let mut poll_budget = *budget;
        let budget = if self.has_waited {
            &mut poll_budget
        } else {
            budget
        };
        let read = async |store| read_or_lease(store, self).await;
        self.store.query(budget, read).await
    }

    /// Keeps the lease, unless a usable value is stored under the key that is being rotated out.
    async fn with_lease(&self, lease: Lease, budget: &mut WaitBudget) -> Step<T> {
        let older = self.read_previous_key(budget).await;
        match older.and_then(|sealed| self.open(&sealed)) {
            Some(value) => {
                self.store.release_lease(lease, true, budget).await;
                Step::Hit(value)
            }
            None => Step::Lease(lease),
        }
    }

    /// Returns what is stored under the second seal key, if there is one.
    async fn read_previous_key(&self, budget: &mut WaitBudget) -> Option<Vec<u8>> {
        let sealer = &self.store.sealer;
        if !sealer.is_rotating() {
            return None;
        }
        let mut get = redis::cmd("GETRANGE");
        get.arg(sealer.storage_key(ENTRY_KIND, &self.subject, true))
            .arg(0)
            .arg(MAX_VALUE_SIZE);
        let read = async move |mut store: Connection| get.query_async(&mut store).await;
        self.store.query(budget, read).await.ok()
    }

    /// Returns the value if it was sealed for this key, is not purged, and is accepted.
    fn open(&self, sealed: &[u8]) -> Option<T> {
        let text = self.store.sealer.open(&self.subject, sealed)?;
        let (snapshot, value) = PurgeSnapshot::parse(&text)?;
        let access_key = self.request.key.access_key();
        let is_purged =
            self.store
                .purge_log
                .lock()
                .invalidates(access_key, self.request.call_id, &snapshot.0);
        if is_purged {
            return None;
        }
        (self.accept)(value)
    }
}

async fn read_or_lease<A>(
    mut store: Connection,
    lookup: &Lookup<'_, A>,
) -> RedisResult<(Vec<u8>, LeaseState)> {
    let (sealed, state): (Vec<u8>, String) = READ_OR_LEASE
        .key(&lookup.value_key)
        .key(&lookup.lease_key)
        .arg(MAX_VALUE_SIZE)
        .arg(u64::try_from(lease::LEASE_TTL.as_millis()).unwrap_or(u64::MAX))
        .arg(u8::from(lookup.take_lease_even_if_value))
        .arg(lease::NO_RESULT)
        .invoke_async(&mut store)
        .await?;
    let state = match state.as_str() {
        "free" => LeaseState::Free,
        "acquired" => LeaseState::Acquired,
        "fruitless" => LeaseState::RecentlyFruitless,
        _ => LeaseState::HeldElsewhere,
    };
    Ok((sealed, state))
}

/// The state of the lease of one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LeaseState {
    /// Another replica holds it.
    HeldElsewhere,
    /// Not held, and not taken because a value is stored.
    Free,
    /// Taken by this query.
    Acquired,
    /// A replica has just released it without a result to share.
    RecentlyFruitless,
}

/// Reads a value up to a maximum length, and takes the lease if it is free and there is no value, or
/// if the value is known to be unusable. Both keys are in one slot of a cluster.
static READ_OR_LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local value = redis.call('GETRANGE', KEYS[1], 0, ARGV[1])
local holder = redis.call('GET', KEYS[2])
if holder then
  return {value, holder == ARGV[4] and 'fruitless' or 'held'}
end
if value ~= '' and ARGV[3] == '0' then return {value, 'free'} end
redis.call('SET', KEYS[2], 'fetching', 'PX', ARGV[2])
return {value, 'acquired'}
",
    )
});

/// The time between two polls doubles from the first to the second: a fetch takes 0.2 s or more, and
/// each poll costs the store one script call.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(100);
