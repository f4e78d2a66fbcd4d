//! Request bodies as handlers see them, and what becomes of the part that a handler left unread.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::state::Exchange;
use super::http2::state::Progress;

/// A request body as the handler sees it. If it is dropped before its end, a small rest is read and
/// thrown away: over HTTP/1 so that the connection lives and no left-over byte becomes the next
/// request, over HTTP/2 so that the stream ends without a reset.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` once it has ended or failed.
    incoming: Option<Incoming>,
    owner: Owner,
    /// What came of asking early.
    early: Option<Polled>,
    /// The client waits for `100 Continue`, which hyper sends at the first poll.
    waits: bool,
}

type Polled = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Who takes what a handler leaves unread.
#[derive(Debug)]
enum Owner {
    Http1(Arc<Exchange>),
    Http2 {
        stream: Arc<Progress>,
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
    Gone,
}

impl RequestBody {
    pub(super) fn http1(mut incoming: Incoming, exchange: Arc<Exchange>, waits: bool) -> Self {
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
            owner: Owner::Http1(exchange),
            early,
            waits,
        }
    }

    pub(super) fn http2(
        incoming: Incoming,
        stream: Arc<Progress>,
        max_discarded: u64,
        waits: bool,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            owner: Owner::Http2 {
                stream,
                max_discarded,
            },
            early: None,
            waits,
        }
    }

    fn fault(&self) -> BodyError {
        match &self.owner {
            Owner::Http1(exchange) if exchange.is_body_broken() => BodyError::Malformed,
            _ => BodyError::Gone,
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
        this.waits = false;
        let polled = match this.early.take() {
            Some(polled) => polled,
            None => ready!(Pin::new(incoming).poll_frame(context)),
        };
        match polled {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(_)) => {
                this.incoming = None;
                Poll::Ready(Some(Err(this.fault())))
            }
            None => {
                this.incoming = None;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_none() && self.incoming.as_ref().is_none_or(Body::is_end_stream)
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
        let leftover = |budget| Leftover {
            incoming,
            budget,
            waits: self.waits,
        };
        match &self.owner {
            Owner::Http1(exchange) => exchange.leave(leftover(exchange.max_discarded())),
            Owner::Http2 {
                stream,
                max_discarded,
            } => stream.leave(leftover(*max_discarded)),
        }
    }
}

/// The unread rest of a request body.
#[derive(Debug)]
pub(super) struct Leftover {
    incoming: Incoming,
    budget: u64,
    waits: bool,
}

/// What became of a rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Discarded {
    /// Read to its end: the connection lives.
    Whole,
    /// Too much, or broken off: the connection cannot be used again.
    Abandoned,
}

impl Leftover {
    /// Is it plain already that the rest will not be read? Then the answer had better say so. A
    /// client that waits for `100 Continue` may send the body after the answer, or may not (RFC 9110,
    /// 10.1.1): what comes next could not be told apart.
    pub(super) fn is_hopeless(&self) -> bool {
        self.waits || self.incoming.size_hint().lower() > self.budget
    }

    /// Reads and throws away.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<Discarded> {
        if self.is_hopeless() {
            return Poll::Ready(Discarded::Abandoned);
        }
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
                None => return Poll::Ready(Discarded::Whole),
                Some(Err(_)) => return Poll::Ready(Discarded::Abandoned),
                Some(Ok(frame)) => {
                    let read = frame.data_ref().map_or(0, |data| data.len() as u64);
                    match self.budget.checked_sub(read) {
                        Some(budget) => self.budget = budget,
                        None => return Poll::Ready(Discarded::Abandoned),
                    }
                }
            }
        }
    }
}
