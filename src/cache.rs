//! Whole answers until shortly before their URLs expire. A store and the rules of what may be given
//! out; fetching is [`crate::flight`]'s and `upstream`'s business. Reads no clock: `now` is handed in,
//! and compared with each entry on every hit, because the store's own clock is monotonic and URLs
//! expire on a wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use moka::Expiry;
use moka::policy::EvictionPolicy;

pub use crate::call::Purge;
use crate::call::{CacheKey, WholeReply};
use crate::ccfs::Verdict;
use crate::config;

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
    pub fn ticket<'a>(&self, key: &'a CacheKey, call_id: Option<&'a Arc<str>>) -> Ticket<'a> {
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
        entry.call_id = ticket.call_id.cloned();
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
        entry.call_id = ticket.call_id.cloned();
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
    call_id: Option<&'a Arc<str>>,
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

/// One answer. Body and Content-Type are the node's own.
#[derive(Debug)]
pub struct Entry {
    /// The node's bytes.
    pub body: Bytes,
    /// The node's Content-Type.
    pub content_type: Option<HeaderValue>,
    /// The resultCode inside.
    pub result_code: Arc<str>,
    /// "No data yet": held for a moment, never renewed.
    pub negative: bool,
    call_id: Option<Arc<str>>,
    stored_at: Timestamp,
    fresh_until: Timestamp,
    usable_until: Timestamp,
    renew_at: AtomicI64,
}

impl Entry {
    fn of(reply: &WholeReply, rules: &Rules, now: Timestamp) -> Option<Self> {
        let json = reply
            .json
            .as_ref()
            .filter(|_| reply.status == StatusCode::OK)?;
        let code = json.result_code.as_deref()?;
        let negative = json.verdict() == Verdict::NoData;
        let (fresh_until, usable_until) = if negative {
            let until = now.checked_add(rules.negative_ttl).ok()?;
            (until, until)
        } else if rules.success_codes.iter().any(|success| success == code) {
            let expiry = json.expires_at?;
            let fresh_until = expiry.checked_sub(rules.margin).ok()?;
            let last = expiry.checked_sub(rules.minimum_life).ok()?;
            (
                fresh_until,
                if rules.stale_if_error {
                    last.max(fresh_until)
                } else {
                    fresh_until
                },
            )
        } else {
            return None;
        };
        (fresh_until > now).then(|| Self {
            // Copies of their own size: both are slices of the buffer that the node was read into.
            body: Bytes::copy_from_slice(&reply.body),
            content_type: reply
                .headers
                .get(header::CONTENT_TYPE)
                .and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()),
            result_code: code.into(),
            negative,
            call_id: None,
            stored_at: now,
            fresh_until,
            usable_until,
            renew_at: AtomicI64::new(renewal(now, fresh_until)),
        })
    }

    /// From `now` until it is good for nothing at all.
    pub fn life(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.usable_until.duration_since(now)).unwrap_or_default()
    }

    /// Seconds since it was stored.
    pub fn age(&self, now: Timestamp) -> i64 {
        now.duration_since(self.stored_at).as_secs().max(0)
    }

    /// Seconds until it is no longer given out as fresh.
    pub fn ttl(&self, now: Timestamp) -> i64 {
        self.fresh_until.duration_since(now).as_secs().max(0)
    }

    /// True once, for whoever hits it first in its last tenth; again only after a pause, so that
    /// failing renewals do not follow each other as fast as the hits.
    pub fn wants_renewal(&self, now: Timestamp) -> bool {
        let due = self.renew_at.load(Ordering::Relaxed);
        if self.negative || now.as_millisecond() < due {
            return false;
        }
        let rest = self
            .fresh_until
            .as_millisecond()
            .saturating_sub(now.as_millisecond());
        let next = now
            .as_millisecond()
            .saturating_add((rest / 4).max(RENEWAL_PAUSE_MS));
        self.renew_at
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    fn freshness(&self, now: Timestamp) -> Option<Freshness> {
        if now < self.fresh_until {
            Some(Freshness::Fresh)
        } else {
            (now < self.usable_until).then_some(Freshness::OnlyOnError)
        }
    }

    fn weight(&self) -> usize {
        let content_type = self.content_type.as_ref().map_or(0, HeaderValue::len);
        let call_id = self.call_id.as_ref().map_or(0, |id| id.len());
        STORE_OVERHEAD + size_of::<Self>() + self.body.len() + content_type + call_id
    }
}

/// When an entry is due for renewal: somewhere in the first quarter of its last tenth, so that
/// entries stored together are not renewed together.
fn renewal(now: Timestamp, fresh_until: Timestamp) -> i64 {
    let life = fresh_until
        .as_millisecond()
        .saturating_sub(now.as_millisecond());
    let tenth = life / 10;
    let jitter = if tenth >= 4 {
        rand::random_range(0..tenth / 4)
    } else {
        0
    };
    fresh_until
        .as_millisecond()
        .saturating_sub(tenth)
        .saturating_add(jitter)
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

/// What the store itself needs for an entry (nodes of its map, its queue and its timer wheel), as
/// measured with small entries.
const STORE_OVERHEAD: usize = 400;

/// The least pause between two attempts to renew one entry.
const RENEWAL_PAUSE_MS: i64 = 1_000;

#[cfg(test)]
mod tests;
