//! Reports to the cluster which nodes refuse signatures, and by how much their clocks are off.

use std::sync::atomic::Ordering;

use http::header::DATE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::time::Instant;

use super::progress::AttemptProgress;
use super::response::{NodeResponse, RetryDecision};
use crate::cluster::{EjectionReason, Node, SignatureOutcome};
use crate::message::UpstreamRequest;

/// Reports what the response to a verified request says about its access key.
pub(super) fn report_signature(
    request: &UpstreamRequest,
    node: &Node,
    response: &NodeResponse,
    progress: &AttemptProgress,
    now: Instant,
) {
    let Some(signer) = request.signer() else {
        return;
    };
    let outcome = match response.status {
        StatusCode::OK if response.decision != RetryDecision::RetryAlways => {
            SignatureOutcome::Accepted
        }
        StatusCode::UNAUTHORIZED if progress.has_own_signature.load(Ordering::Relaxed) => {
            SignatureOutcome::Refused
        }
        StatusCode::UNAUTHORIZED => SignatureOutcome::RefusedFromClient,
        StatusCode::FORBIDDEN => SignatureOutcome::Forbidden,
        _ => return,
    };
    if outcome != SignatureOutcome::Accepted {
        read_clock(node, &response.headers);
    }
    let cluster = &request.cluster;
    let access_key = signer.access_key().as_shared();
    for (node, length) in cluster.record_signature(access_key, node, outcome, now.into_std()) {
        let (cluster, node) = (&cluster.settings().name, node.name());
        let (fault, seconds) = (EjectionReason::RefusesSignatures.as_str(), length.as_secs());
        let cause =
            "it refuses signatures that other nodes accept: its secrets or its clock differ";
        tracing::warn!(%cluster, %node, fault, cause, seconds, "node is ejected");
    }
}

/// Records by how much the clock of a node is ahead, if the response has a `Date` (RFC 9110, 6.6.1).
pub(super) fn read_clock(node: &Node, headers: &HeaderMap) {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let Some(date) = date.and_then(|date| rfc2822::parse(date).ok()) else {
        return;
    };
    node.set_clock_offset(date.timestamp().as_second() - now().as_second());
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock that a Date is held against"
)]
fn now() -> Timestamp {
    Timestamp::now()
}
