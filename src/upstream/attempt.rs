//! One try at one node: a connection, the request, the answer. Tries the same node twice in one case
//! only: a kept connection turned out to be stale.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use http::Response;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::{Duration, Instant};

use super::connect::connect;
use super::failure_reason::{self, FailureReason};
use super::pool::PooledConnection;
use super::request;
use super::response::{self, NodeResponse};
use super::{ResponseMode, Upstream};
use crate::ccfs::RetrySafety;
use crate::cluster::{Node, NodeGuard};
use crate::message::{UpstreamErrorKind, UpstreamRequest};
use crate::metrics::RetryReason;
use crate::telemetry::TraceContext;

/// A try that brought no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptError {
    pub(super) kind: UpstreamErrorKind,
    /// May the node have acted on the request?
    pub(super) request_sent: bool,
    /// Another try needs nothing from the budget: the node is plainly not there (refused, or ended
    /// before it answered anything), or at its cap, or the try was paid for already.
    pub(super) outside_retry_budget: bool,
}

/// A try as it is seen from outside: its span, and how far it has come when its time is up.
#[derive(Debug)]
pub(super) struct AttemptProgress {
    trace: TraceContext,
    started: Instant,
    request_sent: AtomicBool,
    /// Why it failed, where more is known than the [`Cause`].
    reason: Mutex<Option<FailureReason>>,
}

impl AttemptProgress {
    /// Nothing is sent yet.
    pub(super) fn start(trace: TraceContext, began: Instant) -> Self {
        Self {
            trace,
            started: began,
            request_sent: AtomicBool::new(false),
            reason: Mutex::new(None),
        }
    }

    /// May the node have got the request?
    pub(super) fn is_request_sent(&self) -> bool {
        self.request_sent.load(Ordering::Relaxed)
    }

    /// Why it failed, if that is known.
    pub(super) fn take_reason(&self) -> Option<FailureReason> {
        let mut why = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        why.take()
    }

    fn set_reason(&self, why: FailureReason) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn set_request_sent(&self, sent: bool) {
        self.request_sent.store(sent, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Tries the picked node.
    pub(super) async fn attempt(
        &self,
        delivery: &UpstreamRequest,
        pick: NodeGuard,
        reading: ResponseMode,
        progress: &AttemptProgress,
    ) -> Result<NodeResponse, AttemptError> {
        let (response, lease) = self.exchange(delivery, pick.node(), progress).await?;
        let answer = match reading {
            ResponseMode::Buffered => {
                response::read_buffered(response, lease, delivery, self.settings.max_answer).await
            }
            ResponseMode::Streaming => {
                let rate = self.settings.min_receive_rate;
                response::read_streaming(response, lease, pick, delivery, rate).await
            }
        };
        answer.map_err(|cause| AttemptError {
            kind: cause,
            request_sent: true,
            outside_retry_budget: false,
        })
    }

    /// Sends the request and waits for the head of the answer.
    async fn exchange(
        &self,
        delivery: &UpstreamRequest,
        node: &Node,
        progress: &AttemptProgress,
    ) -> Result<(Response<Incoming>, PooledConnection), AttemptError> {
        let mut stale = false;
        loop {
            let mut lease = self.checkout(delivery, node, stale, progress).await?;
            let request = request::request(delivery, node, progress.trace, now);
            let request = request.map_err(|error| {
                tracing::error!(%error, "a request could not be signed");
                not_sent(UpstreamErrorKind::NoNodeAvailable)
            })?;
            progress.set_request_sent(true);
            let mut error = match lease.send(request).await {
                Ok(response) => return Ok((response, lease)),
                Err(error) => error,
            };
            // Handed back: not a byte of it was written.
            if error.take_message().is_some() {
                progress.set_request_sent(false);
                if lease.is_reused() {
                    continue;
                }
                progress.set_reason(failure_reason::from_hyper(&error.into_error()));
                return Err(AttemptError {
                    outside_retry_budget: true,
                    ..not_sent(UpstreamErrorKind::ConnectFailed)
                });
            }
            let answered = lease.has_response_started();
            let repeatable = delivery.endpoint.retry_safety == RetrySafety::Idempotent;
            if lease.is_reused() && !answered && repeatable && !stale {
                // The node closed a kept connection while our request was on its way.
                self.metrics.count(RetryReason::Reconnected);
                stale = true;
                continue;
            }
            let error = error.into_error();
            tracing::debug!(node = %node.name(), %error, "a try failed");
            progress.set_reason(failure_reason::from_hyper(&error));
            let cause = if error.is_parse() {
                UpstreamErrorKind::InvalidResponse
            } else {
                UpstreamErrorKind::ConnectionClosed
            };
            return Err(AttemptError {
                kind: cause,
                request_sent: true,
                outside_retry_budget: !answered,
            });
        }
    }

    /// An idle connection that can be relied on, else a new one.
    async fn checkout(
        &self,
        delivery: &UpstreamRequest,
        node: &Node,
        only_new: bool,
        progress: &AttemptProgress,
    ) -> Result<PooledConnection, AttemptError> {
        let settings = delivery.cluster.settings();
        let careful = delivery.endpoint.retry_safety == RetrySafety::OnlyIfUnsent;
        let now = progress.started;
        let fresh = careful.then(|| now.checked_sub(RECENTLY_USED)).flatten();
        if !only_new && let Some(lease) = self.pool.take(node.id(), settings, now, fresh) {
            if !careful {
                return Ok(lease);
            }
            // Looks at it: the runtime polls its sockets before it comes back here, so a
            // connection that the node has ended is known to be.
            tokio::task::yield_now().await;
            if !lease.is_closed() {
                return Ok(lease);
            }
        }
        let slot = node.open_slot().ok_or(AttemptError {
            outside_retry_budget: true,
            ..not_sent(UpstreamErrorKind::NoNodeAvailable)
        })?;
        let opening = SlotGuard(Some(&slot));
        // Boxed: the future of a request is small, since most need no new connection.
        let connecting = Box::pin(connect(node, settings, slot.clone()));
        let sender = connecting.await.map_err(|why| {
            progress.set_reason(why);
            AttemptError {
                outside_retry_budget: true,
                ..not_sent(UpstreamErrorKind::ConnectFailed)
            }
        })?;
        opening.disarm();
        Ok(self.pool.add_new(node.id(), settings, sender, slot))
    }
}

/// Gives the place of a connection back if it never comes to be.
struct SlotGuard<'a>(Option<&'a crate::cluster::ConnectionSlot>);

impl SlotGuard<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for SlotGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.close();
        }
    }
}

fn not_sent(cause: UpstreamErrorKind) -> AttemptError {
    AttemptError {
        kind: cause,
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

/// For requests that may not be repeated: a connection this fresh was open just now.
const RECENTLY_USED: Duration = Duration::from_secs(1);
