//! One answer that is held: what may be given out of it, and until when.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::{CachePolicy, Freshness};
use crate::ccfs::ResultKind;
use crate::message::BufferedResponse;

/// One answer. Body and Content-Type are the node's own.
#[derive(Debug)]
pub struct Entry {
    /// The node's bytes.
    pub body: Bytes,
    /// The node's Content-Type.
    pub content_type: Option<HeaderValue>,
    /// The resultCode inside.
    pub result_code: CompactString,
    /// "No data yet": held for a moment, never renewed.
    pub is_negative: bool,
    pub(super) call_id: Option<CompactString>,
    pub(super) stored_at: Timestamp,
    pub(super) fresh_until: Timestamp,
    pub(super) usable_until: Timestamp,
    refresh_at: AtomicI64,
}

impl Entry {
    pub(super) fn from_response(
        reply: &BufferedResponse,
        rules: &CachePolicy,
        now: Timestamp,
    ) -> Option<Self> {
        let json = reply
            .parsed
            .as_ref()
            .filter(|_| reply.status == StatusCode::OK)?;
        let code = json.result_code.as_ref()?;
        let negative = json.result_kind() == ResultKind::NoData;
        let (fresh_until, usable_until) = if negative {
            let until = now.checked_add(rules.negative_ttl).ok()?;
            (until, until)
        } else if rules.success_codes.iter().any(|success| code == success) {
            let expiry = json.expires_at?;
            let fresh_until = expiry.checked_sub(rules.expiry_margin).ok()?;
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
                .and_then(copy_content_type),
            result_code: code.clone(),
            is_negative: negative,
            call_id: None,
            stored_at: now,
            fresh_until,
            usable_until,
            refresh_at: AtomicI64::new(refresh_time(now, fresh_until)),
        })
    }

    /// From `now` until it is good for nothing at all.
    pub fn remaining_lifetime(&self, now: Timestamp) -> Duration {
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
    pub fn should_refresh(&self, now: Timestamp) -> bool {
        let due = self.refresh_at.load(Ordering::Relaxed);
        if self.is_negative || now.as_millisecond() < due {
            return false;
        }
        let rest = self
            .fresh_until
            .as_millisecond()
            .saturating_sub(now.as_millisecond());
        let next = now
            .as_millisecond()
            .saturating_add((rest / 4).max(MIN_REFRESH_INTERVAL_MS));
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

    /// What it weighs in memory, in bytes, with what the store needs for it.
    pub(super) fn weight(&self) -> usize {
        let content_type = self.content_type.as_ref().map_or(0, HeaderValue::len);
        let call_id = self.call_id.as_ref();
        let call_id = call_id.map_or(0, |id| if id.is_heap_allocated() { id.len() } else { 0 });
        ENTRY_OVERHEAD + size_of::<Self>() + self.body.len() + content_type + call_id
    }
}

/// A copy of its own size: the value is a slice of the buffer that the node was read into. The usual
/// ones are not even copied, so that a hit, which clones it, touches a place in memory less.
fn copy_content_type(value: &HeaderValue) -> Option<HeaderValue> {
    let usual = COMMON_CONTENT_TYPES.iter().find(|usual| value == *usual);
    match usual {
        Some(usual) => Some(HeaderValue::from_static(usual)),
        None => HeaderValue::from_bytes(value.as_bytes()).ok(),
    }
}

/// When an entry is due for renewal: somewhere in the first quarter of its last tenth, so that
/// entries stored together are not renewed together.
fn refresh_time(now: Timestamp, fresh_until: Timestamp) -> i64 {
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

/// As CC-FS and what stands in front of it write it.
const COMMON_CONTENT_TYPES: [&str; 4] = [
    "application/json",
    "application/json;charset=UTF-8",
    "application/json; charset=utf-8",
    "application/json;charset=utf-8",
];

/// What the store itself needs for an entry (nodes of its map, its queue and its timer wheel), as
/// measured with small entries.
const ENTRY_OVERHEAD: usize = 400;

/// The least pause between two attempts to renew one entry.
const MIN_REFRESH_INTERVAL_MS: i64 = 1_000;
