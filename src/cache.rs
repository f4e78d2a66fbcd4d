//! The cache of whole responses, each until shortly before its URLs expire: the storage, and the rules
//! of what may be served. [`singleflight`] and `upstream` fetch. Reads no clock:
//! `now` is passed in and compared with each entry on every hit, because URLs expire by the wall clock
//! and moka's own clock is monotonic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use moka::Expiry;
use moka::policy::EvictionPolicy;

mod entry;
mod policy;
mod purge;
mod purge_set;
mod recent_purges;
pub mod singleflight;

pub use entry::{CacheHit, Entry};
pub use policy::{CachePolicy, Freshness};
pub use purge::PurgeHandle;
pub use purge_set::{PurgeSet, PurgedKeys};

pub use crate::message::Purge;
use crate::message::{BufferedResponse, CacheKey};
use purge::PendingPurges;

/// The cached responses of all callers, shared by all workers.
#[derive(Debug)]
pub struct Cache {
    entries: moka::sync::Cache<CacheKey, Arc<Entry>, foldhash::fast::RandomState>,
    purges: PendingPurges,
}

impl Cache {
    /// Creates an empty cache of at most `max_size` bytes; 0 disables it.
    pub fn new(max_size: u64) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(max_size)
            .weigher(|key: &CacheKey, entry: &Arc<Entry>| {
                u32::try_from(key.weight() + entry.weight()).unwrap_or(u32::MAX)
            })
            // moka's default, TinyLFU, may evict the very entry that was just reported as stored.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(EntryExpiry)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self {
            entries,
            purges: PendingPurges::default(),
        }
    }

    /// Returns the entry of `key` if the policy of the request allows to use it at `now`.
    pub fn get(&self, key: &CacheKey, policy: &CachePolicy, now: Timestamp) -> Option<CacheHit> {
        let entry = self.entries.get(key)?;
        if self.is_purged(key, &entry) {
            return None;
        }
        CacheHit::of(entry, policy, now)
    }

    /// Returns the token for inserting one response. Call it before the fetch: a purge after this point
    /// that covers the response invalidates the token.
    pub fn begin_insert<'a>(&self, key: &'a CacheKey, call_id: Option<&'a str>) -> InsertToken<'a> {
        InsertToken {
            key,
            call_id,
            purge_epoch: self.purges.epoch(),
        }
    }

    /// Stores a response if the policy allows it.
    pub fn insert(
        &self,
        token: &InsertToken<'_>,
        response: &BufferedResponse,
        policy: &CachePolicy,
        now: Timestamp,
    ) -> InsertOutcome {
        let Some(mut entry) = Entry::from_response(response, policy, now) else {
            return InsertOutcome::NotStored;
        };
        if policy.is_disabled || self.is_invalidated(token) {
            return InsertOutcome::NotStored;
        }
        let is_negative = entry.is_negative;
        // "No data" never replaces a response that is still usable.
        if is_negative
            && self
                .get(token.key, policy, now)
                .is_some_and(|hit| !hit.entry.is_negative)
        {
            return InsertOutcome::NotStored;
        }
        entry.call_id = token.call_id.map(Into::into);
        entry.purge_epoch = token.purge_epoch;
        self.entries.insert(token.key.compacted(), Arc::new(entry));
        // A purge between the check above and the insertion has missed the entry.
        if self.is_invalidated(token) {
            self.entries.invalidate(token.key);
            return InsertOutcome::NotStored;
        }
        if is_negative {
            InsertOutcome::StoredNegative
        } else {
            InsertOutcome::Stored
        }
    }

    /// Stores a response that another replica fetched, by the same policy. Returns `None` if the policy
    /// does not allow it, if it is no longer usable, or if the entry held here is as good.
    pub fn insert_remote(
        &self,
        token: &InsertToken<'_>,
        response: &BufferedResponse,
        policy: &CachePolicy,
        times: FetchTimes,
    ) -> Option<CacheHit> {
        let now = times.now;
        // The clock of the other replica may be ahead.
        let fetched_at = times.fetched_at.min(now);
        let mut entry = Entry::from_response(response, policy, fetched_at)?;
        entry.call_id = token.call_id.map(Into::into);
        entry.purge_epoch = token.purge_epoch;
        let hit = CacheHit::of(Arc::new(entry), policy, now)?;
        let held_is_as_good = self.get(token.key, policy, now).is_some_and(|held| {
            (!held.entry.is_negative && hit.entry.is_negative)
                || held.lifetime.fresh_until >= hit.lifetime.fresh_until
        });
        if policy.is_disabled || held_is_as_good || self.is_invalidated(token) {
            return None;
        }
        self.entries
            .insert(token.key.compacted(), hit.entry.clone());
        if self.is_invalidated(token) {
            self.entries.invalidate(token.key);
            return None;
        }
        Some(hit)
    }

    /// Purges all entries that the set matches: they are misses from now on, and responses of fetches in
    /// progress that it matches are not stored. Takes no longer for more entries; [`Cache::sweep`] removes them.
    pub fn begin_purge(&self, set: PurgeSet) -> PurgeHandle {
        self.purges.begin(set)
    }

    /// Removes the entries of all purges that have begun, in one pass over the cache. Blocks for about a
    /// microsecond per entry: to be called on a thread that serves no requests.
    pub fn sweep(&self) {
        self.purges.sweep(|is_covered| {
            let is_covered = |key: &CacheKey, entry: &Entry| {
                is_covered(
                    key.access_key(),
                    entry.call_id.as_deref(),
                    entry.purge_epoch,
                )
            };
            let mut removed = 0;
            for (key, entry) in &self.entries {
                if is_covered(&key, &entry) {
                    self.entries.invalidate(&*key);
                    removed += 1;
                }
            }
            removed
        });
    }

    /// Returns when the last URL in the responses to an access key expires. Takes one pass over the cache:
    /// to be called on a thread that serves no requests.
    pub fn latest_expiry(&self, access_key: &str) -> Option<Timestamp> {
        let entries = self.entries.iter();
        let own = entries.filter(|(key, _)| key.access_key().as_str() == access_key);
        own.filter(|(key, entry)| !self.is_purged(key, entry))
            .filter_map(|(_, entry)| entry.expires_at())
            .max()
    }

    /// Returns the number of entries and their weight in bytes, after all pending maintenance.
    pub fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }

    fn is_purged(&self, key: &CacheKey, entry: &Entry) -> bool {
        let call_id = entry.call_id.as_deref();
        self.purges
            .covers(key.access_key(), call_id, entry.purge_epoch)
    }

    fn is_invalidated(&self, token: &InsertToken<'_>) -> bool {
        let access_key = token.key.access_key();
        self.purges
            .covers_fetch(access_key, token.call_id, token.purge_epoch)
    }
}

/// Permits the insertion of one response under one key, unless a purge of it came after it was issued.
#[derive(Clone, Debug)]
pub struct InsertToken<'a> {
    key: &'a CacheKey,
    call_id: Option<&'a str>,
    purge_epoch: u64,
}

/// When a response was fetched by another replica, and the current time here.
#[derive(Clone, Copy, Debug)]
pub struct FetchTimes {
    /// By the clock of the replica that fetched it.
    pub fetched_at: Timestamp,
    /// By the clock of this replica.
    pub now: Timestamp,
}

/// The result of an insertion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InsertOutcome {
    /// A negative response ("no data yet"), stored for `negative_ttl`.
    StoredNegative,
    /// Not stored.
    NotStored,
    /// Stored.
    Stored,
}

/// Garbage collection by moka's clock. What may be served is decided by the wall clock and the policy of
/// each request.
struct EntryExpiry;

impl Expiry<CacheKey, Arc<Entry>> for EntryExpiry {
    fn expire_after_create(
        &self,
        _: &CacheKey,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        Some(entry.retention())
    }

    // The default implementation keeps the deadline of the replaced entry.
    fn expire_after_update(
        &self,
        key: &CacheKey,
        entry: &Arc<Entry>,
        updated_at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, updated_at)
    }
}

#[cfg(test)]
mod tests;
