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
pub use lookup::{Found, Sought};
pub use session::Status;

use crate::auth::AccessKey;
use crate::config::{self, Rate};
use crate::message::{CacheKey, Purge};
use crate::metrics::{Shard, SharedUse};
use connection::Connection;
use encryption::Seals;
use purge_log::{Purges, Record};
use purge_queue::Pending;
use session::Link;

/// The store, as one replica knows it; shared by all workers. Asks nothing before [`Store::watch`]
/// has found it.
#[derive(Debug)]
pub struct Store {
    settings: config::Shared,
    seals: Seals,
    link: Link,
    purges: Mutex<Purges>,
    pending: Pending,
}

impl Store {
    /// The store at the place that is configured; nothing is done yet.
    pub fn new(settings: config::Shared) -> Self {
        Self {
            seals: Seals::new(&settings.seal_keys),
            settings,
            link: Link::default(),
            purges: Mutex::default(),
            pending: Pending::default(),
        }
    }

    /// The store after a reload: knows what the one `before` knew, and goes on where it was.
    pub fn next(settings: config::Shared, before: Option<&Self>) -> Self {
        let store = Self::new(settings);
        if let Some(before) = before {
            *lock(&store.purges) = lock(&before.purges).clone();
            before.pending.hand_over(&store.pending);
        }
        store
    }

    /// What it was made from.
    pub fn settings(&self) -> &config::Shared {
        &self.settings
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.link.status()
    }

    /// Purges that the store has not been told of, because it is away.
    pub fn untold(&self) -> usize {
        self.pending.len()
    }

    /// How long one request may wait for it.
    pub fn patience(&self) -> Patience {
        Patience {
            left: self.settings.timeout,
        }
    }

    /// What an answer that is fetched from now on has to be written with.
    pub fn knowledge(&self, key: &CacheKey, call_id: Option<&str>) -> Knowledge {
        Knowledge(lock(&self.purges).known_for(key.access_key(), call_id))
    }

    /// Writes an answer, for all replicas to find for the time `life`. "No data yet"
    /// (`provisional`) never displaces anything.
    pub async fn write(
        &self,
        key: &CacheKey,
        answer: &Answer<'_>,
        patience: &mut Patience,
        metrics: &Shard,
    ) {
        let subject = key.to_bytes();
        let life = u64::try_from(answer.life.min(LONGEST_LIFE).as_millis()).unwrap_or_default();
        let text = [&answer.knowledge.to_bytes(), answer.text].concat();
        if life == 0 || text.len() > LARGEST {
            return;
        }
        let Some(sealed) = self.seals.seal(&subject, &text) else {
            return;
        };
        let mut set = redis::cmd("SET");
        set.arg(self.seals.name(ANSWER, &subject, false))
            .arg(sealed)
            .arg("PX")
            .arg(life);
        if answer.provisional {
            set.arg("NX");
        }
        let written = self
            .ask(patience, async move |mut store: Connection| {
                set.query_async::<redis::Value>(&mut store).await
            })
            .await;
        metrics.count(match written {
            Ok(_) => SharedUse::StoreOk,
            Err(Unanswered::Failed) => SharedUse::StoreFailed,
            Err(Unanswered::Away) => SharedUse::StoreSkipped,
        });
    }

    /// Takes one of the budget that an ak has over all replicas: `Ok` with the time until one more
    /// would pass if it is used up.
    ///
    /// # Errors
    /// The store does not say: the local budget decides.
    pub async fn charge(
        &self,
        access_key: &AccessKey,
        rate: Rate,
        patience: &mut Patience,
        metrics: &Shard,
    ) -> Result<Option<Duration>, Unanswered> {
        let name = self
            .seals
            .name(BUDGET, access_key.as_str().as_bytes(), false);
        let asked = async move |store| rate_limit::take(store, name, rate).await;
        let answer = self.ask(patience, asked).await;
        metrics.count(match &answer {
            Ok(_) => SharedUse::BudgetOk,
            Err(Unanswered::Failed) => SharedUse::BudgetFailed,
            Err(Unanswered::Away) => SharedUse::BudgetSkipped,
        });
        answer
    }

    /// Has answers forgotten in the store and by all other replicas: at once, or when the store is
    /// back. The own cache is the caller's business.
    pub fn purge(&self, purge: Purge) {
        let mut record = Record::new(purge);
        // From now on nothing counts here that was written before.
        let mut purges = lock(&self.purges);
        purges.learn(record.clone());
        if purges.is_full() {
            record = Record::new(Purge::default());
            purges.learn(record.clone());
        }
        drop(purges);
        self.pending.push(record);
    }

    /// Waits until the store has been told of all purges so far, at most `longest`; false if it has
    /// not.
    pub async fn purged(&self, longest: Duration) -> bool {
        timeout(longest, self.pending.told()).await.is_ok()
    }

    /// One question within what is left of the asker's patience. A store that does not answer is not
    /// asked again before it is known to be well.
    async fn ask<T>(
        &self,
        patience: &mut Patience,
        question: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, Unanswered> {
        let session = self.link.session().ok_or(Unanswered::Away)?;
        if patience.left.is_zero() {
            return Err(Unanswered::Away);
        }
        let begun = Instant::now();
        let answer = timeout(patience.left, question(session.connection.clone())).await;
        patience.left = patience.left.saturating_sub(begun.elapsed());
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.link.failed(&session, &error);
                Err(Unanswered::Failed)
            }
            Err(_elapsed) => {
                self.link.suspect(&session);
                Err(Unanswered::Failed)
            }
        }
    }
}

/// What is left of the time that one request may wait for the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    left: Duration,
}

/// An answer to be written.
#[derive(Debug)]
pub struct Answer<'a> {
    /// What its finder gets.
    pub text: &'a [u8],
    /// How long it is good for anything.
    pub life: Duration,
    /// "No data yet".
    pub provisional: bool,
    /// From before it was fetched.
    pub knowledge: &'a Knowledge,
}

/// The purges that a replica knew of when it began to fetch an answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Knowledge(Vec<u64>);

impl Knowledge {
    fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let ids = self.0.iter().flat_map(|id| id.to_be_bytes());
        count.to_be_bytes().into_iter().chain(ids).collect()
    }

    /// It, and what stands behind it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
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
pub enum Unanswered {
    /// It was not asked: it is away, or the patience was used up.
    Away,
    /// It was asked, and did not answer or refused.
    Failed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kinds of names.
const ANSWER: &str = "answer";
const BUDGET: &str = "budget";
const FETCH: &str = "fetch";

/// No value longer than this is read or written.
const LARGEST: usize = 4 << 20;

/// An answer that lives longer is fetched anew once a day; so long, a purge is kept in mind.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::NodeAddress;
    use crate::config::StoreSecret;

    #[test]
    fn a_store_that_stays_away_costs_no_more_for_each_purge() {
        let store = Store::new(config::Shared {
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
        for _ in 0..4 * purge_log::MOST {
            store.purge(Purge {
                access_key: Some(key.access_key().clone()),
                call_id: None,
            });
            assert!(store.untold() <= purge_log::MOST);
            let Knowledge(known) = store.knowledge(&key, None);
            assert!(
                (1..=purge_log::MOST).contains(&known.len()),
                "{}",
                known.len()
            );
        }
    }

    proptest! {
        #[test]
        fn knowledge_travels_before_a_text(ids: Vec<u64>, text: Vec<u8>) {
            let knowledge = Knowledge(ids);
            let bytes = [knowledge.to_bytes(), text.clone()].concat();
            prop_assert_eq!(Knowledge::read(&bytes), Some((knowledge, text.as_slice())));
        }

        #[test]
        fn garbage_is_no_knowledge(garbage: Vec<u8>) {
            let _ = Knowledge::read(&garbage);
        }
    }
}
