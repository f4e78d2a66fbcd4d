//! What the parts of one HTTP/1 connection tell each other: the gate below hyper, the service above
//! it, and the driver that decides how the connection goes on. All of them run in one task; the
//! atomics are there because hyper stands between them, and are never contended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use crate::listener::body::{DiscardOutcome, UnreadBody};
use crate::listener::head::HeadError;

/// The state of one HTTP/1 connection.
#[derive(Debug)]
pub(in crate::listener) struct Http1State {
    /// Heads that were let through to hyper.
    heads: AtomicU64,
    /// Answers that hyper has taken whole.
    responses: AtomicU64,
    /// Bytes that the stream has taken.
    sent: AtomicU64,
    /// The stream takes no more for now.
    blocked: AtomicBool,
    /// Part of a head is here.
    head_open: AtomicBool,
    /// Part of a body is still to come.
    body_open: AtomicBool,
    /// The client has sent its last byte.
    ended: AtomicBool,
    /// The body's framing is broken.
    body_broken: AtomicBool,
    /// The next answer says `Connection: close`.
    last: AtomicBool,
    error: OnceLock<HeadError>,
    /// Is there a leftover? Asked several times for each request, when there mostly is none.
    has_unread_body: AtomicBool,
    unread_body: Mutex<Option<UnreadBody>>,
    /// Bytes that may be read and thrown away of one body.
    max_discarded: u64,
}

impl Http1State {
    pub(in crate::listener) fn new(max_discarded: u64) -> Self {
        Self {
            heads: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            head_open: AtomicBool::new(false),
            body_open: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            body_broken: AtomicBool::new(false),
            last: AtomicBool::new(false),
            error: OnceLock::new(),
            has_unread_body: AtomicBool::new(false),
            unread_body: Mutex::new(None),
            max_discarded,
        }
    }

    pub(in crate::listener) fn max_discarded(&self) -> u64 {
        self.max_discarded
    }

    pub(in crate::listener) fn count_head(&self) {
        self.heads.fetch_add(1, Relaxed);
    }

    pub(in crate::listener) fn count_response(&self) {
        self.responses.fetch_add(1, Relaxed);
    }

    /// Heads let through so far.
    pub(in crate::listener) fn heads(&self) -> u64 {
        self.heads.load(Relaxed)
    }

    /// Every request that hyper saw is answered, and the answers have left.
    pub(in crate::listener) fn is_idle(&self) -> bool {
        self.responses.load(Relaxed) >= self.heads() && !self.blocked.load(Relaxed)
    }

    pub(in crate::listener) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(in crate::listener) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(in crate::listener) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    pub(in crate::listener) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    pub(in crate::listener) fn set_head_open(&self, open: bool) {
        self.head_open.store(open, Relaxed);
    }

    pub(in crate::listener) fn is_head_open(&self) -> bool {
        self.head_open.load(Relaxed)
    }

    pub(in crate::listener) fn set_body_open(&self, open: bool) {
        self.body_open.store(open, Relaxed);
    }

    pub(in crate::listener) fn is_body_open(&self) -> bool {
        self.body_open.load(Relaxed)
    }

    pub(in crate::listener) fn set_ended(&self) {
        self.ended.store(true, Relaxed);
    }

    pub(in crate::listener) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(in crate::listener) fn break_body(&self) {
        self.body_broken.store(true, Relaxed);
    }

    pub(in crate::listener) fn is_body_broken(&self) -> bool {
        self.body_broken.load(Relaxed)
    }

    /// From now on every answer is the connection's last.
    pub(in crate::listener) fn close_after_response(&self) {
        self.last.store(true, Relaxed);
    }

    pub(in crate::listener) fn closes_after_response(&self) -> bool {
        self.last.load(Relaxed)
    }

    /// The first fault stays.
    pub(in crate::listener) fn set_error(&self, fault: HeadError) {
        let _ = self.error.set(fault);
    }

    pub(in crate::listener) fn error(&self) -> Option<&HeadError> {
        self.error.get()
    }

    /// Takes what a handler left unread of a request body.
    pub(in crate::listener) fn set_unread_body(&self, leftover: UnreadBody) {
        *self.lock() = Some(leftover);
        self.has_unread_body.store(true, Relaxed);
    }

    /// Is anything left unread?
    pub(in crate::listener) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Relaxed)
    }

    /// Will what is left unread not be read?
    pub(in crate::listener) fn cannot_discard_unread_body(&self) -> bool {
        self.has_unread_body()
            && self
                .lock()
                .as_ref()
                .is_some_and(UnreadBody::cannot_be_discarded)
    }

    /// Throws away what is left unread, as far as it is here; `None` if nothing is left.
    pub(in crate::listener) fn poll_discard(
        &self,
        context: &mut Context<'_>,
    ) -> Option<Poll<DiscardOutcome>> {
        if !self.has_unread_body() {
            return None;
        }
        self.lock()
            .as_mut()
            .map(|leftover| leftover.poll_discard(context))
    }

    /// Nothing is left unread any more.
    pub(in crate::listener) fn clear_unread_body(&self) {
        *self.lock() = None;
        self.has_unread_body.store(false, Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<UnreadBody>> {
        self.unread_body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
