//! The cache of whole responses, each until shortly before its URLs expire: the storage, and the rules
//! of what may be served. [`singleflight`] and `upstream` fetch. Reads no clock:
//! `now` is passed in and compared with each entry on every hit, because URLs expire by the wall clock.

use std::sync::Arc;

use jiff::Timestamp;

mod entry;
mod policy;
mod purge;
mod purge_set;
mod recent_purges;
pub mod singleflight;
mod store;

pub use entry::{CacheHit, Entry};
pub use policy::{CachePolicy, Freshness};
pub use purge::PurgeHandle;
pub use purge_set::{PurgeSet, PurgedKeys};

pub use crate::message::Purge;
use crate::message::{BufferedResponse, CacheKey};
use purge::PendingPurges;
use store::Store;

/// The cached responses of all callers, shared by all workers.
#[derive(Debug)]
pub struct Cache {
    entries: Store<CacheKey, Arc<Entry>>,
    purges: PendingPurges,
}

impl Cache {
    /// Creates an empty cache of at most `max_size` bytes; 0 disables it.
    pub fn new(max_size: u64) -> Self {
        Self {
            entries: Store::new(max_size),
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
        if !self.store(token, Arc::new(entry)) {
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
        self.store(token, hit.entry.clone()).then_some(hit)
    }

    /// Returns whether the entry is stored: not if it is too large, or purged meanwhile.
    fn store(&self, token: &InsertToken<'_>, entry: Arc<Entry>) -> bool {
        let key = token.key.compacted();
        let weight = u32::try_from(key.weight() + entry.weight()).unwrap_or(u32::MAX);
        let is_stored = self.entries.insert(key, entry, weight);
        // A purge between the check before and the insertion has missed the entry.
        let is_invalidated = self.is_invalidated(token);
        if is_invalidated {
            self.entries.remove(token.key);
        }
        is_stored && !is_invalidated
    }

    /// Purges all entries that the set matches: they are misses from now on, and responses of fetches in
    /// progress that it matches are not stored. Takes no longer for more entries; [`Cache::sweep`] removes them.
    pub fn begin_purge(&self, set: PurgeSet) -> PurgeHandle {
        self.purges.begin(set)
    }

    /// Removes the entries of all purges that have begun, in one pass over the cache: to be called on a
    /// thread that serves no requests.
    pub fn sweep(&self) {
        self.purges.sweep(|is_covered| {
            self.entries.remove_if(|key, entry| {
                is_covered(
                    key.access_key(),
                    entry.call_id.as_deref(),
                    entry.purge_epoch,
                )
            })
        });
    }

    /// Removes the entries that no policy uses at `now` or later, in one pass over the cache: to be called
    /// on a thread that serves no requests.
    pub fn remove_expired(&self, now: Timestamp) {
        self.entries.remove_if(|_, entry| entry.kept_until <= now);
    }

    /// Returns when the last URL in the responses to an access key expires. Takes one pass over the cache:
    /// to be called on a thread that serves no requests.
    pub fn latest_expiry(&self, access_key: &str) -> Option<Timestamp> {
        let mut latest = None;
        self.entries.for_each(|key, entry| {
            if key.access_key().as_str() == access_key && !self.is_purged(key, entry) {
                latest = latest.max(entry.expires_at());
            }
        });
        latest
    }

    /// Returns the number of entries and their weight in bytes.
    pub fn size(&self) -> (u64, u64) {
        self.entries.size()
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

#[cfg(test)]
mod tests;
