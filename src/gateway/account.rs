//! A developer account: its credential, its tenant's time rules and its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::account_counts::{AccountCounts, AccountTotals};
use crate::auth::Credential;
use crate::ccfs::Tenant;
use crate::config::{AccountSettings, Rate, TableDigest};
use crate::gauge::{Gauge, RecentCount};
use crate::limit::{InFlight, RateLimited, RateLimiter, Remaining};
use crate::shared_store::{OrderOrigin, OrderRecord};

/// What was counted for an account and lives on over reloads; one allocation, so that counting touches one
/// cache line.
#[derive(Debug, Default)]
struct Activity {
    counts: AccountCounts,
    recordings: RecentCount,
    /// Unix seconds; 0 is never.
    second_secret_used: AtomicI64,
    /// The last order of the admin interface.
    order: AtomicU8,
    /// The tables of the account when the order was given: where it was given, and here.
    disabled_tables: Mutex<[TableDigest; 2]>,
}

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
    activity: Arc<Activity>,
    /// Its requests that wait for a recording (`Prefer: wait`).
    waiting: Gauge,
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
        })
    }

    /// Returns what is counted of its requests.
    pub(super) fn counts(&self) -> &AccountCounts {
        &self.activity.counts
    }

    /// Returns the number of requests admitted since the access key was first configured.
    pub fn admitted(&self) -> u64 {
        self.counts().admitted()
    }

    /// Returns what became of its requests since the access key was first configured.
    pub fn totals(&self) -> AccountTotals {
        self.counts().totals()
    }

    /// Whether requests of the account are accepted at `now`. A request that waits asks again.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.credential.enabled()
            && self.settings.validity.contains(now)
            && !self.is_disabled_by_order()
    }

    /// Whether an order of the admin interface disables the account.
    pub fn is_disabled_by_order(&self) -> bool {
        self.activity.order.load(Ordering::Relaxed) == DISABLED
            && self
                .activity
                .disabled_tables
                .lock()
                .contains(&self.settings.own_table)
    }

    /// Whether there was any order since the access key was first configured.
    pub fn has_order(&self) -> bool {
        self.activity.order.load(Ordering::Relaxed) != NO_ORDER
    }

    /// Disables the account until its own table changes, or enables it.
    pub fn order(&self, is_disabled: bool) {
        self.set_order(is_disabled, [self.settings.own_table; 2]);
    }

    /// Like [`Account::order`] for an order of another replica, which was given for the table there.
    pub fn apply_order(&self, order: &OrderRecord, origin: OrderOrigin) {
        let here = match origin {
            OrderOrigin::Live => self.settings.own_table,
            OrderOrigin::Stored => order.table,
        };
        self.set_order(order.is_disabled, [order.table, here]);
    }

    fn set_order(&self, is_disabled: bool, tables: [TableDigest; 2]) {
        *self.activity.disabled_tables.lock() = tables;
        let order = if is_disabled { DISABLED } else { ENABLED };
        self.activity.order.store(order, Ordering::Relaxed);
    }

    /// Records that a request at `now` was signed with the second secret.
    pub fn record_second_secret(&self, now: Timestamp) {
        let last = &self.activity.second_secret_used;
        last.fetch_max(now.as_second(), Ordering::Relaxed);
    }

    /// Returns when a request was last signed with the second secret; `None` is not since the start.
    pub fn second_secret_used(&self) -> Option<Timestamp> {
        let second = self.activity.second_secret_used.load(Ordering::Relaxed);
        (second > 0)
            .then(|| Timestamp::from_second(second).ok())
            .flatten()
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

/// The orders that an account can have.
const NO_ORDER: u8 = 0;
const DISABLED: u8 = 1;
const ENABLED: u8 = 2;

/// Keeps the limiter of an unchanged rate, so that a reload does not refill its budget.
fn carry_over(rate: Option<Rate>, previous: Option<&Arc<RateLimiter>>) -> Option<Arc<RateLimiter>> {
    let rate = rate?;
    let kept = previous.filter(|limiter| limiter.rate() == rate).cloned();
    Some(kept.unwrap_or_else(|| Arc::new(RateLimiter::new(rate))))
}
