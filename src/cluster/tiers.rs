//! Tiers of priority, and the cluster that takes over when none of them is usable.
//!
//! The first usable tier serves: the one of the lowest priority with a node that is neither drained, down
//! nor ejected. `max_ejected` and `panic_threshold` are judged within a tier, and hold only for one after
//! which nothing usable is left.

use std::sync::Arc;
use std::time::Instant;

use super::node_table::{NodeTable, Panic};
use super::{Cluster, Node};

/// What serves the requests of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Serving {
    /// The tier of the lowest priority.
    FirstTier,
    /// A further tier, with this priority.
    Tier(u32),
    /// No tier is usable; this cluster answers requests that may be repeated.
    Fallback(Arc<str>),
    /// Nothing is usable.
    Nothing,
}

impl Cluster {
    /// Sets the cluster that takes over when no node is usable. Called once, before the first request.
    pub fn set_fallback(&self, fallback: &Arc<Self>) {
        self.fallback.get_or_init(|| fallback.clone());
    }

    /// Whether a fallback cluster is configured.
    pub fn has_fallback(&self) -> bool {
        self.fallback.get().is_some()
    }

    /// Returns the fallback cluster if one of its nodes is usable.
    pub fn usable_fallback(&self, now: Instant) -> Option<&Arc<Self>> {
        let fallback = self.fallback.get()?;
        fallback.is_usable(now).then_some(fallback)
    }

    /// Whether a node is neither drained, down nor ejected.
    pub fn is_usable(&self, now: Instant) -> bool {
        self.table(now).serving().is_some()
    }

    /// Returns what serves the requests of the cluster now.
    pub fn serving(&self, now: Instant) -> Serving {
        let table = self.table(now);
        let Some(tier) = table.serving().and_then(|serving| table.tiers.get(serving)) else {
            return match self.usable_fallback(now) {
                Some(fallback) => Serving::Fallback(fallback.settings.name.clone()),
                None => Serving::Nothing,
            };
        };
        let lowest = self
            .members
            .load()
            .iter()
            .map(|member| member.priority)
            .min();
        if lowest.is_none_or(|lowest| tier.priority == lowest) {
            Serving::FirstTier
        } else {
            Serving::Tier(tier.priority)
        }
    }

    /// Whether so few nodes of the tier that serves are healthy that all are used.
    pub fn is_panicking(&self, now: Instant) -> bool {
        self.panic(now).is_some()
    }

    /// Returns how few nodes of the tier that serves are healthy, if they are so few that all are used.
    pub fn panic(&self, now: Instant) -> Option<Panic> {
        let table = self.table(now);
        let serving = table.serving();
        let panic = table.tiers.get(serving.unwrap_or_default())?.panic?;
        (!self.has_successor(&table, serving, now)).then_some(panic)
    }

    /// Whether something usable is left after the tier at the place `tier`.
    pub(super) fn has_successor(
        &self,
        table: &NodeTable,
        tier: Option<usize>,
        now: Instant,
    ) -> bool {
        let further = tier.map_or(0, |tier| tier + 1);
        let mut further = table.tiers.iter().skip(further);
        further.any(|tier| tier.is_usable()) || self.usable_fallback(now).is_some()
    }

    /// Whether the cluster can spare `node`: something else takes over from its tier, or `max_ejected` of
    /// the tier, and at least one node, are not exceeded.
    pub(super) fn may_eject(&self, node: &Node, now: Instant) -> bool {
        let members = self.members.load();
        let Some(priority) = members
            .iter()
            .find(|member| member.node.id() == node.id())
            .map(|member| member.priority)
        else {
            // It has left the cluster.
            return true;
        };
        let (mut of_tier, mut ejected) = (0, 0);
        for member in members.iter().filter(|member| member.priority == priority) {
            let is_other = member.node.id() != node.id();
            of_tier += 1;
            ejected += usize::from(is_other && member.node.is_ejected(now));
        }
        let max_ejected = of_tier * usize::from(self.settings.ejection.max_ejected) / 100;
        if ejected < max_ejected.max(1) {
            return true;
        }
        let table = self.table(now);
        let mut further = table.tiers.iter().filter(|tier| tier.priority > priority);
        further.any(|tier| tier.is_usable()) || self.usable_fallback(now).is_some()
    }
}

#[cfg(test)]
mod tests;
