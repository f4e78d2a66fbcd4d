//! Reports the outcome of attempts, response bodies and probes to the cluster, and logs what that
//! changes about the node.

use tokio::time::Instant;

use super::failure_reason::FailureReason;
use crate::cluster::{Cluster, FailureKind, HealthChange, Node, NodeOutcome};
use crate::message::UpstreamErrorKind;

/// Reports one outcome of `node`. `reason` is called for failures only.
pub(super) fn report(
    cluster: &Cluster,
    node: &Node,
    outcome: NodeOutcome,
    now: Instant,
    reason: impl FnOnce() -> FailureReason,
) {
    let now = now.into_std();
    let change = cluster.record_outcome(node, outcome, now);
    let (kind, error) = match outcome {
        NodeOutcome::Failure(kind) | NodeOutcome::ProbeFailure(kind) => (kind.as_str(), reason()),
        NodeOutcome::FlowControlled | NodeOutcome::ProbeSuccess | NodeOutcome::Success => {
            ("", FailureReason::default())
        }
    };
    let is_news = !kind.is_empty() && node.record_failure_reason(&error, now);
    let (cluster, node, error) = (&cluster.settings().name, node.name(), &*error);
    match change {
        Some(HealthChange::Down) => {
            tracing::warn!(%cluster, %node, reason = kind, error, "node is down");
        }
        Some(HealthChange::Ejected(time)) => {
            let seconds = time.as_secs();
            tracing::warn!(%cluster, %node, reason = kind, error, seconds, "node is ejected");
        }
        None if is_news => tracing::warn!(%cluster, %node, reason = kind, error, "node is failing"),
        Some(HealthChange::Returned) => {
            tracing::info!(%cluster, %node, "node returned from its ejection")
        }
        Some(HealthChange::Up) => tracing::info!(%cluster, %node, "node is up"),
        None => {}
    }
}

/// Returns how an attempt that failed counts against its node, if at all.
pub(super) fn failure_kind(kind: UpstreamErrorKind) -> Option<FailureKind> {
    match kind {
        UpstreamErrorKind::ConnectionClosed | UpstreamErrorKind::ResponseIncomplete => {
            Some(FailureKind::ConnectionClosed)
        }
        UpstreamErrorKind::InvalidResponse => Some(FailureKind::InvalidResponse),
        UpstreamErrorKind::NoNodeAvailable => None,
        UpstreamErrorKind::Timeout => Some(FailureKind::Timeout),
        UpstreamErrorKind::ConnectFailed(_) => Some(FailureKind::ConnectFailed),
    }
}
