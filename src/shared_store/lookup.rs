//! Finding an answer, or the right to fetch it, or somebody to wait for: one question to the store in
//! the common case.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisResult, Script};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::connection::Connection;
use super::lease::{self, Lease};
use super::{
    ENTRY_KIND, LEASE_KIND, MAX_VALUE_SIZE, PurgeSnapshot, QueryError, Store, WaitBudget, lock,
};
use crate::message::CacheKey;
use crate::metrics::{Shard, SharedStoreUse};

/// What came of a search.
#[derive(Debug)]
pub enum LookupOutcome<T> {
    /// An answer.
    Hit(T),
    /// Nothing good, and it is for this replica to fetch it for all.
    LeaseAcquired(Lease),
    /// Nothing good, and nobody to wait for.
    Miss,
}

/// What is sought.
#[derive(Clone, Copy, Debug)]
pub struct LookupRequest<'a> {
    /// Whose answer.
    pub key: &'a CacheKey,
    /// Of which call.
    pub call_id: Option<&'a str>,
    /// How long somebody who fetches it may be waited for.
    pub max_wait: Duration,
}

impl Store {
    /// Seeks an answer that `accept` takes. While another replica fetches it, waits.
    pub async fn lookup<T>(
        &self,
        sought: LookupRequest<'_>,
        patience: &mut WaitBudget,
        metrics: &Shard,
        accept: impl Fn(&[u8]) -> Option<T>,
    ) -> LookupOutcome<T> {
        let subject = sought.key.to_bytes();
        let names = [
            self.sealer.storage_key(ENTRY_KIND, &subject, false),
            self.sealer.storage_key(LEASE_KIND, &subject, false),
        ];
        let read = |sealed: &[u8]| {
            let text = self.open_value(sought, &subject, sealed);
            text.and_then(|text| accept(strip_purge_snapshot(&text)))
        };
        let end = Instant::now() + sought.max_wait;
        let (mut over_all, mut pause, mut waited) = (false, MIN_POLL_INTERVAL, false);
        loop {
            let question = async |store| read_or_lease(store, &names, over_all).await;
            // Only what the store itself takes counts; it may be asked many times.
            let mut one = *patience;
            let asked = self
                .query(if waited { &mut one } else { patience }, question)
                .await;
            let Ok((sealed, state)) = asked.inspect_err(|why| metrics.count(failure_metric(*why)))
            else {
                return LookupOutcome::Miss;
            };
            if !sealed.is_empty() {
                if let Some(answer) = read(&sealed) {
                    metrics.count(SharedStoreUse::LookupHit);
                    return LookupOutcome::Hit(answer);
                }
                if !over_all {
                    metrics.count(SharedStoreUse::LookupUnusable);
                }
            }
            match state {
                LeaseState::Free => over_all = true,
                LeaseState::Acquired => {
                    let [_, name] = names;
                    let older = self.read_previous_key(&subject, patience).await;
                    return self
                        .with_lease(
                            Lease { key: name },
                            older.as_deref().and_then(read),
                            metrics,
                            patience,
                        )
                        .await;
                }
                LeaseState::HeldElsewhere if Instant::now() + pause < end => {
                    if !waited {
                        metrics.count(SharedStoreUse::LookupWaited);
                    }
                    (waited, over_all) = (true, true);
                    sleep(pause).await;
                    pause = (pause * 2).min(MAX_POLL_INTERVAL);
                }
                LeaseState::HeldElsewhere | LeaseState::RecentlyFruitless => {
                    metrics.count(SharedStoreUse::LookupMiss);
                    return LookupOutcome::Miss;
                }
            }
        }
    }

    /// The lease, unless something good stands under an older name.
    async fn with_lease<T>(
        &self,
        lease: Lease,
        older: Option<T>,
        metrics: &Shard,
        patience: &mut WaitBudget,
    ) -> LookupOutcome<T> {
        match older {
            Some(answer) => {
                metrics.count(SharedStoreUse::LookupHit);
                self.release_lease(lease, true, patience).await;
                LookupOutcome::Hit(answer)
            }
            None => {
                metrics.count(SharedStoreUse::LookupMiss);
                LookupOutcome::LeaseAcquired(lease)
            }
        }
    }

    /// What stands under the name of the second key, which is about to go.
    async fn read_previous_key(
        &self,
        subject: &[u8],
        patience: &mut WaitBudget,
    ) -> Option<Vec<u8>> {
        if !self.sealer.is_rotating() {
            return None;
        }
        let mut get = redis::cmd("GETRANGE");
        get.arg(self.sealer.storage_key(ENTRY_KIND, subject, true))
            .arg(0)
            .arg(MAX_VALUE_SIZE);
        let question = async move |mut store: Connection| get.query_async(&mut store).await;
        self.query(patience, question).await.ok()
    }

    /// What was sealed by one of us for this key, and is not purged.
    fn open_value(
        &self,
        sought: LookupRequest<'_>,
        subject: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.sealer.open(subject, sealed)?;
        let (knew, _) = PurgeSnapshot::parse(&text)?;
        let access_key = sought.key.access_key();
        let void = lock(&self.purge_log).invalidates(access_key, sought.call_id, &knew.0);
        (!void).then_some(text)
    }
}

fn failure_metric(unanswered: QueryError) -> SharedStoreUse {
    match unanswered {
        QueryError::Unavailable => SharedStoreUse::LookupSkipped,
        QueryError::Failed => SharedStoreUse::LookupFailed,
    }
}

fn strip_purge_snapshot(text: &[u8]) -> &[u8] {
    PurgeSnapshot::parse(text).map_or(&[], |(_, rest)| rest)
}

/// What stands there, and who fetches it.
async fn read_or_lease(
    mut store: Connection,
    names: &[String; 2],
    over_all: bool,
) -> RedisResult<(Vec<u8>, LeaseState)> {
    let (sealed, state): (Vec<u8>, String) = READ_OR_LEASE
        .key(&names[0])
        .key(&names[1])
        .arg(MAX_VALUE_SIZE)
        .arg(u64::try_from(lease::LEASE_TTL.as_millis()).unwrap_or(u64::MAX))
        .arg(u8::from(over_all))
        .arg(lease::NO_RESULT)
        .invoke_async(&mut store)
        .await?;
    let state = match state.as_str() {
        "free" => LeaseState::Free,
        "ours" => LeaseState::Acquired,
        "passed" => LeaseState::RecentlyFruitless,
        _ => LeaseState::HeldElsewhere,
    };
    Ok((sealed, state))
}

/// Who fetches.
#[derive(Clone, Copy, Debug)]
enum LeaseState {
    /// Somebody does.
    HeldElsewhere,
    /// Nobody does; something stands there.
    Free,
    /// We do from now on.
    Acquired,
    /// Somebody just did, and there was nothing to share.
    RecentlyFruitless,
}

/// Reads a value up to a length, and takes the lease if nobody has it and there is no value, or the
/// value is known to be no good. Both stand in one slot of a cluster.
static READ_OR_LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local value = redis.call('GETRANGE', KEYS[1], 0, ARGV[1])
local holder = redis.call('GET', KEYS[2])
if holder then
  return {value, holder == ARGV[4] and 'passed' or 'fetching'}
end
if value ~= '' and ARGV[3] == '0' then return {value, 'free'} end
redis.call('SET', KEYS[2], 'fetching', 'PX', ARGV[2])
return {value, 'ours'}
",
    )
});

const MIN_POLL_INTERVAL: Duration = Duration::from_millis(5);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(100);
