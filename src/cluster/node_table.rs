//! The nodes that may be chosen, as a table: rebuilt when health, drains or membership change, so that a
//! choice looks at two nodes of it instead of at all nodes of the cluster.
//!
//! A table is current while its version is that of the cluster and no time has come at which the health of
//! a node changes by itself: the end of an ejection or of flow control, a step of a slow start.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::health::EJECTION_PENDING_SHARE;
use super::node::NodeHealth;
use super::shares::{Share, Shares};
use super::{ClusterSettings, Member, Node, NodeId, Policy};

/// Counts the changes of the nodes of a cluster. Clones share the count: after a reload, requests of the
/// old and the new generation report to the same nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct TableVersion(Arc<AtomicU64>);

impl TableVersion {
    /// Makes every table outdated.
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    pub(super) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The nodes that may be chosen.
#[derive(Debug, Default)]
pub(super) struct NodeTable {
    /// By priority, the lowest first. Tiers without a node that is not drained are left out.
    pub(super) tiers: Vec<Tier>,
    /// `None` is outdated.
    version: Option<u64>,
    /// When the health of a node changes by itself.
    until: Option<Instant>,
}

/// The nodes of one priority.
#[derive(Debug, Default)]
pub(super) struct Tier {
    pub(super) priority: u32,
    /// Those that are neither drained, down nor ejected.
    pub(super) usable: NodeSet,
    /// Those that are not drained, if there are more of them than usable ones.
    all: Option<NodeSet>,
    /// Set if so few are healthy that all are used, if there is nothing else.
    pub(super) panic: Option<Panic>,
}

/// How few nodes of a tier are healthy in panic mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Panic {
    /// Those that are neither down nor ejected, and at which no failure waits for an ejection.
    pub healthy: usize,
    /// Those that are not drained.
    pub nodes: usize,
}

impl NodeTable {
    /// Builds the table of `members`. `version` was read before; `previous` is the table that it replaces.
    pub(super) fn build(
        members: &[Member],
        settings: &ClusterSettings,
        version: u64,
        previous: &Self,
        now: Instant,
    ) -> Self {
        let slow_start = settings.ejection.slow_start;
        let mut enabled: BTreeMap<u32, Vec<(&Member, NodeHealth)>> = BTreeMap::new();
        for member in members.iter().filter(|member| !member.node.is_drained()) {
            let health = member.node.current_health(now, slow_start);
            enabled
                .entry(member.priority)
                .or_default()
                .push((member, health));
        }
        let current_weights = previous.current_weights(settings.balance);
        let changes = enabled.values().flatten();
        Self {
            version: Some(version),
            until: changes.filter_map(|(_, health)| health.next_change).min(),
            tiers: enabled
                .iter()
                .map(|(&priority, enabled)| {
                    let threshold = settings.ejection.panic_threshold;
                    Tier::new(priority, enabled, threshold, &current_weights)
                })
                .collect(),
        }
    }

    /// Whether nothing has changed since it was built.
    pub(super) fn is_current(&self, version: u64, now: Instant) -> bool {
        self.version == Some(version) && self.until.is_none_or(|until| now < until)
    }

    /// Returns the place of the tier that serves: the first usable one.
    pub(super) fn serving(&self) -> Option<usize> {
        self.tiers.iter().position(Tier::is_usable)
    }

    /// Returns the state of round-robin by node; empty for other policies.
    fn current_weights(&self, policy: Policy) -> HashMap<NodeId, f64> {
        if policy != Policy::RoundRobin {
            return HashMap::new();
        }
        let tiers = self.tiers.iter();
        let sets = tiers.flat_map(|tier| [tier.all.as_ref(), Some(&tier.usable)]);
        let mut weights = HashMap::new();
        for set in sets.flatten() {
            let current = set.current_weights.lock();
            let ids = set.nodes.iter().map(|node| node.id());
            weights.extend(ids.zip(current.iter().copied()));
        }
        weights
    }
}

impl Tier {
    fn new(
        priority: u32,
        enabled: &[(&Member, NodeHealth)],
        panic_threshold: u8,
        current_weights: &HashMap<NodeId, f64>,
    ) -> Self {
        let usable = || enabled.iter().filter(|(_, health)| health.usable);
        let healthy = usable()
            .filter(|(_, health)| !health.ejection_pending)
            .count();
        let usable_count = usable().count();
        let is_panicking =
            usable_count == 0 || healthy * 100 < enabled.len() * usize::from(panic_threshold);
        Self {
            priority,
            usable: NodeSet::new(usable(), current_weights),
            all: (usable_count < enabled.len())
                .then(|| NodeSet::new(enabled.iter(), current_weights)),
            panic: is_panicking.then_some(Panic {
                healthy,
                nodes: enabled.len(),
            }),
        }
    }

    /// Whether one of its nodes is neither drained, down nor ejected.
    pub(super) fn is_usable(&self) -> bool {
        !self.usable.nodes.is_empty()
    }

    /// Returns the nodes that are not drained.
    pub(super) fn all(&self) -> &NodeSet {
        self.all.as_ref().unwrap_or(&self.usable)
    }
}

/// Nodes with their shares.
#[derive(Debug, Default)]
pub(super) struct NodeSet {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) shares: Shares,
    /// The state of smooth weighted round-robin, one number per node. All workers share one order, so
    /// this policy needs a lock; no other does.
    pub(super) current_weights: Mutex<Vec<f64>>,
}

impl NodeSet {
    fn new<'a>(
        members: impl Iterator<Item = &'a (&'a Member, NodeHealth)> + Clone,
        current_weights: &HashMap<NodeId, f64>,
    ) -> Self {
        let nodes: Vec<_> = members
            .clone()
            .map(|(member, _)| member.node.clone())
            .collect();
        let current = nodes
            .iter()
            .map(|node| current_weights.get(&node.id()).copied().unwrap_or_default());
        Self {
            current_weights: Mutex::new(current.collect()),
            shares: members
                .map(|(member, health)| Share {
                    weight: member.weight,
                    weight_share: if health.usable {
                        health.weight_share
                    } else {
                        EJECTION_PENDING_SHARE
                    },
                    hash_seed: member.node.hash_seed(),
                })
                .collect(),
            nodes,
        }
    }
}
