//! A chosen node, and what its request holds there.

use std::sync::Arc;
use std::time::Instant;

use super::Node;
use super::flow_control::{FlowOutcome, FlowRequest, FlowTicket};
use crate::gauge::GaugeGuard;

/// A chosen node. Its request counts as in flight until the guard is dropped; then a request that waits for
/// a place may have it.
#[derive(Debug)]
pub struct NodeGuard {
    node: Arc<Node>,
    in_flight: Option<GaugeGuard>,
    download: Option<GaugeGuard>,
    ticket: Option<FlowTicket>,
}

impl NodeGuard {
    pub(super) fn new(node: Arc<Node>, in_flight: GaugeGuard) -> Self {
        Self {
            node,
            in_flight: Some(in_flight),
            download: None,
            ticket: None,
        }
    }

    pub(super) fn with_flow(mut self, download: Option<GaugeGuard>, ticket: FlowTicket) -> Self {
        (self.download, self.ticket) = (download, Some(ticket));
        self
    }

    /// Returns the chosen node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Whether anything is learned about the class of the request here.
    pub fn is_learning(&self) -> bool {
        let ticket = self.ticket.as_ref();
        ticket.is_some_and(|ticket| self.node.flow_control().is_learning(ticket.class()))
    }

    /// Records what the node did with the request. Called before the guard is dropped, so that the place is
    /// handed on by what was learned.
    pub fn record_flow(&self, request: &FlowRequest<'_>, outcome: FlowOutcome, now: Instant) {
        if let Some(ticket) = self.ticket {
            let flow_control = self.node.flow_control();
            flow_control.record(ticket, request, outcome, now);
        }
    }
}

impl Drop for NodeGuard {
    fn drop(&mut self) {
        self.download = None;
        self.in_flight = None;
        if let Some(ticket) = self.ticket.filter(FlowTicket::is_verified) {
            self.node.flow_control().ended(ticket);
            self.node.wake_waiter(ticket.class());
        }
    }
}
