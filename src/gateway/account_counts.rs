//! What became of the requests of an account, counted for people.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Account, RequestContext};
use crate::ccfs::FILE_NOT_FOUND;
use crate::metrics::RequestOutcome;

/// The counts of one account. A hit costs one addition to the cache line that its admission has just written; the
/// other counts are allocated with the first request that is not answered as asked.
#[derive(Debug, Default)]
pub(super) struct AccountCounts {
    admitted: AtomicU64,
    hits: AtomicU64,
    setbacks: OnceLock<Box<[AtomicU64; Setback::COUNT]>>,
}

/// How a request was not answered as asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Setback {
    /// 4xx but 429, or refused by validation.
    Refused,
    /// 429.
    Limited,
    /// 5xx.
    Failed,
    /// There is no such recording or file: 0300012, 0300011.
    NotFound,
}

impl Setback {
    const COUNT: usize = 4;

    /// Returns the setback of a request that ended with this status, outcome and resultCode; `None` if there is
    /// none. That a recording is not found is counted where the hint is made.
    fn of(status: u16, outcome: RequestOutcome, result_code: Option<&str>) -> Option<Self> {
        match (status, outcome) {
            (_, RequestOutcome::Cached | RequestOutcome::ClientDisconnected) => None,
            (429, _) => Some(Self::Limited),
            (400..500, _) | (_, RequestOutcome::InvalidRequest) => Some(Self::Refused),
            (500.., _) => Some(Self::Failed),
            _ => (result_code == Some(FILE_NOT_FOUND)).then_some(Self::NotFound),
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AccountTotals {
    /// Answered from the cache.
    pub hits: u64,
    /// 4xx but 429, or refused by validation.
    pub refused: u64,
    /// 429.
    pub limited: u64,
    /// 5xx.
    pub failed: u64,
    /// 0300012 and 0300011.
    pub not_found: u64,
}

impl AccountCounts {
    pub(super) fn count_admitted(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    pub(super) fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_setback(&self, setback: Setback) {
        let counts = self.setbacks.get_or_init(Box::default);
        counts[setback as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> AccountTotals {
        let setbacks = self.setbacks.get();
        let count = |setback: Setback| {
            setbacks.map_or(0, |counts| counts[setback as usize].load(Ordering::Relaxed))
        };
        AccountTotals {
            hits: self.hits.load(Ordering::Relaxed),
            refused: count(Setback::Refused),
            limited: count(Setback::Limited),
            failed: count(Setback::Failed),
            not_found: count(Setback::NotFound),
        }
    }
}

impl RequestContext {
    /// Counts an admitted request for its account and its caller.
    pub(super) fn count_admitted(&self, account: &Account) {
        for counts in self.counts_with(Some(account)) {
            counts.count_admitted();
        }
    }

    /// Counts a request that the cache answered for its account and its caller.
    pub(super) fn count_hit(&self, account: &Account) {
        for counts in self.counts_with(Some(account)) {
            counts.count_hit();
        }
    }

    /// Counts a request that was not answered as asked for its account and its caller.
    pub(super) fn count_setback(&self) {
        let record = &self.record;
        let setback = Setback::of(record.status, record.outcome, record.result_code.as_deref());
        if let Some(setback) = setback {
            let access_key = record.access_key.as_ref();
            let account = access_key.and_then(|access_key| self.snapshot.account(access_key));
            self.count_setback_as(setback, account.map(|account| &**account));
        }
    }

    /// Counts a setback for an account and the request's caller.
    pub(super) fn count_setback_as(&self, setback: Setback, account: Option<&Account>) {
        for counts in self.counts_with(account) {
            counts.count_setback(setback);
        }
    }

    fn counts_with<'a>(
        &'a self,
        account: Option<&'a Account>,
    ) -> impl Iterator<Item = &'a AccountCounts> {
        let caller = self.caller.as_ref().map(|caller| caller.counts());
        account.map(Account::counts).into_iter().chain(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_as_what_its_caller_saw() {
        use RequestOutcome as O;
        let of = |status, outcome, code| Setback::of(status, outcome, code);
        assert_eq!(of(200, O::Cached, Some("0")), None);
        assert_eq!(of(200, O::Node, Some("0")), None);
        assert_eq!(of(200, O::Node, Some("0300011")), Some(Setback::NotFound));
        assert_eq!(of(200, O::InvalidRequest, None), Some(Setback::Refused));
        assert_eq!(
            of(415, O::UnsupportedMediaType, None),
            Some(Setback::Refused)
        );
        assert_eq!(of(429, O::RateLimited, None), Some(Setback::Limited));
        assert_eq!(of(502, O::NodeFailed, None), Some(Setback::Failed));
        assert_eq!(of(0, O::ClientDisconnected, None), None);
    }

    #[test]
    fn an_account_without_setbacks_allocates_nothing() {
        let counts = AccountCounts::default();
        counts.count_hit();
        assert!(counts.setbacks.get().is_none());
        counts.count_setback(Setback::Limited);
        let totals = counts.totals();
        assert_eq!((totals.hits, totals.limited, totals.failed), (1, 1, 0));
    }
}
