//! A developer account: its credential, its tenant's time rules and its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use crate::auth::Credential;
use crate::ccfs::Tenant;
use crate::config::{self, Rate};
use crate::gauge::{Gauge, RecentCount};
use crate::limit::{InFlight, RateLimited, RateLimiter};

/// What was counted for an account; one allocation, so that counting touches one cache line.
#[derive(Debug, Default)]
struct Activity {
    admitted: AtomicU64,
    recordings: RecentCount,
}

/// A developer account with its limits.
#[derive(Debug)]
pub struct Account {
    /// The access key and its secrets.
    pub credential: Arc<Credential>,
    /// The tenant's time zone, and how requests without `version` are read.
    pub tenant: Tenant,
    /// Its requests in flight.
    pub in_flight: InFlight,
    activity: Arc<Activity>,
    /// Its requests that wait for a recording (`Prefer: wait`).
    waiting: Gauge,
    rate_limiter: Option<Arc<RateLimiter>>,
    ceiling_limiter: Option<Arc<RateLimiter>>,
}

impl Account {
    /// Creates the account of `settings`; counts and unchanged budgets carry over from `previous`.
    pub(super) fn next(settings: &config::AccountSettings, previous: Option<&Self>) -> Self {
        let in_flight = previous.map_or_else(
            || InFlight::new(settings.in_flight),
            |previous| previous.in_flight.with_limit(settings.in_flight),
        );
        Self {
            credential: settings.credential.clone(),
            tenant: settings.tenant.clone(),
            in_flight,
            activity: previous.map_or_else(Arc::default, |previous| previous.activity.clone()),
            waiting: previous.map_or_else(Gauge::default, |previous| previous.waiting.clone()),
            rate_limiter: carry_over(
                settings.rate_limit,
                previous.and_then(|previous| previous.rate_limiter.as_ref()),
            ),
            ceiling_limiter: carry_over(
                settings.ceiling,
                previous.and_then(|previous| previous.ceiling_limiter.as_ref()),
            ),
        }
    }

    /// Counts an admitted request.
    pub fn count_admitted(&self) {
        self.activity.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of requests admitted since the access key was first configured.
    pub fn admitted(&self) -> u64 {
        self.activity.admitted.load(Ordering::Relaxed)
    }

    /// Counts a valid recording-URL request.
    pub(super) fn count_recording(&self, now: Timestamp) {
        self.activity.recordings.count(now);
    }

    /// Returns the number of valid recording-URL requests in the last ten minutes.
    pub fn recent_recordings(&self, now: Timestamp) -> u64 {
        self.activity.recordings.recent(now)
    }

    /// Returns the count of its waiting requests and their limit: half of those in flight, at least one.
    pub(super) fn wait_room(&self) -> (&Gauge, usize) {
        (&self.waiting, (self.in_flight.limit() / 2).max(1))
    }

    /// Whether the account has a rate limit.
    pub fn is_limited(&self) -> bool {
        self.rate_limiter.is_some()
    }

    /// Returns the rate limit of requests that reach a node; `None` is unlimited.
    pub fn rate(&self) -> Option<Rate> {
        self.rate_limiter.as_ref().map(|limiter| limiter.rate())
    }

    /// Charges a request that reaches a node.
    ///
    /// # Errors
    /// The rate limit is exhausted.
    pub fn charge(&self) -> Result<(), RateLimited> {
        try_acquire(self.rate_limiter.as_ref())
    }

    /// Charges any verified request, cache hits included.
    ///
    /// # Errors
    /// The ceiling is exhausted.
    pub fn charge_ceiling(&self) -> Result<(), RateLimited> {
        try_acquire(self.ceiling_limiter.as_ref())
    }
}

fn try_acquire(limiter: Option<&Arc<RateLimiter>>) -> Result<(), RateLimited> {
    limiter.map_or(Ok(()), |limiter| limiter.try_acquire())
}

/// Keeps the limiter of an unchanged rate, so that a reload does not refill its budget.
fn carry_over(rate: Option<Rate>, previous: Option<&Arc<RateLimiter>>) -> Option<Arc<RateLimiter>> {
    let rate = rate?;
    let kept = previous.filter(|limiter| limiter.rate() == rate).cloned();
    Some(kept.unwrap_or_else(|| Arc::new(RateLimiter::new(rate))))
}
