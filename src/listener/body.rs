//! Request bodies as handlers see them, and what becomes of the part that a handler left unread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::state::Http1State;
use super::http2::state::StreamProgress;

/// A request body as the handler sees it. If it is dropped before its end, a small rest is read and
/// thrown away: over HTTP/1 so that the connection lives and no left-over byte becomes the next
/// request, over HTTP/2 so that the stream ends without a reset.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` once it has ended or failed.
    incoming: Option<Incoming>,
    unread_sink: UnreadSink,
    /// What came of asking early.
    prefetched: Option<PolledFrame>,
    /// The client waits for `100 Continue`, which hyper sends at the first poll.
    expects_continue: bool,
}

type PolledFrame = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Who takes what a handler leaves unread.
#[derive(Debug)]
enum UnreadSink {
    Http1(Arc<Http1State>),
    Http2 {
        stream: Arc<StreamProgress>,
        max_discarded: u64,
    },
}

/// Why a request body did not come to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// It is not legal HTTP: 400, and the connection closes.
    #[error("the request body is malformed")]
    Malformed,
    /// The client went away.
    #[error("the client closed the connection in the middle of the request body")]
    ConnectionClosed,
}

impl RequestBody {
    pub(super) fn http1(mut incoming: Incoming, exchange: Arc<Http1State>, waits: bool) -> Self {
        let mut early = None;
        if !waits && !incoming.is_end_stream() {
            // hyper hands on no byte of a body before it was asked for one. Asked now, it has a small
            // body ready when the handler first asks, which saves a turn and a timer for each request.
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(polled) = Pin::new(&mut incoming).poll_frame(&mut context) {
                early = Some(polled);
            }
        }
        Self {
            incoming: Some(incoming),
            unread_sink: UnreadSink::Http1(exchange),
            prefetched: early,
            expects_continue: waits,
        }
    }

    pub(super) fn http2(
        incoming: Incoming,
        stream: Arc<StreamProgress>,
        max_discarded: u64,
        waits: bool,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            unread_sink: UnreadSink::Http2 {
                stream,
                max_discarded,
            },
            prefetched: None,
            expects_continue: waits,
        }
    }

    fn read_error(&self) -> BodyError {
        match &self.unread_sink {
            UnreadSink::Http1(exchange) if exchange.is_body_broken() => BodyError::Malformed,
            _ => BodyError::ConnectionClosed,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        this.expects_continue = false;
        let polled = match this.prefetched.take() {
            Some(polled) => polled,
            None => ready!(Pin::new(incoming).poll_frame(context)),
        };
        match polled {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(_)) => {
                this.incoming = None;
                Poll::Ready(Some(Err(this.read_error())))
            }
            None => {
                this.incoming = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.prefetched.is_none() && self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        if incoming.is_end_stream() {
            return;
        }
        let leftover = |budget| UnreadBody {
            incoming,
            remaining: budget,
            expects_continue: self.expects_continue,
        };
        match &self.unread_sink {
            UnreadSink::Http1(exchange) => {
                exchange.set_unread_body(leftover(exchange.max_discarded()))
            }
            UnreadSink::Http2 {
                stream,
                max_discarded,
            } => stream.set_unread_body(leftover(*max_discarded)),
        }
    }
}

/// The unread rest of a request body.
#[derive(Debug)]
pub(super) struct UnreadBody {
    incoming: Incoming,
    remaining: u64,
    expects_continue: bool,
}

/// What became of a rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DiscardOutcome {
    /// Read to its end: the connection lives.
    Complete,
    /// Too much, or broken off: the connection cannot be used again.
    Incomplete,
}

impl UnreadBody {
    /// Is it plain already that the rest will not be read? Then the answer had better say so. A
    /// client that waits for `100 Continue` may send the body after the answer, or may not (RFC 9110,
    /// 10.1.1): what comes next could not be told apart.
    pub(super) fn cannot_be_discarded(&self) -> bool {
        self.expects_continue || self.incoming.size_hint().lower() > self.remaining
    }

    /// Reads and throws away.
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
                        Some(budget) => self.remaining = budget,
                        None => return Poll::Ready(DiscardOutcome::Incomplete),
                    }
                }
            }
        }
    }
}
