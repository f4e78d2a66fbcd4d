//! Where the nodes of a DNS name are: asked again when the answer's time to live is over, and at
//! once known to whoever watches the cluster. The hosts file speaks first. An answer that fails or is
//! empty changes nothing, so the last good one is kept, and a gateway can start before its DNS.

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

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) enum NameServers {
    /// Those of the system, by its `resolv.conf`; without one, the server of this machine.
    System,
    /// These.
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

/// Follows one name for as long as it is polled, and says when its addresses changed.
pub(super) async fn track_name(
    cluster: Arc<Cluster>,
    address: NodeAddress,
    servers: NameServers,
    changed: Arc<Notify>,
) {
    let mut failing = None;
    loop {
        let found = timeout(LOOKUP_TIMEOUT, lookup(&address, &servers)).await;
        let again = match found {
            Ok(Ok(found)) => {
                failing = None;
                if cluster.set_addresses(&address, &found.addresses) {
                    tracing::info!(node = %address, addresses = ?found.addresses, "the addresses of a node changed");
                    changed.notify_one();
                }
                found.valid_for
            }
            failed => {
                let cause = failed.map_or_else(
                    |_elapsed| TIMED_OUT.into(),
                    |answer| answer.map_or_else(|error| describe(&error), |_| String::new()),
                );
                cluster.set_resolution_error(&address, &cause);
                // Once, not at every try of a long night.
                if failing.as_ref() != Some(&cause) {
                    tracing::warn!(node = %address, cause, "the name of a node cannot be resolved");
                    failing = Some(cause);
                }
                RETRY_INTERVAL
            }
        };
        sleep(again).await;
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

/// What a name stands for now.
#[derive(Debug)]
struct Resolution {
    /// At least one.
    addresses: Vec<IpAddr>,
    /// How long it is good.
    valid_for: Duration,
}

/// Asks for the addresses of IPv4, and for those of IPv6 where there are none, so that one machine
/// with both is not two nodes. Only an answer that says "none" leads to the second question: a
/// server that fails must not make a node change its family.
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
        return Err(NetError::from("an answer without addresses"));
    }
    Ok(Resolution {
        addresses,
        valid_for: clamp_ttl(found.valid_until(), now()),
    })
}

/// Made for every question: the system's servers and its hosts file may have changed since the last
/// one, and an answer that somebody cached says the rest of its life, not of ours.
fn resolver(servers: &NameServers) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match servers {
        NameServers::System => TokioResolver::builder(provider.clone()).unwrap_or_else(|_error| {
            // As resolv.conf(5) says of a system without one.
            let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
            TokioResolver::builder_with_config(resolver_config(&[here]), provider)
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
        let mut asked = NameServerConfig::udp_and_tcp(server.ip());
        for way in &mut asked.connections {
            way.port = server.port();
        }
        asked
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

/// How long an answer is believed.
fn clamp_ttl(valid_until: Instant, now: Instant) -> Duration {
    valid_until
        .saturating_duration_since(now)
        .clamp(MIN_TTL, MAX_TTL)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a time to live ends at a time of the clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// However short the time to live.
const MIN_TTL: Duration = Duration::from_secs(1);

/// However long the time to live.
const MAX_TTL: Duration = Duration::from_secs(60);

/// After a question without an answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// For one name, with all repetitions.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

const TIMED_OUT: &str = "no answer from the name servers in time";

/// Nodes behind one name.
const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests;
