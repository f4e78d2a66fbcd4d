//! The right of one replica to fetch a key for all. It is no lock: whoever finds it taken waits for a
//! while and then fetches all the same, so that nothing which stands there can stop anybody.

use std::time::Duration;

use redis::aio::ConnectionLike;
use tokio::time::sleep;

use super::{Store, WaitBudget};

/// Held by the replica that fetches; expires by itself with the replica.
#[derive(Debug)]
pub struct Lease {
    pub(super) key: String,
}

impl Store {
    /// Keeps a lease from expiring, for as long as this is polled.
    pub async fn keep_lease_alive(&self, lease: &Lease) {
        loop {
            sleep(LEASE_TTL / 4).await;
            let mut patience = self.wait_budget();
            let mut renew = redis::cmd("PEXPIRE");
            renew.arg(&lease.key).arg(millis(LEASE_TTL));
            self.send(&renew, &mut patience).await;
        }
    }

    /// Ends a lease. Who waits finds what was `written`, or goes on his own at once.
    pub async fn release_lease(&self, lease: Lease, written: bool, patience: &mut WaitBudget) {
        let mut end = redis::cmd(if written { "DEL" } else { "SET" });
        end.arg(lease.key);
        if !written {
            end.arg(NO_RESULT).arg("PX").arg(millis(NO_RESULT_TTL));
        }
        self.send(&end, patience).await;
    }

    async fn send(&self, command: &redis::Cmd, patience: &mut WaitBudget) {
        // Told in vain, it expires.
        let _ = self
            .query(patience, async move |mut store| {
                store.req_packed_command(command).await.map(drop)
            })
            .await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// So long others wait for a replica that has died.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(2);

/// Stands in place of a lease when the fetch brought nothing to share.
pub(super) const NO_RESULT: &str = "nothing";

/// So long nobody tries to be the only one again.
const NO_RESULT_TTL: Duration = Duration::from_millis(500);
