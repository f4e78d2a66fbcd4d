//! Sends the body of a response over HTTP/2: in frames that are small beside a client's window, and
//! counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http_body::{Body, SizeHint};

use super::stream_progress::StreamProgress;

/// The body of a response.
#[derive(Debug)]
pub(super) enum ResponseBody<B> {
    /// The handler's.
    Handler(B),
    /// Of a rejection, until it is sent.
    Rejection(Bytes),
}

impl<B: Body<Data = Bytes> + Unpin> ResponseBody<B> {
    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Handler(body) => body.is_end_stream(),
            Self::Rejection(body) => body.is_empty(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Handler(body) => body.size_hint(),
            Self::Rejection(body) => SizeHint::with_exact(body.len() as u64),
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        match self {
            Self::Handler(body) => Pin::new(body).poll_frame(context),
            Self::Rejection(body) if body.is_empty() => Poll::Ready(None),
            Self::Rejection(body) => {
                let data = std::mem::take(body);
                Poll::Ready(Some(Ok(http_body::Frame::data(data))))
            }
        }
    }
}

/// Why a body was not sent to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SendError {
    /// The client has reset the stream, or the connection has ended.
    Reset,
    /// The handler's body failed; the stream was reset.
    Body,
}

impl From<h2::Error> for SendError {
    fn from(_: h2::Error) -> Self {
        Self::Reset
    }
}

/// Copies a response body into its stream.
#[derive(Debug)]
pub(super) struct BodySender<B> {
    body: ResponseBody<B>,
    /// Read from the body, not yet handed to h2.
    buffered: Bytes,
    stream: SendStream<Bytes>,
    progress: Arc<StreamProgress>,
}

impl<B: Body<Data = Bytes> + Unpin> BodySender<B> {
    pub(super) fn new(
        body: ResponseBody<B>,
        stream: SendStream<Bytes>,
        progress: Arc<StreamProgress>,
    ) -> Self {
        Self {
            body,
            buffered: Bytes::new(),
            stream,
            progress,
        }
    }

    /// Sends what the client's window allows; ready when the stream is closed on our side.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        loop {
            // Also registers the task to be woken by a reset.
            if self.stream.poll_reset(context)?.is_ready() {
                return Poll::Ready(Err(SendError::Reset));
            }
            let is_closed = if self.buffered.is_empty() {
                ready!(self.poll_read(context))?
            } else {
                ready!(self.poll_send_frame(context))?
            };
            if is_closed {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads the next data of the body; true once the stream is closed.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, SendError>> {
        // While the node has not sent anything, the client is not the one that is slow.
        self.progress.set_pending(false);
        let frame = ready!(self.body.poll_frame(context));
        self.progress.set_pending(true);
        match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                self.buffered = data;
                self.reserve_frame();
                Poll::Ready(Ok(false))
            }
            Some(Ok(Err(other))) => {
                if let Ok(trailers) = other.into_trailers() {
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)?;
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Ok(false))
            }
            Some(Err(_)) => {
                self.stream.send_reset(h2::Reason::INTERNAL_ERROR);
                Poll::Ready(Err(SendError::Body))
            }
            None => {
                self.stream.send_data(Bytes::new(), true)?;
                Poll::Ready(Ok(true))
            }
        }
    }

    /// Hands one frame to h2 once the windows have room; true if it is the last.
    fn poll_send_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, SendError>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(context)) {
                Some(capacity) => capacity?,
                None => return Poll::Ready(Err(SendError::Reset)),
            };
        }
        // No more than the windows have room for: what h2 holds back has no deadline.
        let room = self.stream.capacity().min(MAX_FRAME_SIZE);
        let frame = self.buffered.split_to(self.buffered.len().min(room));
        let is_last = self.buffered.is_empty() && self.body.is_end_stream();
        self.progress.count_sent(frame.len());
        self.stream.send_data(frame, is_last)?;
        self.reserve_frame();
        Poll::Ready(Ok(is_last))
    }

    /// Reserves the windows for the next frame of what has been read: a body that yields nothing must not
    /// withhold the connection's window from other streams.
    fn reserve_frame(&mut self) {
        let wanted = self.buffered.len().min(MAX_FRAME_SIZE);
        self.stream.reserve_capacity(wanted);
    }
}

/// Bytes of one DATA frame: the size that every client must accept (RFC 9113, 4.2).
const MAX_FRAME_SIZE: usize = 16 * 1024;
