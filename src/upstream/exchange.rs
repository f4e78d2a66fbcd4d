//! HTTP/1.1 with a node, one exchange at a time, on a connection that the request's own task owns: no
//! driver task, no channel.
//!
//! [`Connection::send`] writes the request and reads at every poll, until the final head:
//!
//! | event | result |
//! |---|---|
//! | 1xx | skipped, up to 8 of them and 64 KiB together; 101 is invalid |
//! | final head, request written and flushed | the body follows; the connection may be used again |
//! | final head, request not written whole | writing stops; the body follows; the connection closes |
//! | write error | what the node has sent is read first; the error counts only without a final head |
//! | end of the connection, invalid bytes | an error |
//!
//! [`Connection::poll_data`] then reads the body by its framing. A connection that is dropped inside
//! an exchange is closed with it.

use std::future::poll_fn;
use std::io::{self, Cursor, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

mod error;
mod framing;
mod head;
mod pieces;

pub(super) use error::ExchangeError;
pub(super) use head::Head;
pub(super) use pieces::read_pieces;

use self::framing::{Decoded, Framing};
use self::head::HeadReader;
use super::read_ahead::ReadAhead;

/// A request as it is written to the connection.
#[derive(Debug)]
pub(super) struct EncodedRequest {
    /// Request line and fields, with the empty line.
    pub(super) head: Vec<u8>,
    /// The body.
    pub(super) body: Bytes,
    /// Whether the method is HEAD, whose response has no body.
    pub(super) is_head: bool,
}

/// A connection to a node with the state of its exchange.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TlsStream<ReadAhead>,
    /// Plaintext that was read and not used yet. Without allocation while the connection is idle.
    buffer: BytesMut,
    /// What remains to be written; `None` once the request is written and flushed.
    unwritten: Option<Chain<Cursor<Vec<u8>>, Bytes>>,
    write_error: Option<io::Error>,
    response_started: bool,
    framing: Framing,
    keep_alive: bool,
    /// Whether the node was seen to send more than was asked for.
    has_unsolicited_data: bool,
    /// Bytes of the response body so far.
    received: u64,
}

impl Connection {
    /// A connection without an exchange yet.
    pub(super) fn new(stream: TlsStream<ReadAhead>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            unwritten: None,
            write_error: None,
            response_started: false,
            framing: Framing::UntilClose,
            keep_alive: false,
            has_unsolicited_data: false,
            received: 0,
        }
    }

    /// Sends a request and reads the final head of its response. `sent` is set when the first byte
    /// was written.
    pub(super) async fn send(
        &mut self,
        request: EncodedRequest,
        sent: &AtomicBool,
    ) -> Result<Head, ExchangeError> {
        let EncodedRequest {
            head,
            body,
            is_head,
        } = request;
        self.stream.get_mut().0.start_request();
        self.unwritten = Some(Buf::chain(Cursor::new(head), body));
        self.write_error = None;
        self.response_started = false;
        self.keep_alive = false;
        self.received = 0;
        let mut reader = HeadReader::default();
        let head = poll_fn(|cx| {
            let head = self.poll_head(cx, &mut reader, is_head);
            if self.has_written() {
                sent.store(true, Ordering::Relaxed);
            }
            head
        })
        .await?;
        self.framing = head.framing.clone();
        // A node that wrongly sends a body after the head of a response to HEAD sends it late: it would be
        // read as the response to the next request.
        self.keep_alive = head.keep_alive && !is_head;
        Ok(head)
    }

    /// Whether a byte of the request was given to the kernel.
    pub(super) fn has_written(&self) -> bool {
        self.stream.get_ref().0.has_written()
    }

    /// Whether a byte of a response has arrived: plaintext, not a session ticket or an alert.
    pub(super) fn has_response_started(&self) -> bool {
        self.response_started
    }

    /// Returns the next data of the body; `None` at its end.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ExchangeError>> {
        loop {
            match self.framing.decode(&mut self.buffer) {
                Ok(Decoded::Data(data)) => {
                    self.received += data.len() as u64;
                    return Poll::Ready(Ok(Some(data)));
                }
                Ok(Decoded::End) => return Poll::Ready(Ok(None)),
                Ok(Decoded::Incomplete) => {}
                Err(reason) => return Poll::Ready(Err(ExchangeError::Invalid(reason.into()))),
            }
            let large = self.framing.remaining().unwrap_or(0).max(self.received) > LARGE_BODY;
            if large {
                self.stream.get_mut().0.enlarge();
            }
            match ready!(self.poll_fill(cx, if large { LARGE_READ } else { READ }))? {
                0 if self.framing.end_at_close() => return Poll::Ready(Ok(None)),
                0 => return Poll::Ready(Err(ExchangeError::Closed)),
                _ => {}
            }
        }
    }

    /// Returns the next data of the body; `None` at its end.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    /// Whether the response is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.framing.is_complete()
    }

    /// Bytes of the body still to come, where that is known.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.framing.remaining()
    }

    /// Ends the exchange: whether the connection can be used for another. It frees its buffers.
    pub(super) fn finish(&mut self) -> bool {
        let reusable = self.keep_alive
            && self.unwritten.is_none()
            && self.framing.is_complete()
            && self.buffer.is_empty();
        self.has_unsolicited_data |= self.framing.is_complete() && !self.buffer.is_empty();
        self.buffer = BytesMut::new();
        self.stream.get_mut().0.shrink();
        reusable
    }

    /// Whether an idle connection is still open, and the node has sent no unsolicited
    /// data. Also reads session tickets. The socket itself is read only if the reactor has seen
    /// it readable.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = ReadBuf::new(&mut byte);
        let read = Pin::new(&mut self.stream).poll_read(&mut cx, &mut byte);
        self.has_unsolicited_data |= !byte.filled().is_empty();
        self.stream.get_mut().0.shrink();
        read.is_pending()
    }

    /// Whether the node was seen to send more than was asked for, by [`Connection::is_quiet`] or
    /// [`Connection::finish`].
    pub(super) fn has_unsolicited_data(&self) -> bool {
        self.has_unsolicited_data
    }

    /// Closes an idle connection with close_notify, so that the node has no broken connection in its
    /// log. Nothing is waited for: the send buffer of an idle socket is empty.
    pub(super) fn close(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
    }

    /// Writes and reads until neither makes progress.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut HeadReader,
        is_head: bool,
    ) -> Poll<Result<Head, ExchangeError>> {
        loop {
            let wrote = self.poll_write(cx);
            match self.poll_fill(cx, READ) {
                Poll::Ready(Ok(0)) => {
                    let error = self.write_error.take();
                    return Poll::Ready(
                        Err(error.map_or(ExchangeError::Closed, ExchangeError::Io)),
                    );
                }
                Poll::Ready(Ok(_)) => match reader.take(&mut self.buffer, is_head) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(reason) => return Poll::Ready(Err(ExchangeError::Invalid(reason))),
                },
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ExchangeError::Io(error))),
                Poll::Pending if wrote.is_ready() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes once, or flushes. Ready if that made progress; an error ends the writing and is stored.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(unwritten) = self
            .unwritten
            .as_mut()
            .filter(|_| self.write_error.is_none())
        else {
            return Poll::Pending;
        };
        let stream = Pin::new(&mut self.stream);
        let result = if unwritten.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = unwritten.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            match ready!(stream.poll_write_vectored(cx, slices)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    unwritten.advance(written);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        } else {
            ready!(stream.poll_flush(cx)).map(|()| self.unwritten = None)
        };
        self.write_error = result.err();
        Poll::Ready(())
    }

    /// Reads available bytes; returns 0 at the end of the connection.
    fn poll_fill(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < MIN_READ {
            self.buffer.reserve(size);
        }
        let read = ready!(pin!(self.stream.read_buf(&mut self.buffer)).poll(cx))?;
        self.response_started |= read > 0;
        Poll::Ready(Ok(read))
    }
}

/// Room for a head with a body of a few kilobytes, the usual response of a JSON interface.
const READ: usize = 8 * 1024;

/// Room below which a read is not worth its call.
const MIN_READ: usize = 1024;

/// Bodies above this are read through [`ReadAhead`] and in larger pieces: one TLS record.
const LARGE_BODY: u64 = 16 * 1024;

/// Several TLS records per read.
const LARGE_READ: usize = 64 * 1024;

#[cfg(test)]
mod tests;
