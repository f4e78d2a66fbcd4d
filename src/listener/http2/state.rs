//! State shared by the parts of one HTTP/2 connection: the socket below h2, the tasks of the streams,
//! and the driver. They run on one thread; the atomics are never contended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use parking_lot::Mutex;

use super::header_blocks::{Defect, Finding};
use crate::gauge::{Gauge, GaugeGuard};

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
    response_frames: AtomicU64,
    /// Malformed requests that h2 lets pass, until their streams have taken them.
    findings: Mutex<Vec<Finding>>,
    /// `findings` is not empty.
    has_findings: AtomicBool,
    /// Header blocks can no longer be checked below h2.
    headers_undecodable: AtomicBool,
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
            response_frames: AtomicU64::new(0),
            findings: Mutex::default(),
            has_findings: AtomicBool::new(false),
            headers_undecodable: AtomicBool::new(false),
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

    /// Records malformed requests for their streams. Returns false if there are more than streams can be
    /// open at a time.
    #[must_use]
    pub(super) fn add_findings(&self, found: Vec<Finding>) -> bool {
        let mut findings = self.findings.lock();
        findings.extend(found);
        self.has_findings.store(true, Relaxed);
        findings.len() <= MAX_FINDINGS
    }

    /// Whether a stream's request has the defect. Its finding is taken.
    pub(super) fn take_finding(&self, stream: u32, defect: Defect) -> bool {
        if !self.has_findings.load(Relaxed) {
            return false;
        }
        let mut findings = self.findings.lock();
        let known = findings.len();
        findings.retain(|finding| *finding != Finding { stream, defect });
        self.has_findings.store(!findings.is_empty(), Relaxed);
        findings.len() < known
    }

    /// Forgets what was found of a stream that has ended.
    pub(super) fn forget_findings(&self, stream: u32) {
        if self.has_findings.load(Relaxed) {
            let mut findings = self.findings.lock();
            findings.retain(|finding| finding.stream != stream);
            self.has_findings.store(!findings.is_empty(), Relaxed);
        }
    }

    /// Records that header blocks can no longer be checked below h2.
    pub(super) fn set_headers_undecodable(&self) {
        self.headers_undecodable.store(true, Relaxed);
    }

    pub(super) fn is_headers_undecodable(&self) -> bool {
        self.headers_undecodable.load(Relaxed)
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

    /// Adds to the bytes that the socket has taken.
    pub(super) fn add_bytes_sent(&self, bytes: usize) {
        self.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// Adds to the bytes read from the socket, and returns their number.
    pub(super) fn add_bytes_received(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        self.bytes_received.fetch_add(bytes, Relaxed) + bytes
    }

    /// Returns the number of response frames handed to h2.
    pub(super) fn response_frames(&self) -> u64 {
        self.response_frames.load(Relaxed)
    }

    pub(super) fn count_response_frame(&self) {
        self.response_frames.fetch_add(1, Relaxed);
    }

    /// Records that the budget for control frames has been exceeded.
    pub(super) fn set_flooded(&self) {
        self.flooded.store(true, Relaxed);
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Relaxed)
    }

    pub(super) fn set_write_blocked(&self, is_blocked: bool) {
        self.write_blocked.store(is_blocked, Relaxed);
    }

    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    pub(super) fn set_header_block_open(&self, is_open: bool) {
        self.header_block_open.store(is_open, Relaxed);
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

/// Findings of one connection that no stream has taken. Our choice: more than streams are open at a
/// time by default, and than a client with a mistake sends at once.
const MAX_FINDINGS: usize = 256;
