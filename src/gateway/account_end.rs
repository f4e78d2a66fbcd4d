//! The end of what waits on behalf of an account: an order disables it, or its validity ends.

use tokio::time::timeout;

use super::context::wall_clock;
use super::{Account, GatewayState};

impl GatewayState {
    /// Ends the waits of an access key that an order has disabled, and its places in the queues for nodes.
    /// Their clients get 401.
    pub fn end_waits(&self, access_key: &str) {
        self.access_key_orders.notify_waiters();
        for cluster in self.snapshot.load().clusters().values() {
            cluster.revoke_waiters(access_key);
        }
    }

    /// Resolves when an order disables the account, or its validity ends.
    pub(super) async fn ended(&self, account: &Account) {
        loop {
            // Created before the look, so that an order in between is not missed.
            let ordered = self.access_key_orders.notified();
            if account.has_ended() {
                return;
            }
            match account.validity_left(wall_clock()) {
                Some(left) => drop(timeout(left, ordered).await),
                None => ordered.await,
            }
        }
    }
}
