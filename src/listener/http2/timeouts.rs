//! How long an HTTP/2 connection may stay in each state, and what ends it: first request, header
//! blocks, idle time, age, a socket that nobody reads, eviction, a drain.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep};

use super::state::Http2State;
use crate::drain::Phase;
use crate::listener::Settings;
use crate::listener::connection::ConnectionContext;
use crate::listener::deadline::{FIRST_REQUEST_GRACE, LazyTimer, SendRateMonitor};
use crate::metrics::ConnectionEndReason;

/// What the driver does next.
pub(super) enum Next {
    Wait,
    /// GOAWAY; then poll again. The reason, unless it is counted already.
    Goaway(Option<ConnectionEndReason>),
    /// The reason, unless it is counted already.
    Close(Option<ConnectionEndReason>),
}

/// The clock of one HTTP/2 connection.
pub(super) struct Http2Timeouts<'a> {
    state: &'a Http2State,
    settings: &'a Settings,
    context: &'a ConnectionContext,
    timer: LazyTimer<'a>,
    send_rate: SendRateMonitor,
    established_at: Instant,
    /// Since no stream is served.
    idle_since: Option<Instant>,
    header_block_since: Option<Instant>,
    /// When GOAWAY was sent.
    goaway_since: Option<Instant>,
    opened_streams: u64,
}

impl<'a> Http2Timeouts<'a> {
    pub(super) fn new(
        multiplex: &'a Http2State,
        settings: &'a Settings,
        life: &'a ConnectionContext,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        let born = Instant::now();
        life.permit.activity().set_idle(born);
        Self {
            state: multiplex,
            settings,
            context: life,
            timer: LazyTimer::new(sleep),
            send_rate: SendRateMonitor::new(settings),
            established_at: born,
            idle_since: Some(born),
            header_block_since: None,
            goaway_since: None,
            opened_streams: 0,
        }
    }

    pub(super) fn check(&mut self, context: &mut Context<'_>) -> Next {
        loop {
            let now = Instant::now();
            self.observe(now);
            let deadline = match self.evaluate(now) {
                Ok(deadline) => deadline,
                Err(step) => return step,
            };
            if !self.timer.arm(deadline, now, context) {
                return Next::Wait;
            }
        }
    }

    fn observe(&mut self, now: Instant) {
        let quiet = self.state.is_idle();
        let opened = self.state.opened_streams();
        if quiet != self.idle_since.is_some() || opened != self.opened_streams {
            self.opened_streams = opened;
            self.idle_since = quiet.then_some(now);
            if quiet {
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

    fn evaluate(&mut self, now: Instant) -> Result<Instant, Next> {
        let moving = self
            .send_rate
            .observe(now, self.state.sent(), self.state.is_write_blocked())
            .map_err(|_| Next::Close(Some(ConnectionEndReason::SlowReader)))?;
        if self.context.drain.phase() == Phase::Forced {
            return Err(Next::Close(Some(ConnectionEndReason::Drain)));
        }
        let block = self
            .header_block_since
            .map(|since| since + self.settings.header_timeout);
        if block.is_some_and(|block| now >= block) {
            return Err(Next::Close(Some(ConnectionEndReason::HeaderTimeout)));
        }
        let rest = self.evaluate_goaway(now)?;
        Ok([moving, block]
            .into_iter()
            .flatten()
            .fold(rest, Instant::min))
    }

    fn evaluate_goaway(&mut self, now: Instant) -> Result<Instant, Next> {
        if let Some(since) = self.goaway_since {
            if self.state.refused_streams() > u64::from(self.settings.http2.max_concurrent_streams)
            {
                return Err(Next::Close(Some(ConnectionEndReason::ProtocolError)));
            }
            let patience = since + self.settings.http2.goaway_timeout;
            if now >= patience {
                // Who does not answer the first GOAWAY with the PING it asks for never gets the second.
                self.state.start_goaway();
            }
            // With a tiny window the tail of an answer stays in h2 although its stream is done here.
            let over = self
                .idle_since
                .map(|quiet| quiet.max(since) + self.settings.http2.goaway_timeout);
            return match over {
                Some(over) if now >= over => Err(Next::Close(None)),
                Some(over) => Ok(over),
                None if now < patience => Ok(patience),
                None => Ok(now + self.settings.idle_timeout),
            };
        }
        let (deadline, due) = self.goaway_reason(now);
        if due.is_some() || self.state.is_going_away() {
            self.goaway_since = Some(now);
            return Err(Next::Goaway(due));
        }
        Ok(deadline)
    }

    /// When to look again, and the reason to say GOAWAY now.
    fn goaway_reason(&self, now: Instant) -> (Instant, Option<ConnectionEndReason>) {
        let age = self.established_at + self.settings.max_connection_age;
        let idle = match self.idle_since {
            None => now + self.settings.idle_timeout,
            Some(since) if self.opened_streams == 0 => since + self.settings.header_timeout,
            Some(since) => since + self.settings.idle_timeout,
        };
        let phase = self.context.drain.phase();
        // Who has just connected may ask once, even in a drain.
        let greeted = self.opened_streams > 0
            || phase >= Phase::Closing && now >= self.established_at + FIRST_REQUEST_GRACE;
        let due = if phase >= Phase::Notified && greeted {
            Some(ConnectionEndReason::Drain)
        } else if self.context.permit.activity().is_evicted() {
            Some(ConnectionEndReason::ConnectionLimit)
        } else if now >= age {
            Some(ConnectionEndReason::MaxAge)
        } else if now >= idle && self.opened_streams == 0 {
            Some(ConnectionEndReason::HeaderTimeout)
        } else if now >= idle {
            Some(ConnectionEndReason::IdleTimeout)
        } else {
            None
        };
        let greeting = if phase >= Phase::Closing {
            self.established_at + FIRST_REQUEST_GRACE
        } else {
            idle
        };
        (idle.min(age).min(greeting.max(now)), due)
    }
}
