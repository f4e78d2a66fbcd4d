//! Doors for the fuzz targets of `tests/fuzz`: what judges a stranger's bytes, without sockets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::{HeadLimits, ProtocolError, http1, proxy_protocol};

/// What became of the bytes of one connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScanOutcome {
    /// What the HTTP parser got to see: whole legal heads and well-framed bodies.
    pub forwarded: Vec<u8>,
    /// Heads among it.
    pub heads: u64,
    /// Why no more did.
    pub error: Option<ProtocolError>,
}

/// Judges HTTP/1 requests that arrive in pieces of `piece` bytes, which is at least one.
pub fn scan_requests(bytes: &[u8], piece: usize, limits: HeadLimits) -> ScanOutcome {
    http1::scan_all(
        SegmentedReader {
            bytes,
            segment_size: piece,
        },
        limits,
    )
}

/// Reads a PROXY header: the address it names, if any, and the header's length; nothing if it is
/// none.
pub fn parse_proxy_header(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let mut stream = SegmentedReader {
        bytes,
        segment_size: 1,
    };
    let address = {
        let reading = std::pin::pin!(proxy_protocol::read(&mut stream));
        match reading.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read.ok()?,
            Poll::Pending => return None,
        }
    };
    Some((address, bytes.len() - stream.bytes.len()))
}

/// A stream that is ready with at most so many bytes at a time, and ends behind the last.
#[derive(Debug)]
pub(super) struct SegmentedReader<'a> {
    bytes: &'a [u8],
    segment_size: usize,
}

impl AsyncRead for SegmentedReader<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let most = this
            .segment_size
            .min(buffer.remaining())
            .min(this.bytes.len());
        let (piece, rest) = this.bytes.split_at(most);
        buffer.put_slice(piece);
        this.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
