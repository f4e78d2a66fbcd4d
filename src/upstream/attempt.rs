//! One attempt at one node: a connection, the request, the response. The request is sent twice in one
//! case only: the node closed a kept-alive connection while the request was on its way.

use http::StatusCode;
use jiff::Timestamp;
use tokio::time::Duration;

use super::Upstream;
use super::connect::connect;
use super::exchange::Head;
use super::flow_control::record_response;
use super::pool::{PooledConnection, SlotGuard};
use super::progress::AttemptProgress;
use super::reactor::next_turn;
use super::request;
use super::response::{self, NodeResponse};
use crate::ccfs::RetrySafety;
use crate::cluster::{Node, NodeGuard};
use crate::message::{ConnectError, UpstreamErrorKind, UpstreamRequest};
use crate::metrics::RetryReason;

/// How much of a response is read before it is handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResponseMode {
    /// All of it.
    Buffered,
    /// As much as the retry decision needs.
    Streaming,
}

/// A failed attempt, without a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptError {
    pub(super) kind: UpstreamErrorKind,
    /// Whether the node may have acted on the request.
    pub(super) request_sent: bool,
    /// Whether a retry is free: the node is gone (connection refused, or closed before the first byte
    /// of a response) or at its connection limit, or the retry was paid for already.
    pub(super) outside_retry_budget: bool,
}

impl AttemptError {
    /// Whether the node is plainly gone: no connection, or closed before the first byte of a response.
    pub(super) fn is_node_gone(&self) -> bool {
        let is_gone = matches!(
            self.kind,
            UpstreamErrorKind::ConnectFailed(_) | UpstreamErrorKind::ConnectionClosed
        );
        is_gone && self.outside_retry_budget
    }

    /// Returns the reason of a retry after it.
    pub(super) fn retry_reason(&self) -> RetryReason {
        match self.kind {
            UpstreamErrorKind::ConnectionClosed | UpstreamErrorKind::ResponseIncomplete => {
                RetryReason::ConnectionClosed
            }
            UpstreamErrorKind::InvalidResponse => RetryReason::InvalidResponse,
            UpstreamErrorKind::NoNodeAvailable | UpstreamErrorKind::ConnectFailed(_) => {
                RetryReason::ConnectFailed
            }
            UpstreamErrorKind::Timeout => RetryReason::Timeout,
        }
    }
}

impl Upstream {
    /// Runs one attempt at the chosen node.
    pub(super) async fn attempt(
        &self,
        request: &UpstreamRequest,
        guard: NodeGuard,
        mode: ResponseMode,
        progress: &AttemptProgress,
    ) -> Result<NodeResponse, AttemptError> {
        let (head, connection) = self.exchange(request, guard.node(), progress).await?;
        let response = match mode {
            ResponseMode::Buffered => {
                let limit = self.settings.max_answer;
                let response = response::read_buffered(head, connection, request, limit).await;
                if let Ok(response) = &response {
                    record_response(&guard, request, response.status, response.decision);
                }
                response
            }
            ResponseMode::Streaming => {
                let rate = self.settings.min_receive_rate;
                response::read_streaming(head, connection, guard, request, rate).await
            }
        };
        response.map_err(|kind| AttemptError {
            kind,
            request_sent: true,
            outside_retry_budget: false,
        })
    }

    /// Sends the request and reads the head of the response.
    async fn exchange(
        &self,
        request: &UpstreamRequest,
        node: &Node,
        progress: &AttemptProgress,
    ) -> Result<(Head, PooledConnection), AttemptError> {
        let mut only_new = false;
        loop {
            let mut connection = self.checkout(request, node, only_new, progress).await?;
            let message = request::encode(request, node, progress, now);
            let message = message.map_err(|error| {
                tracing::error!(%error, "a request could not be signed");
                not_sent(UpstreamErrorKind::NoNodeAvailable)
            })?;
            let is_idempotent = request.endpoint.retry_safety == RetrySafety::Idempotent;
            let error = match connection.send(message, &progress.request_sent).await {
                // RFC 9110, section 15.5.9: the node was about to close the idle connection.
                Ok(head)
                    if head.status == StatusCode::REQUEST_TIMEOUT
                        && connection.is_reused()
                        && is_idempotent =>
                {
                    self.metrics.count(RetryReason::Reconnected);
                    only_new = true;
                    continue;
                }
                Ok(head) => return Ok((head, connection)),
                Err(error) => error,
            };

            // A reused connection that the node has closed is no failure: another one is used. If a
            // byte of the request was written, that must be safe, and the next one must be new.
            let (sent, response_started) =
                (connection.has_written(), connection.has_response_started());
            if connection.is_reused() && !response_started && (is_idempotent || !sent) {
                if sent {
                    self.metrics.count(RetryReason::Reconnected);
                    only_new = true;
                }
                continue;
            }
            tracing::debug!(node = %node.name(), ?error, "an attempt failed");
            let kind = match error.kind(response_started) {
                UpstreamErrorKind::ConnectionClosed if !sent => {
                    UpstreamErrorKind::ConnectFailed(ConnectError::Closed)
                }
                kind => kind,
            };
            progress.set_reason(error.into_reason());
            return Err(AttemptError {
                kind,
                request_sent: sent || response_started,
                outside_retry_budget: !response_started,
            });
        }
    }

    /// Returns an idle connection that is known to be open, else a new one.
    async fn checkout(
        &self,
        request: &UpstreamRequest,
        node: &Node,
        only_new: bool,
        progress: &AttemptProgress,
    ) -> Result<PooledConnection, AttemptError> {
        let settings = request.cluster.settings();
        let must_be_open = request.endpoint.retry_safety == RetrySafety::OnlyIfUnsent;
        let now = progress.started;
        let used_since = must_be_open
            .then(|| now.checked_sub(RECENTLY_USED))
            .flatten();
        if !only_new
            && let Some(mut connection) = self.pool.take(node.id(), settings, now, used_since)
        {
            if !must_be_open && connection.was_polled_while_idle() {
                return Ok(connection);
            }
            // Then a connection that the node has closed is known to be closed, and a response without a
            // request has been seen.
            next_turn().await;
            if connection.is_still_quiet() {
                return Ok(connection);
            }
        }
        let slot = node.open_slot().ok_or(AttemptError {
            outside_retry_budget: true,
            ..not_sent(UpstreamErrorKind::NoNodeAvailable)
        })?;
        let slot = SlotGuard(slot);
        // Boxed, because most requests need no new connection and their futures stay small.
        let connected = Box::pin(connect(node, settings)).await;
        let connection = connected.map_err(|(cause, reason)| {
            progress.set_reason(reason);
            AttemptError {
                outside_retry_budget: true,
                ..not_sent(UpstreamErrorKind::ConnectFailed(cause))
            }
        })?;
        node.record_opened();
        Ok(self.pool.add_new(node.id(), settings, connection, slot))
    }
}

fn not_sent(kind: UpstreamErrorKind) -> AttemptError {
    AttemptError {
        kind,
        request_sent: false,
        outside_retry_budget: false,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a signature carries the time of the attempt that it is made for"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// A request that must not be sent twice uses only connections that were used this recently: shorter
/// than the keep-alive timeout of any server.
const RECENTLY_USED: Duration = Duration::from_secs(1);
