//! The TCP stream under TLS: reads ahead while a large body arrives, and reports whether a byte of the
//! current request has been written.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP stream with an optional read buffer.
#[derive(Debug)]
pub(super) struct ReadAhead {
    tcp: TcpStream,
    /// Ciphertext read and not yet given to TLS. rustls reads 4 KiB at a time; with this, one system
    /// call reads many of them.
    buffer: Option<Buffer>,
    /// Whether the kernel accepted a byte since [`ReadAhead::start_request`].
    written: bool,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// Bytes at the front that TLS has taken.
    taken: usize,
}

impl ReadAhead {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            buffer: None,
            written: false,
        }
    }

    /// Forgets what was written before.
    pub(super) fn start_request(&mut self) {
        self.written = false;
    }

    /// Whether a byte was written since [`ReadAhead::start_request`].
    pub(super) fn has_written(&self) -> bool {
        self.written
    }

    /// Allocates the buffer, if it is not there.
    pub(super) fn enlarge(&mut self) {
        self.buffer.get_or_insert_with(|| Buffer {
            bytes: Vec::with_capacity(READ_AHEAD_SIZE),
            taken: 0,
        });
    }

    /// Frees the buffer, unless it holds bytes.
    pub(super) fn shrink(&mut self) {
        self.buffer.take_if(|buffer| buffer.is_empty());
    }
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(buffer) = &mut this.buffer else {
            return Pin::new(&mut this.tcp).poll_read(cx, target);
        };
        if buffer.is_empty() {
            buffer.bytes.clear();
            buffer.taken = 0;
            ready!(pin!(this.tcp.read_buf(&mut buffer.bytes)).poll(cx))?;
        }
        let ready = buffer.bytes.get(buffer.taken..).unwrap_or_default();
        let part = ready.get(..target.remaining()).unwrap_or(ready);
        target.put_slice(part);
        buffer.taken += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.written |= written > 0;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, slices))?;
        self.written |= written > 0;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Measured with downloads of 200 MiB: 5 to 8 % less CPU than without, and a third less with jemalloc; a
/// larger buffer saves nothing more.
const READ_AHEAD_SIZE: usize = 64 * 1024;
