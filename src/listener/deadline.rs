//! The timer of a connection, and the minimum rate at which a client must read.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Settings;

/// The one timer of a connection. Postponing it costs nothing: the sleep is left as it is and checked
/// again when it fires. Only an earlier deadline resets it.
#[derive(Debug)]
pub(super) struct LazyTimer<'a> {
    sleep: Pin<&'a mut Sleep>,
    is_armed: bool,
}

impl<'a> LazyTimer<'a> {
    pub(super) fn new(sleep: Pin<&'a mut Sleep>) -> Self {
        Self {
            sleep,
            is_armed: false,
        }
    }

    /// Wakes the task at `deadline` or earlier. Returns true if the deadline has passed already.
    pub(super) fn arm(
        &mut self,
        deadline: Instant,
        now: Instant,
        context: &mut Context<'_>,
    ) -> bool {
        let fires = self.sleep.deadline();
        if self.is_armed && now < fires && fires <= deadline {
            return false;
        }
        self.is_armed = true;
        self.sleep.as_mut().reset(deadline);
        self.sleep.as_mut().poll(context).is_ready()
    }
}

/// Checks that a client reads at the minimum rate. Time counts only while bytes are pending.
#[derive(Debug)]
pub(super) struct SendRateMonitor {
    /// Bytes that must be sent in each window; 0 disables the check.
    min_bytes: u64,
    window: Duration,
    /// Set while bytes are pending.
    pending_since: Option<Instant>,
    /// Time in this window during which bytes were pending, before `pending_since`.
    pending_time: Duration,
    /// Bytes sent when the window began.
    sent_at_window_start: u64,
}

/// The client has read less than the minimum in a window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooSlow;

impl SendRateMonitor {
    /// The rate and window of the configuration.
    pub(super) fn new(settings: &Settings) -> Self {
        Self::with_rate(settings.min_send_rate, settings.send_rate_window)
    }

    /// For the last response of a connection: a client that does not read it within `linger_timeout`
    /// goes without.
    pub(super) fn for_last_response(settings: &Settings) -> Self {
        let window = settings.send_rate_window.min(settings.linger_timeout);
        Self::with_rate(settings.min_send_rate, window)
    }

    /// `rate` in bytes per second.
    fn with_rate(rate: u64, window: Duration) -> Self {
        let least = u128::from(rate) * window.as_millis() / 1000;
        Self {
            // At least one byte per window: only a rate of 0 disables the check.
            min_bytes: u64::try_from(least).unwrap_or(u64::MAX).max(rate.min(1)),
            window,
            pending_since: None,
            pending_time: Duration::ZERO,
            sent_at_window_start: 0,
        }
    }

    /// Observes the bytes sent so far and whether more are pending. Returns when to observe again, if
    /// bytes are pending.
    ///
    /// # Errors
    ///
    /// [`TooSlow`] if a window has ended with too few bytes.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        sent: u64,
        has_pending: bool,
    ) -> Result<Option<Instant>, TooSlow> {
        if self.min_bytes == 0 {
            return Ok(None);
        }
        if let Some(since) = self.pending_since.take() {
            self.pending_time += now - since;
        }
        if self.pending_time >= self.window {
            if sent - self.sent_at_window_start < self.min_bytes {
                return Err(TooSlow);
            }
            self.start_window(sent);
        }
        if !has_pending {
            return Ok(None);
        }
        self.pending_since = Some(now);
        Ok(Some(now + (self.window - self.pending_time)))
    }

    /// Starts a new window, for a new response.
    pub(super) fn start_window(&mut self, sent: u64) {
        self.pending_since = None;
        self.pending_time = Duration::ZERO;
        self.sent_at_window_start = sent;
    }
}

/// How long a connection accepted at the end of a drain has for its first request: well beyond a
/// round trip, and short beside the drain's `grace`.
pub(super) const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    fn rate() -> (SendRateMonitor, Instant) {
        (
            SendRateMonitor::with_rate(4 * KIB, seconds(30)),
            Instant::now(),
        )
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_client_at_the_rate_passes_and_one_below_it_is_too_slow() {
        let (mut rate, start) = rate();
        for window in 0..5 {
            let now = start + seconds(30 * window);
            assert!(rate.observe(now, 120 * KIB * window, true).is_ok());
        }
        assert_eq!(
            rate.observe(start + seconds(150), 120 * KIB * 5 - 1, true),
            Err(TooSlow)
        );
    }

    #[test]
    fn only_time_with_pending_bytes_counts() {
        let (mut rate, start) = rate();
        assert_eq!(rate.observe(start, 0, true), Ok(Some(start + seconds(30))));
        assert_eq!(rate.observe(start + seconds(20), 1, false), Ok(None));
        let later = start + seconds(1000);
        assert_eq!(rate.observe(later, 1, true), Ok(Some(later + seconds(10))));
        assert_eq!(
            rate.observe(later + seconds(9), 1, true),
            Ok(Some(later + seconds(10)))
        );
        assert_eq!(rate.observe(later + seconds(10), 1, true), Err(TooSlow));
    }

    #[test]
    fn reading_a_little_now_and_then_is_too_slow() {
        let (mut rate, start) = rate();
        let mut sent = 0;
        let slow = (0..60).any(|second| {
            sent += KIB;
            let now = start + seconds(second);
            let _ = rate.observe(now, sent, false);
            rate.observe(now, sent, true) == Err(TooSlow)
        });
        assert!(slow);
    }

    #[test]
    fn a_rate_of_zero_disables_the_check() {
        let mut rate = SendRateMonitor::with_rate(0, seconds(30));
        assert_eq!(rate.observe(Instant::now(), 0, true), Ok(None));
    }
}
