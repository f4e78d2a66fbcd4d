//! The socket below h2: counts bytes and frames, and records what they reveal in [`Http2State`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::control_frame_budget::{ControlFrameBudget, WorkDone};
use super::frame_counter::FrameCounter;
use super::state::Http2State;

/// The socket below h2; counts bytes and frames.
#[derive(Debug)]
pub(super) struct CountingIo<S> {
    stream: S,
    frames: FrameCounter,
    budget: ControlFrameBudget,
    /// Frames since the task last yielded.
    frames_this_turn: u64,
    state: Arc<Http2State>,
}

impl<S> CountingIo<S> {
    pub(super) fn new(stream: S, state: Arc<Http2State>) -> Self {
        Self {
            stream,
            frames: FrameCounter::new(),
            budget: ControlFrameBudget::new(Instant::now()),
            frames_this_turn: 0,
            state,
        }
    }

    /// Counts what was read.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded` when the budget for control frames is used up.
    fn observe_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let received = self.state.add_bytes_received(bytes.len());
        self.frames.advance(bytes);
        self.state
            .set_header_block_open(self.frames.is_block_open());
        self.observe_header_blocks()?;
        let counts = self.frames.take_counts();
        self.frames_this_turn += counts.all;
        if counts.control == 0 {
            return Ok(());
        }
        let work = WorkDone {
            streams: self.state.opened_streams(),
            response_frames: self.state.response_frames(),
            bytes: received + self.state.bytes_sent(),
        };
        let charged = self.budget.charge(Instant::now(), counts.control, work);
        charged.map_err(|_| self.flooded())
    }

    /// Passes on what the header blocks revealed.
    fn observe_header_blocks(&mut self) -> io::Result<()> {
        let blocks = self.frames.blocks();
        if blocks.is_undecodable() {
            self.state.set_headers_undecodable();
        }
        let found = blocks.take_findings();
        if found.is_empty() || self.state.add_findings(found) {
            Ok(())
        } else {
            Err(self.flooded())
        }
    }

    fn flooded(&self) -> io::Error {
        self.state.set_flooded();
        io::ErrorKind::QuotaExceeded.into()
    }

    fn observe_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.state.add_bytes_sent(*bytes);
        }
        self.state.set_write_blocked(written.is_pending());
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountingIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.frames_this_turn >= FRAMES_PER_TURN {
            this.frames_this_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(start..).unwrap_or_default();
        Poll::Ready(this.observe_read(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountingIo<S> {
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
        this.state.set_write_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Frames that h2 may process before the worker's other tasks run. The runtime counts reads of the
/// socket only, and one read may hold thousands of frames.
const FRAMES_PER_TURN: u64 = 256;
