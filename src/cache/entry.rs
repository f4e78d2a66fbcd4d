//! One cached response: until when it is fresh, usable, and due for a refresh.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::{CachePolicy, Freshness};
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
    pub(super) stored_at: Timestamp,
    pub(super) fresh_until: Timestamp,
    pub(super) usable_until: Timestamp,
    /// When the next hit starts a background refresh; Unix milliseconds.
    refresh_at: AtomicI64,
}

impl Entry {
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
        let (fresh_until, usable_until) = if is_negative {
            let until = now.checked_add(policy.negative_ttl).ok()?;
            (until, until)
        } else if policy.success_codes.iter().any(|success| code == success) {
            let expiry = parsed.expires_at?;
            let fresh_until = expiry.checked_sub(policy.expiry_margin).ok()?;
            let last = expiry.checked_sub(policy.minimum_life).ok()?;
            (
                fresh_until,
                if policy.stale_if_error {
                    last.max(fresh_until)
                } else {
                    fresh_until
                },
            )
        } else {
            return None;
        };
        (fresh_until > now).then(|| Self {
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
            fresh_until,
            usable_until,
            refresh_at: AtomicI64::new(refresh_time(now, fresh_until)),
        })
    }

    /// Returns the time from `now` until the entry is not usable even in place of an error.
    pub fn remaining_lifetime(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.usable_until.duration_since(now)).unwrap_or_default()
    }

    /// Returns the seconds since the entry was stored.
    pub fn age(&self, now: Timestamp) -> i64 {
        now.duration_since(self.stored_at).as_secs().max(0)
    }

    /// Returns the seconds until the entry is no longer fresh.
    pub fn ttl(&self, now: Timestamp) -> i64 {
        self.fresh_until.duration_since(now).as_secs().max(0)
    }

    /// Returns true for one caller per refresh interval once 90 % of the lifetime has passed; repeated
    /// failures are spaced by [`MIN_REFRESH_INTERVAL_MS`] or more.
    pub fn should_refresh(&self, now: Timestamp) -> bool {
        let due = self.refresh_at.load(Ordering::Relaxed);
        if self.is_negative || now.as_millisecond() < due {
            return false;
        }
        let remaining = self
            .fresh_until
            .as_millisecond()
            .saturating_sub(now.as_millisecond());
        let next = now
            .as_millisecond()
            .saturating_add((remaining / 4).max(MIN_REFRESH_INTERVAL_MS));
        self.refresh_at
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn freshness(&self, now: Timestamp) -> Option<Freshness> {
        if now < self.fresh_until {
            Some(Freshness::Fresh)
        } else {
            (now < self.usable_until).then_some(Freshness::StaleIfError)
        }
    }

    /// Returns the memory that the entry occupies, in bytes, with the share of moka's own structures.
    pub(super) fn weight(&self) -> usize {
        let content_type = self.content_type.as_ref().map_or(0, HeaderValue::len);
        let call_id = self.call_id.as_ref();
        let call_id = call_id.map_or(0, |id| if id.is_heap_allocated() { id.len() } else { 0 });
        ENTRY_OVERHEAD + size_of::<Self>() + self.body.len() + content_type + call_id
    }
}

/// Copies a Content-Type, which is a slice of the larger read buffer. The common ones become static
/// values, whose clone on each hit touches no reference count.
fn copy_content_type(value: &HeaderValue) -> Option<HeaderValue> {
    let common = COMMON_CONTENT_TYPES.iter().find(|common| value == *common);
    match common {
        Some(common) => Some(HeaderValue::from_static(common)),
        None => HeaderValue::from_bytes(value.as_bytes()).ok(),
    }
}

/// Returns when an entry is due for a refresh, in Unix milliseconds: at a random point in the first
/// quarter of the last tenth of its lifetime, so that entries stored together are not refreshed
/// together.
fn refresh_time(now: Timestamp, fresh_until: Timestamp) -> i64 {
    let lifetime = fresh_until
        .as_millisecond()
        .saturating_sub(now.as_millisecond());
    let tenth = lifetime / 10;
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

/// The forms that CC-FS and the proxies in front of it send.
const COMMON_CONTENT_TYPES: [&str; 4] = [
    "application/json",
    "application/json;charset=UTF-8",
    "application/json; charset=utf-8",
    "application/json;charset=utf-8",
];

/// What moka allocates for one entry (nodes of its hash table, access-order queue and timer wheel), as
/// measured with small entries.
const ENTRY_OVERHEAD: usize = 400;

/// The minimum time between two refreshes of one entry. Our choice: longer than a usual fetch (0.2 to
/// 0.8 s).
const MIN_REFRESH_INTERVAL_MS: i64 = 1_000;
