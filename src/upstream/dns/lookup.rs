//! One lookup of a name: the hosts file, else A and AAAA records at the same time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::Hosts;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::timeout;

use super::{MAX_TTL, clamp_ttl, now};
use crate::cluster::NodeAddress;

/// Which name servers are queried.
#[derive(Clone, Debug)]
pub(in crate::upstream) enum NameServers {
    /// Those of `resolv.conf`, after the hosts file; without `resolv.conf`, the local one.
    System,
    /// Exactly these, after a hosts file of this content.
    #[cfg(test)]
    Fixed(Vec<SocketAddr>, &'static str),
}

/// The current addresses of a name by family; `None` if the query for that family failed, so that the
/// last good ones stay.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Resolution {
    pub(super) v4: Option<Vec<IpAddr>>,
    pub(super) v6: Option<Vec<IpAddr>>,
    /// The time until the next query.
    pub(super) valid_for: Duration,
}

impl Resolution {
    /// Takes the addresses of a family that is unknown now from an earlier lookup.
    pub(super) fn or_last_good(mut self, last: &Self) -> Self {
        self.v4 = self.v4.or_else(|| last.v4.clone());
        self.v6 = self.v6.or_else(|| last.v6.clone());
        self
    }

    /// Returns the addresses in the order in which they are tried (RFC 8305, 4, and RFC 6724, 6):
    /// families alternate, IPv6 first. A family that this machine has no route to is left out while
    /// the other one has addresses.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let family = |found: &Option<Vec<IpAddr>>| -> Vec<IpAddr> {
            let mut found = found.clone().unwrap_or_default();
            found.sort_unstable();
            found.dedup();
            found
        };
        let (mut v6, mut v4) = (family(&self.v6), family(&self.v4));
        if !v6.is_empty() && !v4.is_empty() {
            let (to_v6, to_v4) = (v6.iter().any(has_route), v4.iter().any(has_route));
            if to_v4 && !to_v6 {
                v6.clear();
            } else if to_v6 && !to_v4 {
                v4.clear();
            }
        }
        let longer = v6.len().max(v4.len());
        let pairs = (0..longer).flat_map(|index| [v6.get(index), v4.get(index)]);
        pairs.flatten().copied().take(MAX_ADDRESSES).collect()
    }
}

/// Looks a name up. A name of the hosts file has exactly the addresses there.
pub(super) async fn lookup(
    address: &NodeAddress,
    servers: &NameServers,
) -> Result<Resolution, NetError> {
    if let Some(found) = hosts(servers).and_then(|hosts| in_hosts(&hosts, &address.host)) {
        return Ok(found);
    }
    let resolver = resolver(servers)?;
    let v4 = resolver.ipv4_lookup(&*address.host);
    let v6 = resolver.ipv6_lookup(&*address.host);
    tokio::pin!(v4, v6);
    // Where one family has an answer, the other one is not waited for much longer: some name servers
    // never respond to queries for AAAA records.
    let (v4, v6) = tokio::select! {
        first = &mut v4 => {
            let wait = if first.is_ok() { SECOND_FAMILY_TIMEOUT } else { Duration::MAX };
            let second = timeout(wait, v6).await;
            (first, second.unwrap_or(Err(NetError::Timeout)))
        }
        first = &mut v6 => {
            let wait = if first.is_ok() { SECOND_FAMILY_TIMEOUT } else { Duration::MAX };
            let second = timeout(wait, v4).await;
            (second.unwrap_or(Err(NetError::Timeout)), first)
        }
    };
    let now = now();
    let valid_for = [&v4, &v6]
        .into_iter()
        .filter_map(|found| Some(clamp_ttl(found.as_ref().ok()?.valid_until(), now)))
        .min();
    let found = Resolution {
        v4: known(&v4),
        v6: known(&v6),
        valid_for: valid_for.unwrap_or(MAX_TTL),
    };
    let has_address = [&found.v4, &found.v6]
        .into_iter()
        .flatten()
        .any(|addresses| !addresses.is_empty());
    if has_address {
        return Ok(found);
    }
    let is_empty = |error: &NetError| error.is_no_records_found() && !error.is_nx_domain();
    match (v4, v6) {
        // The failure says more than the family without records.
        (Err(error), Err(other)) if is_empty(&error) => Err(other),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (Ok(_), Ok(_)) => Err(NetError::from("a response without addresses")),
    }
}

/// Returns the addresses of one family; `None` if it is unknown whether there are any.
fn known(found: &Result<Lookup, NetError>) -> Option<Vec<IpAddr>> {
    match found {
        Ok(found) => Some(addresses(found)),
        Err(error) if error.is_no_records_found() || error.is_nx_domain() => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Creates a resolver for each query: `resolv.conf` may have changed since the last one. Nothing is
/// cached here, because a cached record has the remaining TTL, not the full one.
fn resolver(servers: &NameServers) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match servers {
        NameServers::System => TokioResolver::builder(provider.clone()).unwrap_or_else(|_error| {
            // resolv.conf(5): without the file, the name server on the local machine is used.
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
            TokioResolver::builder_with_config(resolver_config(&[local]), provider)
        }),
        #[cfg(test)]
        NameServers::Fixed(servers, _) => {
            TokioResolver::builder_with_config(resolver_config(servers), provider)
        }
    };
    builder.options_mut().cache_size = 0;
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
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

/// Reads the hosts file, which may have changed since the last lookup.
fn hosts(servers: &NameServers) -> Option<Hosts> {
    match servers {
        NameServers::System => Hosts::from_system().ok(),
        #[cfg(test)]
        NameServers::Fixed(_, content) => {
            let mut hosts = Hosts::default();
            hosts.read_hosts_conf(content.as_bytes()).ok()?;
            Some(hosts)
        }
    }
}

fn in_hosts(hosts: &Hosts, host: &str) -> Option<Resolution> {
    let name = Name::from_utf8(host).ok()?;
    let find = |kind| {
        let found = hosts.lookup_static_host(&Query::query(name.clone(), kind));
        found.map_or_else(Vec::new, |found| addresses(&found))
    };
    let (v4, v6) = (find(RecordType::A), find(RecordType::AAAA));
    (!v4.is_empty() || !v6.is_empty()).then_some(Resolution {
        v4: Some(v4),
        v6: Some(v6),
        valid_for: MAX_TTL,
    })
}

fn addresses(found: &Lookup) -> Vec<IpAddr> {
    let records = found.answers().iter();
    records.filter_map(|record| record.data.ip_addr()).collect()
}

/// Whether the routing table knows a way to an address. Nothing is sent.
fn has_route(ip: &IpAddr) -> bool {
    let local: SocketAddr = match ip {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(local);
    socket.is_ok_and(|socket| socket.connect((*ip, DISCARD_PORT)).is_ok())
}

/// Any port serves to ask for a route (RFC 863).
const DISCARD_PORT: u16 = 9;

/// How much longer the second family is waited for. Addresses are resolved in the background, so it can
/// be longer than the 50 ms of RFC 8305, 3.
const SECOND_FAMILY_TIMEOUT: Duration = Duration::from_secs(2);

/// Addresses of one name; more would only cost connections and health checks.
const MAX_ADDRESSES: usize = 64;
