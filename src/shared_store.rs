//! The shared store (Redis or Valkey) of several replicas: a second cache level, one fetch per key
//! over all replicas, and one rate limit per access key. The store is untrusted and optional: waits
//! are bounded by [`WaitBudget`], errors never fail a request, and a value is used only if its AEAD
//! tag was made by this fleet for exactly this key. Values are opaque bytes here, and fetches are the
//! caller's.

mod connection;
mod encryption;
mod lease;
mod lookup;
mod order_log;
mod orders;
mod purge_log;
mod purge_queue;
mod rate_limit;
mod session;
mod session_error;
mod supervisor;

use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisResult;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

pub use lease::Lease;
pub use lookup::{LookupOutcome, LookupRequest};
pub use order_log::{OrderOrigin, OrderRecord};
pub use rate_limit::TokensLeft;
pub use session::Status;

use crate::auth::AccessKey;
use crate::config::{self, Rate, TableDigest};
use crate::message::{CacheKey, Purge};
use crate::metrics::{Shard, SharedStoreUse};
use connection::Connection;
use encryption::Sealer;
use order_log::OrderLog;
use purge_log::{PurgeLog, PurgeRecord};
use purge_queue::PurgeQueue;
use session::SessionHandle;

/// The store from one replica's side, shared by all workers. Not queried before [`Store::supervise`]
/// has connected.
#[derive(Debug)]
pub struct Store {
    settings: config::SharedStore,
    sealer: Sealer,
    session: SessionHandle,
    purge_log: Mutex<PurgeLog>,
    purge_queue: PurgeQueue,
    order_log: Mutex<OrderLog>,
    /// Notified when an order is to be published.
    orders_given: Notify,
    /// Notified when an order has been published.
    orders_published: Notify,
}

impl Store {
    /// Creates the store without connecting to it.
    pub fn new(settings: config::SharedStore) -> Self {
        Self {
            sealer: Sealer::new(&settings.seal_keys),
            settings,
            session: SessionHandle::default(),
            purge_log: Mutex::default(),
            purge_queue: PurgeQueue::default(),
            order_log: Mutex::default(),
            orders_given: Notify::new(),
            orders_published: Notify::new(),
        }
    }

    /// Creates the store of a new configuration; takes over the purges of the `previous` one.
    pub fn after_reload(settings: config::SharedStore, previous: Option<&Self>) -> Self {
        let store = Self::new(settings);
        if let Some(previous) = previous {
            *store.purge_log.lock() = previous.purge_log.lock().clone();
            previous.purge_queue.move_to(&store.purge_queue);
            *store.order_log.lock() = previous.order_log.lock().clone();
            store.orders_given.notify_one();
        }
        store
    }

    /// Returns the settings that the store was created with.
    pub fn settings(&self) -> &config::SharedStore {
        &self.settings
    }

    /// Returns the status of the connection.
    pub fn status(&self) -> Status {
        self.session.status()
    }

    /// Returns the number of local purges that the store has not acknowledged yet.
    pub fn unpublished_purges(&self) -> usize {
        self.purge_queue.len()
    }

    /// Returns the time that one request may wait for the store in total.
    pub fn wait_budget(&self) -> WaitBudget {
        WaitBudget {
            remaining: self.settings.timeout,
        }
    }

    /// Returns the purges known now; a value that is fetched from now on is written with them.
    pub fn purge_snapshot(&self, key: &CacheKey, call_id: Option<&str>) -> PurgeSnapshot {
        let purge_log = self.purge_log.lock();
        PurgeSnapshot(purge_log.covering_ids(key.access_key(), call_id))
    }

    /// Writes a value for all replicas. A negative one never replaces anything.
    pub async fn write(
        &self,
        key: &CacheKey,
        request: &WriteRequest<'_>,
        budget: &mut WaitBudget,
        metrics: &Shard,
    ) {
        let subject = key.to_bytes();
        let ttl = u64::try_from(request.ttl.min(MAX_TTL).as_millis()).unwrap_or_default();
        let text = [&request.purge_snapshot.to_bytes(), request.value].concat();
        if ttl == 0 || text.len() > MAX_VALUE_SIZE {
            return;
        }
        let Some(sealed) = self.sealer.seal(&subject, &text) else {
            return;
        };
        let mut set = redis::cmd("SET");
        set.arg(self.sealer.storage_key(ENTRY_KIND, &subject, false))
            .arg(sealed)
            .arg("PX")
            .arg(ttl);
        if request.is_negative {
            set.arg("NX");
        }
        let result = self
            .query(budget, async move |mut store: Connection| {
                set.query_async::<redis::Value>(&mut store).await
            })
            .await;
        metrics.count(match result {
            Ok(_) => SharedStoreUse::WriteOk,
            Err(QueryError::Failed) => SharedStoreUse::WriteFailed,
            Err(QueryError::Unavailable) => SharedStoreUse::WriteSkipped,
        });
    }

    /// Takes one token of the rate limit that an access key has over all replicas. Returns what is left of
    /// it, or the time until the next token if the limit is exceeded.
    ///
    /// # Errors
    /// The store did not respond: the local limit decides alone.
    pub async fn acquire_rate_limit(
        &self,
        access_key: &AccessKey,
        rate: Rate,
        budget: &mut WaitBudget,
        metrics: &Shard,
    ) -> Result<Result<TokensLeft, Duration>, QueryError> {
        let subject = access_key.as_str().as_bytes();
        let key = self.sealer.storage_key(RATE_LIMIT_KIND, subject, false);
        let acquire = async move |store| rate_limit::acquire(store, key, rate).await;
        let result = self.query(budget, acquire).await;
        metrics.count(match &result {
            Ok(_) => SharedStoreUse::RateLimitOk,
            Err(QueryError::Failed) => SharedStoreUse::RateLimitFailed,
            Err(QueryError::Unavailable) => SharedStoreUse::RateLimitSkipped,
        });
        result
    }

    /// Purges values in the store and in all other replicas: at once, or when the store is available
    /// again. More purges than are ever kept become one purge of everything. The caller purges the
    /// local cache.
    pub fn purge(&self, purges: impl IntoIterator<Item = Purge>) {
        let mut purges: Vec<_> = purges.into_iter().take(purge_log::MAX_PURGES + 1).collect();
        if purges.len() > purge_log::MAX_PURGES {
            purges = vec![Purge::default()];
        }
        for purge in purges {
            let mut record = PurgeRecord::new(purge);
            // Effective here from now on: stored values do not carry the new id.
            let mut purge_log = self.purge_log.lock();
            purge_log.add(record.clone());
            if purge_log.is_full() {
                record = PurgeRecord::new(Purge::default());
                purge_log.add(record.clone());
            }
            drop(purge_log);
            self.purge_queue.push(record);
        }
    }

    /// Waits until the store has acknowledged all local purges, at most `longest`. Returns the number of
    /// other replicas that received the last one, of a Redis cluster those at one server; `None` if the
    /// store has not acknowledged all.
    pub async fn wait_until_published(&self, longest: Duration) -> Option<u64> {
        let published = self.purge_queue.wait_until_empty();
        timeout(longest, published).await.ok()
    }

    /// Runs one query within the remaining budget. After a timeout no further query is sent until the
    /// supervisor has checked the connection.
    async fn query<T>(
        &self,
        budget: &mut WaitBudget,
        query: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, QueryError> {
        let session = self.session.current().ok_or(QueryError::Unavailable)?;
        if budget.remaining.is_zero() {
            return Err(QueryError::Unavailable);
        }
        let started = Instant::now();
        let result = timeout(budget.remaining, query(session.connection.clone())).await;
        budget.remaining = budget.remaining.saturating_sub(started.elapsed());
        match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                self.session.on_error(&session, &error);
                Err(QueryError::Failed)
            }
            Err(_elapsed) => {
                self.session.mark_unresponsive(&session);
                Err(QueryError::Failed)
            }
        }
    }
}

/// The time that one request may still wait for the store, over all its queries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WaitBudget {
    remaining: Duration,
}

/// A value to be written.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    /// The bytes that a lookup returns.
    pub value: &'a [u8],
    /// How long the value is usable for any purpose.
    pub ttl: Duration,
    /// Whether the value is a negative result ("no data yet").
    pub is_negative: bool,
    /// Taken before the value was fetched.
    pub purge_snapshot: &'a PurgeSnapshot,
}

/// The ids of the purges that a replica knew of when it began to fetch a value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PurgeSnapshot(Vec<u64>);

impl PurgeSnapshot {
    /// Encodes the number of ids (4 bytes) and the ids (8 bytes each).
    fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let ids = self.0.iter().flat_map(|id| id.to_be_bytes());
        count.to_be_bytes().into_iter().chain(ids).collect()
    }

    /// Decodes a snapshot and returns it with the bytes behind it.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        let (ids, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (ids, _) = ids.as_chunks();
        let ids = ids.iter().map(|id| u64::from_be_bytes(*id));
        Some((Self(ids.collect()), rest))
    }
}

/// Why a query has no response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueryError {
    /// It was not sent: the store is unavailable, or the wait budget is used up.
    Unavailable,
    /// It timed out or was rejected.
    Failed,
}

/// Kinds of storage keys; part of the key names in the store.
const ENTRY_KIND: &str = "answer";
const RATE_LIMIT_KIND: &str = "budget";
const LEASE_KIND: &str = "fetch";
const ORDER_KIND: &str = "order";

/// The largest value that is read or written. Responses have some 500 bytes; whatever is larger was not
/// written by a gateway, or is cheaper to fetch from a node.
const MAX_VALUE_SIZE: usize = 4 << 20;

/// The longest lifetime of a value in the store. Purges are remembered for twice this time, so it also
/// bounds how long a purge must be kept.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::NodeAddress;
    use crate::config::StoreSecret;

    #[test]
    fn purges_are_bounded_while_the_store_is_unavailable() {
        let store = Store::new(config::SharedStore {
            address: NodeAddress {
                host: "store.test".into(),
                port: 6379,
            },
            database: 0,
            tls: None,
            username: None,
            password: None,
            timeout: Duration::from_millis(20),
            seal_keys: vec![StoreSecret::new(vec![1; 32])],
        });
        let key = CacheKey::for_test("ak", "{}");
        for _ in 0..4 * purge_log::MAX_PURGES {
            store.purge([Purge {
                access_key: Some(key.access_key().clone()),
                call_id: None,
            }]);
            assert!(store.unpublished_purges() <= purge_log::MAX_PURGES);
            let PurgeSnapshot(ids) = store.purge_snapshot(&key, None);
            let range = 1..=purge_log::MAX_PURGES;
            assert!(range.contains(&ids.len()), "{}", ids.len());
        }
    }

    proptest! {
        #[test]
        fn a_purge_snapshot_round_trips(ids: Vec<u64>, value: Vec<u8>) {
            let snapshot = PurgeSnapshot(ids);
            let bytes = [snapshot.to_bytes(), value.clone()].concat();
            prop_assert_eq!(PurgeSnapshot::parse(&bytes), Some((snapshot, value.as_slice())));
        }

        #[test]
        fn parsing_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let _ = PurgeSnapshot::parse(&bytes);
        }
    }
}
