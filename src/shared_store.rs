//! The store that replicas share: a second level of the cache, one fetch of a key over all replicas,
//! and one budget of an ak. It may be slow, gone, or somebody else's: nobody waits for it beyond his
//! [`Patience`], nothing fails because of it, and nothing that stands in it is believed unless it was
//! sealed by one of us for the very question. Knows neither what an answer is nor how one is fetched.

mod cluster;
mod connection;
mod encryption;
mod lease;
mod lookup;
mod purge_log;
mod purge_queue;
mod rate_limit;
mod session;
mod supervisor;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::RedisResult;
use tokio::time::{Instant, timeout};

pub use lease::Lease;
pub use lookup::{LookupOutcome, LookupRequest};
pub use session::Status;

use crate::auth::AccessKey;
use crate::config::{self, Rate};
use crate::message::{CacheKey, Purge};
use crate::metrics::{Shard, SharedStoreUse};
use connection::Connection;
use encryption::Sealer;
use purge_log::{PurgeLog, PurgeRecord};
use purge_queue::PurgeQueue;
use session::SessionHandle;

/// The store, as one replica knows it; shared by all workers. Asks nothing before [`Store::watch`]
/// has found it.
#[derive(Debug)]
pub struct Store {
    settings: config::SharedStore,
    sealer: Sealer,
    session: SessionHandle,
    purge_log: Mutex<PurgeLog>,
    purge_queue: PurgeQueue,
}

impl Store {
    /// The store at the place that is configured; nothing is done yet.
    pub fn new(settings: config::SharedStore) -> Self {
        Self {
            sealer: Sealer::new(&settings.seal_keys),
            settings,
            session: SessionHandle::default(),
            purge_log: Mutex::default(),
            purge_queue: PurgeQueue::default(),
        }
    }

    /// The store after a reload: knows what the one `before` knew, and goes on where it was.
    pub fn after_reload(settings: config::SharedStore, before: Option<&Self>) -> Self {
        let store = Self::new(settings);
        if let Some(before) = before {
            *lock(&store.purge_log) = lock(&before.purge_log).clone();
            before.purge_queue.move_to(&store.purge_queue);
        }
        store
    }

    /// What it was made from.
    pub fn settings(&self) -> &config::SharedStore {
        &self.settings
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.session.status()
    }

    /// Purges that the store has not been told of, because it is away.
    pub fn unpublished_purges(&self) -> usize {
        self.purge_queue.len()
    }

    /// How long one request may wait for it.
    pub fn wait_budget(&self) -> WaitBudget {
        WaitBudget {
            remaining: self.settings.timeout,
        }
    }

    /// What an answer that is fetched from now on has to be written with.
    pub fn purge_snapshot(&self, key: &CacheKey, call_id: Option<&str>) -> PurgeSnapshot {
        PurgeSnapshot(lock(&self.purge_log).covering_ids(key.access_key(), call_id))
    }

    /// Writes an answer, for all replicas to find for the time `life`. "No data yet"
    /// (`provisional`) never displaces anything.
    pub async fn write(
        &self,
        key: &CacheKey,
        answer: &WriteRequest<'_>,
        patience: &mut WaitBudget,
        metrics: &Shard,
    ) {
        let subject = key.to_bytes();
        let life = u64::try_from(answer.ttl.min(MAX_TTL).as_millis()).unwrap_or_default();
        let text = [&answer.purge_snapshot.to_bytes(), answer.value].concat();
        if life == 0 || text.len() > MAX_VALUE_SIZE {
            return;
        }
        let Some(sealed) = self.sealer.seal(&subject, &text) else {
            return;
        };
        let mut set = redis::cmd("SET");
        set.arg(self.sealer.storage_key(ENTRY_KIND, &subject, false))
            .arg(sealed)
            .arg("PX")
            .arg(life);
        if answer.is_negative {
            set.arg("NX");
        }
        let written = self
            .query(patience, async move |mut store: Connection| {
                set.query_async::<redis::Value>(&mut store).await
            })
            .await;
        metrics.count(match written {
            Ok(_) => SharedStoreUse::WriteOk,
            Err(QueryError::Failed) => SharedStoreUse::WriteFailed,
            Err(QueryError::Unavailable) => SharedStoreUse::WriteSkipped,
        });
    }

    /// Takes one of the budget that an ak has over all replicas: `Ok` with the time until one more
    /// would pass if it is used up.
    ///
    /// # Errors
    /// The store does not say: the local budget decides.
    pub async fn acquire_rate_limit(
        &self,
        access_key: &AccessKey,
        rate: Rate,
        patience: &mut WaitBudget,
        metrics: &Shard,
    ) -> Result<Option<Duration>, QueryError> {
        let name = self
            .sealer
            .storage_key(RATE_LIMIT_KIND, access_key.as_str().as_bytes(), false);
        let asked = async move |store| rate_limit::acquire(store, name, rate).await;
        let answer = self.query(patience, asked).await;
        metrics.count(match &answer {
            Ok(_) => SharedStoreUse::RateLimitOk,
            Err(QueryError::Failed) => SharedStoreUse::RateLimitFailed,
            Err(QueryError::Unavailable) => SharedStoreUse::RateLimitSkipped,
        });
        answer
    }

    /// Has answers forgotten in the store and by all other replicas: at once, or when the store is
    /// back. The own cache is the caller's business.
    pub fn purge(&self, purge: Purge) {
        let mut record = PurgeRecord::new(purge);
        // From now on nothing counts here that was written before.
        let mut purges = lock(&self.purge_log);
        purges.add(record.clone());
        if purges.is_full() {
            record = PurgeRecord::new(Purge::default());
            purges.add(record.clone());
        }
        drop(purges);
        self.purge_queue.push(record);
    }

    /// Waits until the store has been told of all purges so far, at most `longest`; false if it has
    /// not.
    pub async fn wait_until_published(&self, longest: Duration) -> bool {
        timeout(longest, self.purge_queue.wait_until_empty())
            .await
            .is_ok()
    }

    /// One question within what is left of the asker's patience. A store that does not answer is not
    /// asked again before it is known to be well.
    async fn query<T>(
        &self,
        patience: &mut WaitBudget,
        question: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, QueryError> {
        let session = self.session.current().ok_or(QueryError::Unavailable)?;
        if patience.remaining.is_zero() {
            return Err(QueryError::Unavailable);
        }
        let begun = Instant::now();
        let answer = timeout(patience.remaining, question(session.connection.clone())).await;
        patience.remaining = patience.remaining.saturating_sub(begun.elapsed());
        match answer {
            Ok(Ok(answer)) => Ok(answer),
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

/// What is left of the time that one request may wait for the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WaitBudget {
    remaining: Duration,
}

/// An answer to be written.
#[derive(Debug)]
pub struct WriteRequest<'a> {
    /// What its finder gets.
    pub value: &'a [u8],
    /// How long it is good for anything.
    pub ttl: Duration,
    /// "No data yet".
    pub is_negative: bool,
    /// From before it was fetched.
    pub purge_snapshot: &'a PurgeSnapshot,
}

/// The purges that a replica knew of when it began to fetch an answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PurgeSnapshot(Vec<u64>);

impl PurgeSnapshot {
    fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let ids = self.0.iter().flat_map(|id| id.to_be_bytes());
        count.to_be_bytes().into_iter().chain(ids).collect()
    }

    /// It, and what stands behind it.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
        let (ids, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (ids, _) = ids.as_chunks();
        let ids = ids.iter().map(|id| u64::from_be_bytes(*id));
        Some((Self(ids.collect()), rest))
    }
}

/// The store did not answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueryError {
    /// It was not asked: it is away, or the patience was used up.
    Unavailable,
    /// It was asked, and did not answer or refused.
    Failed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kinds of names.
const ENTRY_KIND: &str = "answer";
const RATE_LIMIT_KIND: &str = "budget";
const LEASE_KIND: &str = "fetch";

/// No value longer than this is read or written.
const MAX_VALUE_SIZE: usize = 4 << 20;

/// An answer that lives longer is fetched anew once a day; so long, a purge is kept in mind.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::NodeAddress;
    use crate::config::StoreSecret;

    #[test]
    fn a_store_that_stays_away_costs_no_more_for_each_purge() {
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
            store.purge(Purge {
                access_key: Some(key.access_key().clone()),
                call_id: None,
            });
            assert!(store.unpublished_purges() <= purge_log::MAX_PURGES);
            let PurgeSnapshot(known) = store.purge_snapshot(&key, None);
            assert!(
                (1..=purge_log::MAX_PURGES).contains(&known.len()),
                "{}",
                known.len()
            );
        }
    }

    proptest! {
        #[test]
        fn knowledge_travels_before_a_text(ids: Vec<u64>, text: Vec<u8>) {
            let knowledge = PurgeSnapshot(ids);
            let bytes = [knowledge.to_bytes(), text.clone()].concat();
            prop_assert_eq!(PurgeSnapshot::parse(&bytes), Some((knowledge, text.as_slice())));
        }

        #[test]
        fn garbage_is_no_knowledge(garbage: Vec<u8>) {
            let _ = PurgeSnapshot::parse(&garbage);
        }
    }
}
