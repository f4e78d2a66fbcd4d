//! How long an HTTP/1 connection may stay in each state, and what ends it: head timeout, idle timeout,
//! age, a client that reads too slowly, an unread body, eviction, a drain.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Duration, Instant, Sleep};

use super::state::{Http1State, Reading};
use crate::drain::{Phase, Watch};
use crate::listener::Settings;
use crate::listener::connection_limits::Activity;
use crate::listener::context::ConnectionContext;
use crate::listener::deadline::{FIRST_REQUEST_GRACE, LazyTimer, SendRateMonitor};
use crate::listener::head::HeadError;
use crate::listener::unread_body::DiscardOutcome;
use crate::metrics::ConnectionEndReason;

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// hyper has finished.
    Finished,
    /// A head was rejected, and all earlier responses have been sent: the error response follows.
    Rejected,
    /// No request is in flight: close with `close_notify` and FIN.
    CloseCleanly(ConnectionEndReason),
    /// Close with RST, so that the client cannot mistake a truncated response for a complete one.
    Abort(ConnectionEndReason),
    /// The body of a response failed, which is counted elsewhere; closed with RST as well.
    ResponseBroken,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Poll the socket again.
    PollAgain,
    /// Take the socket from hyper until the next byte, since the client is quiet.
    Park,
    /// End the connection.
    End(End),
}

/// The timeouts of one HTTP/1 connection.
pub(super) struct Http1Timeouts<'a> {
    state: Arc<Http1State>,
    settings: &'a Settings,
    activity: Arc<Activity>,
    drain: &'a Watch,
    timer: LazyTimer<'a>,
    send_rate: SendRateMonitor,
    established_at: Instant,
    /// Start of the current idle period, if every request has been answered.
    idle_since: Option<Instant>,
    /// When the first byte of the incomplete head arrived.
    head_since: Option<Instant>,
    /// When a handler left a body unread.
    unread_since: Option<Instant>,
    /// Heads at the last observation.
    heads: u64,
}

impl<'a> Http1Timeouts<'a> {
    pub(super) fn new(
        state: Arc<Http1State>,
        settings: &'a Settings,
        context: &'a ConnectionContext,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        let now = Instant::now();
        context.permit.activity().set_idle(now);
        Self {
            state,
            settings,
            activity: context.permit.activity().clone(),
            drain: &context.drain,
            timer: LazyTimer::new(sleep),
            send_rate: SendRateMonitor::new(settings),
            established_at: now,
            idle_since: Some(now),
            head_since: None,
            unread_since: None,
            heads: 0,
        }
    }

    /// Call after hyper has done what it could, or while the connection `is_parked`. Pending waits.
    pub(super) fn check(&mut self, is_parked: bool, context: &mut Context<'_>) -> Poll<Step> {
        let poll_again = self.discard_unread(context);
        let now = Instant::now();
        self.observe(now);
        let deadline = match self.evaluate(now) {
            Err(end) => return Poll::Ready(Step::End(end)),
            Ok(_) if poll_again => return Poll::Ready(Step::PollAgain),
            Ok(deadline) => deadline,
        };
        let park_at = self
            .quiet_since()
            .map(|since| since + self.settings.park_after);
        let park_at = park_at.filter(|_| !is_parked);
        if park_at.is_some_and(|park_at| now >= park_at) {
            return Poll::Ready(Step::Park);
        }
        let deadline = park_at.map_or(deadline, |park_at| park_at.min(deadline));
        if self.timer.arm(deadline, now, context) {
            return Poll::Ready(Step::PollAgain);
        }
        Poll::Pending
    }

    /// Since when nothing is under way and hyper will keep the connection open.
    fn quiet_since(&self) -> Option<Instant> {
        let state = &self.state;
        let is_between_messages = state.reading() == Reading::Idle && self.unread_since.is_none();
        let is_last = state.is_eof() || state.is_shut_down() || state.closes_after_response();
        self.idle_since.filter(|_| is_between_messages && !is_last)
    }

    /// Discards what a handler left unread; returns true once that has ended.
    fn discard_unread(&mut self, context: &mut Context<'_>) -> bool {
        let Some(polled) = self.state.unread.poll_discard(context) else {
            self.unread_since = None;
            return false;
        };
        let is_late = self
            .unread_since
            .is_some_and(|since| Instant::now() >= since + self.settings.linger_timeout);
        let outcome = match polled {
            Poll::Ready(outcome) => outcome,
            Poll::Pending if is_late => DiscardOutcome::Incomplete,
            Poll::Pending => return false,
        };
        drop(self.state.unread.take());
        if outcome == DiscardOutcome::Incomplete {
            self.state.close_after_response();
        }
        true
    }

    /// Records when states began.
    fn observe(&mut self, now: Instant) {
        let heads = self.state.progress.heads();
        let is_idle = self.state.progress.is_idle();
        if heads != self.heads || is_idle != self.idle_since.is_some() {
            self.heads = heads;
            self.idle_since = is_idle.then_some(now);
            if is_idle {
                self.send_rate
                    .start_window(self.state.progress.bytes_sent());
                self.activity.set_idle(now);
            } else {
                self.activity.set_busy();
            }
        }
        let is_head_open = self.state.reading() == Reading::Head;
        track_since(&mut self.head_since, is_head_open, now);
        let is_unread = self.state.unread.is_occupied();
        track_since(&mut self.unread_since, is_unread, now);
    }

    /// Returns when to check again, or how the connection ends now.
    fn evaluate(&mut self, now: Instant) -> Result<Instant, End> {
        // A client that reads too slowly ends the connection in any state.
        let progress = &self.state.progress;
        let send_deadline = self
            .send_rate
            .observe(now, progress.bytes_sent(), progress.is_write_blocked())
            .map_err(|_| End::Abort(ConnectionEndReason::SlowReader))?;
        // Age and eviction end it after the current response.
        let max_age = self.established_at + self.settings.max_connection_age;
        if now >= max_age || self.activity.is_evicted() {
            self.state.close_after_response();
        }
        let state_deadline = match self.idle_since {
            Some(since) => self.evaluate_idle(since, now)?,
            None => now + self.settings.idle_timeout,
        };
        // The earliest deadline of all.
        let max_age = Some(max_age).filter(|&age| now < age);
        let unread = self
            .unread_since
            .map(|since| since + self.settings.linger_timeout);
        let others = [send_deadline, max_age, unread].into_iter().flatten();
        Ok(others.fold(state_deadline, Instant::min))
    }

    /// The same while every request received has been answered, since `since`.
    fn evaluate_idle(&self, since: Instant, now: Instant) -> Result<Instant, End> {
        if self.state.reading() == Reading::RejectedHead {
            return Err(End::Rejected);
        }
        if let Some(head) = self.head_since {
            // A head received behind the previous request was not read further while that was served.
            let deadline = head.max(since) + self.settings.header_timeout;
            if now >= deadline {
                self.state.reject_head(HeadError::HEAD_TIMEOUT);
                return Err(End::Rejected);
            }
            return Ok(deadline);
        }
        if self.state.reading() == Reading::Body {
            // The remainder of a body that is being discarded, or for which hyper is about to close.
            let deadline = since + self.settings.idle_timeout;
            return unless_passed(deadline, now, ConnectionEndReason::IdleTimeout);
        }
        if self.drain.phase() >= Phase::Closing {
            let grace = self.established_at + FIRST_REQUEST_GRACE;
            if self.heads > 0 || now >= grace {
                return Err(End::CloseCleanly(ConnectionEndReason::Drain));
            }
            return Ok(grace);
        }
        if self.activity.is_evicted() {
            return Err(End::CloseCleanly(ConnectionEndReason::ConnectionLimit));
        }
        if self.state.closes_after_response() && self.heads > 0 {
            // Only reached at the age, since hyper closes after a response with `Connection: close`. A busy
            // client gets it with its next response; only an idle connection closes without notice.
            let idle = self.settings.idle_timeout.min(MAX_AGE_IDLE_GRACE);
            return unless_passed(since + idle, now, ConnectionEndReason::MaxAge);
        }
        let (timeout, reason) = if self.heads == 0 {
            (
                self.settings.header_timeout,
                ConnectionEndReason::HeaderTimeout,
            )
        } else {
            (self.settings.idle_timeout, ConnectionEndReason::IdleTimeout)
        };
        unless_passed(since + timeout, now, reason)
    }
}

/// Idle time after which a connection over its age closes without announcing it: longer than the gap
/// between two requests of a busy client.
const MAX_AGE_IDLE_GRACE: Duration = Duration::from_secs(5);

/// Returns the deadline, or the end if it has passed.
fn unless_passed(
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

/// Keeps the time at which `holds` became true.
fn track_since(since: &mut Option<Instant>, holds: bool, now: Instant) {
    if !holds {
        *since = None;
    } else if since.is_none() {
        *since = Some(now);
    }
}

#[cfg(test)]
mod tests;
