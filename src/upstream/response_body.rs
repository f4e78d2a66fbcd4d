//! The body of an answer that streams through: constant memory, back-pressure by being polled, and
//! a minimum rate for as long as the client wants bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::health_report::report;
use super::pool::PooledConnection;
use crate::cluster::{Cluster, FailureKind, NodeGuard, NodeOutcome};
use crate::message::BodyError;

/// What is left of an answer, after the bytes that were already looked at.
#[derive(Debug)]
pub(super) struct StreamingBody {
    /// Already read, given out first.
    prefix: Option<Bytes>,
    inner: Incoming,
    rate: ReceiveRate,
    /// Armed once in a window at most, for its end or earlier.
    timer: Option<Pin<Box<Sleep>>>,
    /// Until the end.
    guard: Option<ResponseGuard>,
}

/// What a running answer holds.
#[derive(Debug)]
pub(super) struct ResponseGuard {
    /// Goes back when the answer is complete.
    pub(super) connection: PooledConnection,
    /// The node's busy place.
    pub(super) node: NodeGuard,
    /// Told how the answer ended, unless its head said all.
    pub(super) report_to: Option<Arc<Cluster>>,
}

impl StreamingBody {
    pub(super) fn new(
        first: Bytes,
        rest: Incoming,
        min_receive_rate: u64,
        held: ResponseGuard,
    ) -> Self {
        let mut body = Self {
            prefix: Some(first).filter(|first| !first.is_empty()),
            inner: rest,
            rate: ReceiveRate::new(min_receive_rate),
            timer: None,
            guard: Some(held),
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The answer is complete: the connection is free, and so is the node.
    fn finish(&mut self) {
        if let Some(held) = self.guard.take() {
            held.report(NodeOutcome::Success);
            held.connection.release();
        }
    }

    /// Ready when bytes were wanted for a whole window and too few came.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(again) = self.rate.on_pending(Instant::now()) else {
                return Poll::Ready(());
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(again)));
            if timer.is_elapsed() {
                timer.as_mut().reset(again);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn fail(&mut self, fault: FailureKind) {
        if let Some(held) = self.guard.take() {
            held.report(NodeOutcome::Failure(fault));
        }
    }
}

impl ResponseGuard {
    fn report(&self, outcome: NodeOutcome) {
        if let Some(cluster) = &self.report_to {
            let why = || match outcome {
                NodeOutcome::Failure(FailureKind::Timeout) => "slower than min_receive_rate".into(),
                _ => "connection closed inside the answer".into(),
            };
            report(cluster, self.node.node(), outcome, Instant::now(), why);
        }
    }
}

impl Body for StreamingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(first) = this.prefix.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if this.guard.is_none() {
            // Complete, or failed before.
            return Poll::Ready(None);
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
                ready!(this.poll_too_slow(cx));
                this.fail(FailureKind::Timeout);
                return Poll::Ready(Some(Err(BodyError::TooSlow)));
            };
            match frame {
                Some(Ok(frame)) => {
                    // Trailers end at this hop.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    this.rate.on_data(data.len(), Instant::now());
                    if this.inner.is_end_stream() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a node broke off inside an answer");
                    this.fail(FailureKind::ConnectionClosed);
                    return Poll::Ready(Some(Err(BodyError::ConnectionClosed)));
                }
                None => {
                    this.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.prefix.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + read);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + read);
        }
        hint
    }
}

/// Watches that bytes come fast enough. Its clock runs only while bytes are wanted and not there,
/// so a client that reads slowly never makes the node look slow. Pure: the time is handed in.
#[derive(Debug)]
struct ReceiveRate {
    /// Bytes that a window must bring; 0 is off.
    min_per_window: u64,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl ReceiveRate {
    fn new(per_second: u64) -> Self {
        Self {
            min_per_window: per_second.saturating_mul(RATE_WINDOW.as_secs()),
            received: 0,
            waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    fn on_data(&mut self, bytes: usize, now: Instant) {
        self.received = self.received.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += now - since;
        }
    }

    /// Bytes are wanted and not there: when to ask again at the latest, `None` if it was too slow.
    fn on_pending(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.waiting_since.get_or_insert(now);
        let waited = self.waited + (now - since);
        if waited < RATE_WINDOW {
            return Some(now + (RATE_WINDOW - waited));
        }
        let enough = self.received >= self.min_per_window;
        (self.received, self.waited, self.waiting_since) = (0, Duration::ZERO, Some(now));
        enough.then_some(now + RATE_WINDOW)
    }
}

/// Over which time the rate is judged.
const RATE_WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate and its clock.
    struct ReceiveRateMonitor(ReceiveRate, Instant);

    impl ReceiveRateMonitor {
        fn new(per_second: u64) -> Self {
            Self(ReceiveRate::new(per_second), Instant::now())
        }

        /// Waits for bytes for so long; is the node too slow?
        fn waits(&mut self, seconds: u64) -> bool {
            let end = self.1 + Duration::from_secs(seconds);
            while let Some(again) = self.0.on_pending(self.1) {
                if again > end {
                    self.1 = end;
                    return false;
                }
                self.1 = again;
            }
            true
        }

        fn gets(&mut self, bytes: usize) {
            self.0.on_data(bytes, self.1);
        }

        fn pauses(&mut self, seconds: u64) {
            self.1 += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn no_data_for_a_window_is_too_slow() {
        let mut watch = ReceiveRateMonitor::new(4096);
        let began = watch.1;
        assert!(watch.waits(31));
        assert_eq!((watch.1 - began).as_secs(), 30);
        assert!(!ReceiveRateMonitor::new(0).waits(1000), "0 is off");
    }

    #[test]
    fn only_time_in_which_data_is_wanted_counts() {
        let mut watch = ReceiveRateMonitor::new(4096);
        for _ in 0..29 {
            assert!(!watch.waits(1));
            watch.gets(1);
            watch.pauses(100);
        }
        assert!(watch.waits(2), "29 bytes in 30 s of waiting");
    }

    #[test]
    fn enough_data_starts_a_new_window() {
        let mut watch = ReceiveRateMonitor::new(10);
        for _ in 0..100 {
            assert!(!watch.waits(10));
            watch.gets(160);
        }
        assert!(watch.waits(61), "what came before does not help for long");
    }
}
