//! The lease of one replica to fetch a key for all replicas. Advisory only: a replica that finds the
//! lease taken waits briefly and then fetches anyway, so a stale lease delays at most `max_wait`.

use std::time::Duration;

use redis::aio::ConnectionLike;
use tokio::time::sleep;

use super::{Store, WaitBudget};

/// Held by the replica that fetches; expires by itself if the replica terminates.
#[derive(Debug)]
pub struct Lease {
    pub(super) key: String,
}

impl Store {
    /// Renews a lease for as long as this future is polled. Never completes.
    pub async fn keep_lease_alive(&self, lease: &Lease) {
        loop {
            sleep(LEASE_TTL / 4).await;
            let mut budget = self.wait_budget();
            let mut renew = redis::cmd("PEXPIRE");
            renew.arg(&lease.key).arg(millis(LEASE_TTL));
            self.send(&renew, &mut budget).await;
        }
    }

    /// Releases a lease. Waiting replicas find the value if it `is_written`; otherwise they fetch at
    /// once.
    pub async fn release_lease(&self, lease: Lease, is_written: bool, budget: &mut WaitBudget) {
        let mut release = redis::cmd(if is_written { "DEL" } else { "SET" });
        release.arg(lease.key);
        if !is_written {
            release.arg(NO_RESULT).arg("PX").arg(millis(NO_RESULT_TTL));
        }
        self.send(&release, budget).await;
    }

    async fn send(&self, command: &redis::Cmd, budget: &mut WaitBudget) {
        // If the command fails, the lease expires by itself.
        let _ = self
            .query(budget, async move |mut store| {
                store.req_packed_command(command).await.map(drop)
            })
            .await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long other replicas wait for a replica that has terminated. A fetch takes 0.2 to 8 s, so the lease is
/// renewed four times in each TTL.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(2);

/// The value of a lease key after a fetch without a result to share.
pub(super) const NO_RESULT: &str = "nothing";

/// How long no replica takes the lease again after a fetch without a result: each fetches for itself
/// meanwhile, instead of one after the other.
const NO_RESULT_TTL: Duration = Duration::from_millis(500);
