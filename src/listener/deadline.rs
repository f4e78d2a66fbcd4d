//! Time on a connection: one sleep, reset lazily, and the least rate toward a client that reads.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Settings;

/// The one timer of a connection. A later deadline costs nothing: the sleep is left where it is and
/// looked at again when it fires; only an earlier one moves it.
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

    /// Sees to it that the task is woken at `deadline` or before. `true` if that has passed already.
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

/// Watches that bytes which wait to be sent do move. Time counts only while they wait.
#[derive(Debug)]
pub(super) struct SendRateMonitor {
    /// Bytes a window.
    min_bytes: u64,
    window: Duration,
    /// While bytes wait.
    pending_since: Option<Instant>,
    /// Waited in this window before that.
    pending_time: Duration,
    /// The count at the window's begin.
    sent_at_window_start: u64,
}

/// Bytes have been too slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooSlow;

impl SendRateMonitor {
    /// A rate of 0 allows everything.
    pub(super) fn new(settings: &Settings) -> Self {
        Self::with_rate(settings.min_send_rate, settings.send_rate_window)
    }

    /// For an answer that ends its connection: who does not take it soon goes without.
    pub(super) fn for_last_response(settings: &Settings) -> Self {
        let window = settings.send_rate_window.min(settings.linger_timeout);
        Self::with_rate(settings.min_send_rate, window)
    }

    /// `rate` in bytes a second.
    fn with_rate(rate: u64, window: Duration) -> Self {
        let least = u128::from(rate) * window.as_millis() / 1000;
        Self {
            // Less than a byte a window is one: only 0 is off.
            min_bytes: u64::try_from(least).unwrap_or(u64::MAX).max(rate.min(1)),
            window,
            pending_since: None,
            pending_time: Duration::ZERO,
            sent_at_window_start: 0,
        }
    }

    /// Takes the state at `now`: the bytes sent so far, and whether more wait. The deadline to look
    /// again, if any.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        sent: u64,
        waiting: bool,
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
        if !waiting {
            return Ok(None);
        }
        self.pending_since = Some(now);
        Ok(Some(now + (self.window - self.pending_time)))
    }

    /// A new answer begins a new window.
    pub(super) fn start_window(&mut self, sent: u64) {
        self.pending_since = None;
        self.pending_time = Duration::ZERO;
        self.sent_at_window_start = sent;
    }
}

/// How long a connection that was accepted at the end of a drain may take to ask once.
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
    fn a_reader_at_the_rate_goes_on_and_one_below_it_does_not() {
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
    fn only_time_in_which_bytes_wait_counts() {
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
    fn taking_a_little_now_and_then_does_not_help() {
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
    fn no_rate_asked_is_none_kept() {
        let mut rate = SendRateMonitor::with_rate(0, seconds(30));
        assert_eq!(rate.observe(Instant::now(), 0, true), Ok(None));
    }
}
