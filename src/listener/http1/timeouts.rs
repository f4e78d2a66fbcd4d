//! How long an HTTP/1 connection may stay in each state, and what ends it: head deadline, idle time,
//! age, a reader that is too slow, a rest that nobody reads, eviction, a drain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::state::Exchange;
use crate::drain::{Phase, Watch};
use crate::listener::Settings;
use crate::listener::body::Discarded;
use crate::listener::connection::Life;
use crate::listener::connection_limits::Pulse;
use crate::listener::deadline::{Alarm, GREETING, SendRate};
use crate::listener::head::Fault;
use crate::metrics::ConnectionEnded;

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// hyper is done with it.
    Over,
    /// A head was refused; all earlier answers have left.
    Refused,
    /// Nothing is going on; it is closed in order.
    Shut(ConnectionEnded),
    /// It is aborted: nobody shall take what was sent for the whole.
    By(ConnectionEnded),
    /// An answer broke off in its body, which is counted elsewhere; aborted too.
    Cut,
}

/// The clock of one connection.
pub(super) struct Pace<'a> {
    exchange: Arc<Exchange>,
    settings: &'a Settings,
    pulse: Arc<Pulse>,
    watch: &'a Watch,
    alarm: Alarm<'a>,
    rate: SendRate,
    born: Instant,
    /// When all was answered last.
    quiet_since: Option<Instant>,
    /// When the first byte of the head came that is open now.
    head_since: Option<Instant>,
    /// When a handler left a body unread.
    leftover_since: Option<Instant>,
    /// Heads at the last look.
    heads: u64,
}

impl<'a> Pace<'a> {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        settings: &'a Settings,
        life: &'a Life,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        let born = Instant::now();
        life.permit.pulse().set_idle(born);
        Self {
            exchange,
            settings,
            pulse: life.permit.pulse().clone(),
            watch: &life.watch,
            alarm: Alarm::new(sleep),
            rate: SendRate::new(settings),
            born,
            quiet_since: Some(born),
            head_since: None,
            leftover_since: None,
            heads: 0,
        }
    }

    /// After hyper has done what it could: `Ready(Some)` ends the connection, `Ready(None)` polls
    /// hyper again, `Pending` waits.
    pub(super) fn check(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        let again = self.discard(context);
        let now = Instant::now();
        self.note(now);
        match self.judge(now) {
            Err(end) => Poll::Ready(Some(end)),
            Ok(deadline) if again || self.alarm.set(deadline, now, context) => Poll::Ready(None),
            Ok(_) => Poll::Pending,
        }
    }

    /// Reads what a handler left; `true` if that has come to an end.
    fn discard(&mut self, context: &mut Context<'_>) -> bool {
        let Some(polled) = self.exchange.discard(context) else {
            self.leftover_since = None;
            return false;
        };
        let late = self
            .leftover_since
            .is_some_and(|since| Instant::now() >= since + self.settings.linger_timeout);
        let discarded = match polled {
            Poll::Ready(discarded) => discarded,
            Poll::Pending if late => Discarded::Abandoned,
            Poll::Pending => return false,
        };
        self.exchange.clear_leftover();
        if discarded == Discarded::Abandoned {
            self.exchange.set_last();
        }
        true
    }

    /// Takes down when states began.
    fn note(&mut self, now: Instant) {
        let heads = self.exchange.heads();
        let quiet = self.exchange.is_quiet();
        if heads != self.heads || quiet != self.quiet_since.is_some() {
            self.heads = heads;
            self.quiet_since = quiet.then_some(now);
            if quiet {
                self.rate.begin(self.exchange.sent());
                self.pulse.set_idle(now);
            } else {
                self.pulse.set_busy();
            }
        }
        since(&mut self.head_since, self.exchange.is_head_open(), now);
        let left = self.exchange.has_leftover();
        since(&mut self.leftover_since, left, now);
    }

    /// What ends the connection now, or when to look again.
    fn judge(&mut self, now: Instant) -> Result<Instant, End> {
        let exchange = &*self.exchange;
        let moving = self
            .rate
            .observe(now, exchange.sent(), exchange.is_blocked())
            .map_err(|_| End::By(ConnectionEnded::SlowReader))?;
        let age = self.born + self.settings.max_connection_age;
        if now >= age || self.pulse.is_evicted() {
            exchange.set_last();
        }
        let state = match self.quiet_since {
            Some(since) => self.judge_quiet(since, now)?,
            None => now + self.settings.idle_timeout,
        };
        let age = if now < age { age } else { state };
        let leftover = self
            .leftover_since
            .map_or(state, |since| since + self.settings.linger_timeout);
        let deadline = state.min(age).min(leftover);
        Ok(moving.map_or(deadline, |moving| moving.min(deadline)))
    }

    /// The same while every request that came is answered.
    fn judge_quiet(&self, since: Instant, now: Instant) -> Result<Instant, End> {
        let exchange = &*self.exchange;
        if exchange.fault().is_some() && !exchange.is_body_broken() {
            return Err(End::Refused);
        }
        if let Some(head) = self.head_since {
            // A head that came while its forerunner was served was not read on meanwhile.
            let deadline = head.max(since) + self.settings.header_timeout;
            if now >= deadline {
                exchange.refuse(Fault::HEAD_TIMEOUT);
                return Err(End::Refused);
            }
            return Ok(deadline);
        }
        if exchange.is_body_open() {
            // A rest that is being thrown away, or that hyper is about to close for.
            return self.until(
                since + self.settings.idle_timeout,
                now,
                ConnectionEnded::Idle,
            );
        }
        if self.watch.phase() >= Phase::Closing {
            let greeted = self.born + GREETING;
            if self.heads > 0 || now >= greeted {
                return Err(End::Shut(ConnectionEnded::Drain));
            }
            return Ok(greeted);
        }
        if self.pulse.is_evicted() {
            return Err(End::Shut(ConnectionEnded::Cap));
        }
        if exchange.is_last() && self.heads > 0 {
            return Err(End::Shut(ConnectionEnded::Age));
        }
        let (wait, reason) = if self.heads == 0 {
            (self.settings.header_timeout, ConnectionEnded::HeaderTimeout)
        } else {
            (self.settings.idle_timeout, ConnectionEnded::Idle)
        };
        self.until(since + wait, now, reason)
    }

    /// The deadline, unless it has passed.
    fn until(
        &self,
        deadline: Instant,
        now: Instant,
        reason: ConnectionEnded,
    ) -> Result<Instant, End> {
        if now >= deadline {
            Err(End::Shut(reason))
        } else {
            Ok(deadline)
        }
    }
}

/// Keeps the moment at which `holds` became true.
fn since(moment: &mut Option<Instant>, holds: bool, now: Instant) {
    if !holds {
        *moment = None;
    } else if moment.is_none() {
        *moment = Some(now);
    }
}
