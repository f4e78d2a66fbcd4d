//! Resolves the DNS names of nodes. A name is queried again when the TTL of its records ends; the
//! hosts file comes first. A query that fails or finds no address changes nothing: the last good
//! addresses stay, and the gateway can start before its DNS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::net::NetError;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, NodeAddress};

mod lookup;

use lookup::{Resolution, lookup};

pub(super) use lookup::NameServers;

/// Keeps the addresses of one name up to date; never completes. `changed` is notified when they change.
pub(super) async fn track_name(
    cluster: Arc<Cluster>,
    address: NodeAddress,
    servers: NameServers,
    changed: Arc<Notify>,
) {
    let mut logged = None;
    let mut last = Resolution::default();
    loop {
        let result = timeout(LOOKUP_TIMEOUT, lookup(&address, &servers)).await;
        let next_query = match result {
            Ok(Ok(found)) => {
                logged = None;
                last = found.or_last_good(&last);
                let addresses = last.addresses();
                if cluster.set_addresses(&address, &addresses) {
                    tracing::info!(node = %address, ?addresses, "the addresses of a node changed");
                    changed.notify_one();
                }
                last.valid_for
            }
            failed => {
                let cause = failed.map_or_else(
                    |_elapsed| TIMED_OUT.into(),
                    |result| result.map_or_else(|error| describe(&error), |_| String::new()),
                );
                cluster.set_resolution_error(&address, &cause);
                // Logged once, not at every query during a long outage.
                if logged.as_ref() != Some(&cause) {
                    tracing::warn!(node = %address, error = cause, "the name of a node cannot be resolved");
                    logged = Some(cause);
                }
                RETRY_INTERVAL
            }
        };
        sleep(next_query).await;
    }
}

/// Returns the current addresses of a name.
///
/// # Errors
/// Why there are none, in words.
pub(super) async fn resolve(
    address: &NodeAddress,
    servers: &NameServers,
) -> Result<Vec<IpAddr>, String> {
    match timeout(LOOKUP_TIMEOUT, lookup(address, servers)).await {
        Ok(Ok(found)) => Ok(found.addresses()),
        Ok(Err(error)) => Err(describe(&error)),
        Err(_elapsed) => Err(TIMED_OUT.to_owned()),
    }
}

fn describe(error: &NetError) -> String {
    if error.is_nx_domain() {
        "no such name in DNS (NXDOMAIN)".to_owned()
    } else if error.is_no_records_found() {
        "the name has no address in DNS".to_owned()
    } else if matches!(error, NetError::Timeout) {
        TIMED_OUT.to_owned()
    } else {
        format!("DNS fails: {error}")
    }
}

/// Returns the time until the next query, within bounds.
fn clamp_ttl(valid_until: Instant, now: Instant) -> Duration {
    valid_until
        .saturating_duration_since(now)
        .clamp(MIN_TTL, MAX_TTL)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a TTL ends at a time of the clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// Bounds the load on the name servers where records have a TTL of 0.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Bounds the time until a node that has moved is found, however long the TTL.
const MAX_TTL: Duration = Duration::from_secs(60);

/// The time until the next query after one that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// One query, including the resolver's own retries.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

const TIMED_OUT: &str = "no response from the name servers in time";

#[cfg(test)]
mod tests;
