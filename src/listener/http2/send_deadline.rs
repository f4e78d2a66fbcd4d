//! The deadline of an HTTP/2 response whose client reads too slowly.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::stream_progress::StreamProgress;
use crate::listener::Settings;
use crate::listener::deadline::SendRateMonitor;

/// The deadline of a response whose client reads too slowly.
pub(super) struct SendDeadline {
    rate: SendRateMonitor,
    /// `rate` is the one for a connection's last response.
    is_last: bool,
    /// Created when a response first has to wait, so that most streams have no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl SendDeadline {
    /// Creates the deadline of a stream that has sent nothing.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            rate: SendRateMonitor::new(settings),
            is_last: false,
            timer: None,
        }
    }

    /// Ready when the client has read too slowly. Call it after each poll of the stream.
    pub(super) fn poll_exceeded(
        &mut self,
        progress: &StreamProgress,
        settings: &Settings,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let has_pending = progress.has_pending();
            if !has_pending && self.timer.is_none() {
                return Poll::Pending;
            }
            if progress.is_last() && !self.is_last {
                self.is_last = true;
                self.rate = SendRateMonitor::for_last_response(settings);
            }
            let sent = progress.sent();
            let deadline = match self.rate.observe(Instant::now(), sent, has_pending) {
                Err(_) => return Poll::Ready(()),
                Ok(None) => return Poll::Pending,
                Ok(Some(deadline)) => deadline,
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
