//! The right of one replica to fetch a key for all. It is no lock: whoever finds it taken waits for a
//! while and then fetches all the same, so that nothing which stands there can stop anybody.

use std::time::Duration;

use redis::aio::ConnectionLike;
use tokio::time::sleep;

use super::{Patience, Store};

/// Held by the replica that fetches; expires by itself with the replica.
#[derive(Debug)]
pub struct Lease {
    pub(super) name: String,
}

impl Store {
    /// Keeps a lease from expiring, for as long as this is polled.
    pub async fn hold(&self, lease: &Lease) {
        loop {
            sleep(LIFE / 4).await;
            let mut patience = self.patience();
            let mut renew = redis::cmd("PEXPIRE");
            renew.arg(&lease.name).arg(millis(LIFE));
            self.say(&renew, &mut patience).await;
        }
    }

    /// Ends a lease. Who waits finds what was `written`, or goes on his own at once.
    pub async fn end(&self, lease: Lease, written: bool, patience: &mut Patience) {
        let mut end = redis::cmd(if written { "DEL" } else { "SET" });
        end.arg(lease.name);
        if !written {
            end.arg(NOTHING).arg("PX").arg(millis(REMEMBERED));
        }
        self.say(&end, patience).await;
    }

    async fn say(&self, command: &redis::Cmd, patience: &mut Patience) {
        // Told in vain, it expires.
        let _ = self
            .ask(patience, async move |mut store| {
                store.req_packed_command(command).await.map(drop)
            })
            .await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// So long others wait for a replica that has died.
pub(super) const LIFE: Duration = Duration::from_secs(2);

/// Stands in place of a lease when the fetch brought nothing to share.
pub(super) const NOTHING: &str = "nothing";

/// So long nobody tries to be the only one again.
const REMEMBERED: Duration = Duration::from_millis(500);
