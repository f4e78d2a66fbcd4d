//! Clusters and their nodes: membership, health, load balancing, drain. Pure decisions over shared
//! counters: connections, the clock and DNS belong to `upstream`, so times and addresses are parameters.
//!
//! Panic mode: when most nodes look unhealthy (`panic_threshold`), the health checks are more likely
//! wrong than all nodes down, so all nodes are used. Healthy-looking nodes keep a larger share, so that
//! the retry budget lasts if the checks are right. A drained node is never used.

mod connection_slot;
mod flow_control;
mod health;
mod load_balancing;
mod node;
mod resolution;
mod retry_budget;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use health::{EJECTION_PENDING_SHARE, HealthPolicy};
use load_balancing::{LowDiscrepancySequence, NodeView};

pub use connection_slot::ConnectionSlot;
pub use health::{FailureKind, HealthChange, NodeOutcome};
pub use load_balancing::stable_hash;
pub use node::{Node, NodeGuard, NodeId, NodeState, NodeStatus};
pub use retry_budget::RetryBudget;
pub use settings::{
    ClusterSettings, EjectionSettings, HealthCheck, HostPolicy, NodeAddress, NodeSettings, Policy,
    PoolLimits, RetrySettings, SignedCheck, Timeouts,
};

/// The nodes of one service with their live state, shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    members: ArcSwap<Members>,
    /// `host:port` of the drained nodes. Locked while membership, drains or ejections change.
    drained: Mutex<BTreeSet<String>>,
    /// The resolution errors of names without an address.
    unresolved: Mutex<BTreeMap<NodeAddress, Arc<str>>>,
    retry_budget: Arc<RetryBudget>,
}

/// The current nodes; replaced as a whole when addresses change.
#[derive(Debug, Default)]
struct Members {
    nodes: Vec<Member>,
    /// The state of smooth weighted round-robin, one number per node. All workers share one order, so
    /// this policy needs a lock; no other does.
    current_weights: Mutex<Vec<f64>>,
}

#[derive(Clone, Debug)]
struct Member {
    node: Arc<Node>,
    weight: u32,
}

impl Cluster {
    /// Creates a cluster from its settings. Nodes configured by IP address are members at once, those
    /// configured by name after [`Cluster::set_addresses`].
    pub fn new(settings: ClusterSettings) -> Arc<Self> {
        Self::build(settings, &[], BTreeSet::new(), Arc::default())
    }

    /// Returns the cluster after a change of configuration. Nodes whose address did not change keep
    /// health, counters, connections and drain. A TLS configuration that did not change stays the same
    /// value, so that sessions are resumed and connections stay usable. `previous` stays usable too.
    pub fn from_previous(mut settings: ClusterSettings, previous: &Self) -> Arc<Self> {
        if settings.tls_digest == previous.settings.tls_digest {
            settings.tls = previous.settings.tls.clone();
        }
        let nodes: Vec<_> = previous.nodes();
        let drained = previous.drained.lock().clone();
        Self::build(settings, &nodes, drained, previous.retry_budget.clone())
    }

    fn build(
        settings: ClusterSettings,
        known: &[Arc<Node>],
        drained: BTreeSet<String>,
        retry_budget: Arc<RetryBudget>,
    ) -> Arc<Self> {
        let max_connections = settings.pool.max_connections;
        let mut nodes = Vec::new();
        for configured in &settings.nodes {
            let weight = configured.weight;
            let mut nodes_of_address: Vec<Arc<Node>> = known
                .iter()
                .filter(|node| *node.address() == configured.address)
                .cloned()
                .collect();
            if let (true, Ok(ip)) = (nodes_of_address.is_empty(), configured.address.host.parse()) {
                nodes_of_address.push(new_node(&configured.address, ip, max_connections, &drained));
            }
            nodes.extend(
                nodes_of_address
                    .into_iter()
                    .map(|node| Member { node, weight }),
            );
        }
        for member in &nodes {
            member.node.set_max_connections(max_connections);
        }
        Arc::new(Self {
            settings,
            members: ArcSwap::from_pointee(Members::new(nodes)),
            drained: Mutex::new(drained),
            unresolved: Mutex::default(),
            retry_budget,
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

    /// Chooses a node for the first attempt: a healthy one, or in panic mode any. Nodes that are
    /// drained, at their connection limit or in `tried` are never chosen. `hash_key` is the key of
    /// consistent hashing.
    pub fn pick_first(&self, hash_key: u64, tried: &[NodeId], now: Instant) -> Option<NodeGuard> {
        self.pick_among(hash_key, tried, now, Candidates::HealthyOrPanic)
    }

    /// Chooses a node for a retry: an untroubled one, else a usable one, else as
    /// [`Cluster::pick_first`]. So panic mode costs at most one attempt while one node is healthy.
    pub fn pick_for_retry(
        &self,
        hash_key: u64,
        tried: &[NodeId],
        now: Instant,
    ) -> Option<NodeGuard> {
        self.pick_among(hash_key, tried, now, Candidates::Untroubled)
            .or_else(|| self.pick_among(hash_key, tried, now, Candidates::Usable))
            .or_else(|| self.pick_first(hash_key, tried, now))
    }

    /// As [`Cluster::pick_for_retry`], else an unhealthy node: for a request that would fail
    /// otherwise.
    pub fn pick_any(&self, hash_key: u64, tried: &[NodeId], now: Instant) -> Option<NodeGuard> {
        self.pick_for_retry(hash_key, tried, now)
            .or_else(|| self.pick_among(hash_key, tried, now, Candidates::All))
    }

    /// Whether a usable node has not been tried, regardless of panic mode.
    pub fn has_usable_node(&self, tried: &[NodeId], now: Instant) -> bool {
        let members = self.members.load();
        members.nodes.iter().any(|member| {
            let node = &member.node;
            is_eligible(node, tried) && node.current_health(now, self.slow_start()).usable
        })
    }

    /// Records the outcome of an attempt or a probe, and returns what that changed.
    pub fn record_outcome(
        &self,
        node: &Node,
        outcome: NodeOutcome,
        now: Instant,
    ) -> Option<HealthChange> {
        let rules = HealthPolicy {
            ejection: &self.settings.ejection,
            health_check: self.settings.health_check.as_ref(),
        };
        if !matches!(outcome, NodeOutcome::Failure(_)) {
            return node.record_outcome(outcome, now, rules, false);
        }
        // Serializes ejections: two at once would each count the other node as available.
        let _serialize = self.drained.lock();
        let members = self.members.load();
        let others = members.nodes.iter().filter(|m| m.node.id() != node.id());
        let ejected = others.filter(|m| m.node.is_ejected(now)).count();
        let max_ejected =
            members.nodes.len() * usize::from(self.settings.ejection.max_ejected) / 100;
        node.record_outcome(outcome, now, rules, ejected < max_ejected.max(1))
    }

    /// Whether so few nodes are healthy that all are used.
    pub fn is_panicking(&self, now: Instant) -> bool {
        self.is_panicking_among(&self.members.load(), now)
    }

    /// Returns the status of all nodes, and of names that were never resolved.
    pub fn node_statuses(&self, now: Instant) -> Vec<NodeStatus> {
        let members = self.members.load();
        members
            .nodes
            .iter()
            .map(|member| member.node.status(member.weight, &self.settings, now))
            .chain(self.unresolved_statuses(&members))
            .collect()
    }

    /// Returns the current nodes.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        let members = self.members.load();
        members.nodes.iter().map(|m| m.node.clone()).collect()
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

    fn pick_among(
        &self,
        hash_key: u64,
        tried: &[NodeId],
        now: Instant,
        candidates: Candidates,
    ) -> Option<NodeGuard> {
        // Panic mode is decided over all members, tried ones included.
        let members = self.members.load();
        let all = match candidates {
            Candidates::All => true,
            Candidates::Untroubled | Candidates::Usable => false,
            Candidates::HealthyOrPanic => self.is_panicking_among(&members, now),
        };
        let mut indices = Vec::with_capacity(members.nodes.len());
        let mut views = Vec::with_capacity(members.nodes.len());
        for (index, member) in members.nodes.iter().enumerate() {
            let health = member.node.current_health(now, self.slow_start());
            let healthy =
                health.usable && (candidates != Candidates::Untroubled || health.untroubled);
            if is_eligible(&member.node, tried) && (all || healthy) {
                indices.push(index);
                views.push(NodeView {
                    in_flight: member.node.in_flight(),
                    weight: member.weight,
                    weight_share: if health.usable {
                        health.weight_share
                    } else {
                        EJECTION_PENDING_SHARE
                    },
                    hash_seed: member.node.hash_seed(),
                });
            }
        }
        // A node that reaches its connection limit meanwhile is removed, and the policy is applied again.
        loop {
            let chosen = match self.settings.balance {
                Policy::ConsistentHash => load_balancing::consistent_hash(&views, hash_key),
                Policy::LeastRequest => {
                    let turn = SEQUENCE.with(LowDiscrepancySequence::next);
                    load_balancing::least_request(&views, turn, rand::random())
                }
                Policy::RoundRobin => members.pick_round_robin(&indices, &views),
            }?;
            let node = &members.nodes[indices[chosen]].node;
            if let Some(guard) = node.acquire() {
                return Some(guard);
            }
            // Another worker has taken the last free connection meanwhile.
            indices.swap_remove(chosen);
            views.swap_remove(chosen);
        }
    }

    fn is_panicking_among(&self, members: &Members, now: Instant) -> bool {
        let (mut enabled, mut usable, mut healthy) = (0, 0, 0);
        for member in &members.nodes {
            if !member.node.is_drained() {
                let health = member.node.current_health(now, self.slow_start());
                enabled += 1;
                usable += usize::from(health.usable);
                healthy += usize::from(health.usable && !health.ejection_pending);
            }
        }
        let threshold = usize::from(self.settings.ejection.panic_threshold);
        enabled > 0 && (usable == 0 || healthy * 100 < enabled * threshold)
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
        for member in &self.members.load().nodes {
            if **member.node.name() == *address {
                member.node.set_drained(drain);
            }
        }
        true
    }

    fn slow_start(&self) -> Duration {
        self.settings.ejection.slow_start
    }
}

impl Members {
    fn new(nodes: Vec<Member>) -> Self {
        let current_weights = Mutex::new(vec![0.0; nodes.len()]);
        Self {
            nodes,
            current_weights,
        }
    }

    /// Returns the position in `views` of the node whose turn it is. `indices` are the positions of the views
    /// in `nodes`.
    fn pick_round_robin(&self, indices: &[usize], views: &[NodeView]) -> Option<usize> {
        let mut all = self.current_weights.lock();
        let mut weights: Vec<f64> = indices.iter().map(|&index| all[index]).collect();
        let chosen = load_balancing::round_robin(views, &mut weights);
        for (&index, weight) in indices.iter().zip(weights) {
            all[index] = weight;
        }
        chosen
    }
}

/// Which nodes a choice considers, apart from those that are drained, full or tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Candidates {
    /// All of them.
    All,
    /// Those without failures in a row, slow start or flow control.
    Untroubled,
    /// Those that are neither down nor ejected.
    Usable,
    /// The usable ones; in panic mode all.
    HealthyOrPanic,
}

thread_local! {
    /// One per worker, so that no cache line is shared.
    static SEQUENCE: LowDiscrepancySequence = LowDiscrepancySequence::new();
}

fn is_eligible(node: &Node, tried: &[NodeId]) -> bool {
    !node.is_drained() && !node.is_at_capacity() && !tried.contains(&node.id())
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
