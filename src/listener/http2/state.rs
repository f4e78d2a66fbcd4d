//! What the parts of one HTTP/2 connection tell each other: the stream below h2, the tasks of its
//! streams, and the driver. They run on one thread; the atomics are never contended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::control_frame_budget::{ControlFrameBudget, WorkDone};
use super::frame_counter::FrameCounter;
use crate::gauge::{Gauge, GaugeGuard};
use crate::listener::body::UnreadBody;

/// The state of one HTTP/2 connection.
#[derive(Debug, Default)]
pub(super) struct Http2State {
    /// Streams that are served now.
    active_streams: Gauge,
    /// Streams so far.
    opened_streams: AtomicU64,
    /// Bytes that the socket has taken.
    sent: AtomicU64,
    /// Frames of answers that h2 was given.
    response_frames: Arc<AtomicU64>,
    /// There were more control frames than any honest client sends.
    flooded: AtomicBool,
    /// The socket takes no more for now.
    write_blocked: AtomicBool,
    /// A header block has begun and is not whole.
    header_block_open: AtomicBool,
    /// The connection takes no further stream.
    going_away: AtomicBool,
    /// Streams that came after that.
    refused_streams: AtomicU64,
    /// Requests that the client gave up before they were whole.
    client_resets: AtomicU64,
    /// hyper calls the service, then at once hands the stream's future to the executor: this is how
    /// the two meet.
    next_stream: Mutex<Option<Arc<StreamProgress>>>,
}

impl Http2State {
    /// A stream has come; its progress is picked up by [`Multiplex::enter`].
    pub(super) fn register_stream(&self) -> Arc<StreamProgress> {
        self.opened_streams.fetch_add(1, Relaxed);
        let progress = Arc::new(StreamProgress {
            response_frames: self.response_frames.clone(),
            ..StreamProgress::default()
        });
        *self
            .next_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
        progress
    }

    /// The stream is served from now on, until the guard is dropped.
    pub(super) fn begin_stream(&self) -> (GaugeGuard, Arc<StreamProgress>) {
        let guard = self.active_streams.enter();
        let progress = self
            .next_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        (guard, progress.unwrap_or_default())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active_streams.count() == 0
    }

    pub(super) fn opened_streams(&self) -> u64 {
        self.opened_streams.load(Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Relaxed)
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    pub(super) fn is_header_block_open(&self) -> bool {
        self.header_block_open.load(Relaxed)
    }

    /// The connection takes no further stream, whether or not the client heeds GOAWAY; why is counted
    /// already.
    pub(super) fn start_goaway(&self) {
        self.going_away.store(true, Relaxed);
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.going_away.load(Relaxed)
    }

    /// The client has given a request up half-way; how many there were so far. Such a request costs it
    /// nothing, not even of its address' budget.
    pub(super) fn count_reset(&self) -> u64 {
        self.client_resets.fetch_add(1, Relaxed) + 1
    }

    /// A stream has come to a connection that takes none.
    pub(super) fn count_refused(&self) {
        self.refused_streams.fetch_add(1, Relaxed);
    }

    pub(super) fn refused_streams(&self) -> u64 {
        self.refused_streams.load(Relaxed)
    }
}

/// How the answer of one stream gets on.
#[derive(Debug, Default)]
pub(in crate::listener) struct StreamProgress {
    sent: AtomicU64,
    /// The connection's.
    response_frames: Arc<AtomicU64>,
    /// There is something to send: only the client's window can be in the way.
    has_pending: AtomicBool,
    /// The connection ends with this answer.
    is_last: AtomicBool,
    /// What the handler left unread of the request.
    unread_body: Mutex<Option<UnreadBody>>,
}

impl StreamProgress {
    /// Takes what a handler left unread of a request body.
    pub(in crate::listener) fn set_unread_body(&self, leftover: UnreadBody) {
        *self.unread_body() = Some(leftover);
    }

    /// What was left unread.
    pub(super) fn take_unread_body(&self) -> Option<UnreadBody> {
        self.unread_body().take()
    }

    fn unread_body(&self) -> MutexGuard<'_, Option<UnreadBody>> {
        self.unread_body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
        self.response_frames.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn set_pending(&self, waiting: bool) {
        self.has_pending.store(waiting, Relaxed);
    }

    pub(super) fn has_pending(&self) -> bool {
        self.has_pending.load(Relaxed)
    }

    pub(super) fn set_last(&self) {
        self.is_last.store(true, Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last.load(Relaxed)
    }
}

/// The stream below h2, watched.
#[derive(Debug)]
pub(super) struct CountingIo<S> {
    stream: S,
    frames: FrameCounter,
    budget: ControlFrameBudget,
    /// Bytes that were read.
    received: u64,
    /// Frames since others had their turn.
    frames_this_turn: u64,
    state: Arc<Http2State>,
}

impl<S> CountingIo<S> {
    pub(super) fn new(stream: S, multiplex: Arc<Http2State>) -> Self {
        Self {
            stream,
            frames: FrameCounter::new(),
            budget: ControlFrameBudget::new(Instant::now()),
            received: 0,
            frames_this_turn: 0,
            state: multiplex,
        }
    }

    /// Follows what was read.
    fn observe_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.received += bytes.len() as u64;
        self.frames.advance(bytes);
        let open = self.frames.is_block_open();
        self.state.header_block_open.store(open, Relaxed);
        let count = self.frames.take_counts();
        self.frames_this_turn += count.all;
        if count.control == 0 {
            return Ok(());
        }
        let work = WorkDone {
            streams: self.state.opened_streams(),
            response_frames: self.state.response_frames.load(Relaxed),
            bytes: self.received + self.state.sent(),
        };
        self.budget
            .charge(Instant::now(), count.control, work)
            .map_err(|_| {
                self.state.flooded.store(true, Relaxed);
                io::ErrorKind::QuotaExceeded.into()
            })
    }

    fn observe_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.state.sent.fetch_add(*bytes as u64, Relaxed);
        }
        self.state
            .write_blocked
            .store(written.is_pending(), Relaxed);
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
        this.state
            .write_blocked
            .store(flushed.is_pending(), Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Frames that h2 may take before the other tasks of the worker have their turn. The runtime counts
/// reads of the socket only, and one of them may hold thousands.
const FRAMES_PER_TURN: u64 = 256;
