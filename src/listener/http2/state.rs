//! What the parts of one HTTP/2 connection tell each other: the stream below h2, the tasks of its
//! streams, and the driver. They run on one thread; the atomics are never contended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::control_frame_budget::{Allowance, Work};
use super::frame_counter::Frames;
use crate::listener::body::Leftover;

/// The state of one HTTP/2 connection.
#[derive(Debug, Default)]
pub(super) struct Multiplex {
    /// Streams that are served now.
    live: AtomicU64,
    /// Streams so far.
    opened: AtomicU64,
    /// Bytes that the socket has taken.
    sent: AtomicU64,
    /// Frames of answers that h2 was given.
    pieces: Arc<AtomicU64>,
    /// There were more control frames than any honest client sends.
    flooded: AtomicBool,
    /// The socket takes no more for now.
    blocked: AtomicBool,
    /// A header block has begun and is not whole.
    block_open: AtomicBool,
    /// The connection takes no further stream.
    leaving: AtomicBool,
    /// Streams that came after that.
    refused: AtomicU64,
    /// Requests that the client gave up before they were whole.
    given_up: AtomicU64,
    /// hyper calls the service, then at once hands the stream's future to the executor: this is how
    /// the two meet.
    next: Mutex<Option<Arc<Progress>>>,
}

impl Multiplex {
    /// A stream has come; its progress is picked up by [`Multiplex::enter`].
    pub(super) fn announce(&self) -> Arc<Progress> {
        self.opened.fetch_add(1, Relaxed);
        let progress = Arc::new(Progress {
            pieces: self.pieces.clone(),
            ..Progress::default()
        });
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
        progress
    }

    /// The stream is served from now on, until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> (Live, Arc<Progress>) {
        self.live.fetch_add(1, Relaxed);
        let progress = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        (Live(self.clone()), progress.unwrap_or_default())
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.live.load(Relaxed) == 0
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    pub(super) fn is_block_open(&self) -> bool {
        self.block_open.load(Relaxed)
    }

    /// The connection takes no further stream, whether or not the client heeds GOAWAY; why is counted
    /// already.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// The client has given a request up half-way; how many there were so far. Such a request costs it
    /// nothing, not even of its address' budget.
    pub(super) fn give_up(&self) -> u64 {
        self.given_up.fetch_add(1, Relaxed) + 1
    }

    /// A stream has come to a connection that takes none.
    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// Counts a stream as served while it lives.
#[derive(Debug)]
pub(super) struct Live(Arc<Multiplex>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Relaxed);
    }
}

/// How the answer of one stream gets on.
#[derive(Debug, Default)]
pub(in crate::listener) struct Progress {
    sent: AtomicU64,
    /// The connection's.
    pieces: Arc<AtomicU64>,
    /// There is something to send: only the client's window can be in the way.
    waiting: AtomicBool,
    /// The connection ends with this answer.
    last: AtomicBool,
    /// What the handler left unread of the request.
    leftover: Mutex<Option<Leftover>>,
}

impl Progress {
    /// Takes what a handler left unread of a request body.
    pub(in crate::listener) fn leave(&self, leftover: Leftover) {
        *self.leftover() = Some(leftover);
    }

    /// What was left unread.
    pub(super) fn take_leftover(&self) -> Option<Leftover> {
        self.leftover().take()
    }

    fn leftover(&self) -> MutexGuard<'_, Option<Leftover>> {
        self.leftover.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
        self.pieces.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Relaxed);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    pub(super) fn set_last(&self) {
        self.last.store(true, Relaxed);
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }
}

/// The stream below h2, watched.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    frames: Frames,
    allowance: Allowance,
    /// Bytes that were read.
    received: u64,
    /// Frames since others had their turn.
    turn: u64,
    multiplex: Arc<Multiplex>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, multiplex: Arc<Multiplex>) -> Self {
        Self {
            stream,
            frames: Frames::new(),
            allowance: Allowance::new(Instant::now()),
            received: 0,
            turn: 0,
            multiplex,
        }
    }

    /// Follows what was read.
    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.received += bytes.len() as u64;
        self.frames.advance(bytes);
        let open = self.frames.is_block_open();
        self.multiplex.block_open.store(open, Relaxed);
        let count = self.frames.take_count();
        self.turn += count.all;
        if count.control == 0 {
            return Ok(());
        }
        let work = Work {
            streams: self.multiplex.opened(),
            pieces: self.multiplex.pieces.load(Relaxed),
            bytes: self.received + self.multiplex.sent(),
        };
        self.allowance
            .charge(Instant::now(), count.control, work)
            .map_err(|_| {
                self.multiplex.flooded.store(true, Relaxed);
                io::ErrorKind::QuotaExceeded.into()
            })
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.multiplex.sent.fetch_add(*bytes as u64, Relaxed);
        }
        self.multiplex.blocked.store(written.is_pending(), Relaxed);
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn >= TURN {
            this.turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(start..).unwrap_or_default();
        Poll::Ready(this.follow(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
        this.multiplex.blocked.store(flushed.is_pending(), Relaxed);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Frames that h2 may take before the other tasks of the worker have their turn. The runtime counts
/// reads of the socket only, and one of them may hold thousands.
const TURN: u64 = 256;
