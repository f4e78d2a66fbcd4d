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
use crate::message::{CacheKey, WholeReply};

/// The answers of all callers, shared by all workers.
#[derive(Debug)]
pub struct Cache {
    store: moka::sync::Cache<CacheKey, Arc<Entry>, foldhash::fast::RandomState>,
    purges: AtomicU64,
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
            .expire_after(Life)
            .support_invalidation_closures()
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self {
            store,
            purges: AtomicU64::new(0),
        }
    }

    /// What is held for `key`, and what it is good for now.
    pub fn get(&self, key: &CacheKey, now: Timestamp) -> Option<Held> {
        let entry = self.store.get(key)?;
        let freshness = entry.freshness(now)?;
        Some(Held { entry, freshness })
    }

    /// The right to store one answer: given before it is fetched, and void if anything is purged
    /// meanwhile.
    pub fn ticket<'a>(&self, key: &'a CacheKey, call_id: Option<&'a str>) -> Ticket<'a> {
        Ticket {
            key,
            call_id,
            purges: self.purges.load(Ordering::Acquire),
        }
    }

    /// Stores an answer if the rules allow it; says what became of it.
    pub fn offer(
        &self,
        ticket: &Ticket<'_>,
        reply: &WholeReply,
        rules: &Rules,
        now: Timestamp,
    ) -> Offered {
        let Some(mut entry) = Entry::of(reply, rules, now) else {
            return Offered::Passed;
        };
        if rules.off || self.is_void(ticket) {
            return Offered::Passed;
        }
        let negative = entry.negative;
        // "No data" never displaces an answer that is still good.
        if negative
            && self
                .get(ticket.key, now)
                .is_some_and(|held| !held.entry.negative)
        {
            return Offered::Passed;
        }
        entry.call_id = ticket.call_id.map(Into::into);
        self.store.insert(ticket.key.clone(), Arc::new(entry));
        // A purge between the look above and the insertion would have missed the entry.
        if self.is_void(ticket) {
            self.store.invalidate(ticket.key);
            return Offered::Passed;
        }
        if negative {
            Offered::HeldNegative
        } else {
            Offered::Stored
        }
    }

    /// Takes in an answer that another replica fetched at `fetched_at`, by the same rules; `None` if
    /// they do not allow it, or no longer, or if what is held is as good.
    pub fn adopt(
        &self,
        ticket: &Ticket<'_>,
        reply: &WholeReply,
        rules: &Rules,
        (fetched_at, now): (Timestamp, Timestamp),
    ) -> Option<Held> {
        // The other's clock may be ahead.
        let mut entry = Entry::of(reply, rules, fetched_at.min(now))?;
        let freshness = entry.freshness(now)?;
        let displaces = self.get(ticket.key, now).is_some_and(|held| {
            (!held.entry.negative && entry.negative) || held.entry.fresh_until >= entry.fresh_until
        });
        if rules.off || displaces || self.is_void(ticket) {
            return None;
        }
        entry.call_id = ticket.call_id.map(Into::into);
        let entry = Arc::new(entry);
        self.store.insert(ticket.key.clone(), entry.clone());
        if self.is_void(ticket) {
            self.store.invalidate(ticket.key);
            return None;
        }
        Some(Held { entry, freshness })
    }

    /// Forgets all that matches; an empty purge forgets everything. What is being fetched now will
    /// not be stored either. Returns how many entries are gone.
    pub fn purge(&self, purge: Purge) -> usize {
        self.purges.fetch_add(1, Ordering::AcqRel);
        if purge.access_key.is_none() && purge.call_id.is_none() {
            let gone = self.store.iter().count();
            self.store.invalidate_all();
            return gone;
        }
        let matches = move |key: &CacheKey, entry: &Arc<Entry>| {
            purge.covers(key.access_key(), entry.call_id.as_deref())
        };
        let gone = self.store.iter().filter(|(key, entry)| matches(key, entry));
        let gone = gone.count();
        // Fails only without `support_invalidation_closures`, which is set above.
        if self.store.invalidate_entries_if(matches).is_err() {
            self.store.invalidate_all();
        }
        gone
    }

    /// Number of entries and their weight in bytes, both settled.
    pub fn size(&self) -> (u64, u64) {
        self.store.run_pending_tasks();
        (self.store.entry_count(), self.store.weighted_size())
    }

    fn is_void(&self, ticket: &Ticket<'_>) -> bool {
        ticket.purges != self.purges.load(Ordering::Acquire)
    }
}

/// The right to store one answer under one key.
#[derive(Clone, Debug)]
pub struct Ticket<'a> {
    key: &'a CacheKey,
    call_id: Option<&'a str>,
    purges: u64,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offered {
    /// "No data yet", held for a moment.
    HeldNegative,
    /// Not stored.
    Passed,
    /// Stored.
    Stored,
}

/// The rules of a generation of the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    off: bool,
    margin: SignedDuration,
    minimum_life: SignedDuration,
    stale_if_error: bool,
    negative_ttl: SignedDuration,
    success_codes: Vec<String>,
}

impl Rules {
    /// Is nothing kept at all?
    pub fn is_off(&self) -> bool {
        self.off
    }
}

impl From<&config::Cache> for Rules {
    fn from(settings: &config::Cache) -> Self {
        let signed = |d: Duration| SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX);
        Self {
            off: settings.max_size == 0,
            margin: signed(settings.expiry_margin),
            minimum_life: signed(settings.minimum_life),
            stale_if_error: settings.stale_if_error,
            negative_ttl: signed(settings.negative_ttl),
            success_codes: settings.success_codes.clone(),
        }
    }
}

/// An answer that was found.
#[derive(Clone, Debug)]
pub struct Held {
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
    OnlyOnError,
}

/// Garbage collection only; what may be given out is decided against the wall clock.
struct Life;

impl Expiry<CacheKey, Arc<Entry>> for Life {
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
