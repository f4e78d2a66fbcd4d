//! The body of an answer over HTTP/2: in frames that are small beside a client's window, and counted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::state::Progress;

/// The body of an answer over HTTP/2.
#[derive(Debug)]
pub(super) struct Answer<B> {
    source: Source<B>,
    /// Taken from the source, not yet given to h2.
    rest: Bytes,
    progress: Arc<Progress>,
}

#[derive(Debug)]
enum Source<B> {
    Handled(B),
    /// All of it is in `rest`.
    Refused,
}

impl<B: Body<Data = Bytes> + Unpin> Answer<B> {
    /// A handler's.
    pub(super) fn handled(body: B, progress: Arc<Progress>) -> Self {
        progress.set_waiting(!body.is_end_stream());
        Self {
            source: Source::Handled(body),
            rest: Bytes::new(),
            progress,
        }
    }

    /// A refusal's.
    pub(super) fn refused(body: Bytes, progress: Arc<Progress>) -> Self {
        progress.set_waiting(!body.is_empty());
        Self {
            source: Source::Refused,
            rest: body,
            progress,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty()
            && let Source::Handled(body) = &mut this.source
        {
            // What the node has not sent cannot wait for the client.
            this.progress.set_waiting(false);
            let frame = ready!(Pin::new(body).poll_frame(context));
            this.progress.set_waiting(true);
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        } else if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.progress.count_sent(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match &self.source {
                Source::Handled(body) => body.is_end_stream(),
                Source::Refused => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let source = match &self.source {
            Source::Handled(body) => body.size_hint(),
            Source::Refused => SizeHint::with_exact(0),
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
const PIECE: usize = 16 * 1024;
