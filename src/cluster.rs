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

pub use connection_slot::Slot;
pub use health::{Change, Fault, Outcome};
pub use load_balancing::stable_hash;
pub use node::{Node, NodeId, NodeState, NodeStatus, Pick};
pub use retry_budget::Budget;
pub use settings::{
    Ejection, HealthCheck, HostPolicy, NodeAddress, NodeSettings, Policy, PoolLimits, Retries,
    Settings, SignedCheck, Timeouts,
};

use health::{Rules, SUSPECT_SHARE};
use load_balancing::{Turns, View};

/// The nodes behind one service, with their live state.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    members: ArcSwap<Members>,
    /// Held while somebody changes who is a member, who is drained or who is put aside.
    drained: Mutex<BTreeSet<String>>,
    /// Why names stand for no address.
    unresolved: Mutex<BTreeMap<NodeAddress, Arc<str>>>,
    budget: Arc<Budget>,
}

/// Who is there now.
#[derive(Debug, Default)]
struct Members {
    nodes: Vec<Member>,
    /// The turns of round-robin are one order for all workers, so they need a lock; no other policy
    /// does.
    credits: Mutex<Vec<f64>>,
}

#[derive(Clone, Debug)]
struct Member {
    node: Arc<Node>,
    weight: u32,
}

impl Cluster {
    /// A cluster as configured. Nodes given by an IP address are there at once, those given by a
    /// name when [`Cluster::resolve`] says where they are.
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::build(settings, &[], BTreeSet::new(), Arc::default())
    }

    /// The cluster after a change of configuration: nodes whose address did not change keep health,
    /// counters, connections and drain. Where TLS did not change it stays the same value, so that
    /// sessions are resumed and connections stay good. `previous` works on until it is dropped.
    pub fn next(mut settings: Settings, previous: &Self) -> Arc<Self> {
        if settings.tls_identity == previous.settings.tls_identity {
            settings.tls = previous.settings.tls.clone();
        }
        let nodes: Vec<_> = previous.nodes_now();
        let drained = previous.drained().clone();
        Self::build(settings, &nodes, drained, previous.budget.clone())
    }

    fn build(
        settings: Settings,
        known: &[Arc<Node>],
        drained: BTreeSet<String>,
        budget: Arc<Budget>,
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
                of_it.push(join(&configured.address, ip, cap, &drained));
            }
            nodes.extend(of_it.into_iter().map(|node| Member { node, weight }));
        }
        for member in &nodes {
            member.node.set_cap(cap);
        }
        Arc::new(Self {
            settings,
            members: ArcSwap::from_pointee(Members::of(nodes)),
            drained: Mutex::new(drained),
            unresolved: Mutex::default(),
            budget,
        })
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many requests may be repeated.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Chooses among the nodes that were not tried, are not drained and not at their cap: the well
    /// ones, or in panic any. `affinity` is the key of consistent hashing.
    pub fn pick(&self, affinity: u64, tried: &[NodeId], now: Instant) -> Option<Pick> {
        self.pick_among(affinity, tried, now, Reach::Well)
    }

    /// For a request that failed elsewhere: among the nodes that nothing speaks against, if there are
    /// any, then like [`Cluster::pick`]. So panic costs one try at most while one node is well.
    pub fn pick_again(&self, affinity: u64, tried: &[NodeId], now: Instant) -> Option<Pick> {
        self.pick_among(affinity, tried, now, Reach::Spotless)
            .or_else(|| self.pick_among(affinity, tried, now, Reach::Usable))
            .or_else(|| self.pick(affinity, tried, now))
    }

    /// Like [`Cluster::pick_again`], but where no well node is left, one that looks dead: for a
    /// request that would fail otherwise.
    pub fn pick_any(&self, affinity: u64, tried: &[NodeId], now: Instant) -> Option<Pick> {
        self.pick_again(affinity, tried, now)
            .or_else(|| self.pick_among(affinity, tried, now, Reach::Any))
    }

    /// Is there a node not tried yet that is well, whatever panic says?
    pub fn has_well(&self, tried: &[NodeId], now: Instant) -> bool {
        let members = self.members.load();
        members.nodes.iter().any(|member| {
            let node = &member.node;
            may_enter(node, tried) && node.standing(now, self.slow_start()).usable
        })
    }

    /// Is there a node that [`Cluster::pick`] could choose?
    pub fn has_another(&self, tried: &[NodeId], now: Instant) -> bool {
        let members = self.members.load();
        let panic = self.panics(&members, now);
        members.nodes.iter().any(|member| {
            let node = &member.node;
            may_enter(node, tried) && (panic || node.standing(now, self.slow_start()).usable)
        })
    }

    /// Takes what a try or a probe showed of a node, and says what that changed.
    pub fn observe(&self, node: &Node, outcome: Outcome, now: Instant) -> Option<Change> {
        let rules = Rules {
            ejection: &self.settings.ejection,
            check: self.settings.health_check.as_ref(),
        };
        if !matches!(outcome, Outcome::Failure(_)) {
            return node.observe(outcome, now, rules, false);
        }
        // Two nodes must not be put aside at once, each counting the other as there.
        let _changing = self.drained();
        let members = self.members.load();
        let others = members.nodes.iter().filter(|m| m.node.id() != node.id());
        let ejected = others.filter(|m| m.node.is_ejected(now)).count();
        let share = members.nodes.len() * usize::from(self.settings.ejection.max_ejected) / 100;
        node.observe(outcome, now, rules, ejected < share.max(1))
    }

    /// Do so many nodes look dead that all are tried?
    pub fn panic(&self, now: Instant) -> bool {
        self.panics(&self.members.load(), now)
    }

    /// All nodes, as the admin interface shows them; also a name that was never resolved.
    pub fn nodes(&self, now: Instant) -> Vec<NodeStatus> {
        let members = self.members.load();
        members
            .nodes
            .iter()
            .map(|member| member.node.status(member.weight, &self.settings, now))
            .chain(self.nowhere(&members))
            .collect()
    }

    /// Every node there is now.
    pub fn nodes_now(&self) -> Vec<Arc<Node>> {
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
        reach: Reach,
    ) -> Option<Pick> {
        let members = self.members.load();
        let all = match reach {
            Reach::Any => true,
            Reach::Spotless | Reach::Usable => false,
            Reach::Well => self.panics(&members, now),
        };
        let mut places = Vec::with_capacity(members.nodes.len());
        let mut views = Vec::with_capacity(members.nodes.len());
        for (place, member) in members.nodes.iter().enumerate() {
            let standing = member.node.standing(now, self.slow_start());
            let well = standing.usable && (reach != Reach::Spotless || standing.spotless);
            if may_enter(&member.node, tried) && (all || well) {
                places.push(place);
                views.push(View {
                    in_flight: member.node.in_flight(),
                    weight: member.weight,
                    share: if standing.usable {
                        standing.share
                    } else {
                        SUSPECT_SHARE
                    },
                    seed: member.node.seed(),
                });
            }
        }
        loop {
            let chosen = match self.settings.balance {
                Policy::ConsistentHash => load_balancing::consistent_hash(&views, affinity),
                Policy::LeastRequest => {
                    let turn = TURNS.with(Turns::next);
                    load_balancing::least_request(&views, turn, rand::random())
                }
                Policy::RoundRobin => members.take_turn(&places, &views),
            }?;
            let node = &members.nodes[places[chosen]].node;
            if let Some(pick) = node.enter() {
                return Some(pick);
            }
            // Another worker was faster and filled it.
            places.swap_remove(chosen);
            views.swap_remove(chosen);
        }
    }

    fn panics(&self, members: &Members, now: Instant) -> bool {
        let (mut enabled, mut usable, mut well) = (0, 0, 0);
        for member in &members.nodes {
            if !member.node.is_drained() {
                let standing = member.node.standing(now, self.slow_start());
                enabled += 1;
                usable += usize::from(standing.usable);
                well += usize::from(standing.usable && !standing.suspect);
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
    fn of(nodes: Vec<Member>) -> Self {
        let credits = Mutex::new(vec![0.0; nodes.len()]);
        Self { nodes, credits }
    }

    fn take_turn(&self, places: &[usize], views: &[View]) -> Option<usize> {
        let mut credits = self.credits.lock().unwrap_or_else(PoisonError::into_inner);
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
enum Reach {
    /// Whoever is there.
    Any,
    /// Those that nothing speaks against: no failure in a row, not warming up, not busy.
    Spotless,
    /// Those that are neither down nor put aside.
    Usable,
    /// The usable ones, or in panic all.
    Well,
}

thread_local! {
    /// One for each worker, so that no line is shared.
    static TURNS: Turns = Turns::new();
}

fn may_enter(node: &Node, tried: &[NodeId]) -> bool {
    !node.is_drained() && !node.is_full() && !tried.contains(&node.id())
}

fn join(address: &NodeAddress, ip: IpAddr, cap: usize, drained: &BTreeSet<String>) -> Arc<Node> {
    let node = Node::new(address.clone(), SocketAddr::new(ip, address.port), cap);
    node.set_drained(drained.contains(&**node.name()));
    Arc::new(node)
}

#[cfg(test)]
mod tests;
