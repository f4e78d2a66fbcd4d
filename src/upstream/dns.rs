//! Resolves the DNS names of nodes. A name is queried again when the TTL of its records ends; the
//! hosts file comes first. A query that fails or finds no address changes nothing: the last good
//! addresses stay, and the gateway can start before its DNS.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, NodeAddress};

/// Which name servers are queried.
#[derive(Clone, Debug)]
pub(super) enum NameServers {
    /// Those of `resolv.conf`; without that file, the local one.
    System,
    /// Exactly these.
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

/// Keeps the addresses of one name up to date; never completes. `changed` is notified when they change.
pub(super) async fn track_name(
    cluster: Arc<Cluster>,
    address: NodeAddress,
    servers: NameServers,
    changed: Arc<Notify>,
) {
    let mut logged = None;
    loop {
        let result = timeout(LOOKUP_TIMEOUT, lookup(&address, &servers)).await;
        let next_query = match result {
            Ok(Ok(found)) => {
                logged = None;
                if cluster.set_addresses(&address, &found.addresses) {
                    tracing::info!(node = %address, addresses = ?found.addresses, "the addresses of a node changed");
                    changed.notify_one();
                }
                found.valid_for
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

/// The current addresses of a name.
#[derive(Debug)]
struct Resolution {
    /// Not empty.
    addresses: Vec<IpAddr>,
    /// The time until the next query.
    valid_for: Duration,
}

/// Queries the IPv4 addresses, and the IPv6 addresses where there are none, so that one machine with
/// both is not two nodes. Only a response without an IPv4 address leads to the second query:
/// a name server that fails must not make a node change its address family.
async fn lookup(address: &NodeAddress, servers: &NameServers) -> Result<Resolution, NetError> {
    let resolver = resolver(servers)?;
    let mut found = resolver.ipv4_lookup(&*address.host).await;
    if found
        .as_ref()
        .map_or_else(NetError::is_no_records_found, |found| {
            addresses(found).is_empty()
        })
    {
        found = resolver.ipv6_lookup(&*address.host).await;
    }
    let found = found?;
    let addresses = addresses(&found);
    if addresses.is_empty() {
        return Err(NetError::from("a response without addresses"));
    }
    Ok(Resolution {
        addresses,
        valid_for: clamp_ttl(found.valid_until(), now()),
    })
}

/// Creates a resolver for each query: `resolv.conf` and the hosts file may have changed since the last
/// one. Nothing is cached here, because a cached record has the remaining TTL, not the full one.
fn resolver(servers: &NameServers) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match servers {
        NameServers::System => TokioResolver::builder(provider.clone()).unwrap_or_else(|_error| {
            // resolv.conf(5): without the file, the name server on the local machine is used.
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
            TokioResolver::builder_with_config(resolver_config(&[local]), provider)
        }),
        #[cfg(test)]
        NameServers::Fixed(servers) => {
            TokioResolver::builder_with_config(resolver_config(servers), provider)
        }
    };
    builder.options_mut().cache_size = 0;
    builder.build()
}

fn resolver_config(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let mut config = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut config.connections {
            connection.port = server.port();
        }
        config
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

fn addresses(found: &Lookup) -> Vec<IpAddr> {
    let records = found.answers().iter();
    let mut addresses: Vec<_> = records.filter_map(|record| record.data.ip_addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    addresses
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

/// Nodes of one name; more would only cost connections and health checks.
const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests;
