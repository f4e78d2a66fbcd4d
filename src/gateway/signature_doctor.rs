//! The signature doctor: looks for the mistake of clients whose signatures do not verify, beside the path of
//! requests.
//!
//! ```text
//! a worker: verification fails ──► Inbox (bounded, never waited for) ──► tick, on a thread of lowest
//!                                                                        priority: one case at random
//! ```
//!
//! What a tick finds is shown to people only: no limiter, cache, response or log level depends on it. A case is
//! put aside before known and unknown access keys are told apart.

use std::net::IpAddr;

use compact_str::CompactString;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::Snapshot;
use crate::auth::Mistake;
use crate::metrics::{Shard, SignatureHint};

mod case;
mod inbox;
mod live;
mod rounds;

pub use live::LiveCase;
pub use rounds::Rounds;

pub(super) use case::{Case, CaseOrigin};
use inbox::Inbox;
use live::{FOUND_MISTAKES, LIVE_CASES, LastOfEach};

/// What failed verifications leave behind.
#[derive(Debug)]
pub struct SignatureDoctor {
    inbox: Mutex<Inbox>,
    found: LastOfEach<Mistake>,
    live: LastOfEach<LiveCase>,
}

impl Default for SignatureDoctor {
    fn default() -> Self {
        let ((cases, cases_kept), (mistakes, mistakes_kept)) = (LIVE_CASES, FOUND_MISTAKES);
        Self {
            inbox: Mutex::default(),
            found: LastOfEach::new(mistakes, mistakes_kept),
            live: LastOfEach::new(cases, cases_kept),
        }
    }
}

impl SignatureDoctor {
    /// Puts a case aside. Never waits: while the inbox is in use, the case is dropped.
    pub(super) fn put_aside(&self, case: impl FnOnce() -> Case) {
        if let Some(mut inbox) = self.inbox.try_lock() {
            inbox.add(case());
        }
    }

    /// Works on one of the cases that were put aside, if the time allows.
    pub fn tick(&self, rounds: &mut Rounds, snapshot: &Snapshot, metrics: &Shard) {
        rounds.begin_tick();
        if !rounds.has_time() {
            return;
        }
        let now = super::context::wall_clock();
        let case = self.inbox.lock().take(|case| rounds.is_blocked(case, now));
        let Some(case) = case else { return };
        let mistake = rounds.spend(|| self.work(&case, snapshot, now));
        let Some(mistake) = mistake else { return };
        let name = mistake.as_str();
        let mut labels = SignatureHint::ALL.iter();
        if let Some(&label) = labels.find(|label| label.as_str() == name) {
            metrics.count(label);
        }
        if mistake == Mistake::NothingFitted {
            rounds.block(&case, now);
        } else {
            log(&case, mistake, snapshot);
        }
    }

    /// Works on one case, and keeps what was found. `None` if the signature is right as it is.
    fn work(&self, case: &Case, snapshot: &Snapshot, now: Timestamp) -> Option<Mistake> {
        let claimed = case.claimed()?;
        let account = snapshot.account(claimed);
        let mistake = case.mistake(account.map(|account| &*account.credential))?;
        if account.is_some() {
            let live = case.to_live(claimed, mistake);
            self.live.keep(claimed, live, now);
            if mistake != Mistake::NothingFitted {
                self.found.keep(claimed, mistake, now);
            }
        }
        Some(mistake)
    }

    /// Returns the mistake that was found last for a configured access key, in the last 24 hours; else that
    /// nothing fitted, if that was so in the last ten minutes.
    pub fn found(&self, access_key: &str, now: Timestamp) -> Option<Mistake> {
        let found = self.found.get(access_key, now);
        found.or_else(|| Some(self.live.get(access_key, now)?.mistake))
    }

    /// Returns the last case of a configured access key that was worked on in the last ten minutes.
    pub fn live_case(&self, access_key: &str, now: Timestamp) -> Option<LiveCase> {
        self.live.get(access_key, now)
    }
}

fn log(case: &Case, mistake: Mistake, snapshot: &Snapshot) {
    let claimed = case.claimed().filter(|_| snapshot.log_claimed_ak);
    let claimed = claimed.map(|claimed| super::claims::shown(claimed, snapshot));
    tracing::info!(
        request_id = case.request_id.to_str().ok(),
        gw.signature_hint = mistake.as_str(),
        gw.claimed_ak = claimed.as_deref(),
        "a signature did not verify: {}",
        mistake.words()
    );
}

/// The access key that a client claims, and its address.
type Claimant = (CompactString, IpAddr);

#[cfg(test)]
mod tests;
