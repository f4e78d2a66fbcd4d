//! What a handler leaves unread of a request body: read and discarded within a limit, so that the
//! connection can be reused (HTTP/1) or the stream ends without a reset (HTTP/2).

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use http_body::Body;
use parking_lot::Mutex;

use super::incoming::IncomingBody;

/// The unread remainder of a request body.
#[derive(Debug)]
pub(super) struct UnreadBody {
    incoming: IncomingBody,
    /// Bytes that may still be discarded.
    remaining: u64,
    /// The client waits for `100 Continue` before it sends the body.
    expects_continue: bool,
}

/// How discarding ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DiscardOutcome {
    /// Read to its end: the connection can be reused.
    Complete,
    /// Over the limit, late or cut off: the connection cannot be reused.
    Incomplete,
}

impl UnreadBody {
    /// Whether it is known already that the remainder will not be read, so that the response
    /// should announce the end of the connection.
    ///
    /// A client that expects `100 Continue` may send the body after the response or may not (RFC
    /// 9110, 10.1.1): the bytes that follow are ambiguous.
    pub(super) fn cannot_be_discarded(&self) -> bool {
        self.expects_continue || self.incoming.size_hint().lower() > self.remaining
    }

    /// Ready when an HTTP/2 client has ended or reset its stream; at once over HTTP/1.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.incoming {
            IncomingBody::Http1(_) => Poll::Ready(()),
            IncomingBody::Http2(body) => body.poll_ended(context),
        }
    }

    /// Reads and discards what has arrived.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<DiscardOutcome> {
        if self.cannot_be_discarded() {
            return Poll::Ready(DiscardOutcome::Incomplete);
        }
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
                None => return Poll::Ready(DiscardOutcome::Complete),
                Some(Err(_)) => return Poll::Ready(DiscardOutcome::Incomplete),
                Some(Ok(frame)) => {
                    let read = frame.data_ref().map_or(0, |data| data.len() as u64);
                    match self.remaining.checked_sub(read) {
                        Some(remaining) => self.remaining = remaining,
                        None => return Poll::Ready(DiscardOutcome::Incomplete),
                    }
                }
            }
        }
    }
}

/// Holds the unread body of one request between the handler that dropped it and the task that
/// discards it.
#[derive(Debug)]
pub(super) struct UnreadSlot {
    /// Mirrors whether `body` is set: read several times per request, while it is rarely set.
    is_occupied: AtomicBool,
    body: Mutex<Option<UnreadBody>>,
    /// Bytes that may be discarded of one body.
    max_discarded: u64,
}

impl UnreadSlot {
    pub(super) fn new(max_discarded: u64) -> Self {
        Self {
            is_occupied: AtomicBool::new(false),
            body: Mutex::new(None),
            max_discarded,
        }
    }

    /// Puts the remainder of a body into the slot.
    pub(super) fn put(&self, incoming: IncomingBody, expects_continue: bool) {
        *self.body.lock() = Some(UnreadBody {
            incoming,
            remaining: self.max_discarded,
            expects_continue,
        });
        self.is_occupied.store(true, Relaxed);
    }

    pub(super) fn is_occupied(&self) -> bool {
        self.is_occupied.load(Relaxed)
    }

    /// See [`UnreadBody::cannot_be_discarded`].
    pub(super) fn cannot_be_discarded(&self) -> bool {
        self.is_occupied()
            && self
                .body
                .lock()
                .as_ref()
                .is_some_and(UnreadBody::cannot_be_discarded)
    }

    /// Discards what has arrived; `None` if the slot is empty.
    pub(super) fn poll_discard(&self, context: &mut Context<'_>) -> Option<Poll<DiscardOutcome>> {
        if !self.is_occupied() {
            return None;
        }
        self.body
            .lock()
            .as_mut()
            .map(|body| body.poll_discard(context))
    }

    /// Empties the slot.
    pub(super) fn take(&self) -> Option<UnreadBody> {
        self.is_occupied.store(false, Relaxed);
        self.body.lock().take()
    }
}
