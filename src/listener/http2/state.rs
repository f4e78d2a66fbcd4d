//! State shared by the parts of one HTTP/2 connection: [`CountingIo`] below h2, the tasks of the
//! streams, and the driver. They run on one thread; the atomics are never contended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::control_frame_budget::{ControlFrameBudget, WorkDone};
use super::frame_counter::FrameCounter;
use crate::gauge::{Gauge, GaugeGuard};
use crate::listener::unread_body::UnreadSlot;

/// State of one HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Http2State {
    /// Streams that are being served.
    active_streams: Gauge,
    /// Streams so far.
    opened_streams: AtomicU64,
    /// Bytes that the socket has taken.
    bytes_sent: AtomicU64,
    /// Bytes read from the socket.
    bytes_received: AtomicU64,
    /// Response frames handed to h2.
    response_frames: Arc<AtomicU64>,
    /// The budget for control frames has been exceeded.
    flooded: AtomicBool,
    /// The socket accepts no more bytes for now.
    write_blocked: AtomicBool,
    /// A header block has begun and is not complete.
    header_block_open: AtomicBool,
    /// The connection takes no further stream.
    going_away: AtomicBool,
    /// Streams opened by the client after that.
    refused_streams: AtomicU64,
    /// The client has not read the response of its only stream.
    stalled: AtomicBool,
    /// Streams that the client reset before their response.
    client_resets: AtomicU64,
    /// Those that one connection may have.
    max_resets: u64,
    /// Wakes the driver.
    driver: Mutex<Option<Waker>>,
}

impl Http2State {
    /// Creates the state of a new connection, which is closed after more than `max_resets` resets.
    pub(super) fn new(max_resets: usize) -> Self {
        Self {
            active_streams: Gauge::default(),
            opened_streams: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            response_frames: Arc::default(),
            flooded: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            header_block_open: AtomicBool::new(false),
            going_away: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            refused_streams: AtomicU64::new(0),
            client_resets: AtomicU64::new(0),
            max_resets: max_resets as u64,
            driver: Mutex::new(None),
        }
    }

    /// Sets the task that changes of the state wake.
    pub(super) fn set_driver(&self, waker: &Waker) {
        let mut driver = self.driver.lock();
        if !driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *driver = Some(waker.clone());
        }
    }

    fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.lock() {
            driver.wake_by_ref();
        }
    }

    /// Counts a stream as active until the guard is dropped.
    pub(super) fn begin_stream(self: &Arc<Self>) -> StreamGuard {
        self.opened_streams.fetch_add(1, Relaxed);
        StreamGuard {
            _active: self.active_streams.enter(),
            state: self.clone(),
        }
    }

    /// Creates the progress of one stream; of its request at most `max_discarded` unread bytes are
    /// discarded.
    pub(super) fn stream_progress(
        &self,
        respond: SendResponse<Bytes>,
        max_discarded: u64,
    ) -> StreamProgress {
        StreamProgress {
            sent: AtomicU64::new(0),
            response_frames: self.response_frames.clone(),
            pending: AtomicBool::new(false),
            last: AtomicBool::new(false),
            unread: UnreadSlot::new(max_discarded),
            respond: Mutex::new(Some(respond)),
        }
    }

    /// Whether no stream is active.
    pub(super) fn is_idle(&self) -> bool {
        self.active_streams.count() == 0
    }

    pub(super) fn opened_streams(&self) -> u64 {
        self.opened_streams.load(Relaxed)
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Relaxed)
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.bytes_received.load(Relaxed)
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

    /// Refuses further streams, whether or not the client respects the GOAWAY that follows. The caller
    /// counts the reason.
    pub(super) fn start_goaway(&self) {
        self.going_away.store(true, Relaxed);
        self.wake_driver();
    }

    pub(super) fn is_going_away(&self) -> bool {
        self.going_away.load(Relaxed)
    }

    /// Records that a stream is reset because its client does not read the response. If it is the only
    /// stream, the connection is stalled.
    pub(super) fn record_slow_reader(&self) {
        if self.active_streams.count() == 1 {
            self.stalled.store(true, Relaxed);
            self.wake_driver();
        }
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// Counts a stream that the client reset before its response, whichever part noticed it. Such a
    /// request costs the client nothing, not even of its address's budget.
    pub(super) fn count_reset(&self) {
        self.client_resets.fetch_add(1, Relaxed);
        if self.has_too_many_resets() {
            self.wake_driver();
        }
    }

    /// Whether the client has reset more streams than it may.
    pub(super) fn has_too_many_resets(&self) -> bool {
        self.client_resets.load(Relaxed) > self.max_resets
    }

    /// Counts a stream opened after the connection stopped taking streams.
    pub(super) fn count_refused(&self) {
        self.refused_streams.fetch_add(1, Relaxed);
    }

    pub(super) fn refused_streams(&self) -> u64 {
        self.refused_streams.load(Relaxed)
    }
}

/// Counts a stream as active; decrements on drop, and wakes the driver to see it.
#[derive(Debug)]
pub(super) struct StreamGuard {
    _active: GaugeGuard,
    state: Arc<Http2State>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        // The driver runs on the same thread, after this guard has gone.
        self.state.wake_driver();
    }
}

/// Progress of one stream, shared by its task and its request body.
#[derive(Debug)]
pub(in crate::listener) struct StreamProgress {
    /// Bytes handed to h2.
    sent: AtomicU64,
    /// The counter of the connection.
    response_frames: Arc<AtomicU64>,
    /// Bytes are ready to be sent: only the client's window can be in the way.
    pending: AtomicBool,
    /// The connection closes after this response.
    last: AtomicBool,
    /// What the handler left unread of the request body.
    pub(in crate::listener) unread: UnreadSlot,
    /// h2's handle, until the final response is sent.
    respond: Mutex<Option<SendResponse<Bytes>>>,
}

impl StreamProgress {
    /// Takes the handle to send the final response; no interim response can follow.
    pub(super) fn take_respond(&self) -> Option<SendResponse<Bytes>> {
        self.respond.lock().take()
    }

    /// Ready once the client has reset the stream, or the connection has ended; never after the final
    /// response.
    pub(super) fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self.respond.lock() {
            Some(respond) => respond.poll_reset(context).map(|_| ()),
            None => Poll::Pending,
        }
    }

    /// Sends `100 Continue` (RFC 9110, 10.1.1), unless the final response has been sent.
    pub(in crate::listener) fn send_continue(&self) {
        if let Some(respond) = &mut *self.respond.lock() {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            // Fails only if the stream has been reset, which its task sees.
            let _ = respond.send_informational(response);
        }
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
        self.response_frames.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn set_pending(&self, pending: bool) {
        self.pending.store(pending, Relaxed);
    }

    pub(super) fn has_pending(&self) -> bool {
        self.pending.load(Relaxed)
    }

    pub(super) fn set_last(&self) {
        self.last.store(true, Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }
}

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
        let length = bytes.len() as u64;
        let received = self.state.bytes_received.fetch_add(length, Relaxed) + length;
        self.frames.advance(bytes);
        let is_open = self.frames.is_block_open();
        self.state.header_block_open.store(is_open, Relaxed);
        let counts = self.frames.take_counts();
        self.frames_this_turn += counts.all;
        if counts.control == 0 {
            return Ok(());
        }
        let work = WorkDone {
            streams: self.state.opened_streams(),
            response_frames: self.state.response_frames.load(Relaxed),
            bytes: received + self.state.bytes_sent(),
        };
        self.budget
            .charge(Instant::now(), counts.control, work)
            .map_err(|_| {
                self.state.flooded.store(true, Relaxed);
                io::ErrorKind::QuotaExceeded.into()
            })
    }

    fn observe_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.state.bytes_sent.fetch_add(*bytes as u64, Relaxed);
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

/// Frames that h2 may process before the worker's other tasks run. The runtime counts reads of the
/// socket only, and one read may hold thousands of frames.
const FRAMES_PER_TURN: u64 = 256;
