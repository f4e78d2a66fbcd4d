//! What the parts of one HTTP/1 connection tell each other: the gate below hyper, the service above
//! it, and the driver that decides how the connection goes on. All of them run in one task; the
//! atomics are there because hyper stands between them, and are never contended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use crate::listener::body::{Discarded, Leftover};
use crate::listener::head::Fault;

/// The state of one HTTP/1 connection.
#[derive(Debug)]
pub(in crate::listener) struct Exchange {
    /// Heads that were let through to hyper.
    heads: AtomicU64,
    /// Answers that hyper has taken whole.
    answered: AtomicU64,
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
    fault: OnceLock<Fault>,
    /// Is there a leftover? Asked several times for each request, when there mostly is none.
    left: AtomicBool,
    leftover: Mutex<Option<Leftover>>,
    /// Bytes that may be read and thrown away of one body.
    max_discarded: u64,
}

impl Exchange {
    pub(in crate::listener) fn new(max_discarded: u64) -> Self {
        Self {
            heads: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            head_open: AtomicBool::new(false),
            body_open: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            body_broken: AtomicBool::new(false),
            last: AtomicBool::new(false),
            fault: OnceLock::new(),
            left: AtomicBool::new(false),
            leftover: Mutex::new(None),
            max_discarded,
        }
    }

    pub(in crate::listener) fn max_discarded(&self) -> u64 {
        self.max_discarded
    }

    pub(in crate::listener) fn head_passed(&self) {
        self.heads.fetch_add(1, Relaxed);
    }

    pub(in crate::listener) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    /// Heads let through so far.
    pub(in crate::listener) fn heads(&self) -> u64 {
        self.heads.load(Relaxed)
    }

    /// Every request that hyper saw is answered, and the answers have left.
    pub(in crate::listener) fn is_quiet(&self) -> bool {
        self.answered.load(Relaxed) >= self.heads() && !self.blocked.load(Relaxed)
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
    pub(in crate::listener) fn set_last(&self) {
        self.last.store(true, Relaxed);
    }

    pub(in crate::listener) fn is_last(&self) -> bool {
        self.last.load(Relaxed)
    }

    /// The first fault stays.
    pub(in crate::listener) fn refuse(&self, fault: Fault) {
        let _ = self.fault.set(fault);
    }

    pub(in crate::listener) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Takes what a handler left unread of a request body.
    pub(in crate::listener) fn leave(&self, leftover: Leftover) {
        *self.lock() = Some(leftover);
        self.left.store(true, Relaxed);
    }

    /// Is anything left unread?
    pub(in crate::listener) fn has_leftover(&self) -> bool {
        self.left.load(Relaxed)
    }

    /// Will what is left unread not be read?
    pub(in crate::listener) fn is_leftover_hopeless(&self) -> bool {
        self.has_leftover() && self.lock().as_ref().is_some_and(Leftover::is_hopeless)
    }

    /// Throws away what is left unread, as far as it is here; `None` if nothing is left.
    pub(in crate::listener) fn discard(
        &self,
        context: &mut Context<'_>,
    ) -> Option<Poll<Discarded>> {
        if !self.has_leftover() {
            return None;
        }
        self.lock()
            .as_mut()
            .map(|leftover| leftover.poll_discard(context))
    }

    /// Nothing is left unread any more.
    pub(in crate::listener) fn clear_leftover(&self) {
        *self.lock() = None;
        self.left.store(false, Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Leftover>> {
        self.leftover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
