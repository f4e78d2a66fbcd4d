//! How long an HTTP/2 connection may stay in each state, and what ends it: first request, header
//! blocks, idle time, age, a socket whose client does not read, a client that does not respond,
//! eviction, a drain.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Duration, Instant, Sleep};

use super::state::Http2State;
use crate::drain::Phase;
use crate::listener::Settings;
use crate::listener::context::ConnectionContext;
use crate::listener::deadline::{FIRST_REQUEST_GRACE, LazyTimer, SendRateMonitor};
use crate::metrics::ConnectionEndReason;

/// What the driver does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Wait for the next wake-up.
    Wait,
    /// Send a PING, then poll again.
    Ping,
    /// Send GOAWAY, then poll again. The reason, unless it has been counted already.
    Goaway(Option<ConnectionEndReason>),
    /// Drop the connection. The reason, unless it has been counted already.
    Close(Option<ConnectionEndReason>),
}

/// The timeouts of one HTTP/2 connection.
pub(super) struct Http2Timeouts<'a> {
    state: &'a Http2State,
    settings: &'a Settings,
    context: &'a ConnectionContext,
    timer: LazyTimer<'a>,
    send_rate: SendRateMonitor,
    keep_alive: KeepAlive,
    established_at: Instant,
    /// Start of the current idle period, if no stream is active.
    idle_since: Option<Instant>,
    /// When the incomplete header block began.
    header_block_since: Option<Instant>,
    goaway_since: Option<Instant>,
    /// Streams at the last observation.
    opened_streams: u64,
}

impl<'a> Http2Timeouts<'a> {
    pub(super) fn new(
        state: &'a Http2State,
        settings: &'a Settings,
        context: &'a ConnectionContext,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        let now = Instant::now();
        context.permit.activity().set_idle(now);
        Self {
            state,
            settings,
            context,
            timer: LazyTimer::new(sleep),
            send_rate: SendRateMonitor::new(settings),
            keep_alive: KeepAlive::new(settings.http2.ping_interval, now),
            established_at: now,
            idle_since: Some(now),
            header_block_since: None,
            goaway_since: None,
            opened_streams: 0,
        }
    }

    /// Call after h2 has done what it could.
    pub(super) fn check(&mut self, context: &mut Context<'_>) -> Next {
        loop {
            let now = Instant::now();
            self.observe(now);
            let deadline = match self.evaluate(now) {
                Ok(deadline) => deadline,
                Err(next) => return next,
            };
            if !self.timer.arm(deadline, now, context) {
                return Next::Wait;
            }
        }
    }

    pub(super) fn is_goaway_sent(&self) -> bool {
        self.goaway_since.is_some()
    }

    /// Records when states began.
    fn observe(&mut self, now: Instant) {
        let is_idle = self.state.is_idle();
        let opened_streams = self.state.opened_streams();
        if is_idle != self.idle_since.is_some() || opened_streams != self.opened_streams {
            self.opened_streams = opened_streams;
            self.idle_since = is_idle.then_some(now);
            if is_idle {
                self.context.permit.activity().set_idle(now);
            } else {
                self.context.permit.activity().set_busy();
            }
        }
        if !self.state.is_header_block_open() {
            self.header_block_since = None;
        } else if self.header_block_since.is_none() {
            self.header_block_since = Some(now);
        }
    }

    /// Returns when to check again, or what to do now.
    fn evaluate(&mut self, now: Instant) -> Result<Instant, Next> {
        // What ends the connection in any state.
        let send_deadline = self
            .send_rate
            .observe(now, self.state.bytes_sent(), self.state.is_write_blocked())
            .map_err(|_| Next::Close(Some(ConnectionEndReason::SlowReader)))?;
        let header_deadline = self
            .header_block_since
            .map(|since| since + self.settings.header_timeout);
        if header_deadline.is_some_and(|deadline| now >= deadline) {
            return Err(Next::Close(Some(ConnectionEndReason::HeaderTimeout)));
        }
        if self.state.is_stalled() {
            // Counted by its stream.
            return Err(Next::Close(None));
        }
        let keep_alive = self.keep_alive.evaluate(now, self.state.bytes_received())?;
        // What ends it after a GOAWAY.
        let deadline = self.evaluate_goaway(now)?;
        let others = [send_deadline, header_deadline].into_iter().flatten();
        Ok(others.fold(deadline.min(keep_alive), Instant::min))
    }

    fn evaluate_goaway(&mut self, now: Instant) -> Result<Instant, Next> {
        let Some(since) = self.goaway_since else {
            let (deadline, reason) = self.goaway_reason(now);
            // A client that sends no request in time gets no time to acknowledge a GOAWAY either.
            if reason == Some(ConnectionEndReason::HeaderTimeout) {
                return Err(Next::Close(reason));
            }
            if reason.is_some() || self.state.is_going_away() {
                self.goaway_since = Some(now);
                return Err(Next::Goaway(reason));
            }
            return Ok(deadline);
        };
        // A client that keeps opening streams ignores the GOAWAY.
        if self.state.refused_streams() > u64::from(self.settings.http2.max_concurrent_streams) {
            return Err(Next::Close(Some(ConnectionEndReason::ProtocolError)));
        }
        let goaway_deadline = since + self.settings.http2.goaway_timeout;
        if now >= goaway_deadline {
            // A client that does not acknowledge the PING after the first GOAWAY never receives the
            // final GOAWAY: its streams are refused from here.
            self.state.start_goaway();
        }
        // With a tiny window the end of a response stays in h2 although its stream has ended here.
        let close_deadline = self
            .idle_since
            .map(|idle| idle.max(since) + self.settings.http2.goaway_timeout);
        match close_deadline {
            Some(deadline) if now >= deadline => Err(Next::Close(None)),
            Some(deadline) => Ok(deadline),
            None if now < goaway_deadline => Ok(goaway_deadline),
            None => Ok(now + self.settings.idle_timeout),
        }
    }

    /// Returns when to check again, and the reason to send GOAWAY now.
    fn goaway_reason(&self, now: Instant) -> (Instant, Option<ConnectionEndReason>) {
        let max_age = self.established_at + self.settings.max_connection_age;
        let idle = match self.idle_since {
            None => now + self.settings.idle_timeout,
            Some(since) if self.opened_streams == 0 => since + self.settings.header_timeout,
            Some(since) => since + self.settings.idle_timeout,
        };
        let phase = self.context.drain.phase();
        // A client that has just connected may send one request, even during a drain.
        let grace = self.established_at + FIRST_REQUEST_GRACE;
        let is_grace_over = self.opened_streams > 0 || phase >= Phase::Closing && now >= grace;
        let reason = if phase >= Phase::Notified && is_grace_over {
            Some(ConnectionEndReason::Drain)
        } else if self.context.permit.activity().is_evicted() {
            Some(ConnectionEndReason::ConnectionLimit)
        } else if now >= max_age {
            Some(ConnectionEndReason::MaxAge)
        } else if now >= idle && self.opened_streams == 0 {
            Some(ConnectionEndReason::HeaderTimeout)
        } else if now >= idle {
            Some(ConnectionEndReason::IdleTimeout)
        } else {
            None
        };
        let grace = if phase >= Phase::Closing { grace } else { idle };
        (idle.min(max_age).min(grace.max(now)), reason)
    }
}

/// Detects clients that disappeared without closing the connection: a PING after each interval without
/// received bytes, and the end of the connection after a second one.
#[derive(Debug)]
struct KeepAlive {
    interval: Duration,
    bytes_received: u64,
    deadline: Instant,
    is_ping_sent: bool,
}

impl KeepAlive {
    fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            bytes_received: 0,
            deadline: now + interval,
            is_ping_sent: false,
        }
    }

    /// Returns when to check again, or what to do now.
    fn evaluate(&mut self, now: Instant, bytes_received: u64) -> Result<Instant, Next> {
        if bytes_received != self.bytes_received {
            self.bytes_received = bytes_received;
            self.is_ping_sent = false;
            self.deadline = now + self.interval;
        } else if now >= self.deadline {
            if self.is_ping_sent {
                return Err(Next::Close(Some(ConnectionEndReason::ProtocolError)));
            }
            self.is_ping_sent = true;
            self.deadline = now + self.interval;
            return Err(Next::Ping);
        }
        Ok(self.deadline)
    }
}
