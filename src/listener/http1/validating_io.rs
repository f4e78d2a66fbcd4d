//! The stream as hyper's HTTP/1 sees it. Bytes are scanned where they were read, in hyper's own
//! buffer; of a head that is not whole yet hyper gets nothing, so a refused head leaves hyper between
//! two messages, with all earlier answers sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::Http1State;
use crate::framing::ChunkedScanner;
use crate::listener::head::{Framing, HeadError, HeadLimits, HeadScanner};

/// Lets whole legal heads and well-framed bodies through.
#[derive(Debug)]
pub(super) struct ValidatingIo<S> {
    stream: S,
    state: Arc<Http1State>,
    limits: HeadLimits,
    scanner: MessageScanner,
    /// Bytes read but not given to hyper: first those it may have, then the part of a head.
    pending: Vec<u8>,
    /// How many of them it may have.
    forwardable: usize,
    /// How many of those it got.
    forwarded: usize,
}

#[derive(Debug)]
enum MessageScanner {
    Head(HeadScanner),
    Length(u64),
    Chunked(ChunkedScanner),
    Rejected,
}

impl<S> ValidatingIo<S> {
    pub(super) fn new(stream: S, exchange: Arc<Http1State>, limits: HeadLimits) -> Self {
        Self {
            stream,
            state: exchange,
            limits,
            scanner: MessageScanner::Head(HeadScanner::default()),
            pending: Vec::new(),
            forwardable: 0,
            forwarded: 0,
        }
    }

    /// The stream, to be spoken to without hyper.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Gives hyper cleared bytes that are kept here.
    fn forward(&mut self, buffer: &mut ReadBuf<'_>) {
        let ready = self
            .pending
            .get(self.forwarded..self.forwardable)
            .unwrap_or_default();
        let some = ready.get(..buffer.remaining()).unwrap_or(ready);
        buffer.put_slice(some);
        self.forwarded += some.len();
        if self.forwarded == self.forwardable {
            self.pending.drain(..self.forwardable);
            (self.forwardable, self.forwarded) = (0, 0);
            if self.pending.is_empty() {
                self.pending = Vec::new();
            }
        }
    }

    /// Sorts out what was read into `buffer` after `start`.
    fn process_read(&mut self, buffer: &mut ReadBuf<'_>, start: usize) {
        let fresh = buffer.filled().get(start..).unwrap_or_default();
        if self.pending.is_empty() {
            let cleared = self.scanner.advance(fresh, self.limits, &self.state);
            if cleared < fresh.len() && !matches!(self.scanner, MessageScanner::Rejected) {
                self.pending
                    .extend_from_slice(fresh.get(cleared..).unwrap_or_default());
            }
            buffer.set_filled(start + cleared);
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
        self.state
            .set_head_open(self.pending.len() > self.forwardable);
        self.state.set_body_open(matches!(
            self.scanner,
            MessageScanner::Length(_) | MessageScanner::Chunked(_)
        ));
    }
}

impl MessageScanner {
    /// How many of `bytes`, which begin where the current head or part of a body begins, hyper may
    /// see.
    fn advance(&mut self, bytes: &[u8], limits: HeadLimits, exchange: &Http1State) -> usize {
        let mut cleared = 0;
        while let Some(rest) = bytes.get(cleared..).filter(|rest| !rest.is_empty()) {
            match self {
                Self::Head(scanner) => match scanner.advance(rest, limits) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        exchange.count_head();
                        cleared += head.length;
                        *self = Self::after(head.framing);
                    }
                    Err(fault) => return self.reject(fault, exchange, cleared),
                },
                Self::Length(left) => {
                    let here = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    cleared += here;
                    *left -= here as u64;
                    if *left == 0 {
                        *self = Self::after(Framing::NoBody);
                    }
                }
                Self::Chunked(chunked) => {
                    let step = chunked.advance(rest);
                    cleared += step.consumed;
                    if step.is_complete {
                        *self = Self::after(Framing::NoBody);
                    } else if step.is_invalid {
                        exchange.break_body();
                        return self.reject(HeadError::BROKEN_BODY, exchange, cleared);
                    }
                }
                Self::Rejected => break,
            }
        }
        cleared
    }

    fn after(framing: Framing) -> Self {
        match framing {
            Framing::NoBody => Self::Head(HeadScanner::default()),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked(chunked) => Self::Chunked(chunked),
        }
    }

    fn reject(&mut self, fault: HeadError, exchange: &Http1State, cleared: usize) -> usize {
        exchange.set_error(fault);
        *self = Self::Rejected;
        cleared
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
            if this.forwardable > 0 {
                this.forward(buffer);
                return Poll::Ready(Ok(()));
            }
            if matches!(this.scanner, MessageScanner::Rejected) {
                // A broken body ends too early for hyper, so that whoever reads it hears of it. After
                // a refused head the driver takes the stream back as soon as all is answered.
                return if this.state.is_body_broken() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            if buffer.filled().len() == start {
                this.state.set_ended();
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
    fn observe_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.state.count_sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.state.set_blocked(true),
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
        this.state.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
