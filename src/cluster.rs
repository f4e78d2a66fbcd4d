//! A cluster and its nodes: who is there, who is well, who is next. Pure decisions over shared
//! counters; connections are `upstream`'s business, and so are the clock and DNS: times and
//! addresses are handed in.
//!
//! When most nodes look dead (`panic_threshold`), all are tried: it is likelier that the eyes are
//! wrong than that all of them are. Those that look well still get most, so that the budget for
//! repetitions lasts if the eyes are right. Only a drained node is never tried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

mod connection_slot;
mod health;
mod load_balancing;
mod node;
mod resolution;
mod retry_budget;
mod settings;

pub use connection_slot::ConnectionSlot;
pub use health::{FailureKind, HealthChange, NodeOutcome};
pub use load_balancing::stable_hash;
pub use node::{Node, NodeGuard, NodeId, NodeState, NodeStatus};
pub use retry_budget::RetryBudget;
pub use settings::{
    ClusterSettings, EjectionSettings, HealthCheck, HostPolicy, NodeAddress, NodeSettings, Policy,
    PoolLimits, RetrySettings, SignedCheck, Timeouts,
};

use health::{EJECTION_PENDING_SHARE, HealthPolicy};
use load_balancing::{LowDiscrepancySequence, NodeView};

/// The nodes behind one service, with their live state.
#[derive(Debug)]
pub struct Cluster {
    settings: ClusterSettings,
    members: ArcSwap<Members>,
    /// Held while somebody changes who is a member, who is drained or who is put aside.
    drained: Mutex<BTreeSet<String>>,
    /// Why names stand for no address.
    unresolved: Mutex<BTreeMap<NodeAddress, Arc<str>>>,
    retry_budget: Arc<RetryBudget>,
}

/// Who is there now.
#[derive(Debug, Default)]
struct Members {
    nodes: Vec<Member>,
    /// The turns of round-robin are one order for all workers, so they need a lock; no other policy
    /// does.
    current_weights: Mutex<Vec<f64>>,
}

#[derive(Clone, Debug)]
struct Member {
    node: Arc<Node>,
    weight: u32,
}

impl Cluster {
    /// A cluster as configured. Nodes given by an IP address are there at once, those given by a
    /// name when [`Cluster::resolve`] says where they are.
    pub fn new(settings: ClusterSettings) -> Arc<Self> {
        Self::build(settings, &[], BTreeSet::new(), Arc::default())
    }

    /// The cluster after a change of configuration: nodes whose address did not change keep health,
    /// counters, connections and drain. Where TLS did not change it stays the same value, so that
    /// sessions are resumed and connections stay good. `previous` works on until it is dropped.
    pub fn from_previous(mut settings: ClusterSettings, previous: &Self) -> Arc<Self> {
        if settings.tls_digest == previous.settings.tls_digest {
            settings.tls = previous.settings.tls.clone();
        }
        let nodes: Vec<_> = previous.nodes();
        let drained = previous.drained().clone();
        Self::build(settings, &nodes, drained, previous.retry_budget.clone())
    }

    fn build(
        settings: ClusterSettings,
        known: &[Arc<Node>],
        drained: BTreeSet<String>,
        budget: Arc<RetryBudget>,
    ) -> Arc<Self> {
        let cap = settings.pool.max_connections;
        let mut nodes = Vec::new();
        for configured in &settings.nodes {
            let weight = configured.weight;
            let mut of_it: Vec<Arc<Node>> = known
                .iter()
                .filter(|node| *node.address() == configured.address)
                .cloned()
                .collect();
            if let (true, Ok(ip)) = (of_it.is_empty(), configured.address.host.parse()) {
                of_it.push(new_node(&configured.address, ip, cap, &drained));
            }
            nodes.extend(of_it.into_iter().map(|node| Member { node, weight }));
        }
        for member in &nodes {
            member.node.set_max_connections(cap);
        }
        Arc::new(Self {
            settings,
            members: ArcSwap::from_pointee(Members::new(nodes)),
            drained: Mutex::new(drained),
            unresolved: Mutex::default(),
            retry_budget: budget,
        })
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// How many requests may be repeated.
    pub fn retry_budget(&self) -> &RetryBudget {
        &self.retry_budget
    }

    /// Chooses among the nodes that were not tried, are not drained and not at their cap: the well
    /// ones, or in panic any. `affinity` is the key of consistent hashing.
    pub fn pick_first(&self, affinity: u64, tried: &[NodeId], now: Instant) -> Option<NodeGuard> {
        self.pick_among(affinity, tried, now, Candidates::HealthyOrPanic)
    }

    /// For a request that failed elsewhere: among the nodes that nothing speaks against, if there are
    /// any, then like [`Cluster::pick`]. So panic costs one try at most while one node is well.
    pub fn pick_for_retry(
        &self,
        affinity: u64,
        tried: &[NodeId],
        now: Instant,
    ) -> Option<NodeGuard> {
        self.pick_among(affinity, tried, now, Candidates::Untroubled)
            .or_else(|| self.pick_among(affinity, tried, now, Candidates::Usable))
            .or_else(|| self.pick_first(affinity, tried, now))
    }

    /// Like [`Cluster::pick_again`], but where no well node is left, one that looks dead: for a
    /// request that would fail otherwise.
    pub fn pick_any(&self, affinity: u64, tried: &[NodeId], now: Instant) -> Option<NodeGuard> {
        self.pick_for_retry(affinity, tried, now)
            .or_else(|| self.pick_among(affinity, tried, now, Candidates::All))
    }

    /// Is there a node not tried yet that is well, whatever panic says?
    pub fn has_usable_node(&self, tried: &[NodeId], now: Instant) -> bool {
        let members = self.members.load();
        members.nodes.iter().any(|member| {
            let node = &member.node;
            is_eligible(node, tried) && node.current_health(now, self.slow_start()).usable
        })
    }

    /// Is there a node that [`Cluster::pick`] could choose?
    pub fn has_candidate(&self, tried: &[NodeId], now: Instant) -> bool {
        let members = self.members.load();
        let panic = self.is_panicking_among(&members, now);
        members.nodes.iter().any(|member| {
            let node = &member.node;
            is_eligible(node, tried)
                && (panic || node.current_health(now, self.slow_start()).usable)
        })
    }

    /// Takes what a try or a probe showed of a node, and says what that changed.
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
        // Two nodes must not be put aside at once, each counting the other as there.
        let _changing = self.drained();
        let members = self.members.load();
        let others = members.nodes.iter().filter(|m| m.node.id() != node.id());
        let ejected = others.filter(|m| m.node.is_ejected(now)).count();
        let share = members.nodes.len() * usize::from(self.settings.ejection.max_ejected) / 100;
        node.record_outcome(outcome, now, rules, ejected < share.max(1))
    }

    /// Do so many nodes look dead that all are tried?
    pub fn is_panicking(&self, now: Instant) -> bool {
        self.is_panicking_among(&self.members.load(), now)
    }

    /// All nodes, as the admin interface shows them; also a name that was never resolved.
    pub fn node_statuses(&self, now: Instant) -> Vec<NodeStatus> {
        let members = self.members.load();
        members
            .nodes
            .iter()
            .map(|member| member.node.status(member.weight, &self.settings, now))
            .chain(self.unresolved_statuses(&members))
            .collect()
    }

    /// Every node there is now.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        let members = self.members.load();
        members.nodes.iter().map(|m| m.node.clone()).collect()
    }

    /// Gives nothing new to the nodes of `address` (`host:port`); false if there is no such node.
    pub fn drain_node(&self, address: &str) -> bool {
        self.set_drained(address, true)
    }

    /// Takes a drain back; false if there is no such node.
    pub fn undrain_node(&self, address: &str) -> bool {
        self.set_drained(address, false)
    }

    fn pick_among(
        &self,
        affinity: u64,
        tried: &[NodeId],
        now: Instant,
        reach: Candidates,
    ) -> Option<NodeGuard> {
        let members = self.members.load();
        let all = match reach {
            Candidates::All => true,
            Candidates::Untroubled | Candidates::Usable => false,
            Candidates::HealthyOrPanic => self.is_panicking_among(&members, now),
        };
        let mut places = Vec::with_capacity(members.nodes.len());
        let mut views = Vec::with_capacity(members.nodes.len());
        for (place, member) in members.nodes.iter().enumerate() {
            let standing = member.node.current_health(now, self.slow_start());
            let well = standing.usable && (reach != Candidates::Untroubled || standing.untroubled);
            if is_eligible(&member.node, tried) && (all || well) {
                places.push(place);
                views.push(NodeView {
                    in_flight: member.node.in_flight(),
                    weight: member.weight,
                    weight_share: if standing.usable {
                        standing.weight_share
                    } else {
                        EJECTION_PENDING_SHARE
                    },
                    hash_seed: member.node.hash_seed(),
                });
            }
        }
        loop {
            let chosen = match self.settings.balance {
                Policy::ConsistentHash => load_balancing::consistent_hash(&views, affinity),
                Policy::LeastRequest => {
                    let turn = SEQUENCE.with(LowDiscrepancySequence::next);
                    load_balancing::least_request(&views, turn, rand::random())
                }
                Policy::RoundRobin => members.pick_round_robin(&places, &views),
            }?;
            let node = &members.nodes[places[chosen]].node;
            if let Some(pick) = node.acquire() {
                return Some(pick);
            }
            // Another worker was faster and filled it.
            places.swap_remove(chosen);
            views.swap_remove(chosen);
        }
    }

    fn is_panicking_among(&self, members: &Members, now: Instant) -> bool {
        let (mut enabled, mut usable, mut well) = (0, 0, 0);
        for member in &members.nodes {
            if !member.node.is_drained() {
                let standing = member.node.current_health(now, self.slow_start());
                enabled += 1;
                usable += usize::from(standing.usable);
                well += usize::from(standing.usable && !standing.ejection_pending);
            }
        }
        let threshold = usize::from(self.settings.ejection.panic_threshold);
        enabled > 0 && (usable == 0 || well * 100 < enabled * threshold)
    }

    fn set_drained(&self, address: &str, drain: bool) -> bool {
        let mut drained = self.drained();
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

    fn slow_start(&self) -> std::time::Duration {
        self.settings.ejection.slow_start
    }

    fn drained(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn new(nodes: Vec<Member>) -> Self {
        let credits = Mutex::new(vec![0.0; nodes.len()]);
        Self {
            nodes,
            current_weights: credits,
        }
    }

    fn pick_round_robin(&self, places: &[usize], views: &[NodeView]) -> Option<usize> {
        let mut credits = self
            .current_weights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut of_them: Vec<f64> = places.iter().map(|&place| credits[place]).collect();
        let chosen = load_balancing::round_robin(views, &mut of_them);
        for (&place, credit) in places.iter().zip(of_them) {
            credits[place] = credit;
        }
        chosen
    }
}

/// How far a choice may reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Candidates {
    /// Whoever is there.
    All,
    /// Those that nothing speaks against: no failure in a row, not warming up, not busy.
    Untroubled,
    /// Those that are neither down nor put aside.
    Usable,
    /// The usable ones, or in panic all.
    HealthyOrPanic,
}

thread_local! {
    /// One for each worker, so that no line is shared.
    static SEQUENCE: LowDiscrepancySequence = LowDiscrepancySequence::new();
}

fn is_eligible(node: &Node, tried: &[NodeId]) -> bool {
    !node.is_drained() && !node.is_at_capacity() && !tried.contains(&node.id())
}

fn new_node(
    address: &NodeAddress,
    ip: IpAddr,
    cap: usize,
    drained: &BTreeSet<String>,
) -> Arc<Node> {
    let node = Node::new(address.clone(), SocketAddr::new(ip, address.port), cap);
    node.set_drained(drained.contains(&**node.name()));
    Arc::new(node)
}

#[cfg(test)]
mod tests;
