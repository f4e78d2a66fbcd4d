//! The state of one delivery: who was tried, what came of it, who may be tried next.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::AttemptError;
use super::response::NodeResponse;
use crate::ccfs::RetrySafety;
use crate::cluster::{Node, NodeGuard, NodeId};
use crate::message::{AttemptSummary, UpstreamError, UpstreamErrorKind, UpstreamRequest};
use crate::metrics::RetryReason;

/// The state of one delivery.
#[derive(Debug)]
pub(super) struct RetryState<'a> {
    pub(super) request: &'a UpstreamRequest,
    pub(super) started: Instant,
    pub(super) overall_deadline: Instant,
    /// The clock when the last try ended, or the delivery began: what begins the next try needs no
    /// reading of its own.
    pub(super) now: Instant,
    tried: Vec<NodeId>,
    last_node: Option<Arc<str>>,
    pub(super) attempts: u32,
    /// A node may have acted on it.
    request_sent: bool,
    /// Why a further try would be one.
    pub(super) retry_reason: Option<RetryReason>,
    last_error: Option<AttemptError>,
    pub(super) last_response: Option<NodeResponse>,
}

impl<'a> RetryState<'a> {
    pub(super) fn new(delivery: &'a UpstreamRequest, last_try: Duration) -> Self {
        let started = Instant::now();
        Self {
            request: delivery,
            started,
            overall_deadline: started + last_try,
            now: started,
            tried: Vec::new(),
            last_node: None,
            attempts: 0,
            request_sent: false,
            retry_reason: None,
            last_error: None,
            last_response: None,
        }
    }

    pub(super) fn next_node(&self) -> Option<NodeGuard> {
        let cluster = &self.request.cluster;
        let now = self.now.into_std();
        let affinity = self.request.hash_key;
        if self.attempts == 0 {
            cluster.pick_first(affinity, &self.tried, now)
        } else if self.last_response.is_some() {
            // It is not worth while to ask a node that looks dead.
            cluster.pick_for_retry(affinity, &self.tried, now)
        } else {
            cluster.pick_any(affinity, &self.tried, now)
        }
    }

    pub(super) fn begin_attempt(&mut self, node: &Node) {
        self.attempts += 1;
        self.tried.push(node.id());
        self.last_node = Some(node.name().clone());
    }

    pub(super) fn record_failure(&mut self, trouble: AttemptError) {
        self.request_sent |= trouble.request_sent;
        self.retry_reason = Some(match trouble.kind {
            UpstreamErrorKind::ConnectionClosed => RetryReason::ConnectionClosed,
            UpstreamErrorKind::InvalidResponse => RetryReason::InvalidResponse,
            UpstreamErrorKind::NoNodeAvailable | UpstreamErrorKind::ConnectFailed => {
                RetryReason::ConnectFailed
            }
            UpstreamErrorKind::Timeout => RetryReason::Timeout,
        });
        // That the last node was full says less than what another one did.
        if trouble.kind != UpstreamErrorKind::NoNodeAvailable || self.last_error.is_none() {
            self.last_error = Some(trouble);
        }
    }

    pub(super) fn is_idempotent(&self) -> bool {
        self.request.endpoint.retry_safety == RetrySafety::Idempotent
    }

    pub(super) fn is_past_deadline(&self) -> bool {
        Instant::now() >= self.overall_deadline
    }

    pub(super) fn has_untried_node(&self) -> bool {
        let now = Instant::now().into_std();
        !self.is_past_deadline() && self.request.cluster.has_candidate(&self.tried, now)
    }

    /// May a try be ended early in favour of another node?
    pub(super) fn may_fail_over(&self, sent: bool) -> bool {
        (self.is_idempotent() || !sent) && self.has_untried_node()
    }

    /// May a try at a node that turned out to be dead be ended for one that is well?
    pub(super) fn may_fail_over_from_dead(&self, node: &Node, sent: bool) -> bool {
        let now = Instant::now().into_std();
        (self.is_idempotent() || !sent)
            && !self.is_past_deadline()
            && node.is_down()
            && self.request.cluster.has_usable_node(&self.tried, now)
    }

    /// No further try: the last answer, unless a node may have acted on a request that is not
    /// repeatable, of which that answer knows nothing.
    pub(super) fn into_result(&mut self) -> Result<NodeResponse, UpstreamError> {
        if (self.is_idempotent() || !self.request_sent)
            && let Some(answer) = self.last_response.take()
        {
            return Ok(answer);
        }
        Err(UpstreamError {
            kind: self
                .last_error
                .map_or(UpstreamErrorKind::NoNodeAvailable, |trouble| trouble.kind),
            request_sent: self.request_sent,
            attempts: self.summary(),
        })
    }

    pub(super) fn summary(&self) -> AttemptSummary {
        AttemptSummary {
            node: self.last_node.clone(),
            count: self.attempts,
            elapsed: self.now - self.started,
        }
    }
}
