//! The stream as hyper's HTTP/1 sees it. Bytes are scanned where they were read, in hyper's own
//! buffer; of a head that is not whole yet hyper gets nothing, so a refused head leaves hyper between
//! two messages, with all earlier answers sent.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::state::Exchange;
use crate::listener::head::{BROKEN_BODY, Chunked, Fault, Framing, HeadLimits, Scanner};

/// Lets whole legal heads and well-framed bodies through.
#[derive(Debug)]
pub(super) struct Gate<S> {
    stream: S,
    exchange: Arc<Exchange>,
    limits: HeadLimits,
    scan: Scan,
    /// Bytes read but not given to hyper: first those it may have, then the part of a head.
    withheld: Vec<u8>,
    /// How many of them it may have.
    cleared: usize,
    /// How many of those it got.
    given: usize,
}

#[derive(Debug)]
enum Scan {
    Head(Scanner),
    Length(u64),
    Chunked(Chunked),
    Refused,
}

impl<S> Gate<S> {
    pub(super) fn new(stream: S, exchange: Arc<Exchange>, limits: HeadLimits) -> Self {
        Self {
            stream,
            exchange,
            limits,
            scan: Scan::Head(Scanner::default()),
            withheld: Vec::new(),
            cleared: 0,
            given: 0,
        }
    }

    /// The stream, to be spoken to without hyper.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Gives hyper cleared bytes that are kept here.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let ready = self
            .withheld
            .get(self.given..self.cleared)
            .unwrap_or_default();
        let some = ready.get(..buffer.remaining()).unwrap_or(ready);
        buffer.put_slice(some);
        self.given += some.len();
        if self.given == self.cleared {
            self.withheld.drain(..self.cleared);
            (self.cleared, self.given) = (0, 0);
            if self.withheld.is_empty() {
                self.withheld = Vec::new();
            }
        }
    }

    /// Sorts out what was read into `buffer` after `start`.
    fn take(&mut self, buffer: &mut ReadBuf<'_>, start: usize) {
        let fresh = buffer.filled().get(start..).unwrap_or_default();
        if self.withheld.is_empty() {
            let cleared = self.scan.clear(fresh, self.limits, &self.exchange);
            if cleared < fresh.len() && !matches!(self.scan, Scan::Refused) {
                self.withheld
                    .extend_from_slice(fresh.get(cleared..).unwrap_or_default());
            }
            buffer.set_filled(start + cleared);
        } else {
            self.withheld.extend_from_slice(fresh);
            buffer.set_filled(start);
            self.cleared = self.scan.clear(&self.withheld, self.limits, &self.exchange);
            if self.cleared > 0 {
                self.give(buffer);
            }
        }
        self.exchange
            .set_head_open(self.withheld.len() > self.cleared);
        self.exchange
            .set_body_open(matches!(self.scan, Scan::Length(_) | Scan::Chunked(_)));
    }
}

impl Scan {
    /// How many of `bytes`, which begin where the current head or part of a body begins, hyper may
    /// see.
    fn clear(&mut self, bytes: &[u8], limits: HeadLimits, exchange: &Exchange) -> usize {
        let mut cleared = 0;
        while let Some(rest) = bytes.get(cleared..).filter(|rest| !rest.is_empty()) {
            match self {
                Self::Head(scanner) => match scanner.advance(rest, limits) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        exchange.head_passed();
                        cleared += head.length;
                        *self = Self::after(head.framing);
                    }
                    Err(fault) => return self.refuse(fault, exchange, cleared),
                },
                Self::Length(left) => {
                    let here = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    cleared += here;
                    *left -= here as u64;
                    if *left == 0 {
                        *self = Self::after(Framing::Nothing);
                    }
                }
                Self::Chunked(chunked) => {
                    let step = chunked.advance(rest);
                    cleared += step.used;
                    if step.done {
                        *self = Self::after(Framing::Nothing);
                    } else if step.broken {
                        exchange.break_body();
                        return self.refuse(BROKEN_BODY, exchange, cleared);
                    }
                }
                Self::Refused => break,
            }
        }
        cleared
    }

    fn after(framing: Framing) -> Self {
        match framing {
            Framing::Nothing => Self::Head(Scanner::default()),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked(chunked) => Self::Chunked(chunked),
        }
    }

    fn refuse(&mut self, fault: Fault, exchange: &Exchange, cleared: usize) -> usize {
        exchange.refuse(fault);
        *self = Self::Refused;
        cleared
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buffer.filled().len();
        loop {
            if this.cleared > 0 {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if matches!(this.scan, Scan::Refused) {
                // A broken body ends too early for hyper, so that whoever reads it hears of it. After
                // a refused head the driver takes the stream back as soon as all is answered.
                return if this.exchange.is_body_broken() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            if buffer.filled().len() == start {
                this.exchange.set_ended();
                return Poll::Ready(Ok(()));
            }
            this.take(buffer, start);
            if buffer.filled().len() > start {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.exchange.count_sent(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.exchange.set_blocked(true),
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.exchange.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
