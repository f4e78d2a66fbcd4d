//! One cached response, and a hit of it: the entry under the policy of one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::CachePolicy;
use super::policy::{Facts, Freshness, Lifetime};
use crate::ccfs::ResultKind;
use crate::message::BufferedResponse;

/// One cached response. Body and Content-Type are the node's own.
#[derive(Debug)]
pub struct Entry {
    /// The body as the node sent it.
    pub body: Bytes,
    /// The node's Content-Type.
    pub content_type: Option<HeaderValue>,
    /// The resultCode in the body.
    pub result_code: CompactString,
    /// Whether this is a negative response ("no data yet"): stored for `negative_ttl`, never
    /// refreshed.
    pub is_negative: bool,
    pub(super) call_id: Option<CompactString>,
    /// The purge epoch in which the fetch began.
    pub(super) purge_epoch: u64,
    stored_at: Timestamp,
    /// When the first of its URLs expires; `None` for a negative response.
    expires_at: Option<Timestamp>,
    /// When the entry may be dropped: no policy uses it for longer, except a negative response after
    /// `negative_ttl` was raised.
    pub(super) kept_until: Timestamp,
    /// Where in its part of the lifetime the refresh is due, so that entries stored together are not
    /// refreshed together; 0 to 1 in steps of 1/65536.
    refresh_jitter: u16,
    /// No refresh before this time, because one was started; Unix milliseconds.
    next_refresh: AtomicI64,
}

impl Entry {
    /// Returns when the first of its URLs expires; `None` for a negative response.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Makes an entry of a response that was fetched at `now`; returns `None` if the policy does not
    /// allow to store it or it is not fresh at all.
    pub(super) fn from_response(
        response: &BufferedResponse,
        policy: &CachePolicy,
        now: Timestamp,
    ) -> Option<Self> {
        let parsed = response
            .parsed
            .as_ref()
            .filter(|_| response.status == StatusCode::OK)?;
        let code = parsed.result_code.as_ref()?;
        let is_negative = parsed.result_kind() == ResultKind::NoData;
        let expires_at = match is_negative {
            true => None,
            false => Some(parsed.expires_at?),
        };
        let lifetime = policy.lifetime(&Facts {
            result_code: code,
            expires_at,
            stored_at: now,
        })?;
        (lifetime.fresh_until > now).then(|| Self {
            // Copied: `response.body` is a slice of the larger read buffer.
            body: Bytes::copy_from_slice(&response.body),
            content_type: response
                .headers
                .get(header::CONTENT_TYPE)
                .and_then(copy_content_type),
            result_code: code.clone(),
            is_negative,
            call_id: None,
            purge_epoch: 0,
            stored_at: now,
            expires_at,
            kept_until: expires_at.unwrap_or(lifetime.usable_until),
            refresh_jitter: rand::random(),
            next_refresh: AtomicI64::new(i64::MIN),
        })
    }

    /// Returns until when the entry may be used by a policy, if at all.
    pub(super) fn lifetime(&self, policy: &CachePolicy) -> Option<Lifetime> {
        policy.lifetime(&Facts {
            result_code: &self.result_code,
            expires_at: self.expires_at,
            stored_at: self.stored_at,
        })
    }

    /// Returns the memory that the entry occupies, in bytes, with its share of the store's own structures.
    pub(super) fn weight(&self) -> usize {
        let heap = |text: &CompactString| match text.is_heap_allocated() {
            true => text.capacity(),
            false => 0,
        };
        let own_type = self.content_type.as_ref();
        let own_type = own_type.filter(|value| common_content_type(value).is_none());
        STORE_OVERHEAD
            + size_of::<Self>()
            + allocated(self.body.len())
            + own_type.map_or(0, HeaderValue::len)
            + heap(&self.result_code)
            + self.call_id.as_ref().map_or(0, heap)
    }
}

/// Returns the size of the block that holds so many bytes: allocators have four sizes between powers of two.
fn allocated(size: usize) -> usize {
    let step = (size.next_power_of_two() / 8).max(16);
    size.next_multiple_of(step)
}

/// An entry that may be used for one request.
#[derive(Clone, Debug)]
pub struct CacheHit {
    /// The cached response.
    pub entry: Arc<Entry>,
    /// What it may be used for.
    pub freshness: Freshness,
    pub(super) lifetime: Lifetime,
}

impl CacheHit {
    /// Applies a policy to an entry; returns `None` if it may not be used at `now`.
    pub(super) fn of(entry: Arc<Entry>, policy: &CachePolicy, now: Timestamp) -> Option<Self> {
        let lifetime = entry.lifetime(policy)?;
        let freshness = lifetime.freshness(now)?;
        Some(Self {
            entry,
            freshness,
            lifetime,
        })
    }

    /// Whether the entry is fresh by the policy of another request.
    pub fn is_fresh(&self, policy: &CachePolicy, now: Timestamp) -> bool {
        let lifetime = self.entry.lifetime(policy);
        lifetime.is_some_and(|it| it.freshness(now) == Some(Freshness::Fresh))
    }

    /// Returns the time from `now` until the entry is not usable even in place of an error.
    pub fn remaining_lifetime(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.lifetime.usable_until.duration_since(now)).unwrap_or_default()
    }

    /// Returns the seconds since the entry was stored.
    pub fn age(&self, now: Timestamp) -> i64 {
        now.duration_since(self.lifetime.stored_at).as_secs().max(0)
    }

    /// Returns the seconds until the entry is no longer fresh.
    pub fn ttl(&self, now: Timestamp) -> i64 {
        let left = self.lifetime.fresh_until.duration_since(now);
        left.as_secs().max(0)
    }

    /// Returns true for one caller per refresh interval once 90 % of the lifetime has passed; repeated
    /// failures are spaced by `MIN_REFRESH_INTERVAL_MS` or more.
    pub fn should_refresh(&self, now: Timestamp) -> bool {
        let next = self.entry.next_refresh.load(Ordering::Relaxed);
        let now = now.as_millisecond();
        if self.entry.is_negative || now < next.max(self.refresh_due()) {
            return false;
        }
        let remaining = self
            .lifetime
            .fresh_until
            .as_millisecond()
            .saturating_sub(now);
        let after = now.saturating_add((remaining / 4).max(MIN_REFRESH_INTERVAL_MS));
        self.entry
            .next_refresh
            .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns when the first refresh is due, in Unix milliseconds: in the first quarter of the last
    /// tenth of the lifetime.
    fn refresh_due(&self) -> i64 {
        let fresh_until = self.lifetime.fresh_until.as_millisecond();
        let lifetime = fresh_until.saturating_sub(self.lifetime.stored_at.as_millisecond());
        let tenth = lifetime / 10;
        let jitter = (tenth / 4).saturating_mul(self.entry.refresh_jitter.into()) >> 16;
        fresh_until.saturating_sub(tenth).saturating_add(jitter)
    }
}

/// Copies a Content-Type, which is a slice of the larger read buffer. The common ones become static
/// values, whose clone on each hit touches no reference count.
fn copy_content_type(value: &HeaderValue) -> Option<HeaderValue> {
    match common_content_type(value) {
        Some(common) => Some(HeaderValue::from_static(common)),
        None => HeaderValue::from_bytes(value.as_bytes()).ok(),
    }
}

fn common_content_type(value: &HeaderValue) -> Option<&'static str> {
    let mut common = COMMON_CONTENT_TYPES.iter().copied();
    common.find(|common| value == common)
}

/// The forms that CC-FS and the proxies in front of it send.
const COMMON_CONTENT_TYPES: [&str; 4] = [
    "application/json",
    "application/json;charset=UTF-8",
    "application/json; charset=utf-8",
    "application/json;charset=utf-8",
];

/// What one entry takes besides itself: its slot and the slots kept free for growth, its place in the index,
/// the counts of its `Arc`, and what its body and its key allocate when they are shared first.
const STORE_OVERHEAD: usize = 240;

/// The minimum time between two refreshes of one entry. Our choice: longer than a usual fetch (0.2 to
/// 0.8 s).
const MIN_REFRESH_INTERVAL_MS: i64 = 1_000;
