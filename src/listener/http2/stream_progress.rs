//! The progress of one HTTP/2 stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Response, StatusCode};
use parking_lot::Mutex;

use super::header_blocks::Defect;
use super::state::Http2State;
use crate::listener::unread_body::UnreadSlot;

/// Progress of one stream, shared by its task and its request body.
#[derive(Debug)]
pub(in crate::listener) struct StreamProgress {
    /// Bytes handed to h2.
    sent: AtomicU64,
    connection: Arc<Http2State>,
    /// The stream's number.
    stream: u32,
    /// Bytes are ready to be sent: only the client's window can be in the way.
    pending: AtomicBool,
    /// The connection closes after this response.
    last: AtomicBool,
    /// What the handler left unread of the request body.
    pub(in crate::listener) unread: UnreadSlot,
    /// h2's handle, until the final response is sent.
    respond: Mutex<Option<SendResponse<Bytes>>>,
    /// The request's trailers are malformed.
    has_malformed_trailers: AtomicBool,
}

impl StreamProgress {
    /// Creates the progress of a new stream; of its request at most `max_discarded` unread bytes are
    /// discarded.
    pub(super) fn new(
        connection: Arc<Http2State>,
        respond: SendResponse<Bytes>,
        max_discarded: u64,
    ) -> Self {
        Self {
            sent: AtomicU64::new(0),
            connection,
            stream: respond.stream_id().as_u32(),
            pending: AtomicBool::new(false),
            last: AtomicBool::new(false),
            unread: UnreadSlot::new(max_discarded),
            respond: Mutex::new(Some(respond)),
            has_malformed_trailers: AtomicBool::new(false),
        }
    }

    /// Checks the trailers that h2 has yielded for what h2 does not see.
    ///
    /// # Errors
    ///
    /// They hold a pseudo-header field (RFC 9113, 8.1).
    pub(in crate::listener) fn check_trailers(&self) -> Result<(), MalformedTrailers> {
        let defect = Defect::PseudoHeaderInTrailers;
        if self.connection.take_finding(self.stream, defect)
            || self.connection.is_headers_undecodable()
        {
            self.has_malformed_trailers.store(true, Relaxed);
            return Err(MalformedTrailers);
        }
        Ok(())
    }

    /// Returns the stream's number.
    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    pub(super) fn has_malformed_trailers(&self) -> bool {
        self.has_malformed_trailers.load(Relaxed)
    }

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
        // A client that opens its window by single bytes earns no further control frames (CVE-2019-9511).
        if bytes >= MIN_RESPONSE_FRAME {
            self.connection.count_response_frame();
        }
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

/// Bytes of a response frame that a client may acknowledge without being charged. Our choice: small
/// responses are single frames, which their stream pays for.
const MIN_RESPONSE_FRAME: usize = 1024;

/// The trailers of a request are malformed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::listener) struct MalformedTrailers;
