//! The body of an answer that streams through: constant memory, back-pressure by being polled, and
//! a minimum rate for as long as the client wants bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::pool::Lease;
use super::report;
use crate::call::BodyError;
use crate::cluster::{Cluster, Fault, Outcome, Pick};

/// What is left of an answer, after the bytes that were already looked at.
#[derive(Debug)]
pub(super) struct NodeBody {
    /// Already read, given out first.
    first: Option<Bytes>,
    rest: Incoming,
    rate: Rate,
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

    fn fail(&mut self, fault: Fault) {
        if let Some(held) = self.held.take() {
            held.tell(Outcome::Failure(fault));
        }
    }
}

impl Held {
    fn tell(&self, outcome: Outcome) {
        if let Some(cluster) = &self.judge {
            report(cluster, self.pick.node(), outcome);
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
                ready!(this.rate.poll_too_slow(cx));
                this.fail(Fault::Timeout);
                return Poll::Ready(Some(Err(BodyError::Slow)));
            };
            match frame {
                Some(Ok(frame)) => {
                    // Trailers end at this hop.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    this.rate.count(data.len());
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
/// so a client that reads slowly never makes the node look slow. Armed once a window at most.
#[derive(Debug)]
struct Rate {
    /// Bytes that a window must bring; 0 is off.
    least: u64,
    got: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Self {
            least: per_second.saturating_mul(WINDOW.as_secs()),
            got: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            timer: None,
        }
    }

    fn count(&mut self, bytes: usize) {
        self.got = self.got.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Ready when a whole window of waiting brought too little.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.least == 0 {
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let since = *self.waiting_since.get_or_insert(now);
            let waited = self.waited + (now - since);
            if waited >= WINDOW {
                if self.got < self.least {
                    return Poll::Ready(());
                }
                (self.got, self.waited, self.waiting_since) = (0, Duration::ZERO, Some(now));
                continue;
            }
            let left = WINDOW - waited;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(left)));
            if timer.is_elapsed() {
                timer.as_mut().reset(now + left);
            }
            // An armed timer is never later than the window's end, so it only has to ask again.
            ready!(timer.as_mut().poll(cx));
        }
    }
}

/// Over which time the rate is judged.
const WINDOW: Duration = Duration::from_secs(30);
