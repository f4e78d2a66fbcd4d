//! State shared by the parts of one HTTP/1 connection: [`ValidatingIo`] below hyper, the service above
//! it, and the driver. All of them run in one task; the atomics exist because hyper stands between
//! them and requires `Send`, and are never contended.
//!
//! What the client is sending, as [`Reading`]:
//!
//! ```text
//!         first byte         whole head, with body         last byte
//!   Idle ────────────> Head ───────────────────────> Body ───────────> Idle
//!                       │ └── whole head, no body ──> Idle
//!                       │                             │
//!        invalid, late  v                             v  invalid chunk
//!                 RejectedHead                   RejectedBody
//! ```
//!
//! Both rejected states are final. End of file is a flag of its own, since a client may half-close in
//! any state.
//!
//! [`ValidatingIo`]: super::validating_io::ValidatingIo

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::listener::head::HeadError;
use crate::listener::unread_body::UnreadSlot;

/// What the client is sending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(in crate::listener) enum Reading {
    /// Nothing: all that was received has been forwarded to hyper.
    Idle,
    /// Part of a request head has been received.
    Head,
    /// A head was forwarded, and part of its body is outstanding.
    Body,
    /// A head was rejected; hyper does not see it, so that earlier responses are sent first.
    RejectedHead,
    /// The framing of a body is invalid.
    RejectedBody,
}

/// State of one HTTP/1 connection.
#[derive(Debug)]
pub(in crate::listener) struct Http1State {
    /// A [`Reading`].
    reading: AtomicU8,
    /// Why a head or body was rejected; the first error is kept.
    error: OnceLock<HeadError>,
    /// The client has sent its last byte.
    eof: AtomicBool,
    /// hyper has begun to close the connection.
    shut_down: AtomicBool,
    /// The incomplete or rejected head is that of a HEAD request.
    head_request: AtomicBool,
    /// The next response carries `Connection: close`.
    close_after_response: AtomicBool,
    /// Requests and bytes so far.
    pub(in crate::listener) progress: Progress,
    /// What the handler left unread of the current request body.
    pub(in crate::listener) unread: UnreadSlot,
}

/// What has passed through the connection so far.
#[derive(Debug, Default)]
pub(in crate::listener) struct Progress {
    heads: AtomicU64,
    responses: AtomicU64,
    bytes_sent: AtomicU64,
    write_blocked: AtomicBool,
}

impl Http1State {
    /// Creates the state of a new connection; of each body at most `max_discarded` unread bytes are
    /// discarded.
    pub(in crate::listener) fn new(max_discarded: u64) -> Self {
        Self {
            reading: AtomicU8::new(Reading::Idle as u8),
            error: OnceLock::new(),
            eof: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            head_request: AtomicBool::new(false),
            close_after_response: AtomicBool::new(false),
            progress: Progress::default(),
            unread: UnreadSlot::new(max_discarded),
        }
    }

    pub(in crate::listener) fn reading(&self) -> Reading {
        match self.reading.load(Relaxed) {
            0 => Reading::Idle,
            1 => Reading::Head,
            2 => Reading::Body,
            3 => Reading::RejectedHead,
            _ => Reading::RejectedBody,
        }
    }

    /// Enters [`Reading::Idle`], [`Reading::Head`] or [`Reading::Body`]; a rejected state is kept.
    pub(in crate::listener) fn set_reading(&self, reading: Reading) {
        if self.error.get().is_none() {
            self.reading.store(reading as u8, Relaxed);
        }
    }

    /// Enters [`Reading::RejectedHead`].
    pub(in crate::listener) fn reject_head(&self, error: HeadError) {
        if self.error.set(error).is_ok() {
            self.reading.store(Reading::RejectedHead as u8, Relaxed);
        }
    }

    /// Enters [`Reading::RejectedBody`].
    pub(in crate::listener) fn reject_body(&self, error: HeadError) {
        if self.error.set(error).is_ok() {
            self.reading.store(Reading::RejectedBody as u8, Relaxed);
        }
    }

    /// Why a head or body was rejected, if one was.
    pub(in crate::listener) fn error(&self) -> Option<&HeadError> {
        self.error.get()
    }

    pub(in crate::listener) fn set_head_request(&self, is_head_request: bool) {
        self.head_request.store(is_head_request, Relaxed);
    }

    /// Whether the error response to a rejected head must have no body.
    pub(in crate::listener) fn is_head_request(&self) -> bool {
        self.head_request.load(Relaxed)
    }

    pub(in crate::listener) fn set_eof(&self) {
        self.eof.store(true, Relaxed);
    }

    pub(in crate::listener) fn is_eof(&self) -> bool {
        self.eof.load(Relaxed)
    }

    pub(in crate::listener) fn set_shut_down(&self) {
        self.shut_down.store(true, Relaxed);
    }

    /// Whether hyper has begun to close the connection.
    pub(in crate::listener) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Relaxed)
    }

    /// Every response from now on is the connection's last.
    pub(in crate::listener) fn close_after_response(&self) {
        self.close_after_response.store(true, Relaxed);
    }

    pub(in crate::listener) fn closes_after_response(&self) -> bool {
        self.close_after_response.load(Relaxed)
    }
}

impl Progress {
    /// A head was forwarded to hyper.
    pub(in crate::listener) fn count_head(&self) {
        self.heads.fetch_add(1, Relaxed);
    }

    /// hyper has taken the whole body of a response, or dropped it.
    pub(in crate::listener) fn count_response(&self) {
        self.responses.fetch_add(1, Relaxed);
    }

    /// The socket has taken `bytes`.
    pub(in crate::listener) fn count_sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether the socket accepts no more bytes for now.
    pub(in crate::listener) fn set_write_blocked(&self, blocked: bool) {
        self.write_blocked.store(blocked, Relaxed);
    }

    /// Heads forwarded so far.
    pub(in crate::listener) fn heads(&self) -> u64 {
        self.heads.load(Relaxed)
    }

    pub(in crate::listener) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Relaxed)
    }

    pub(in crate::listener) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    /// Whether every forwarded request has been answered and the responses have been written.
    pub(in crate::listener) fn is_idle(&self) -> bool {
        self.responses.load(Relaxed) >= self.heads() && !self.is_write_blocked()
    }
}
