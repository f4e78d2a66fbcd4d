//! The socket of one HTTP/1 connection: hyper's while messages are exchanged, parked while nothing is.
//! hyper keeps 16 KiB of buffers for a connection that does nothing; a parked one has none of them.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::Http1Service;
use super::validating_io::ValidatingIo;
use super::waker::holdable;
use crate::listener::Handler;
use crate::listener::head::HeadLimits;
use crate::listener::stream::Stream;

/// The socket, and hyper where it is needed.
pub(super) struct Socket<H: Handler> {
    holder: Holder<H>,
    service: Http1Service<H>,
    limits: HeadLimits,
}

/// What holds the socket.
enum Holder<H: Handler> {
    /// hyper reads and writes messages. Boxed, so that a parked connection does not take its space.
    Hyper(Box<Hyper<H>>),
    /// No message is under way; only the next byte is waited for.
    Parked(ValidatingIo<Stream>),
    /// Nothing is read or written any more. `None` only inside a change from one to the other.
    Ended(Option<ValidatingIo<Stream>>),
}

struct Hyper<H: Handler> {
    connection: http1::Connection<TokioIo<ValidatingIo<Stream>>, Http1Service<H>>,
    /// The waker of the last poll, and what hyper got in its place.
    wakers: Option<(Waker, Waker)>,
}

impl<H: Handler> Hyper<H> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let wakers = self.wakers.take();
        let wakers = wakers.filter(|(task, _)| task.will_wake(context.waker()));
        let (_, inner) = self.wakers.insert(wakers.unwrap_or_else(|| {
            let task = context.waker().clone();
            let inner = holdable(&task);
            (task, inner)
        }));
        Pin::new(&mut self.connection).poll(&mut Context::from_waker(inner))
    }
}

impl<H: Handler> Socket<H> {
    /// Parked until the first byte arrives.
    pub(super) fn new(
        io: ValidatingIo<Stream>,
        service: Http1Service<H>,
        limits: HeadLimits,
    ) -> Self {
        Self {
            holder: Holder::Parked(io),
            service,
            limits,
        }
    }

    /// Serves messages; a parked connection waits for a byte, or its end, and then gets its hyper back.
    /// Ready when hyper has finished.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        loop {
            match &mut self.holder {
                Holder::Hyper(hyper) => return hyper.poll(context),
                Holder::Parked(io) => {
                    if ready!(io.poll_readable(context)).is_err() {
                        return Poll::Ready(Ok(()));
                    }
                    self.resume();
                }
                Holder::Ended(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.holder, Holder::Parked(_))
    }

    /// Takes the socket from hyper. Call between two messages only, with nothing left to be written: hyper's
    /// own state is lost. If hyper has bytes that it did not use, the two disagree about where a message
    /// ends, and the connection ends.
    pub(super) fn park(&mut self) {
        self.holder = match std::mem::replace(&mut self.holder, Holder::Ended(None)) {
            Holder::Hyper(hyper) => {
                let parts = hyper.connection.into_parts();
                let io = parts.io.into_inner();
                if parts.read_buf.is_empty() {
                    Holder::Parked(io)
                } else {
                    Holder::Ended(Some(io))
                }
            }
            other => other,
        };
    }

    /// Returns the socket without hyper.
    pub(super) fn into_stream(self) -> Option<Stream> {
        match self.holder {
            Holder::Hyper(hyper) => Some(hyper.connection.into_parts().io.into_inner()),
            Holder::Parked(io) => Some(io),
            Holder::Ended(io) => io,
        }
        .map(ValidatingIo::into_stream)
    }

    fn resume(&mut self) {
        self.holder = match std::mem::replace(&mut self.holder, Holder::Ended(None)) {
            Holder::Parked(io) => {
                let io = TokioIo::new(io);
                let service = self.service.clone();
                Holder::Hyper(Box::new(Hyper {
                    connection: builder(self.limits).serve_connection(io, service),
                    wakers: None,
                }))
            }
            other => other,
        };
    }
}

fn builder(head: HeadLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The driver has its own timeouts, with a finer clock.
    builder.header_read_timeout(None);
    builder.max_buf_size(head.size + MAX_WRITE_BUFFER);
    if head.fields > HYPER_DEFAULT_MAX_HEADERS {
        builder.max_headers(head.fields);
    }
    builder
}

/// Bytes that hyper buffers of a response whose client reads slowly, besides room for a head. hyper's
/// default would hold 400 KiB, in pieces that keep several times as much alive.
const MAX_WRITE_BUFFER: usize = 32 * 1024;

/// hyper's default for `max_headers`. A larger limit has to be set explicitly, and then hyper allocates
/// for each request.
const HYPER_DEFAULT_MAX_HEADERS: usize = 100;
