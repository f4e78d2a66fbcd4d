//! The choice of a node for an attempt.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::Guard;

use super::flow_control::FlowRequest;
use super::load_balancing::{self, LowDiscrepancySequence};
use super::node_table::{NodeSet, NodeTable};
use super::{Cluster, Node, NodeGuard, NodeId, Policy};

/// What a choice depends on, besides the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The key of consistent hashing.
    pub hash_key: u64,
    /// The nodes that are left out.
    pub tried: &'a [NodeId],
    /// The nodes that are left out while another one is left; the first ones longest.
    pub avoided: &'a [NodeId],
    /// What flow control depends on; `None` where it is not learned.
    pub flow: Option<FlowRequest<'a>>,
    /// The time of the choice.
    pub now: Instant,
}

impl Cluster {
    /// Chooses a node for the first attempt: a healthy one of the first usable tier; in panic mode any of
    /// it. Nodes that are drained, at their connection limit or tried are never chosen.
    pub fn pick_first(&self, choice: Choice<'_>) -> Option<NodeGuard> {
        self.pick(choice, |table, choice| self.pick_first_in(table, choice))
    }

    /// Chooses a usable node for a retry, an untroubled one if there is one, of the first tier that has
    /// any.
    pub fn pick_usable(&self, choice: Choice<'_>) -> Option<NodeGuard> {
        self.pick(choice, |table, choice| self.pick_usable_in(table, choice))
    }

    /// As [`Cluster::pick_usable`], else as [`Cluster::pick_first`]. So panic mode costs at most one attempt
    /// while one node is healthy.
    pub fn pick_for_retry(&self, choice: Choice<'_>) -> Option<NodeGuard> {
        self.pick(choice, |table, choice| {
            self.pick_for_retry_in(table, choice)
        })
    }

    /// As [`Cluster::pick_for_retry`], else an unhealthy node: for a request that would fail
    /// otherwise.
    pub fn pick_any(&self, choice: Choice<'_>) -> Option<NodeGuard> {
        self.pick(choice, |table, choice| {
            let picked = self.pick_for_retry_in(table, choice);
            if picked.is_some() || self.is_at_bound_in(table, choice) {
                return picked;
            }
            let mut tiers = table.tiers.iter();
            tiers.find_map(|tier| self.pick_among(tier.all(), choice, |_| true))
        })
    }

    /// Whether a usable node has not been tried, regardless of panic mode.
    pub fn has_usable_node(&self, choice: Choice<'_>) -> bool {
        let table = self.table(choice.now);
        let mut nodes = table.tiers.iter().flat_map(|tier| &tier.usable.nodes);
        nodes.any(|node| choice.may_use(node))
    }

    /// Applies `pick` with as many of the avoided nodes left out as possible. A node at its flow-control
    /// bound is waited for, not replaced by an avoided one.
    fn pick(
        &self,
        choice: Choice<'_>,
        pick: impl Fn(&NodeTable, Choice<'_>) -> Option<NodeGuard>,
    ) -> Option<NodeGuard> {
        let table = self.table(choice.now);
        let picked = choice.with_fewer_avoided(|choice| {
            let picked = pick(&table, choice);
            let is_final = picked.is_some() || self.is_at_bound_in(&table, choice);
            is_final.then_some(picked)
        });
        picked.flatten()
    }

    fn pick_first_in(&self, table: &NodeTable, choice: Choice<'_>) -> Option<NodeGuard> {
        self.pick_among(self.first_set(table, choice.now)?, choice, |_| true)
    }

    /// Returns the nodes for first attempts: the usable ones of the tier that serves, in panic mode all.
    pub(super) fn first_set<'a>(&self, table: &'a NodeTable, now: Instant) -> Option<&'a NodeSet> {
        let serving = table.serving();
        let tier = table.tiers.get(serving.unwrap_or_default())?;
        Some(
            if tier.panic.is_some() && !self.has_successor(table, serving, now) {
                tier.all()
            } else {
                &tier.usable
            },
        )
    }

    fn pick_usable_in(&self, table: &NodeTable, choice: Choice<'_>) -> Option<NodeGuard> {
        let slow_start = self.settings.ejection.slow_start;
        let is_untroubled = |node: &Node| node.current_health(choice.now, slow_start).untroubled;
        let picked = table.tiers.iter().find_map(|tier| {
            let picked = self
                .pick_among(&tier.usable, choice, is_untroubled)
                .or_else(|| self.pick_among(&tier.usable, choice, |_| true));
            // The next tier is for when this one is gone, not for when it is busy.
            let is_final = picked.is_some() || choice.is_held_back_in(&tier.usable);
            is_final.then_some(picked)
        });
        picked.flatten()
    }

    fn pick_for_retry_in(&self, table: &NodeTable, choice: Choice<'_>) -> Option<NodeGuard> {
        self.pick_usable_in(table, choice)
            .or_else(|| self.pick_first_in(table, choice))
    }

    /// Applies the policy to the nodes of `set` that the choice may use and `filter` selects.
    fn pick_among(
        &self,
        set: &NodeSet,
        choice: Choice<'_>,
        filter: impl Fn(&Node) -> bool,
    ) -> Option<NodeGuard> {
        // A node that reaches its connection limit meanwhile is left out, and the policy is applied again.
        let mut full: Vec<usize> = Vec::new();
        loop {
            let is_eligible = |position: usize| {
                let node = &set.nodes[position];
                choice.may_use(node)
                    && !full.contains(&position)
                    && filter(node)
                    && choice.has_room_at(node)
            };
            let in_flight = |position: usize| set.nodes[position].in_flight();
            let shares = &set.shares;
            let chosen = match self.settings.balance {
                Policy::ConsistentHash => {
                    load_balancing::consistent_hash(shares, choice.hash_key, in_flight, is_eligible)
                }
                Policy::LeastRequest => load_balancing::power_of_two_choices(
                    shares,
                    SEQUENCE.with(LowDiscrepancySequence::next),
                    rand::random,
                    load_balancing::has_fewer_requests(shares, in_flight),
                    is_eligible,
                ),
                Policy::LeastTime => {
                    let latency = self.latency_in(set, choice.now);
                    load_balancing::power_of_two_choices(
                        shares,
                        SEQUENCE.with(LowDiscrepancySequence::next),
                        rand::random,
                        load_balancing::has_less_time(shares, in_flight, latency),
                        is_eligible,
                    )
                }
                Policy::RoundRobin => {
                    let mut current_weights = set.current_weights.lock();
                    load_balancing::round_robin(shares, &mut current_weights, is_eligible)
                }
            }?;
            let node = &set.nodes[chosen];
            if let Some(guard) = node.acquire(choice.flow, &self.wait_queues, choice.now) {
                return Some(guard);
            }
            // Another worker has taken the last free place meanwhile.
            full.push(chosen);
        }
    }

    /// Returns the latencies of the nodes of `set`; of one without a figure, the median of the others.
    fn latency_in(&self, set: &NodeSet, now: Instant) -> impl Fn(usize) -> f32 {
        let figures = || {
            let nodes = set.nodes.iter();
            nodes.filter_map(move |node| node.latency().figure(0.0, now))
        };
        let median = self.median_latency.get(now, figures);
        move |position| {
            let figure = set.nodes[position].latency().figure(median, now);
            figure.unwrap_or(median)
        }
    }

    /// Returns the table of the nodes, rebuilt if it is outdated.
    pub(super) fn table(&self, now: Instant) -> Guard<Arc<NodeTable>> {
        let table = self.table.load();
        if table.is_current(self.version.current(), now) {
            return table;
        }
        Guard::from_inner(self.rebuild_table(now))
    }

    fn rebuild_table(&self, now: Instant) -> Arc<NodeTable> {
        let _serialize = self.rebuild.lock();
        let previous = self.table.load();
        // Read before the nodes, so that a change meanwhile makes the new table outdated.
        let version = self.version.current();
        if previous.is_current(version, now) {
            return Guard::into_inner(previous);
        }
        let members = self.members.load();
        let table = NodeTable::build(&members, &self.settings, version, &previous, now);
        let table = Arc::new(table);
        self.table.store(table.clone());
        table
    }
}

impl Choice<'_> {
    /// Whether a node may be used: not drained, not at its connection limit, neither tried nor avoided.
    pub(super) fn may_use(&self, node: &Node) -> bool {
        !node.is_drained()
            && !node.is_at_capacity()
            && !self.tried.contains(&node.id())
            && !self.avoided.contains(&node.id())
    }

    /// Whether the node has room, as far as flow control is learned.
    fn has_room_at(&self, node: &Node) -> bool {
        self.flow
            .as_ref()
            .is_none_or(|flow| node.has_room(flow, self.now))
    }

    /// Whether a node of `set` may be used but for its flow-control bound, if none with room was found.
    pub(super) fn is_held_back_in(&self, set: &NodeSet) -> bool {
        self.flow.is_some_and(|flow| !flow.beyond_bound)
            && set.nodes.iter().any(|node| self.may_use(node))
    }

    /// Returns what `pick` returns while it leaves out as many of the avoided nodes as it can.
    fn with_fewer_avoided<T>(self, mut pick: impl FnMut(Self) -> Option<T>) -> Option<T> {
        let mut choice = self;
        loop {
            let picked = pick(choice);
            if picked.is_some() {
                return picked;
            }
            (_, choice.avoided) = choice.avoided.split_last()?;
        }
    }
}

thread_local! {
    /// One per worker, so that no cache line is shared.
    static SEQUENCE: LowDiscrepancySequence = LowDiscrepancySequence::new();
}
