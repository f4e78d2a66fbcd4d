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

use super::pool::Lease;
use super::report;
use crate::cluster::{Cluster, Fault, Outcome, Pick};
use crate::message::BodyError;

/// What is left of an answer, after the bytes that were already looked at.
#[derive(Debug)]
pub(super) struct NodeBody {
    /// Already read, given out first.
    first: Option<Bytes>,
    rest: Incoming,
    rate: Rate,
    /// Armed once in a window at most, for its end or earlier.
    timer: Option<Pin<Box<Sleep>>>,
    /// Until the end.
    held: Option<Held>,
}

/// What a running answer holds.
#[derive(Debug)]
pub(super) struct Held {
    /// Goes back when the answer is complete.
    pub(super) lease: Lease,
    /// The node's busy place.
    pub(super) pick: Pick,
    /// Told how the answer ended, unless its head said all.
    pub(super) judge: Option<Arc<Cluster>>,
}

impl NodeBody {
    pub(super) fn new(first: Bytes, rest: Incoming, min_receive_rate: u64, held: Held) -> Self {
        let mut body = Self {
            first: Some(first).filter(|first| !first.is_empty()),
            rest,
            rate: Rate::new(min_receive_rate),
            timer: None,
            held: Some(held),
        };
        if body.rest.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The answer is complete: the connection is free, and so is the node.
    fn finish(&mut self) {
        if let Some(held) = self.held.take() {
            held.tell(Outcome::Success);
            held.lease.give_back();
        }
    }

    /// Ready when bytes were wanted for a whole window and too few came.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(again) = self.rate.wait(Instant::now()) else {
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

    fn fail(&mut self, fault: Fault) {
        if let Some(held) = self.held.take() {
            held.tell(Outcome::Failure(fault));
        }
    }
}

impl Held {
    fn tell(&self, outcome: Outcome) {
        if let Some(cluster) = &self.judge {
            let why = || match outcome {
                Outcome::Failure(Fault::Timeout) => "slower than min_receive_rate".into(),
                _ => "connection closed inside the answer".into(),
            };
            report(cluster, self.pick.node(), outcome, Instant::now(), why);
        }
    }
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if this.held.is_none() {
            // Complete, or failed before.
            return Poll::Ready(None);
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.rest).poll_frame(cx) else {
                ready!(this.poll_too_slow(cx));
                this.fail(Fault::Timeout);
                return Poll::Ready(Some(Err(BodyError::Slow)));
            };
            match frame {
                Some(Ok(frame)) => {
                    // Trailers end at this hop.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    this.rate.arrive(data.len(), Instant::now());
                    if this.rest.is_end_stream() {
                        this.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a node broke off inside an answer");
                    this.fail(Fault::Broken);
                    return Poll::Ready(Some(Err(BodyError::Broken)));
                }
                None => {
                    this.finish();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.size_hint();
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
struct Rate {
    /// Bytes that a window must bring; 0 is off.
    least: u64,
    got: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Self {
            least: per_second.saturating_mul(WINDOW.as_secs()),
            got: 0,
            waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    fn arrive(&mut self, bytes: usize, now: Instant) {
        self.got = self.got.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += now - since;
        }
    }

    /// Bytes are wanted and not there: when to ask again at the latest, `None` if it was too slow.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        let since = *self.waiting_since.get_or_insert(now);
        let waited = self.waited + (now - since);
        if waited < WINDOW {
            return Some(now + (WINDOW - waited));
        }
        let enough = self.got >= self.least;
        (self.got, self.waited, self.waiting_since) = (0, Duration::ZERO, Some(now));
        enough.then_some(now + WINDOW)
    }
}

/// Over which time the rate is judged.
const WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate and its clock.
    struct Watch(Rate, Instant);

    impl Watch {
        fn new(per_second: u64) -> Self {
            Self(Rate::new(per_second), Instant::now())
        }

        /// Waits for bytes for so long; is the node too slow?
        fn waits(&mut self, seconds: u64) -> bool {
            let end = self.1 + Duration::from_secs(seconds);
            while let Some(again) = self.0.wait(self.1) {
                if again > end {
                    self.1 = end;
                    return false;
                }
                self.1 = again;
            }
            true
        }

        fn gets(&mut self, bytes: usize) {
            self.0.arrive(bytes, self.1);
        }

        fn pauses(&mut self, seconds: u64) {
            self.1 += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn silence_for_a_window_is_too_slow() {
        let mut watch = Watch::new(4096);
        let began = watch.1;
        assert!(watch.waits(31));
        assert_eq!((watch.1 - began).as_secs(), 30);
        assert!(!Watch::new(0).waits(1000), "0 is off");
    }

    #[test]
    fn the_clock_runs_only_while_bytes_are_wanted() {
        let mut watch = Watch::new(4096);
        for _ in 0..29 {
            assert!(!watch.waits(1));
            watch.gets(1);
            watch.pauses(100);
        }
        assert!(watch.waits(2), "29 bytes in 30 s of waiting");
    }

    #[test]
    fn enough_bytes_start_a_new_window() {
        let mut watch = Watch::new(10);
        for _ in 0..100 {
            assert!(!watch.waits(10));
            watch.gets(160);
        }
        assert!(watch.waits(61), "what came before does not help for long");
    }
}
