//! Entry points for the fuzz targets of `tests/fuzz`: the parsers of client bytes, without sockets.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::http1::state::Http1State;
use super::http1::validating_io::ValidatingIo;
use super::http2::frame_counter::FrameCounter;
use super::{HeadLimits, ProtocolError, proxy_protocol};

/// What the HTTP/1 scanner made of the bytes of one connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScanOutcome {
    /// The bytes that hyper would receive: complete legal heads and well-framed bodies.
    pub forwarded: Vec<u8>,
    /// Heads among them.
    pub heads: u64,
    /// Why scanning ended early.
    pub error: Option<ProtocolError>,
}

/// Scans HTTP/1 requests that arrive in segments of `segment_size` bytes (at least one).
pub fn scan_requests(bytes: &[u8], segment_size: usize, limits: HeadLimits) -> ScanOutcome {
    let stream = SegmentedReader {
        bytes,
        segment_size,
    };
    let state = Arc::new(Http1State::new(0));
    let mut io = ValidatingIo::new(stream, state.clone(), limits);
    let mut forwarded = Vec::new();
    let mut storage = [0; 512];
    loop {
        let mut buffer = ReadBuf::new(&mut storage);
        let mut context = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut io).poll_read(&mut context, &mut buffer);
        forwarded.extend_from_slice(buffer.filled());
        if !matches!(polled, Poll::Ready(Ok(()))) || buffer.filled().is_empty() {
            return ScanOutcome {
                forwarded,
                heads: state.progress.heads(),
                error: state.error().map(|error| error.error.clone()),
            };
        }
    }
}

/// What the bytes of one HTTP/2 connection revealed below h2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FrameFindings {
    /// The streams whose requests are malformed.
    pub streams: Vec<u32>,
    /// The header blocks could not be followed to the end.
    pub undecodable: bool,
    /// A header block has begun and is not complete.
    pub block_open: bool,
}

/// Follows the frames of an HTTP/2 connection, preface included, that arrive in segments of
/// `segment_size` bytes (at least one).
pub fn follow_frames(bytes: &[u8], segment_size: usize) -> FrameFindings {
    let mut frames = FrameCounter::new();
    for segment in bytes.chunks(segment_size) {
        frames.advance(segment);
    }
    let block_open = frames.is_block_open();
    let blocks = frames.blocks();
    let found = blocks.take_findings();
    FrameFindings {
        streams: found.iter().map(|finding| finding.stream).collect(),
        undecodable: blocks.is_undecodable(),
        block_open,
    }
}

/// Parses a PROXY header. Returns the address it names, if any, and its length; `None` if it is invalid.
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

/// A stream that yields at most `segment_size` bytes at a time, then end of file.
#[derive(Debug)]
struct SegmentedReader<'a> {
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
        let (segment, rest) = this.bytes.split_at(most);
        buffer.put_slice(segment);
        this.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
