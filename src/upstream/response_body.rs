//! The body of a streaming response: constant memory, back-pressure by polling, and a minimum rate while
//! the client reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::failure_reason;
use super::health_report::report;
use super::pool::PooledConnection;
use crate::cluster::{Cluster, FailureKind, NodeGuard, NodeOutcome};
use crate::message::BodyError;

/// The part of a response body that has not been forwarded.
#[derive(Debug)]
pub(super) struct StreamingBody {
    /// Data that was read to classify the response; forwarded first, in this order.
    prefix: [Option<Bytes>; 2],
    /// The error with which the body ends at the next poll.
    error: Option<BodyError>,
    rate: ReceiveRate,
    /// Postponed only after it has elapsed, so that reads do not reset it.
    timer: Option<Pin<Box<Sleep>>>,
    /// `None` after the end of the body or an error.
    guard: Option<ResponseGuard>,
}

/// What a response holds until its body ends.
#[derive(Debug)]
pub(super) struct ResponseGuard {
    /// Returns to the pool when the body is complete.
    pub(super) connection: PooledConnection,
    /// Counts the request as in flight at its node.
    pub(super) node: NodeGuard,
    /// Where the end of the body is reported, unless the head has decided the outcome.
    pub(super) report_to: Option<Arc<Cluster>>,
}

impl StreamingBody {
    pub(super) fn new(
        prefix: [Option<Bytes>; 2],
        min_receive_rate: u64,
        guard: ResponseGuard,
    ) -> Self {
        let mut body = Self {
            prefix: prefix.map(|data| data.filter(|data| !data.is_empty())),
            error: None,
            rate: ReceiveRate::new(min_receive_rate),
            timer: None,
            guard: Some(guard),
        };
        body.finish_if_complete();
        body
    }

    /// Reports success and releases the connection once the body is complete.
    fn finish_if_complete(&mut self) {
        if let Some(guard) = self.guard.take_if(|guard| guard.connection.is_complete()) {
            guard.report(NodeOutcome::Success, "");
            guard.connection.release();
        }
    }

    /// Reports the failure at once, and ends the body with `error` at the next poll. In between the
    /// response is flushed: an error would make the server drop the head and the data that it holds.
    fn fail(
        &mut self,
        cx: &Context<'_>,
        (kind, reason): (FailureKind, &'static str),
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(guard) = self.guard.take() {
            guard.report(NodeOutcome::Failure(kind), reason);
        }
        self.error = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the rate was too low over a whole window of waiting for data.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(next_check) = self.rate.on_pending(Instant::now()) else {
                return Poll::Ready(());
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(next_check)));
            if timer.is_elapsed() {
                timer.as_mut().reset(next_check);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }
}

impl ResponseGuard {
    fn report(&self, outcome: NodeOutcome, reason: &'static str) {
        if let Some(cluster) = &self.report_to {
            let now = Instant::now();
            report(cluster, self.node.node(), outcome, now, || reason.into());
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
        if let Some(data) = this.prefix.iter_mut().find_map(Option::take) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(guard) = &mut this.guard else {
            return Poll::Ready(this.error.take().map(Err));
        };
        let Poll::Ready(data) = guard.connection.poll_data(cx) else {
            ready!(this.poll_too_slow(cx));
            let reason = "slower than min_receive_rate";
            return this.fail(cx, (FailureKind::Timeout, reason), BodyError::TooSlow);
        };
        Poll::Ready(match data {
            Ok(Some(data)) => {
                this.rate.on_data(data.len(), Instant::now());
                this.finish_if_complete();
                Some(Ok(Frame::data(data)))
            }
            Ok(None) => {
                this.finish_if_complete();
                None
            }
            Err(error) => {
                tracing::debug!(?error, "a response was cut off");
                let reason = (FailureKind::ConnectionClosed, failure_reason::CUT_OFF);
                return this.fail(cx, reason, BodyError::ConnectionClosed);
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.iter().all(Option::is_none) && self.guard.is_none() && self.error.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let prefix = self.prefix.iter().flatten().map(Bytes::len).sum::<usize>() as u64;
        let remaining = match &self.guard {
            Some(guard) => guard.connection.remaining(),
            None => self.error.is_none().then_some(0),
        };
        match remaining {
            Some(remaining) => SizeHint::with_exact(prefix + remaining),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(prefix);
                hint
            }
        }
    }
}

/// The minimum receive rate. Its clock runs only while the gateway waits for data, so that a client that
/// reads slowly does not lower the rate of the node. Pure: times are parameters.
#[derive(Debug)]
struct ReceiveRate {
    /// Bytes that must be received in a window; 0 is off.
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

    /// Records that the gateway waits for data. Returns when to check again at the latest; `None` if the
    /// rate was too low.
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

/// The time over which the rate is measured, as long as `send_rate_window` is by default.
const RATE_WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// A receive rate with its clock.
    struct ReceiveRateMonitor(ReceiveRate, Instant);

    impl ReceiveRateMonitor {
        fn new(per_second: u64) -> Self {
            Self(ReceiveRate::new(per_second), Instant::now())
        }

        /// Waits this long for data; returns whether the node is too slow.
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
        let mut monitor = ReceiveRateMonitor::new(4096);
        let started = monitor.1;
        assert!(monitor.waits(31));
        assert_eq!((monitor.1 - started).as_secs(), 30);
        assert!(!ReceiveRateMonitor::new(0).waits(1000), "0 is off");
    }

    #[test]
    fn only_time_in_which_data_is_wanted_counts() {
        let mut monitor = ReceiveRateMonitor::new(4096);
        for _ in 0..29 {
            assert!(!monitor.waits(1));
            monitor.gets(1);
            monitor.pauses(100);
        }
        assert!(monitor.waits(2), "29 bytes in 30 s of waiting");
    }

    #[test]
    fn enough_data_starts_a_new_window() {
        let mut monitor = ReceiveRateMonitor::new(10);
        for _ in 0..100 {
            assert!(!monitor.waits(10));
            monitor.gets(160);
        }
        assert!(
            monitor.waits(61),
            "earlier data counts only in its own window"
        );
    }
}
