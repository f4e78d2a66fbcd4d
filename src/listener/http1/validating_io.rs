//! The socket as hyper's HTTP/1 sees it. Bytes are scanned where they were read, in hyper's own
//! buffer; hyper receives nothing of a head that is not complete. A rejected head therefore leaves
//! hyper between two messages, with all earlier responses sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::{Http1State, Reading};
use crate::framing::ChunkedScanner;
use crate::listener::head::{Framing, HeadError, HeadLimits, HeadScanner};
use crate::listener::stream::Stream;

/// Forwards complete legal heads and well-framed bodies, and nothing else.
#[derive(Debug)]
pub(in crate::listener) struct ValidatingIo<S> {
    stream: S,
    state: Arc<Http1State>,
    limits: HeadLimits,
    scanner: MessageScanner,
    /// Bytes read but not forwarded to hyper: first `forwardable` bytes, then an incomplete head.
    pending: Vec<u8>,
    /// Bytes of `pending` that hyper may have.
    forwardable: usize,
    /// Bytes of those that hyper has received.
    forwarded: usize,
}

/// Scans the messages of one connection, one after the other.
#[derive(Debug)]
enum MessageScanner {
    Head(HeadScanner),
    /// Bytes outstanding of a body with Content-Length.
    Length(u64),
    Chunked(ChunkedScanner),
    Rejected,
}

impl<S> ValidatingIo<S> {
    pub(in crate::listener) fn new(stream: S, state: Arc<Http1State>, limits: HeadLimits) -> Self {
        Self {
            stream,
            state,
            limits,
            scanner: MessageScanner::Head(HeadScanner::default()),
            pending: Vec::new(),
            forwardable: 0,
            forwarded: 0,
        }
    }

    /// Returns the socket, to be used without hyper.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Copies forwardable bytes into hyper's buffer.
    fn forward(&mut self, buffer: &mut ReadBuf<'_>) {
        let ready = self
            .pending
            .get(self.forwarded..self.forwardable)
            .unwrap_or_default();
        let fitting = ready.get(..buffer.remaining()).unwrap_or(ready);
        buffer.put_slice(fitting);
        self.forwarded += fitting.len();
        if self.forwarded == self.forwardable {
            self.pending.drain(..self.forwardable);
            (self.forwardable, self.forwarded) = (0, 0);
            if self.pending.is_empty() {
                // Frees the memory: most connections never need it again.
                self.pending = Vec::new();
            }
        }
    }

    /// Scans what was read into `buffer` after `start`, and leaves there what hyper may have.
    fn process_read(&mut self, buffer: &mut ReadBuf<'_>, start: usize) {
        let fresh = buffer.filled().get(start..).unwrap_or_default();
        if self.pending.is_empty() {
            let valid = self.scanner.advance(fresh, self.limits, &self.state);
            if valid < fresh.len() && !matches!(self.scanner, MessageScanner::Rejected) {
                self.pending
                    .extend_from_slice(fresh.get(valid..).unwrap_or_default());
            }
            buffer.set_filled(start + valid);
        } else {
            self.pending.extend_from_slice(fresh);
            buffer.set_filled(start);
            self.forwardable = self
                .scanner
                .advance(&self.pending, self.limits, &self.state);
            if self.forwardable > 0 {
                self.forward(buffer);
            }
        }
        self.state.set_reading(match self.scanner {
            MessageScanner::Length(_) | MessageScanner::Chunked(_) => Reading::Body,
            _ if self.pending.len() > self.forwardable => Reading::Head,
            _ => Reading::Idle,
        });
    }
}

impl MessageScanner {
    /// Returns how many of `bytes` hyper may have; they begin where the current head, or the remainder
    /// of the current body, begins.
    fn advance(&mut self, bytes: &[u8], limits: HeadLimits, state: &Http1State) -> usize {
        let mut valid = 0;
        while let Some(rest) = bytes.get(valid..).filter(|rest| !rest.is_empty()) {
            match self {
                Self::Head(scanner) => match scanner.advance(rest, limits) {
                    Ok(None) => {
                        state.set_head_request(scanner.is_head_request());
                        break;
                    }
                    Ok(Some(head)) => {
                        state.progress.count_head();
                        valid += head.length;
                        *self = Self::after(head.framing);
                    }
                    Err(error) => {
                        state.set_head_request(scanner.is_head_request());
                        state.reject_head(error);
                        *self = Self::Rejected;
                    }
                },
                Self::Length(outstanding) => {
                    let here = rest
                        .len()
                        .min(usize::try_from(*outstanding).unwrap_or(usize::MAX));
                    valid += here;
                    *outstanding -= here as u64;
                    if *outstanding == 0 {
                        *self = Self::after(Framing::NoBody);
                    }
                }
                Self::Chunked(chunked) => {
                    let step = chunked.advance(rest);
                    valid += step.consumed;
                    if step.is_complete {
                        *self = Self::after(Framing::NoBody);
                    } else if step.is_invalid {
                        state.reject_body(HeadError::BROKEN_BODY);
                        *self = Self::Rejected;
                    }
                }
                Self::Rejected => break,
            }
        }
        valid
    }

    fn after(framing: Framing) -> Self {
        match framing {
            Framing::NoBody => Self::Head(HeadScanner::default()),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked(chunked) => Self::Chunked(chunked),
        }
    }
}

impl ValidatingIo<Stream> {
    /// Ready when a read would return bytes or the end; gives none of them to hyper.
    pub(super) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.forwardable > 0 {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_readable(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ValidatingIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buffer.filled().len();
        loop {
            // Bytes from an earlier read come first.
            if this.forwardable > 0 {
                this.forward(buffer);
                return Poll::Ready(Ok(()));
            }
            // An invalid body ends early for hyper, so that its reader receives an error. After a
            // rejected head the driver takes the socket back once every response has been sent.
            if matches!(this.scanner, MessageScanner::Rejected) {
                return if this.state.reading() == Reading::RejectedBody {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            if buffer.filled().len() == start {
                this.state.set_eof();
                return Poll::Ready(Ok(()));
            }
            this.process_read(buffer, start);
            if buffer.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> ValidatingIo<S> {
    /// Counts what was written, for the send rate.
    fn observe_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.state.progress.count_sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.progress.set_write_blocked(true),
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ValidatingIo<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.observe_write(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.observe_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.state.progress.set_write_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.state.set_shut_down();
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
