//! The choice of a node where flow control holds requests back.

use std::time::Instant;

use super::node_table::NodeTable;
use super::{Choice, Cluster, FlowClass, FlowRequest, NodeGuard};

impl Cluster {
    /// Whether a request that found no node is to wait: a node that could serve it is at its flow-control
    /// bound.
    pub fn is_at_bound(&self, choice: Choice<'_>) -> bool {
        self.is_at_bound_in(&self.table(choice.now), choice)
    }

    /// Whether requests of a class wait, so that others must not overtake them.
    pub fn has_waiters(&self, class: FlowClass) -> bool {
        self.wait_queues.has_waiters(class)
    }

    /// Returns how many requests wait because of flow control.
    pub fn waiters(&self) -> usize {
        self.wait_queues.len()
    }

    /// Ends the waits of an access key that was disabled.
    pub fn revoke_waiters(&self, access_key: &str) {
        self.wait_queues.revoke(access_key);
    }

    /// Chooses the node with most room, for a request that has waited in vain: the one with the fewest
    /// attempts beyond its bound, then the one that has room soonest. Of the same nodes as
    /// [`Cluster::pick_for_retry`].
    pub fn pick_most_room(&self, choice: Choice<'_>) -> Option<NodeGuard> {
        let flow = choice.flow.map(|flow| FlowRequest {
            beyond_bound: true,
            ..flow
        })?;
        let table = self.table(choice.now);
        let tiers = table.tiers.iter().map(|tier| &tier.usable);
        let mut sets = tiers.chain(self.first_set(&table, choice.now));
        let set = sets.find(|set| set.nodes.iter().any(|node| choice.may_use(node)))?;
        let usable = set.nodes.iter().filter(|node| choice.may_use(node));
        let most_room = usable.min_by_key(|node| {
            let in_flight = node.in_flight_of(flow.class);
            node.flow_control().excess(&flow, in_flight, choice.now)
        });
        most_room?.acquire(Some(flow), &self.wait_queues, choice.now)
    }

    pub(super) fn is_at_bound_in(&self, table: &NodeTable, choice: Choice<'_>) -> bool {
        let tiers = table.tiers.iter().map(|tier| &tier.usable);
        choice.flow.is_some()
            && tiers
                .chain(self.first_set(table, choice.now))
                .any(|set| choice.is_held_back_in(set))
    }

    /// Whether no node takes anything more of the class, of whatever access key.
    pub(super) fn is_closed_for_all(&self, choice: &Choice<'_>) -> bool {
        let Some(flow) = &choice.flow else {
            return false;
        };
        let table = self.table(choice.now);
        self.first_set(&table, choice.now).is_none_or(|set| {
            set.nodes.iter().all(|node| {
                let in_flight = node.in_flight_of(flow.class);
                let flow_control = node.flow_control();
                flow_control.is_closed(flow, in_flight, choice.now)
            })
        })
    }

    /// Returns when a node has room again as far as time decides.
    pub(super) fn next_room(&self, choice: &Choice<'_>) -> Option<Instant> {
        let flow = choice.flow.as_ref()?;
        let table = self.table(choice.now);
        let set = self.first_set(&table, choice.now)?;
        let usable = set.nodes.iter().filter(|node| choice.may_use(node));
        let next = usable.filter_map(|node| {
            let in_flight = node.in_flight_of(flow.class);
            let flow_control = node.flow_control();
            flow_control.next_room(flow, in_flight, choice.now)
        });
        next.min()
    }
}
