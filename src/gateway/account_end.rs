//! The end of what waits on behalf of an account: an order disables it, or its validity ends, or that of the caller.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use super::GatewayState;
use super::caller::Payer;
use super::context::wall_clock;

impl Payer {
    /// Returns when its requests end to be accepted: with the validity of the account, or of the caller before it.
    pub(super) fn not_after(&self) -> Option<Timestamp> {
        let of_account = self.account.settings.validity.not_after;
        let caller = self.caller.as_ref();
        let of_caller = caller.and_then(|caller| caller.settings.validity.not_after);
        of_account.into_iter().chain(of_caller).min()
    }

    /// Whether the account was disabled, or the validity ended, since one of its requests was verified. Reads
    /// the clock only if the validity has an end.
    pub(super) fn has_ended(&self) -> bool {
        let is_over = |end| end <= wall_clock();
        self.account.is_disabled_by_order() || self.not_after().is_some_and(is_over)
    }

    /// Returns the time until the validity ends; `None` if it has no end.
    fn validity_left(&self) -> Option<Duration> {
        let left = self.not_after()?.duration_since(wall_clock());
        Some(Duration::try_from(left).unwrap_or_default())
    }
}

impl GatewayState {
    /// Ends the waits of an access key that an order has disabled, and its places in the queues for nodes.
    /// Their clients get 401.
    pub fn end_waits(&self, access_key: &str) {
        self.access_key_orders.notify_waiters();
        for cluster in self.snapshot.load().clusters().values() {
            cluster.revoke_waiters(access_key);
        }
    }

    /// Resolves when an order disables the account, or the validity of account or caller ends.
    pub(super) async fn ended(&self, payer: &Payer) {
        loop {
            // Created before the look, so that an order in between is not missed.
            let ordered = self.access_key_orders.notified();
            if payer.has_ended() {
                return;
            }
            match payer.validity_left() {
                Some(left) => drop(timeout(left, ordered).await),
                None => ordered.await,
            }
        }
    }
}
