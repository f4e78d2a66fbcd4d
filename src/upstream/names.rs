//! Where the nodes of a DNS name are. Asked by the system's resolver, which tells no time to live, so
//! every name is asked again after [`REFRESH`]; an answer that fails or is empty changes nothing.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{Cluster, NodeAddress};

/// Asks for all names of a cluster at once and says when to ask again.
pub(super) async fn refresh(cluster: &Cluster) -> Duration {
    let mut lookups = JoinSet::new();
    for address in cluster.names().cloned() {
        lookups.spawn(async move {
            let found = timeout(PATIENCE, look_up(&address)).await;
            (address, found.unwrap_or_default())
        });
    }
    let mut again = REFRESH;
    while let Some(lookup) = lookups.join_next().await {
        let Ok((address, found)) = lookup else {
            continue;
        };
        if found.is_empty() {
            tracing::warn!(node = %address, "the name of a node cannot be resolved");
            again = SOON;
        }
        if cluster.resolve(&address, &found) {
            tracing::info!(node = %address, addresses = ?found, "the addresses of a node changed");
        }
    }
    again
}

/// The addresses of a name: those of IPv4 if there are any, so that one machine is not two nodes.
async fn look_up(address: &NodeAddress) -> Vec<IpAddr> {
    let found = match lookup_host((&*address.host, address.port)).await {
        Ok(found) => found.map(|found| found.ip()).collect(),
        Err(error) => {
            tracing::debug!(node = %address, %error, "no answer for a name");
            Vec::new()
        }
    };
    one_family(found)
}

fn one_family(mut found: Vec<IpAddr>) -> Vec<IpAddr> {
    if found.iter().any(IpAddr::is_ipv4) {
        found.retain(IpAddr::is_ipv4);
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    found
}

/// Between two questions for one name.
const REFRESH: Duration = Duration::from_secs(30);

/// After a question without an answer.
const SOON: Duration = Duration::from_secs(2);

/// For one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nodes behind one name.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_is_one_node() {
        let parse = |list: &[&str]| -> Vec<IpAddr> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let both = parse(&["::1", "10.0.0.2", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(one_family(both), parse(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(one_family(parse(&["::1"])), parse(&["::1"]));
    }
}
