//! The socket addresses of one node: at most one of each family.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::Node;

/// The addresses to connect to, and the one that was connected to.
#[derive(Debug)]
pub(super) struct NodeSockets {
    first: SocketAddr,
    /// `first`, and the address of the other family of the same name.
    candidates: ArcSwap<Vec<SocketAddr>>,
    /// The candidate of the last connection.
    connected: ArcSwapOption<SocketAddr>,
}

impl NodeSockets {
    pub(super) fn new(first: SocketAddr) -> Self {
        Self {
            first,
            candidates: ArcSwap::from_pointee(vec![first]),
            connected: ArcSwapOption::empty(),
        }
    }

    /// Returns the address of the last connection, or the first one.
    pub(super) fn in_use(&self) -> SocketAddr {
        self.connected
            .load()
            .as_deref()
            .copied()
            .unwrap_or(self.first)
    }
}

impl Node {
    /// Returns its first address, by which it is told from other nodes of the same name.
    pub fn socket(&self) -> SocketAddr {
        self.sockets.first
    }

    /// Returns the addresses to connect to, in this order (RFC 8305, 5): at most one of each family.
    pub fn candidates(&self) -> Arc<Vec<SocketAddr>> {
        self.sockets.candidates.load_full()
    }

    /// Records the address of the last connection.
    pub fn set_connected(&self, socket: SocketAddr) {
        let connected = &self.sockets.connected;
        if connected.load().as_deref() != Some(&socket) {
            connected.store(Some(Arc::new(socket)));
        }
    }

    /// Sets the address of the other family; returns whether it changed.
    pub(super) fn set_alternative(&self, ip: Option<IpAddr>) -> bool {
        let first = self.sockets.first;
        let mut candidates = vec![first];
        candidates.extend(ip.map(|ip| SocketAddr::new(ip, first.port())));
        let changed = **self.sockets.candidates.load() != candidates;
        if changed {
            self.sockets.candidates.store(Arc::new(candidates));
        }
        changed
    }
}
