//! Clusters and their nodes: membership, health, load balancing, drain. Pure decisions over shared
//! counters: connections, the clock and DNS belong to `upstream`, so times and addresses are parameters.
//!
//! The nodes of the lowest priority serve; those of the next one when none of them is usable (`tiers`).
//!
//! Panic mode: when most nodes look unhealthy (`panic_threshold`), the health checks are more likely
//! wrong than all nodes down, so all nodes are used. Healthy-looking nodes keep a larger share, so that
//! the retry budget lasts if the checks are right. A drained node is never used.

mod choice;
mod connection_slot;
mod ejection;
mod flow_choice;
mod flow_control;
mod health;
mod latency;
mod load_balancing;
mod node;
mod node_guard;
mod node_sockets;
mod node_status;
mod node_table;
mod node_tls;
mod recent_keys;
mod refusals;
mod resolution;
mod retry_budget;
mod settings;
mod shares;
mod tiers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use flow_control::WaitQueues;
use latency::MedianLatency;
use node_table::{NodeTable, TableVersion};
use refusals::Refusals;

pub use choice::Choice;
pub use connection_slot::ConnectionSlot;
pub use flow_control::{FlowBounds, FlowClass, FlowOutcome, FlowRequest, WaitEnd, Waiter};
pub use health::{EjectionReason, FailureKind, HealthChange, NodeOutcome};
pub use load_balancing::stable_hash;
pub use node::{Node, NodeId};
pub use node_guard::NodeGuard;
pub use node_status::{LastCheck, NodeState, NodeStatus};
pub use node_table::Panic;
pub use refusals::{RefusalAdvice, SignatureOutcome, SignatureRefusal};
pub use retry_budget::RetryBudget;
pub use settings::{
    ClusterSettings, EjectionSettings, FlowControlMode, FlowControlSettings, HealthCheck,
    HostPolicy, NodeAddress, NodeSettings, Policy, PoolLimits, RetrySettings, SignedCheck,
    Timeouts,
};
pub use tiers::Serving;

/// The nodes of one service with their live state, shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    members: ArcSwap<Vec<Member>>,
    /// The members that may be chosen.
    table: ArcSwap<NodeTable>,
    version: TableVersion,
    /// Locked while the table is rebuilt.
    rebuild: Mutex<()>,
    /// `host:port` of the drained nodes. Locked while membership, drains or ejections change.
    drained: Mutex<BTreeSet<String>>,
    /// The resolution errors of names without an address.
    unresolved: Mutex<BTreeMap<NodeAddress, Arc<str>>>,
    retry_budget: Arc<RetryBudget>,
    wait_queues: Arc<WaitQueues>,
    refusals: Arc<Refusals>,
    fallback: OnceLock<Arc<Self>>,
    median_latency: MedianLatency,
}

/// One of the current nodes.
#[derive(Clone, Debug)]
struct Member {
    node: Arc<Node>,
    weight: u32,
    priority: u32,
}

impl Cluster {
    /// Creates a cluster from its settings. Nodes configured by IP address are members at once, those
    /// configured by name after [`Cluster::set_addresses`].
    pub fn new(settings: ClusterSettings) -> Arc<Self> {
        Self::build(settings, Carried::default())
    }

    /// Returns the cluster after a change of configuration. Nodes whose address did not change keep
    /// health, counters, connections and drain. A TLS configuration that did not change stays the same
    /// value, so that sessions are resumed and connections stay usable. `previous` stays usable too.
    pub fn from_previous(mut settings: ClusterSettings, previous: &Self) -> Arc<Self> {
        if settings.tls_digest == previous.settings.tls_digest {
            settings.tls = previous.settings.tls.clone();
        }
        let carried = Carried {
            nodes: previous.nodes(),
            drained: previous.drained.lock().clone(),
            version: previous.version.clone(),
            retry_budget: previous.retry_budget.clone(),
            wait_queues: previous.wait_queues.clone(),
            refusals: previous.refusals.clone(),
        };
        Self::build(settings, carried)
    }

    fn build(settings: ClusterSettings, carried: Carried) -> Arc<Self> {
        let max_connections = settings.pool.max_connections;
        let mut members = Vec::new();
        for configured in &settings.nodes {
            let &NodeSettings {
                weight, priority, ..
            } = configured;
            let known = carried.nodes.iter();
            let mut nodes: Vec<Arc<Node>> = known
                .filter(|node| *node.address() == configured.address)
                .cloned()
                .collect();
            if let (true, Ok(ip)) = (nodes.is_empty(), configured.address.host.parse()) {
                let drained = &carried.drained;
                nodes.push(new_node(&configured.address, ip, max_connections, drained));
            }
            members.extend(nodes.into_iter().map(|node| Member {
                node,
                weight,
                priority,
            }));
        }
        for member in &members {
            member.node.set_max_connections(max_connections);
        }
        Arc::new(Self {
            settings,
            members: ArcSwap::from_pointee(members),
            table: ArcSwap::default(),
            version: carried.version,
            rebuild: Mutex::default(),
            drained: Mutex::new(carried.drained),
            unresolved: Mutex::default(),
            retry_budget: carried.retry_budget,
            wait_queues: carried.wait_queues,
            refusals: carried.refusals,
            fallback: OnceLock::new(),
            median_latency: MedianLatency::default(),
        })
    }

    /// Returns the settings.
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// Returns the retry budget, which outlives reloads.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.retry_budget
    }

    /// Returns the status of all nodes, and of names that were never resolved.
    pub fn node_statuses(&self, now: Instant) -> Vec<NodeStatus> {
        let members = self.members.load();
        members
            .iter()
            .map(|member| NodeStatus {
                weight: member.weight,
                priority: member.priority,
                ..member.node.status(&self.settings, now)
            })
            .chain(self.unresolved_statuses(&members))
            .collect()
    }

    /// Returns the current nodes.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        let members = self.members.load();
        members.iter().map(|m| m.node.clone()).collect()
    }

    /// Drains the nodes of `address` (`host:port`): they get no new requests. Returns false if no such
    /// node is configured.
    pub fn drain_node(&self, address: &str) -> bool {
        self.set_drained(address, true)
    }

    /// Ends a drain; returns false if no such node is configured.
    pub fn undrain_node(&self, address: &str) -> bool {
        self.set_drained(address, false)
    }

    fn set_drained(&self, address: &str, drain: bool) -> bool {
        let mut drained = self.drained.lock();
        let mut settings = self.settings.nodes.iter();
        if !settings.any(|node| node.address.to_string() == address) {
            return false;
        }
        if drain {
            drained.insert(address.into());
        } else {
            drained.remove(address);
        }
        for member in &**self.members.load() {
            if **member.node.name() == *address {
                member.node.set_drained(drain);
            }
        }
        self.version.advance();
        true
    }
}

/// What a cluster takes over from the one before a reload.
#[derive(Debug, Default)]
struct Carried {
    nodes: Vec<Arc<Node>>,
    drained: BTreeSet<String>,
    version: TableVersion,
    retry_budget: Arc<RetryBudget>,
    wait_queues: Arc<WaitQueues>,
    refusals: Arc<Refusals>,
}

fn new_node(
    address: &NodeAddress,
    ip: IpAddr,
    max_connections: usize,
    drained: &BTreeSet<String>,
) -> Arc<Node> {
    let node = Node::new(
        address.clone(),
        SocketAddr::new(ip, address.port),
        max_connections,
    );
    node.set_drained(drained.contains(&**node.name()));
    Arc::new(node)
}

#[cfg(test)]
mod tests;
