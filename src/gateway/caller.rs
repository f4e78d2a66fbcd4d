//! A caller without a secret key: its limits, and the callers that may ask on a listener.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Account;
use super::account_counts::{AccountCounts, AccountTotals};
use super::shared_cache::{self, SharedCache};
use crate::auth::{
    AccessKey, CallerCredentials, CallerIndex, CredentialSearch, Principal, TokenVerifier,
};
use crate::config::{self, CallerSettings, Rate};
use crate::limit::{InFlight, Permit, RateLimited, RefundableRateLimiter, Remaining};
use crate::metrics::{Limiter, Shard};
use crate::tls::CertificateIdentities;

/// A caller with its limits. They count besides those of its access key.
#[derive(Debug)]
pub struct Caller {
    /// As configured.
    pub settings: Arc<CallerSettings>,
    /// The count of its requests in flight; the limit depends on its access key.
    in_flight: InFlight,
    /// What is counted of its requests; it lives on over reloads.
    counts: Arc<AccountCounts>,
    rate_limiter: Option<Arc<RefundableRateLimiter>>,
    ceiling_limiter: Option<Arc<RefundableRateLimiter>>,
    /// Verifies its tokens, and remembers them until anything of the caller changes, or of another caller with tokens
    /// on the listener.
    tokens: Option<Arc<TokenVerifier>>,
}

impl Principal for Caller {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn access_key(&self) -> &AccessKey {
        &self.settings.access_key
    }
}

impl Caller {
    /// Returns the caller of `settings`. Counts and unchanged budgets carry over from `previous`.
    fn next(settings: &Arc<CallerSettings>, previous: Option<&Arc<Self>>) -> Arc<Self> {
        let in_flight = previous.map(|previous| previous.in_flight.clone());
        Arc::new(Self {
            settings: settings.clone(),
            in_flight: in_flight.unwrap_or_else(|| InFlight::new(usize::MAX)),
            counts: previous.map_or_else(Arc::default, |previous| previous.counts.clone()),
            rate_limiter: carry_over(
                settings.rate_limit,
                previous.and_then(|previous| previous.rate_limiter.as_ref()),
            ),
            ceiling_limiter: carry_over(
                settings.ceiling,
                previous.and_then(|previous| previous.ceiling_limiter.as_ref()),
            ),
            tokens: match previous {
                Some(previous) if previous.settings == *settings => previous.tokens.clone(),
                _ => (settings.jwt.clone()).map(|rules| Arc::new(TokenVerifier::new(rules))),
            },
        })
    }

    /// Returns what identifies it.
    fn credentials(&self) -> CallerCredentials<'_> {
        CallerCredentials {
            certificates: &self.settings.client_certificate,
            api_keys: &self.settings.api_keys,
            tokens: self.tokens.as_ref(),
            app: self.settings.sdk_hmac.as_ref(),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// Whether its requests are accepted at `now`, if its access key is.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.settings.enabled && self.settings.validity.contains(now)
    }

    /// Returns the limit of its requests in flight: a quarter of its account's unless it has one of its own.
    pub fn in_flight_limit(&self, account: &Account) -> usize {
        let quarter = || (account.in_flight.limit() / 4).max(1);
        self.settings.in_flight.unwrap_or_else(quarter)
    }

    /// Returns the number of its requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.in_use()
    }

    /// Takes one of its places in flight; `None` at the limit.
    pub(super) fn acquire_slot(&self, account: &Account) -> Option<Permit> {
        let limit = self.in_flight_limit(account);
        self.in_flight.with_limit(limit).try_acquire()
    }

    /// Returns what is counted of its requests.
    pub(super) fn counts(&self) -> &AccountCounts {
        &self.counts
    }

    /// Returns what became of its requests since it was first configured.
    pub fn totals(&self) -> AccountTotals {
        self.counts.totals()
    }

    /// Returns the number of its requests that were admitted since it was first configured.
    pub fn admitted(&self) -> u64 {
        self.counts.admitted()
    }

    /// Charges a request that reaches a node. Returns what is left; `None` is unlimited.
    ///
    /// # Errors
    /// The rate limit is exhausted.
    pub(super) fn charge(&self) -> Result<Option<Remaining>, RateLimited> {
        (self.rate_limiter.as_ref())
            .map(|limiter| limiter.charge())
            .transpose()
    }

    /// Gives a charge back, because the request was refused after all.
    pub(super) fn refund(&self) {
        if let Some(limiter) = &self.rate_limiter {
            limiter.refund();
        }
    }

    /// Charges any request, cache hits included.
    ///
    /// # Errors
    /// The ceiling is exhausted.
    pub(super) fn charge_ceiling(&self) -> Result<(), RateLimited> {
        (self.ceiling_limiter.as_ref()).map_or(Ok(()), |limiter| limiter.charge().map(drop))
    }

    /// Gives a charge of the ceiling back.
    pub(super) fn refund_ceiling(&self) {
        if let Some(limiter) = &self.ceiling_limiter {
            limiter.refund();
        }
    }
}

/// Whom a request that reaches a node is charged to.
#[derive(Clone, Debug)]
pub(super) struct Payer {
    pub(super) account: Arc<Account>,
    /// `None` if the client signed itself.
    pub(super) caller: Option<Arc<Caller>>,
}

impl Payer {
    /// Charges the rate limits of both, or neither. Returns what is left; `None` is unlimited.
    pub(super) async fn charge(
        &self,
        shared: Option<&mut SharedCache>,
        metrics: &Shard,
    ) -> Result<Option<Charged>, (Limiter, RateLimited)> {
        shared_cache::charge(&self.account, self.caller.as_deref(), shared, metrics).await
    }
}

/// What is left of a rate limit after a charge, and of which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    pub(super) limiter: Limiter,
    pub(super) remaining: Remaining,
}

impl Charged {
    /// Returns the one with fewer tokens, that of the caller last.
    pub(super) fn fewest(account: Option<Remaining>, caller: Option<Remaining>) -> Option<Self> {
        let account = account.map(|remaining| Self {
            limiter: Limiter::AccessKey,
            remaining,
        });
        let caller = caller.map(|remaining| Self {
            limiter: Limiter::Caller,
            remaining,
        });
        let all = account.into_iter().chain(caller);
        all.min_by_key(|charged| charged.remaining.tokens)
    }
}

/// Keeps the limiter of an unchanged rate, so that a reload does not refill its budget.
fn carry_over(
    rate: Option<Rate>,
    previous: Option<&Arc<RefundableRateLimiter>>,
) -> Option<Arc<RefundableRateLimiter>> {
    let rate = rate?;
    let kept = previous.filter(|limiter| limiter.rate() == rate).cloned();
    Some(kept.unwrap_or_else(|| Arc::new(RefundableRateLimiter::new(rate))))
}

/// The callers by name.
pub(super) type Callers = BTreeMap<Arc<str>, Arc<Caller>>;

/// Makes the callers of a configuration.
pub(super) fn callers(config: &config::Config, previous: Option<&Callers>) -> Callers {
    let next = |(name, settings): (&Arc<str>, &Arc<CallerSettings>)| {
        let previous = previous.and_then(|previous| previous.get(name));
        (name.clone(), Caller::next(settings, previous))
    };
    config.callers.iter().map(next).collect()
}

/// Returns the search for the credentials of all callers, which no listener with a caller forwards.
pub(super) fn credential_search(callers: &Callers) -> Arc<CredentialSearch> {
    let credentials = callers.values().map(|caller| caller.credentials());
    Arc::new(CredentialSearch::new(credentials))
}

/// The callers that may ask on one listener.
#[derive(Debug)]
pub struct ListenerCallers {
    /// The callers by what identifies them.
    pub(super) index: CallerIndex<Caller>,
    /// What client certificates prove there; `None` without a `client_ca`.
    pub(super) identities: Option<Arc<CertificateIdentities>>,
    /// Finds the credentials of all callers, also of those that may not ask here.
    pub(super) search: Arc<CredentialSearch>,
}

impl ListenerCallers {
    /// Returns the callers that may ask on the listener `name`; `None` if there are none.
    pub(super) fn of(
        name: &str,
        listener: &config::Listener,
        (callers, search): (&Callers, &Arc<CredentialSearch>),
    ) -> Option<Arc<Self>> {
        let here = callers
            .values()
            .filter(|caller| caller.settings.listeners.contains(name));
        here.clone().next()?;
        let credentials = here.map(|caller| (caller, caller.credentials()));
        let keys = config::pinned_keys(callers.values().map(|caller| &caller.settings));
        let identities = listener.tls.client_ca.as_ref().and_then(|authorities| {
            let lists = listener.tls.client_crls.iter().map(|crl| crl.der.clone());
            let lists: Vec<_> = lists.collect();
            // The listener itself does not start with what is refused here; then no certificate counts.
            CertificateIdentities::new(authorities, &lists, &keys).ok()
        });
        Some(Arc::new(Self {
            index: CallerIndex::new(credentials),
            identities: identities.map(Arc::new),
            search: search.clone(),
        }))
    }
}
