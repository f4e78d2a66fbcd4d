//! A request body over HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

/// The receiving half of a stream. Flow-control credit is returned as soon as data is read.
#[derive(Debug)]
pub(in crate::listener) struct Http2Incoming {
    stream: RecvStream,
    /// Bytes announced by Content-Length that have not arrived; h2 resets a stream whose body has another
    /// length (RFC 9113, 8.1.1).
    outstanding: Option<u64>,
    is_data_read: bool,
}

impl Http2Incoming {
    pub(super) fn new(stream: RecvStream, content_length: Option<u64>) -> Self {
        Self {
            stream,
            outstanding: content_length,
            is_data_read: false,
        }
    }

    /// Ready when the client has ended or reset the stream. Data is dropped without returning its
    /// credit, so that the client cannot send more than its window.
    pub(in crate::listener) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(_)) = ready!(self.stream.poll_data(context)) {}
        Poll::Ready(())
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let Some(data) = ready!(self.stream.poll_data(context)) else {
            return Poll::Ready(None);
        };
        let data = data?;
        self.stream.flow_control().release_capacity(data.len())?;
        if let Some(outstanding) = &mut self.outstanding {
            *outstanding = outstanding.saturating_sub(data.len() as u64);
        }
        Poll::Ready(Some(Ok(data)))
    }
}

impl Body for Http2Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.is_data_read {
            if let Some(data) = ready!(this.poll_data(context)) {
                return Poll::Ready(Some(data.map(Frame::data)));
            }
            this.is_data_read = true;
        }
        let trailers = ready!(this.stream.poll_trailers(context)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.outstanding
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
