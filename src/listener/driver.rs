//! The loop that drives one connection, HTTP/1 and HTTP/2 alike.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll};

use super::context::ConnectionContext;
use crate::drain::{Phase, PhaseListener};
use crate::metrics::ConnectionEndReason;

/// One connection as [`drive`] sees it.
pub(super) trait Connection {
    /// How the connection ended.
    type End;

    /// Advances the protocol as far as the socket allows; ready when the connection has ended.
    fn poll_protocol(&mut self, context: &mut Context<'_>) -> Poll<Self::End>;

    /// Applies the timeouts to what the protocol did. `Ready(Some)` ends the connection, `Ready(None)`
    /// polls the protocol again, `Pending` waits for the next wake-up.
    fn poll_timeouts(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::End>>;

    /// The end of a connection that is aborted for `reason`.
    fn aborted(reason: ConnectionEndReason) -> Self::End;
}

/// Polls `connection` until it has ended. The task is woken by the socket, the connection's timer, a
/// phase of the drain, and its eviction.
///
/// A panic in the connection ends this connection only.
pub(super) async fn drive<C: Connection>(
    mut connection: C,
    connection_context: &ConnectionContext,
) -> C::End {
    let mut watch = connection_context.drain.clone();
    let forced = pin!(watch.reached(Phase::Forced));
    let mut phases = PhaseListener::new(forced);
    std::future::poll_fn(|context| {
        if phases.poll_phase(context) {
            connection_context
                .permit
                .activity()
                .set_waker(context.waker());
        }
        if connection_context.drain.phase() == Phase::Forced {
            return Poll::Ready(C::aborted(ConnectionEndReason::Drain));
        }
        loop {
            let polled = catch_unwind(AssertUnwindSafe(|| connection.poll_protocol(context)));
            match polled {
                Err(_) => return Poll::Ready(C::aborted(ConnectionEndReason::Panic)),
                Ok(Poll::Ready(end)) => return Poll::Ready(end),
                Ok(Poll::Pending) => {}
            }
            match connection.poll_timeouts(context) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
