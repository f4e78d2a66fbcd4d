//! The body of an answer over HTTP/2: in frames that are small beside a client's window, and counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::state::StreamProgress;

/// The body of an answer over HTTP/2.
#[derive(Debug)]
pub(super) struct FramedBody<B> {
    source: Source<B>,
    /// Taken from the source, not yet given to h2.
    buffered: Bytes,
    progress: Arc<StreamProgress>,
}

#[derive(Debug)]
enum Source<B> {
    Handler(B),
    /// All of it is in `rest`.
    Rejection,
}

impl<B: Body<Data = Bytes> + Unpin> FramedBody<B> {
    /// A handler's.
    pub(super) fn from_handler(body: B, progress: Arc<StreamProgress>) -> Self {
        progress.set_pending(!body.is_end_stream());
        Self {
            source: Source::Handler(body),
            buffered: Bytes::new(),
            progress,
        }
    }

    /// A refusal's.
    pub(super) fn from_rejection(body: Bytes, progress: Arc<StreamProgress>) -> Self {
        progress.set_pending(!body.is_empty());
        Self {
            source: Source::Rejection,
            buffered: body,
            progress,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for FramedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.buffered.is_empty()
            && let Source::Handler(body) = &mut this.source
        {
            // What the node has not sent cannot wait for the client.
            this.progress.set_pending(false);
            let frame = ready!(Pin::new(body).poll_frame(context));
            this.progress.set_pending(true);
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.buffered = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        } else if this.buffered.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this
            .buffered
            .split_to(this.buffered.len().min(MAX_FRAME_SIZE));
        this.progress.count_sent(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_empty()
            && match &self.source {
                Source::Handler(body) => body.is_end_stream(),
                Source::Rejection => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.buffered.len() as u64;
        let source = match &self.source {
            Source::Handler(body) => body.size_hint(),
            Source::Rejection => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(source.lower() + rest);
        if let Some(upper) = source.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// One frame: what h2 buffers beyond the client's window is no more than that.
const MAX_FRAME_SIZE: usize = 16 * 1024;
