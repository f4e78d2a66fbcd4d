//! Warns about nodes that are listeners of this gateway.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::clusters::parse_node_url;
use super::{Config, Diagnostics, File};
use crate::cluster::NodeAddress;
use crate::config::file::Node;

/// Warns about each node that is a listener of this gateway: a request to it ends with `loop-detected`.
pub(super) fn warn(file: &File, config: &Config, diagnostics: &mut Diagnostics) {
    let nodes = file
        .clusters
        .values()
        .filter_map(|table| table.nodes.as_ref());
    for node in nodes.flat_map(|nodes| &nodes.value) {
        let url = match &node.value {
            Node::Url(url) => url.as_str(),
            Node::Weighted(node) => node.url.as_deref().unwrap_or_default(),
        };
        let Ok(address) = parse_node_url(url) else {
            continue;
        };
        let mut listeners = config.listeners.iter();
        if let Some((name, _)) = listeners.find(|(_, it)| is_served_by(&address, it.bind)) {
            diagnostics.warning(
                node.span(),
                format!("this node is listener {name} of this gateway"),
                "requests to it end with 508 loop-detected; should be the address of a CC-FS node",
            );
        }
    }
}

/// Whether a connection to `node` reaches a listener at `bind`. Names other than `localhost` are not
/// resolved.
fn is_served_by(node: &NodeAddress, bind: SocketAddr) -> bool {
    let ip = match &*node.host {
        "localhost" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok().map(|ip: IpAddr| ip.to_canonical()),
    };
    let is_at = |ip: IpAddr| {
        let bound = bind.ip().to_canonical();
        let both_loopback = &*node.host == "localhost" && bound.is_loopback();
        ip == bound || both_loopback || (bound.is_unspecified() && is_of_this_machine(ip))
    };
    bind.port() != 0 && bind.port() == node.port && ip.is_some_and(is_at)
}

/// Whether this machine has the address: only then a socket can be bound to it.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_recognized_as_a_listener() {
        let is_served = |host: &str, bind: &str| {
            let node = NodeAddress {
                host: host.into(),
                port: 28443,
            };
            is_served_by(&node, bind.parse().unwrap())
        };
        for (host, bind) in [
            ("127.0.0.1", "127.0.0.1:28443"),
            ("127.0.0.1", "0.0.0.0:28443"),
            ("127.0.0.1", "[::]:28443"),
            ("::1", "[::1]:28443"),
            ("::ffff:127.0.0.1", "127.0.0.1:28443"),
            ("localhost", "[::1]:28443"),
            ("localhost", "0.0.0.0:28443"),
        ] {
            assert!(is_served(host, bind), "{host} {bind}");
        }
        for (host, bind) in [
            ("127.0.0.1", "127.0.0.1:28444"),
            ("127.0.0.2", "127.0.0.1:28443"),
            ("localhost", "192.0.2.1:28443"),
            ("192.0.2.1", "0.0.0.0:28443"),
            ("node.example", "0.0.0.0:28443"),
        ] {
            assert!(!is_served(host, bind), "{host} {bind}");
        }
    }
}
