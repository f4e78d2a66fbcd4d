//! What the deadline of an attempt, and the head of its request, know of the running attempt.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::failure_reason::FailureReason;
use crate::telemetry::TraceContext;

/// The part of a running attempt that its deadline sees.
#[derive(Debug)]
pub(super) struct AttemptProgress {
    pub(super) trace: TraceContext,
    pub(super) started: Instant,
    /// Whether the gateway signs the request of a verified caller again although nothing changed.
    pub(super) is_signed_anew: bool,
    /// Whether the request goes to a fallback cluster: with the node's own Host.
    pub(super) is_fallback: bool,
    pub(super) request_sent: AtomicBool,
    /// Whether the gateway made the signature of this attempt.
    pub(super) has_own_signature: AtomicBool,
    /// Set on failure, where more is known than the `UpstreamErrorKind`.
    reason: Mutex<Option<FailureReason>>,
}

impl AttemptProgress {
    pub(super) fn start(trace: TraceContext, started: Instant) -> Self {
        Self {
            trace,
            started,
            is_signed_anew: false,
            is_fallback: false,
            request_sent: AtomicBool::new(false),
            has_own_signature: AtomicBool::new(false),
            reason: Mutex::new(None),
        }
    }

    /// Whether the node may have received some of the request.
    pub(super) fn is_request_sent(&self) -> bool {
        self.request_sent.load(Ordering::Relaxed)
    }

    /// Takes the reason of the failure, if one was set.
    pub(super) fn take_reason(&self) -> Option<FailureReason> {
        self.reason.lock().take()
    }

    pub(super) fn set_reason(&self, reason: FailureReason) {
        *self.reason.lock() = Some(reason);
    }
}
