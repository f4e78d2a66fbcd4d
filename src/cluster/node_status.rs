//! The status of a node, as the admin interface and the findings read it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NodeId;
use super::flow_control::FlowBounds;
use super::health::{EjectionReason, FailureKind};
use crate::metrics::AttemptTotals;
use crate::tls::CertificateDetails;

/// The end of a health check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastCheck {
    /// When it ended.
    pub at: Instant,
    /// How long it took.
    pub duration: Duration,
    /// Whether the node was healthy.
    pub is_ok: bool,
}

/// The status of a node for the admin interface.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its identity; `None` for a name that was never resolved.
    pub id: Option<NodeId>,
    /// `host:port`, as configured.
    pub address: Arc<str>,
    /// The address in use: one of those of its DNS name; `None` until one is known.
    pub socket: Option<SocketAddr>,
    /// Its weight in load balancing.
    pub weight: u32,
    /// Its priority: nodes of the lowest one serve.
    pub priority: u32,
    /// Its state.
    pub state: NodeState,
    /// Requests in flight.
    pub in_flight: usize,
    /// Connections, over all workers.
    pub connections: usize,
    /// Attempts since the node is a member.
    pub requests: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Attempts by result, with durations.
    pub attempts: AttemptTotals,
    /// The kind of the last failure, of a request or a probe.
    pub last_failure: Option<FailureKind>,
    /// The reason of the last failure, or why its name cannot be resolved.
    pub last_failure_reason: Option<Arc<str>>,
    /// How long ago the last failure was.
    pub last_failure_age: Option<Duration>,
    /// The last health check; `None` before the first, and without health checks.
    pub last_check: Option<LastCheck>,
    /// The remaining time of its ejection.
    pub ejected_for: Option<Duration>,
    /// Why it is ejected.
    pub ejection_reason: Option<EjectionReason>,
    /// By how many seconds its clock is ahead of the gateway's, as last seen.
    pub clock_offset: Option<i64>,
    /// What it takes before it refuses for flow control, as learned.
    pub flow_bounds: Vec<FlowBounds>,
    /// Responses in a row whose `Date` was off by 30 seconds or more.
    pub clock_errors: u64,
    /// The certificate of the last full handshake that succeeded.
    pub certificate: Option<Arc<CertificateDetails>>,
}

impl NodeStatus {
    /// Adds another address of the same name; the result is up if one of them is, and has the
    /// certificate that expires first.
    pub fn merge(&mut self, other: &Self) {
        let is_up = |state| matches!(state, NodeState::Up | NodeState::SlowStart);
        if !is_up(self.state) && is_up(other.state) {
            self.state = other.state;
        }
        self.in_flight += other.in_flight;
        self.connections += other.connections;
        self.requests += other.requests;
        self.failures += other.failures;
        self.attempts.merge(&other.attempts);
        let offsets = [self.clock_offset, other.clock_offset]
            .into_iter()
            .flatten();
        self.flow_bounds.extend_from_slice(&other.flow_bounds);
        self.clock_offset = offsets.max_by_key(|offset| offset.unsigned_abs());
        self.clock_errors = self.clock_errors.max(other.clock_errors);
        let end = |status: &Self| Some(status.certificate.as_ref()?.validity?.not_after);
        if end(other).is_some_and(|other| end(self).is_none_or(|own| other < own)) {
            self.certificate.clone_from(&other.certificate);
        }
    }
}

/// The state of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeState {
    /// Its health checks fail.
    Down,
    /// Drained by the admin interface: it gets no new requests.
    Drained,
    /// Ejected, because requests failed there.
    Ejected,
    /// Back from an ejection, with a growing share.
    SlowStart,
    /// Its name has never been resolved.
    Unresolved,
    /// Healthy.
    Up,
}

impl NodeState {
    /// Returns the name in `/status`, on the status page and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Drained => "drained",
            Self::Ejected => "ejected",
            Self::SlowStart => "slow-start",
            Self::Unresolved => "unresolved",
            Self::Up => "up",
        }
    }
}
