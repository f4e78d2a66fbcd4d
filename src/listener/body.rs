//! Request bodies as handlers see them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::state::{Http1State, Reading};
use super::http2::incoming::Http2Incoming;
use super::http2::stream_progress::{MalformedTrailers, StreamProgress};
use super::incoming::{IncomingBody, IncomingError};

/// A request body as the handler sees it.
///
/// If it is dropped before its end, a small remainder is read and discarded: over HTTP/1 so that the
/// connection can be reused and no leftover byte becomes the next request, over HTTP/2 so that the
/// stream ends without a reset.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` once it has ended or failed.
    incoming: Option<IncomingBody>,
    unread_sink: UnreadSink,
    /// The result of the poll at the request's arrival, if it was ready.
    prefetched: Option<PolledFrame>,
    /// The client waits for `100 Continue`, which is sent at the first poll.
    expects_continue: bool,
}

type PolledFrame = Option<Result<Frame<Bytes>, IncomingError>>;

/// Takes what a handler leaves unread.
#[derive(Debug)]
enum UnreadSink {
    Http1(Arc<Http1State>),
    Http2(Arc<StreamProgress>),
}

/// Why a request body ended early.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// Its framing is invalid: 400, and the connection closes.
    #[error("the request body is malformed")]
    Malformed,
    /// The client closed the connection or reset the stream.
    #[error("the client closed the connection in the middle of the request body")]
    ConnectionClosed,
}

impl RequestBody {
    pub(super) fn http1(
        incoming: Incoming,
        state: Arc<Http1State>,
        expects_continue: bool,
    ) -> Self {
        let mut incoming = IncomingBody::Http1(incoming);
        let mut prefetched = None;
        if !expects_continue && !incoming.is_end_stream() {
            // hyper forwards no byte of a body before the body was polled. Polled now, a small body is
            // ready when the handler first polls, which saves a wake-up and a timer for each request.
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(polled) = Pin::new(&mut incoming).poll_frame(&mut context) {
                prefetched = Some(polled);
            }
        }
        Self {
            incoming: Some(incoming),
            unread_sink: UnreadSink::Http1(state),
            prefetched,
            expects_continue,
        }
    }

    pub(super) fn http2(
        incoming: Http2Incoming,
        progress: Arc<StreamProgress>,
        expects_continue: bool,
    ) -> Self {
        Self {
            incoming: Some(IncomingBody::Http2(incoming)),
            unread_sink: UnreadSink::Http2(progress),
            prefetched: None,
            expects_continue,
        }
    }

    /// Over HTTP/1 the scanner below hyper has checked them.
    fn check_trailers(&self) -> Result<(), MalformedTrailers> {
        match &self.unread_sink {
            UnreadSink::Http1(_) => Ok(()),
            UnreadSink::Http2(progress) => progress.check_trailers(),
        }
    }

    fn read_error(&self) -> BodyError {
        match &self.unread_sink {
            UnreadSink::Http1(state) if state.reading() == Reading::RejectedBody => {
                BodyError::Malformed
            }
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
        if std::mem::take(&mut this.expects_continue)
            && let UnreadSink::Http2(progress) = &this.unread_sink
        {
            // Over HTTP/1 hyper sends it.
            progress.send_continue();
        }
        let polled = match this.prefetched.take() {
            Some(polled) => polled,
            None => ready!(Pin::new(incoming).poll_frame(context)),
        };
        match polled {
            Some(Ok(frame)) if frame.is_trailers() && this.check_trailers().is_err() => {
                this.incoming = None;
                Poll::Ready(Some(Err(BodyError::Malformed)))
            }
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
        let unread = match &self.unread_sink {
            UnreadSink::Http1(state) => &state.unread,
            UnreadSink::Http2(progress) => &progress.unread,
        };
        unread.put(incoming, self.expects_continue);
    }
}
