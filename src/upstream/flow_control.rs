//! Flow control of nodes: what responses say about it, and the wait of a request while every usable node
//! is at its bound.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use tokio::time::{Instant, Sleep, sleep_until};

use super::response::RetryDecision;
use crate::ccfs::ResponseKind;
use crate::cluster::{
    Choice, FlowClass, FlowControlMode, FlowOutcome, FlowRequest, NodeGuard, NodeId, WaitEnd,
    Waiter,
};
use crate::message::UpstreamRequest;

/// What one request has met with of flow control.
#[derive(Debug, Default)]
pub(super) struct FlowState {
    /// All its waits together.
    pub(super) waited: Duration,
    /// Whether it has waited in vain, so that it is sent whatever was learned.
    pub(super) beyond_bound: bool,
    /// Whether it has no node only because of flow control.
    pub(super) awaits_room: bool,
    /// The nodes that refused it since its last wait.
    pub(super) refused_by: Vec<NodeId>,
}

/// Returns what flow control of nodes depends on; `None` where it is not learned.
pub(super) fn flow_request(
    request: &UpstreamRequest,
    beyond_bound: bool,
) -> Option<FlowRequest<'_>> {
    let mode = request.cluster.settings().flow_control.mode;
    (mode == FlowControlMode::Learn).then(|| FlowRequest {
        class: match request.endpoint.response {
            ResponseKind::File => FlowClass::Download,
            ResponseKind::Json | ResponseKind::SignedUrl => FlowClass::Query,
        },
        access_key: request.signer().map(|signer| signer.access_key().as_str()),
        beyond_bound,
    })
}

/// Records what a response says about the flow control of its node.
pub(super) fn record_response(
    guard: &NodeGuard,
    request: &UpstreamRequest,
    status: StatusCode,
    decision: RetryDecision,
) {
    let outcome = match decision {
        RetryDecision::RetryAlways => FlowOutcome::Refused,
        RetryDecision::PassOn if status.is_success() => FlowOutcome::Accepted,
        RetryDecision::PassOn
        | RetryDecision::RetryIfIdempotent
        | RetryDecision::RetrySignedAnew => return,
    };
    if outcome == FlowOutcome::Accepted && !guard.is_learning() {
        return;
    }
    if let Some(flow) = flow_request(request, false) {
        guard.record_flow(&flow, outcome, Instant::now().into_std());
    }
}

/// How the wait for a node with room ended.
#[derive(Debug)]
pub(super) enum RoomWait {
    /// This node has room.
    Place(NodeGuard),
    /// No node had room in time, or the queue is full.
    InVain,
    /// The access key was disabled meanwhile, or the validity ended.
    Revoked,
}

/// Waits until a node has room, at most until `deadline` or the end of the request's validity. Cancel
/// safe: the place of a request that is dropped is handed on.
pub(super) async fn wait_for_room(
    request: &UpstreamRequest,
    choice: Choice<'_>,
    deadline: Instant,
) -> RoomWait {
    let signer = request.signer();
    let waiter = signer.and_then(|signer| {
        Waiter::enqueue(&request.cluster, &choice, signer.access_key().shared())
    });
    let Some(waiter) = waiter else {
        return RoomWait::InVain;
    };
    let end = request.not_after.map(instant_of);
    let last = end.map_or(deadline, |end| end.min(deadline));
    let mut timer = std::pin::pin!(sleep_until(last));
    loop {
        let now = Instant::now();
        let look_again = waiter.look_for_places(now.into_std());
        let until = look_again.map_or(last, |at| last.min(at.into()));
        match next_event(&waiter, timer.as_mut(), until).await {
            Event::Ended(WaitEnd::Place(place)) => return RoomWait::Place(place),
            Event::Ended(WaitEnd::Evicted) => return RoomWait::InVain,
            Event::Ended(WaitEnd::Revoked) => return RoomWait::Revoked,
            Event::Time if Instant::now() >= last => {
                return if last < deadline {
                    RoomWait::Revoked
                } else {
                    RoomWait::InVain
                };
            }
            Event::Time | Event::Woken => {}
        }
    }
}

/// Returns the moment of a time of the wall clock, now if it is over.
#[expect(
    clippy::disallowed_methods,
    reason = "only a request that waits for a node asks for it"
)]
fn instant_of(time: Timestamp) -> Instant {
    let left = time.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(left).unwrap_or_default()
}

enum Event {
    Ended(WaitEnd),
    Time,
    Woken,
}

async fn next_event(
    waiter: &Waiter,
    mut timer: std::pin::Pin<&mut Sleep>,
    until: Instant,
) -> Event {
    timer.as_mut().reset(until);
    poll_fn(|cx| match waiter.poll(cx.waker()) {
        Poll::Ready(Some(end)) => Poll::Ready(Event::Ended(end)),
        Poll::Ready(None) => Poll::Ready(Event::Woken),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| Event::Time),
    })
    .await
}
