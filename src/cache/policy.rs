//! The caching rules of one generation of the configuration. An entry keeps the facts of its response,
//! and the policy of each request is applied to them: after a reload no entry is used by the rules of
//! the time when it was stored.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::ccfs::ParsedResponse;
use crate::config;

/// The caching rules of one generation of the configuration.
#[derive(Clone, Debug)]
pub struct CachePolicy {
    pub(super) is_disabled: bool,
    expiry_margin: SignedDuration,
    minimum_life: SignedDuration,
    stale_if_error: bool,
    negative_ttl: SignedDuration,
    success_codes: Vec<String>,
}

impl CachePolicy {
    /// Whether nothing is ever stored.
    pub fn is_disabled(&self) -> bool {
        self.is_disabled
    }

    /// Whether a response has one of the result codes that mean success.
    pub fn is_success(&self, response: &ParsedResponse) -> bool {
        response.is_success(&self.success_codes)
    }

    /// Whether a result code means success.
    pub fn is_success_code(&self, code: &str) -> bool {
        self.success_codes.iter().any(|success| success == code)
    }

    /// Returns until when a response may be used; `None` if it may not be cached.
    pub(super) fn lifetime(&self, facts: &Facts<'_>) -> Option<Lifetime> {
        let stored_at = facts.stored_at;
        let Some(expires_at) = facts.expires_at else {
            let until = stored_at.checked_add(self.negative_ttl).ok()?;
            return Some(Lifetime {
                stored_at,
                fresh_until: until,
                usable_until: until,
            });
        };
        if !self
            .success_codes
            .iter()
            .any(|code| code == facts.result_code)
        {
            return None;
        }
        let fresh_until = expires_at.checked_sub(self.expiry_margin).ok()?;
        let usable_until = if self.stale_if_error {
            let last = expires_at.checked_sub(self.minimum_life).ok()?;
            last.max(fresh_until)
        } else {
            fresh_until
        };
        Some(Lifetime {
            stored_at,
            fresh_until,
            usable_until,
        })
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

/// The properties of a response that a policy depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) result_code: &'a str,
    /// When the first of its URLs expires; `None` for a negative response.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) stored_at: Timestamp,
}

/// Until when a response may be used, by one policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetime {
    pub(super) stored_at: Timestamp,
    /// For any request.
    pub(super) fresh_until: Timestamp,
    /// In place of an error (RFC 5861, 4).
    pub(super) usable_until: Timestamp,
}

impl Lifetime {
    /// Returns what the response may be used for at `now`.
    pub(super) fn freshness(&self, now: Timestamp) -> Option<Freshness> {
        if now < self.fresh_until {
            Some(Freshness::Fresh)
        } else {
            (now < self.usable_until).then_some(Freshness::StaleIfError)
        }
    }
}

/// What an entry may be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// For any request.
    Fresh,
    /// Inside the expiry margin: only in place of an error (RFC 5861, 4).
    StaleIfError,
}
