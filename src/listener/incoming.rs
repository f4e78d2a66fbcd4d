//! Request bodies as the two protocols deliver them, as one type.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1::waker::hold;
use super::http2::incoming::Http2Incoming;

/// A request body as the protocol delivers it.
#[derive(Debug)]
pub(super) enum IncomingBody {
    Http1(Incoming),
    Http2(Http2Incoming),
}

/// The client closed the connection, reset the stream, or broke the body's framing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct IncomingError;

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        match self.get_mut() {
            Self::Http1(body) => {
                let (polled, held) = hold(|| Pin::new(&mut *body).poll_frame(context));
                // hyper needs it only if more is to come.
                if let Some(waker) = held
                    && !body.is_end_stream()
                {
                    waker.wake();
                }
                polled.map_err(|_| IncomingError)
            }
            Self::Http2(body) => {
                let polled = Pin::new(body).poll_frame(context);
                polled.map_err(|_| IncomingError)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
