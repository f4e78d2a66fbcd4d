//! Finding an answer, or the right to fetch it, or somebody to wait for: one question to the store in
//! the common case.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisResult, Script};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::connection::Connection;
use super::lease::{self, Lease};
use super::{ANSWER, FETCH, Knowledge, LARGEST, Patience, Store, Unanswered, lock};
use crate::message::CacheKey;
use crate::metrics::{Shard, SharedUse};

/// What came of a search.
#[derive(Debug)]
pub enum Found<T> {
    /// An answer.
    Answer(T),
    /// Nothing good, and it is for this replica to fetch it for all.
    Lease(Lease),
    /// Nothing good, and nobody to wait for.
    Nothing,
}

/// What is sought.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Whose answer.
    pub key: &'a CacheKey,
    /// Of which call.
    pub call_id: Option<&'a str>,
    /// How long somebody who fetches it may be waited for.
    pub longest: Duration,
}

impl Store {
    /// Seeks an answer that `accept` takes. While another replica fetches it, waits.
    pub async fn find<T>(
        &self,
        sought: Sought<'_>,
        patience: &mut Patience,
        metrics: &Shard,
        accept: impl Fn(&[u8]) -> Option<T>,
    ) -> Found<T> {
        let subject = sought.key.to_bytes();
        let names = [
            self.seals.name(ANSWER, &subject, false),
            self.seals.name(FETCH, &subject, false),
        ];
        let read = |sealed: &[u8]| {
            let text = self.read(sought, &subject, sealed);
            text.and_then(|text| accept(behind_knowledge(&text)))
        };
        let end = Instant::now() + sought.longest;
        let (mut over_all, mut pause, mut waited) = (false, SHORTEST_PAUSE, false);
        loop {
            let question = async |store| look(store, &names, over_all).await;
            // Only what the store itself takes counts; it may be asked many times.
            let mut one = *patience;
            let asked = self
                .ask(if waited { &mut one } else { patience }, question)
                .await;
            let Ok((sealed, state)) = asked.inspect_err(|why| metrics.count(counted(*why))) else {
                return Found::Nothing;
            };
            if !sealed.is_empty() {
                if let Some(answer) = read(&sealed) {
                    metrics.count(SharedUse::LookUpHit);
                    return Found::Answer(answer);
                }
                if !over_all {
                    metrics.count(SharedUse::LookUpUnusable);
                }
            }
            match state {
                State::Free => over_all = true,
                State::Ours => {
                    let [_, name] = names;
                    let older = self.older(&subject, patience).await;
                    return self
                        .ours(
                            Lease { name },
                            older.as_deref().and_then(read),
                            metrics,
                            patience,
                        )
                        .await;
                }
                State::Fetching if Instant::now() + pause < end => {
                    if !waited {
                        metrics.count(SharedUse::LookUpWaited);
                    }
                    (waited, over_all) = (true, true);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                State::Fetching | State::Passed => {
                    metrics.count(SharedUse::LookUpMiss);
                    return Found::Nothing;
                }
            }
        }
    }

    /// The lease, unless something good stands under an older name.
    async fn ours<T>(
        &self,
        lease: Lease,
        older: Option<T>,
        metrics: &Shard,
        patience: &mut Patience,
    ) -> Found<T> {
        match older {
            Some(answer) => {
                metrics.count(SharedUse::LookUpHit);
                self.end(lease, true, patience).await;
                Found::Answer(answer)
            }
            None => {
                metrics.count(SharedUse::LookUpMiss);
                Found::Lease(lease)
            }
        }
    }

    /// What stands under the name of the second key, which is about to go.
    async fn older(&self, subject: &[u8], patience: &mut Patience) -> Option<Vec<u8>> {
        if !self.seals.rotating() {
            return None;
        }
        let mut get = redis::cmd("GETRANGE");
        get.arg(self.seals.name(ANSWER, subject, true))
            .arg(0)
            .arg(LARGEST);
        let question = async move |mut store: Connection| get.query_async(&mut store).await;
        self.ask(patience, question).await.ok()
    }

    /// What was sealed by one of us for this key, and is not purged.
    fn read(
        &self,
        sought: Sought<'_>,
        subject: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let text = self.seals.open(subject, sealed)?;
        let (knew, _) = Knowledge::read(&text)?;
        let access_key = sought.key.access_key();
        let void = lock(&self.purges).void(access_key, sought.call_id, &knew.0);
        (!void).then_some(text)
    }
}

fn counted(unanswered: Unanswered) -> SharedUse {
    match unanswered {
        Unanswered::Away => SharedUse::LookUpSkipped,
        Unanswered::Failed => SharedUse::LookUpFailed,
    }
}

fn behind_knowledge(text: &[u8]) -> &[u8] {
    Knowledge::read(text).map_or(&[], |(_, rest)| rest)
}

/// What stands there, and who fetches it.
async fn look(
    mut store: Connection,
    names: &[String; 2],
    over_all: bool,
) -> RedisResult<(Vec<u8>, State)> {
    let (sealed, state): (Vec<u8>, String) = LOOK
        .key(&names[0])
        .key(&names[1])
        .arg(LARGEST)
        .arg(u64::try_from(lease::LIFE.as_millis()).unwrap_or(u64::MAX))
        .arg(u8::from(over_all))
        .arg(lease::NOTHING)
        .invoke_async(&mut store)
        .await?;
    let state = match state.as_str() {
        "free" => State::Free,
        "ours" => State::Ours,
        "passed" => State::Passed,
        _ => State::Fetching,
    };
    Ok((sealed, state))
}

/// Who fetches.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Somebody does.
    Fetching,
    /// Nobody does; something stands there.
    Free,
    /// We do from now on.
    Ours,
    /// Somebody just did, and there was nothing to share.
    Passed,
}

/// Reads a value up to a length, and takes the lease if nobody has it and there is no value, or the
/// value is known to be no good. Both stand in one slot of a cluster.
static LOOK: LazyLock<Script> = LazyLock::new(|| {
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

const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
