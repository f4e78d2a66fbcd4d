//! What outcomes of attempts and probes do to the nodes of a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::HealthPolicy;
use super::{
    Cluster, EjectionReason, FlowControlMode, HealthChange, Node, NodeOutcome, Policy,
    RefusalAdvice, SignatureOutcome, SignatureRefusal,
};

impl Cluster {
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
        // A node whose flow control is learned keeps its share: it gets no more than it takes.
        let is_learned = self.settings.flow_control.mode == FlowControlMode::Learn;
        let outcome = match outcome {
            NodeOutcome::FlowControlled if is_learned => NodeOutcome::Success,
            outcome => outcome,
        };
        let effect = if matches!(outcome, NodeOutcome::Failure(_)) {
            // Serializes ejections: two at once would each count the other node as available.
            let _serialize = self.drained.lock();
            node.record_outcome(outcome, now, rules, self.may_eject(node, now))
        } else {
            node.record_outcome(outcome, now, rules, false)
        };
        if effect.changes_table {
            self.version.advance();
        }
        effect.change
    }

    /// Records how long an attempt at `node` took, for `balance = "least-time"`; other policies ignore it.
    pub fn record_latency(&self, node: &Node, duration: Duration, now: Instant) {
        if self.settings.balance == Policy::LeastTime {
            node.latency().observe(duration, now);
        }
    }

    /// Records that a verified access key asks, and returns what its refusals mean for this request.
    pub fn advise(&self, access_key: &str, now: Instant) -> Option<RefusalAdvice> {
        self.refusals.begin(access_key, now)
    }

    /// Records what a response says about the access key of its request. Returns the nodes that are ejected
    /// for it, and for how long.
    pub fn record_signature(
        &self,
        access_key: &Arc<str>,
        node: &Node,
        outcome: SignatureOutcome,
        now: Instant,
    ) -> Vec<(Arc<Node>, Duration)> {
        if !self.refusals.record(access_key, node, outcome, now) {
            return Vec::new();
        }
        let condemned = self.refusals.condemned(now);
        let nodes = self.nodes().into_iter();
        let condemned = nodes.filter(|node| condemned.contains(&node.id()));
        condemned
            .filter_map(|node| Some((node.clone(), self.eject_for_refusals(&node, now)?)))
            .collect()
    }

    /// Returns which nodes refused which access keys in the last minute, for the admin interface.
    pub fn signature_refusals(&self, now: Instant) -> Vec<SignatureRefusal> {
        self.refusals.list(now)
    }

    /// Ejects a node that the cluster can spare.
    fn eject_for_refusals(&self, node: &Node, now: Instant) -> Option<Duration> {
        // Serializes ejections, as in `record_outcome`.
        let _serialize = self.drained.lock();
        if !self.may_eject(node, now) {
            return None;
        }
        let ejection = &self.settings.ejection;
        let length = node.eject(EjectionReason::RefusesSignatures, now, ejection)?;
        self.refusals.forget(node.id(), now + length);
        self.version.advance();
        Some(length)
    }
}
