//! How long an HTTP/2 connection may stay in each state, and what ends it: first request, header
//! blocks, idle time, age, a socket that nobody reads, eviction, a drain.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep};

use super::state::Multiplex;
use crate::drain::Phase;
use crate::listener::Settings;
use crate::listener::connection::Life;
use crate::listener::deadline::{Alarm, GREETING, SendRate};
use crate::metrics::ConnectionEnded;

/// What the driver does next.
pub(super) enum Step {
    Wait,
    /// GOAWAY; then poll again. The reason, unless it is counted already.
    Leave(Option<ConnectionEnded>),
    /// The reason, unless it is counted already.
    Drop(Option<ConnectionEnded>),
}

/// The clock of one HTTP/2 connection.
pub(super) struct Pace<'a> {
    multiplex: &'a Multiplex,
    settings: &'a Settings,
    life: &'a Life,
    alarm: Alarm<'a>,
    rate: SendRate,
    born: Instant,
    /// Since no stream is served.
    quiet_since: Option<Instant>,
    block_since: Option<Instant>,
    /// When GOAWAY was sent.
    leaving: Option<Instant>,
    opened: u64,
}

impl<'a> Pace<'a> {
    pub(super) fn new(
        multiplex: &'a Multiplex,
        settings: &'a Settings,
        life: &'a Life,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        let born = Instant::now();
        life.permit.pulse().set_idle(born);
        Self {
            multiplex,
            settings,
            life,
            alarm: Alarm::new(sleep),
            rate: SendRate::new(settings),
            born,
            quiet_since: Some(born),
            block_since: None,
            leaving: None,
            opened: 0,
        }
    }

    pub(super) fn check(&mut self, context: &mut Context<'_>) -> Step {
        loop {
            let now = Instant::now();
            self.note(now);
            let deadline = match self.judge(now) {
                Ok(deadline) => deadline,
                Err(step) => return step,
            };
            if !self.alarm.set(deadline, now, context) {
                return Step::Wait;
            }
        }
    }

    fn note(&mut self, now: Instant) {
        let quiet = self.multiplex.is_quiet();
        let opened = self.multiplex.opened();
        if quiet != self.quiet_since.is_some() || opened != self.opened {
            self.opened = opened;
            self.quiet_since = quiet.then_some(now);
            if quiet {
                self.life.permit.pulse().set_idle(now);
            } else {
                self.life.permit.pulse().set_busy();
            }
        }
        if !self.multiplex.is_block_open() {
            self.block_since = None;
        } else if self.block_since.is_none() {
            self.block_since = Some(now);
        }
    }

    fn judge(&mut self, now: Instant) -> Result<Instant, Step> {
        let moving = self
            .rate
            .observe(now, self.multiplex.sent(), self.multiplex.is_blocked())
            .map_err(|_| Step::Drop(Some(ConnectionEnded::SlowReader)))?;
        if self.life.watch.phase() == Phase::Forced {
            return Err(Step::Drop(Some(ConnectionEnded::Drain)));
        }
        let block = self
            .block_since
            .map(|since| since + self.settings.header_timeout);
        if block.is_some_and(|block| now >= block) {
            return Err(Step::Drop(Some(ConnectionEnded::HeaderTimeout)));
        }
        let rest = self.judge_leaving(now)?;
        Ok([moving, block]
            .into_iter()
            .flatten()
            .fold(rest, Instant::min))
    }

    fn judge_leaving(&mut self, now: Instant) -> Result<Instant, Step> {
        if let Some(since) = self.leaving {
            if self.multiplex.refused() > u64::from(self.settings.http2.max_concurrent_streams) {
                return Err(Step::Drop(Some(ConnectionEnded::Protocol)));
            }
            let patience = since + self.settings.http2.goaway_timeout;
            if now >= patience {
                // Who does not answer the first GOAWAY with the PING it asks for never gets the second.
                self.multiplex.leave();
            }
            // With a tiny window the tail of an answer stays in h2 although its stream is done here.
            let over = self
                .quiet_since
                .map(|quiet| quiet.max(since) + self.settings.http2.goaway_timeout);
            return match over {
                Some(over) if now >= over => Err(Step::Drop(None)),
                Some(over) => Ok(over),
                None if now < patience => Ok(patience),
                None => Ok(now + self.settings.idle_timeout),
            };
        }
        let (deadline, due) = self.due(now);
        if due.is_some() || self.multiplex.is_leaving() {
            self.leaving = Some(now);
            return Err(Step::Leave(due));
        }
        Ok(deadline)
    }

    /// When to look again, and the reason to say GOAWAY now.
    fn due(&self, now: Instant) -> (Instant, Option<ConnectionEnded>) {
        let age = self.born + self.settings.max_connection_age;
        let idle = match self.quiet_since {
            None => now + self.settings.idle_timeout,
            Some(since) if self.opened == 0 => since + self.settings.header_timeout,
            Some(since) => since + self.settings.idle_timeout,
        };
        let phase = self.life.watch.phase();
        // Who has just connected may ask once, even in a drain.
        let greeted = self.opened > 0 || phase >= Phase::Closing && now >= self.born + GREETING;
        let due = if phase >= Phase::Announced && greeted {
            Some(ConnectionEnded::Drain)
        } else if self.life.permit.pulse().is_evicted() {
            Some(ConnectionEnded::Cap)
        } else if now >= age {
            Some(ConnectionEnded::Age)
        } else if now >= idle && self.opened == 0 {
            Some(ConnectionEnded::HeaderTimeout)
        } else if now >= idle {
            Some(ConnectionEnded::Idle)
        } else {
            None
        };
        let greeting = if phase >= Phase::Closing {
            self.born + GREETING
        } else {
            idle
        };
        (idle.min(age).min(greeting.max(now)), due)
    }
}
