//! A developer account: its credential, its tenant's time rules and its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::Credential;
use crate::ccfs::Tenant;
use crate::config::{AccountSettings, Rate};
use crate::limit::{InFlight, RateLimited, RateLimiter, Remaining};

/// A developer account with its limits.
#[derive(Debug)]
pub struct Account {
    /// As configured.
    pub settings: Arc<AccountSettings>,
    /// The access key and its secrets.
    pub credential: Arc<Credential>,
    /// The tenant's time zone, and how requests without `version` are read.
    pub tenant: Tenant,
    /// Its requests in flight.
    pub in_flight: InFlight,
    admitted: Arc<AtomicU64>,
    rate_limiter: Option<Arc<RateLimiter>>,
    ceiling_limiter: Option<Arc<RateLimiter>>,
}

impl Account {
    /// Returns the account of `settings`: `previous` itself if it has the same. Counts and unchanged budgets
    /// carry over from it.
    pub(super) fn next(settings: &Arc<AccountSettings>, previous: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(previous) = previous
            && Arc::ptr_eq(settings, &previous.settings)
        {
            return previous.clone();
        }
        let in_flight = previous.map_or_else(
            || InFlight::new(settings.in_flight),
            |previous| previous.in_flight.with_limit(settings.in_flight),
        );
        Arc::new(Self {
            settings: settings.clone(),
            credential: settings.credential.clone(),
            tenant: settings.tenant.clone(),
            in_flight,
            admitted: previous.map_or_else(Arc::default, |previous| previous.admitted.clone()),
            rate_limiter: carry_over(
                settings.rate_limit,
                previous.and_then(|previous| previous.rate_limiter.as_ref()),
            ),
            ceiling_limiter: carry_over(
                settings.ceiling,
                previous.and_then(|previous| previous.ceiling_limiter.as_ref()),
            ),
        })
    }

    /// Counts an admitted request.
    pub fn count_admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of requests admitted since the access key was first configured.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Whether the account has a rate limit.
    pub fn is_limited(&self) -> bool {
        self.rate_limiter.is_some()
    }

    /// Returns the rate limit of requests that reach a node; `None` is unlimited.
    pub fn rate(&self) -> Option<Rate> {
        self.rate_limiter.as_ref().map(|limiter| limiter.rate())
    }

    /// Charges a request that reaches a node. Returns what is left; `None` is unlimited.
    ///
    /// # Errors
    /// The rate limit is exhausted.
    pub fn charge(&self) -> Result<Option<Remaining>, RateLimited> {
        (self.rate_limiter.as_ref())
            .map(|limiter| limiter.charge())
            .transpose()
    }

    /// Charges any verified request, cache hits included.
    ///
    /// # Errors
    /// The ceiling is exhausted.
    pub fn charge_ceiling(&self) -> Result<(), RateLimited> {
        (self.ceiling_limiter.as_ref()).map_or(Ok(()), |limiter| limiter.try_acquire())
    }
}

/// Keeps the limiter of an unchanged rate, so that a reload does not refill its budget.
fn carry_over(rate: Option<Rate>, previous: Option<&Arc<RateLimiter>>) -> Option<Arc<RateLimiter>> {
    let rate = rate?;
    let kept = previous.filter(|limiter| limiter.rate() == rate).cloned();
    Some(kept.unwrap_or_else(|| Arc::new(RateLimiter::new(rate))))
}
