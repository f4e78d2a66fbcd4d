//! Whole answers until shortly before their URLs expire. A store and the rules of what may be given
//! out; fetching is [`crate::cache::singleflight`]'s and `upstream`'s business. Reads no clock: `now` is handed in,
//! and compared with each entry on every hit, because the store's own clock is monotonic and URLs
//! expire on a wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use moka::Expiry;
use moka::policy::EvictionPolicy;

mod entry;
pub mod singleflight;

pub use entry::Entry;

use crate::config;
pub use crate::message::Purge;
use crate::message::{BufferedResponse, CacheKey};

/// The answers of all callers, shared by all workers.
#[derive(Debug)]
pub struct Cache {
    entries: moka::sync::Cache<CacheKey, Arc<Entry>, foldhash::fast::RandomState>,
    purge_epoch: AtomicU64,
}

impl Cache {
    /// An empty cache of at most `max_size` bytes; 0 holds nothing.
    pub fn new(max_size: u64) -> Self {
        let store = moka::sync::Cache::builder()
            .max_capacity(max_size)
            .weigher(|key: &CacheKey, entry: &Arc<Entry>| {
                u32::try_from(key.weight() + entry.weight()).unwrap_or(u32::MAX)
            })
            // The default policy may throw out the very entry that was announced as stored.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(EntryExpiry)
            .support_invalidation_closures()
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self {
            entries: store,
            purge_epoch: AtomicU64::new(0),
        }
    }

    /// What is held for `key`, and what it is good for now.
    pub fn get(&self, key: &CacheKey, now: Timestamp) -> Option<CacheHit> {
        let entry = self.entries.get(key)?;
        let freshness = entry.freshness(now)?;
        Some(CacheHit { entry, freshness })
    }

    /// The right to store one answer: given before it is fetched, and void if anything is purged
    /// meanwhile.
    pub fn begin_insert<'a>(&self, key: &'a CacheKey, call_id: Option<&'a str>) -> InsertToken<'a> {
        InsertToken {
            key,
            call_id,
            purge_epoch: self.purge_epoch.load(Ordering::Acquire),
        }
    }

    /// Stores an answer if the rules allow it; says what became of it.
    pub fn insert(
        &self,
        ticket: &InsertToken<'_>,
        reply: &BufferedResponse,
        rules: &CachePolicy,
        now: Timestamp,
    ) -> InsertOutcome {
        let Some(mut entry) = Entry::from_response(reply, rules, now) else {
            return InsertOutcome::NotStored;
        };
        if rules.is_disabled || self.is_invalidated(ticket) {
            return InsertOutcome::NotStored;
        }
        let negative = entry.is_negative;
        // "No data" never displaces an answer that is still good.
        if negative
            && self
                .get(ticket.key, now)
                .is_some_and(|held| !held.entry.is_negative)
        {
            return InsertOutcome::NotStored;
        }
        entry.call_id = ticket.call_id.map(Into::into);
        self.entries.insert(ticket.key.clone(), Arc::new(entry));
        // A purge between the look above and the insertion would have missed the entry.
        if self.is_invalidated(ticket) {
            self.entries.invalidate(ticket.key);
            return InsertOutcome::NotStored;
        }
        if negative {
            InsertOutcome::StoredNegative
        } else {
            InsertOutcome::Stored
        }
    }

    /// Takes in an answer that another replica fetched at `fetched_at`, by the same rules; `None` if
    /// they do not allow it, or no longer, or if what is held is as good.
    pub fn insert_remote(
        &self,
        ticket: &InsertToken<'_>,
        reply: &BufferedResponse,
        rules: &CachePolicy,
        (fetched_at, now): (Timestamp, Timestamp),
    ) -> Option<CacheHit> {
        // The other's clock may be ahead.
        let mut entry = Entry::from_response(reply, rules, fetched_at.min(now))?;
        let freshness = entry.freshness(now)?;
        let displaces = self.get(ticket.key, now).is_some_and(|held| {
            (!held.entry.is_negative && entry.is_negative)
                || held.entry.fresh_until >= entry.fresh_until
        });
        if rules.is_disabled || displaces || self.is_invalidated(ticket) {
            return None;
        }
        entry.call_id = ticket.call_id.map(Into::into);
        let entry = Arc::new(entry);
        self.entries.insert(ticket.key.clone(), entry.clone());
        if self.is_invalidated(ticket) {
            self.entries.invalidate(ticket.key);
            return None;
        }
        Some(CacheHit { entry, freshness })
    }

    /// Forgets all that matches; an empty purge forgets everything. What is being fetched now will
    /// not be stored either. Returns how many entries are gone.
    pub fn purge(&self, purge: Purge) -> usize {
        self.purge_epoch.fetch_add(1, Ordering::AcqRel);
        if purge.access_key.is_none() && purge.call_id.is_none() {
            let gone = self.entries.iter().count();
            self.entries.invalidate_all();
            return gone;
        }
        let matches = move |key: &CacheKey, entry: &Arc<Entry>| {
            purge.matches(key.access_key(), entry.call_id.as_deref())
        };
        let gone = self
            .entries
            .iter()
            .filter(|(key, entry)| matches(key, entry));
        let gone = gone.count();
        // Fails only without `support_invalidation_closures`, which is set above.
        if self.entries.invalidate_entries_if(matches).is_err() {
            self.entries.invalidate_all();
        }
        gone
    }

    /// Number of entries and their weight in bytes, both settled.
    pub fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }

    fn is_invalidated(&self, ticket: &InsertToken<'_>) -> bool {
        ticket.purge_epoch != self.purge_epoch.load(Ordering::Acquire)
    }
}

/// The right to store one answer under one key.
#[derive(Clone, Debug)]
pub struct InsertToken<'a> {
    key: &'a CacheKey,
    call_id: Option<&'a str>,
    purge_epoch: u64,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InsertOutcome {
    /// "No data yet", held for a moment.
    StoredNegative,
    /// Not stored.
    NotStored,
    /// Stored.
    Stored,
}

/// The rules of a generation of the configuration.
#[derive(Clone, Debug)]
pub struct CachePolicy {
    is_disabled: bool,
    expiry_margin: SignedDuration,
    minimum_life: SignedDuration,
    stale_if_error: bool,
    negative_ttl: SignedDuration,
    success_codes: Vec<String>,
}

impl CachePolicy {
    /// Is nothing kept at all?
    pub fn is_disabled(&self) -> bool {
        self.is_disabled
    }
}

impl From<&config::Cache> for CachePolicy {
    fn from(settings: &config::Cache) -> Self {
        let signed = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        Self {
            is_disabled: settings.max_size == 0,
            expiry_margin: signed(settings.expiry_margin),
            minimum_life: signed(settings.minimum_life),
            stale_if_error: settings.stale_if_error,
            negative_ttl: signed(settings.negative_ttl),
            success_codes: settings.success_codes.clone(),
        }
    }
}

/// An answer that was found.
#[derive(Clone, Debug)]
pub struct CacheHit {
    /// The answer.
    pub entry: Arc<Entry>,
    /// What it is good for.
    pub freshness: Freshness,
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// To be given out.
    Fresh,
    /// Inside the margin: only where a node would have failed the client.
    StaleIfError,
}

/// Garbage collection only; what may be given out is decided against the wall clock.
struct EntryExpiry;

impl Expiry<CacheKey, Arc<Entry>> for EntryExpiry {
    fn expire_after_create(
        &self,
        _: &CacheKey,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        let life = entry.usable_until.duration_since(entry.stored_at);
        Some(Duration::try_from(life).unwrap_or_default())
    }

    // The default would keep the deadline of the entry that was replaced.
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
