//! What the end of an attempt tells the cluster about the node: its health, its latency, and whether it
//! refuses signatures.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::attempt::AttemptError;
use super::failure_reason;
use super::health_report::{failure_kind, report};
use super::progress::AttemptProgress;
use super::response::{NodeResponse, NodeResponseBody, RetryDecision};
use super::signature_report::report_signature;
use crate::ccfs::ResponseKind;
use crate::cluster::{FailureKind, Node, NodeOutcome};
use crate::message::{UpstreamErrorKind, UpstreamRequest};

/// An attempt that has ended.
pub(super) struct EndedAttempt<'a> {
    pub(super) request: &'a UpstreamRequest,
    pub(super) node: &'a Node,
    pub(super) progress: &'a AttemptProgress,
    pub(super) result: &'a Result<NodeResponse, AttemptError>,
    /// From the choice of the node to the response's head; to its end if it is buffered.
    pub(super) elapsed: Duration,
}

impl EndedAttempt<'_> {
    /// Reports what the attempt says about its node. One of an unverified request says nothing but that no
    /// connection was established.
    pub(super) fn report(&self, now: Instant) {
        let outcome = self.outcome();
        let is_verified = self.request.signer().is_some();
        if is_verified {
            if let Ok(response) = self.result {
                report_signature(self.request, self.node, response, self.progress, now);
            }
            if let Some(latency) = self.latency(outcome) {
                let cluster = &self.request.cluster;
                cluster.record_latency(self.node, latency, now.into_std());
            }
        }
        let connect_failed = NodeOutcome::Failure(FailureKind::ConnectFailed);
        let is_relevant = |outcome: &NodeOutcome| is_verified || *outcome == connect_failed;
        if let Some(outcome) = outcome.filter(is_relevant) {
            let reason = || match self.result {
                Ok(response) => {
                    failure_reason::from_response(response.status, response.json.as_deref())
                }
                Err(error) => self
                    .progress
                    .take_reason()
                    .unwrap_or_else(|| failure_reason::from_kind(error.kind, self.elapsed)),
            };
            report(&self.request.cluster, self.node, outcome, now, reason);
        }
    }

    /// Returns the outcome for the health of the node.
    fn outcome(&self) -> Option<NodeOutcome> {
        match self.result {
            Ok(response) => response.health_outcome(),
            // An attempt with less time than the per-try timeout does not count against the node.
            Err(error)
                if error.kind == UpstreamErrorKind::Timeout && self.elapsed < self.per_try() =>
            {
                None
            }
            Err(error) => failure_kind(error.kind).map(NodeOutcome::Failure),
        }
    }

    /// Returns the time that counts for `balance = "least-time"`: that of a JSON interface's whole response;
    /// of a failure at least `per_try`, so that failing fast attracts nothing. Flow control, refusals and
    /// streams do not count.
    fn latency(&self, outcome: Option<NodeOutcome>) -> Option<Duration> {
        let failed = self.elapsed.max(self.per_try());
        match (self.result, outcome) {
            (_, Some(NodeOutcome::Failure(_))) => Some(failed),
            (Err(error), _) => (error.kind == UpstreamErrorKind::Timeout).then_some(failed),
            (Ok(response), _) => {
                let is_whole = matches!(response.body, NodeResponseBody::Buffered(_));
                let counts = self.request.endpoint.response != ResponseKind::File
                    && response.status == StatusCode::OK
                    && response.decision == RetryDecision::PassOn;
                (is_whole && counts).then_some(self.elapsed)
            }
        }
    }

    fn per_try(&self) -> Duration {
        self.request.cluster.settings().timeouts.per_try
    }
}
