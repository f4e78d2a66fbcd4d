//! How long an HTTP/1 connection may stay in each state, and what ends it: head deadline, idle time,
//! age, a reader that is too slow, a rest that nobody reads, eviction, a drain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use super::state::Http1State;
use crate::drain::{Phase, Watch};
use crate::listener::Settings;
use crate::listener::body::DiscardOutcome;
use crate::listener::connection::ConnectionContext;
use crate::listener::connection_limits::Activity;
use crate::listener::deadline::{FIRST_REQUEST_GRACE, LazyTimer, SendRateMonitor};
use crate::listener::head::HeadError;
use crate::metrics::ConnectionEndReason;

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// hyper is done with it.
    Finished,
    /// A head was refused; all earlier answers have left.
    Rejected,
    /// Nothing is going on; it is closed in order.
    CloseCleanly(ConnectionEndReason),
    /// It is aborted: nobody shall take what was sent for the whole.
    Abort(ConnectionEndReason),
    /// An answer broke off in its body, which is counted elsewhere; aborted too.
    ResponseBroken,
}

/// The clock of one connection.
pub(super) struct Http1Timeouts<'a> {
    state: Arc<Http1State>,
    settings: &'a Settings,
    activity: Arc<Activity>,
    drain: &'a Watch,
    timer: LazyTimer<'a>,
    send_rate: SendRateMonitor,
    established_at: Instant,
    /// When all was answered last.
    idle_since: Option<Instant>,
    /// When the first byte of the head came that is open now.
    head_since: Option<Instant>,
    /// When a handler left a body unread.
    unread_since: Option<Instant>,
    /// Heads at the last look.
    heads: u64,
}

impl<'a> Http1Timeouts<'a> {
    pub(super) fn new(
        exchange: Arc<Http1State>,
        settings: &'a Settings,
        life: &'a ConnectionContext,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        let born = Instant::now();
        life.permit.activity().set_idle(born);
        Self {
            state: exchange,
            settings,
            activity: life.permit.activity().clone(),
            drain: &life.drain,
            timer: LazyTimer::new(sleep),
            send_rate: SendRateMonitor::new(settings),
            established_at: born,
            idle_since: Some(born),
            head_since: None,
            unread_since: None,
            heads: 0,
        }
    }

    /// After hyper has done what it could: `Ready(Some)` ends the connection, `Ready(None)` polls
    /// hyper again, `Pending` waits.
    pub(super) fn check(&mut self, context: &mut Context<'_>) -> Poll<Option<End>> {
        let again = self.poll_discard(context);
        let now = Instant::now();
        self.observe(now);
        match self.evaluate(now) {
            Err(end) => Poll::Ready(Some(end)),
            Ok(deadline) if again || self.timer.arm(deadline, now, context) => Poll::Ready(None),
            Ok(_) => Poll::Pending,
        }
    }

    /// Reads what a handler left; `true` if that has come to an end.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> bool {
        let Some(polled) = self.state.poll_discard(context) else {
            self.unread_since = None;
            return false;
        };
        let late = self
            .unread_since
            .is_some_and(|since| Instant::now() >= since + self.settings.linger_timeout);
        let discarded = match polled {
            Poll::Ready(discarded) => discarded,
            Poll::Pending if late => DiscardOutcome::Incomplete,
            Poll::Pending => return false,
        };
        self.state.clear_unread_body();
        if discarded == DiscardOutcome::Incomplete {
            self.state.close_after_response();
        }
        true
    }

    /// Takes down when states began.
    fn observe(&mut self, now: Instant) {
        let heads = self.state.heads();
        let quiet = self.state.is_idle();
        if heads != self.heads || quiet != self.idle_since.is_some() {
            self.heads = heads;
            self.idle_since = quiet.then_some(now);
            if quiet {
                self.send_rate.start_window(self.state.sent());
                self.activity.set_idle(now);
            } else {
                self.activity.set_busy();
            }
        }
        track_since(&mut self.head_since, self.state.is_head_open(), now);
        let left = self.state.has_unread_body();
        track_since(&mut self.unread_since, left, now);
    }

    /// What ends the connection now, or when to look again.
    fn evaluate(&mut self, now: Instant) -> Result<Instant, End> {
        let exchange = &*self.state;
        let moving = self
            .send_rate
            .observe(now, exchange.sent(), exchange.is_blocked())
            .map_err(|_| End::Abort(ConnectionEndReason::SlowReader))?;
        let age = self.established_at + self.settings.max_connection_age;
        if now >= age || self.activity.is_evicted() {
            exchange.close_after_response();
        }
        let state = match self.idle_since {
            Some(since) => self.evaluate_idle(since, now)?,
            None => now + self.settings.idle_timeout,
        };
        let age = if now < age { age } else { state };
        let leftover = self
            .unread_since
            .map_or(state, |since| since + self.settings.linger_timeout);
        let deadline = state.min(age).min(leftover);
        Ok(moving.map_or(deadline, |moving| moving.min(deadline)))
    }

    /// The same while every request that came is answered.
    fn evaluate_idle(&self, since: Instant, now: Instant) -> Result<Instant, End> {
        let exchange = &*self.state;
        if exchange.error().is_some() && !exchange.is_body_broken() {
            return Err(End::Rejected);
        }
        if let Some(head) = self.head_since {
            // A head that came while its forerunner was served was not read on meanwhile.
            let deadline = head.max(since) + self.settings.header_timeout;
            if now >= deadline {
                exchange.set_error(HeadError::HEAD_TIMEOUT);
                return Err(End::Rejected);
            }
            return Ok(deadline);
        }
        if exchange.is_body_open() {
            // A rest that is being thrown away, or that hyper is about to close for.
            return self.unless_passed(
                since + self.settings.idle_timeout,
                now,
                ConnectionEndReason::IdleTimeout,
            );
        }
        if self.drain.phase() >= Phase::Closing {
            let greeted = self.established_at + FIRST_REQUEST_GRACE;
            if self.heads > 0 || now >= greeted {
                return Err(End::CloseCleanly(ConnectionEndReason::Drain));
            }
            return Ok(greeted);
        }
        if self.activity.is_evicted() {
            return Err(End::CloseCleanly(ConnectionEndReason::ConnectionLimit));
        }
        if exchange.closes_after_response() && self.heads > 0 {
            return Err(End::CloseCleanly(ConnectionEndReason::MaxAge));
        }
        let (wait, reason) = if self.heads == 0 {
            (
                self.settings.header_timeout,
                ConnectionEndReason::HeaderTimeout,
            )
        } else {
            (self.settings.idle_timeout, ConnectionEndReason::IdleTimeout)
        };
        self.unless_passed(since + wait, now, reason)
    }

    /// The deadline, unless it has passed.
    fn unless_passed(
        &self,
        deadline: Instant,
        now: Instant,
        reason: ConnectionEndReason,
    ) -> Result<Instant, End> {
        if now >= deadline {
            Err(End::CloseCleanly(reason))
        } else {
            Ok(deadline)
        }
    }
}

/// Keeps the moment at which `holds` became true.
fn track_since(moment: &mut Option<Instant>, holds: bool, now: Instant) {
    if !holds {
        *moment = None;
    } else if moment.is_none() {
        *moment = Some(now);
    }
}
