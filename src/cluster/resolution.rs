//! Nodes that are configured by DNS name. The results of resolution are parameters.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Cluster, Member, NodeAddress, NodeState, NodeStatus, new_node};

impl Cluster {
    /// Returns the configured addresses that DNS has to resolve.
    pub fn dns_names(&self) -> impl Iterator<Item = &NodeAddress> {
        self.settings
            .nodes
            .iter()
            .map(|node| &node.address)
            .filter(|address| address.host.parse::<IpAddr>().is_err())
    }

    /// Sets the addresses of a name, in the order in which they are tried. The n-th address of each family
    /// are one node: a machine with both is not two. Nodes that stay keep their state; an empty list changes nothing, so
    /// the last good addresses are kept. Returns whether something changed.
    pub fn set_addresses(&self, address: &NodeAddress, found: &[IpAddr]) -> bool {
        let pairs = pair_families(found);
        let found: Vec<IpAddr> = pairs.iter().map(|(first, _)| *first).collect();
        let configured = self.settings.nodes.iter().find(|n| n.address == *address);
        let Some(configured) = configured.filter(|_| !found.is_empty()) else {
            return false;
        };
        self.unresolved.lock().remove(address);
        let drained = self.drained.lock();
        let members = self.members.load();
        let stays =
            |m: &&Member| m.node.address() != address || found.contains(&m.node.socket().ip());
        let mut nodes: Vec<Member> = members.iter().filter(stays).cloned().collect();
        let left = nodes.len() < members.len();
        let mut joined = false;
        for &ip in &found {
            let there = |m: &Member| m.node.address() == address && m.node.socket().ip() == ip;
            if !nodes.iter().any(there) {
                joined = true;
                let node = new_node(address, ip, self.settings.pool.max_connections, &drained);
                nodes.push(Member {
                    node,
                    weight: configured.weight,
                    priority: configured.priority,
                });
            }
        }
        let mut moved = false;
        for (first, second) in pairs {
            let is_first =
                |m: &&Member| m.node.address() == address && m.node.socket().ip() == first;
            if let Some(member) = nodes.iter().find(is_first) {
                moved |= member.node.set_alternative(second);
            }
        }
        if left || joined {
            self.members.store(Arc::new(nodes));
            self.version.advance();
            // A node that has left ends with the table that held it, and its idle connections with it.
            self.table.store(Arc::default());
        }
        left || joined || moved
    }

    /// Sets the reason why a name cannot be resolved, which is shown until an address is known.
    pub fn set_resolution_error(&self, address: &NodeAddress, reason: &str) {
        self.unresolved
            .lock()
            .insert(address.clone(), reason.into());
    }

    /// Whether the cluster has no node at all because DNS gives no address for its names.
    pub fn lacks_addresses(&self) -> bool {
        self.members.load().is_empty() && !self.unresolved.lock().is_empty()
    }

    /// Returns the status of the names without an address, in the form of nodes.
    pub(super) fn unresolved_statuses(&self, members: &[Member]) -> Vec<NodeStatus> {
        let is_there = |address: &NodeAddress| {
            let mut nodes = members.iter();
            nodes.any(|member| member.node.address() == address)
        };
        let absent = self
            .settings
            .nodes
            .iter()
            .filter(|node| !is_there(&node.address));
        let drained = self.drained.lock();
        let reasons = self.unresolved.lock();
        absent
            .map(|node| {
                let name = node.address.to_string();
                NodeStatus {
                    id: None,
                    socket: None,
                    weight: node.weight,
                    priority: node.priority,
                    state: if drained.contains(&name) {
                        NodeState::Drained
                    } else {
                        NodeState::Unresolved
                    },
                    in_flight: 0,
                    connections: 0,
                    requests: 0,
                    failures: 0,
                    attempts: Default::default(),
                    last_failure: None,
                    last_failure_reason: reasons.get(&node.address).cloned(),
                    last_failure_age: None,
                    last_check: None,
                    ejected_for: None,
                    ejection_reason: None,
                    clock_offset: None,
                    flow_bounds: Vec::new(),
                    clock_errors: 0,
                    certificate: None,
                    address: name.into(),
                }
            })
            .collect()
    }
}

/// Returns the first address of each node, and its address of the other family.
fn pair_families(found: &[IpAddr]) -> Vec<(IpAddr, Option<IpAddr>)> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = found.iter().partition(|ip| ip.is_ipv6());
    let longer = v6.len().max(v4.len());
    let pairs = (0..longer).filter_map(|index| match (v6.get(index), v4.get(index)) {
        (Some(first), second) => Some((*first, second.copied())),
        (None, first) => Some((*first?, None)),
    });
    pairs.collect()
}
