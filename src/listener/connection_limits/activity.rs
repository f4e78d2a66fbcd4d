//! What one connection is doing, and whether it was evicted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The activity of one connection, read by the search for a connection to evict.
#[derive(Debug)]
pub(in crate::listener) struct Activity {
    /// Milliseconds since the epoch, and a [`ActivityState`] in the two lowest bits.
    state: AtomicU64,
    evicted: AtomicBool,
    waker: Mutex<Option<Waker>>,
    epoch: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
enum ActivityState {
    Handshaking = 0,
    Idle = 1,
    Busy = 2,
}

impl Activity {
    pub(super) fn new(epoch: Instant) -> Self {
        let activity = Self {
            state: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
            waker: Mutex::new(None),
            epoch,
        };
        activity.set(ActivityState::Handshaking, Instant::now());
        activity
    }

    /// No request is in flight since `now`.
    pub(in crate::listener) fn set_idle(&self, now: Instant) {
        self.set(ActivityState::Idle, now);
    }

    /// A request is in flight.
    pub(in crate::listener) fn set_busy(&self) {
        self.state.store(ActivityState::Busy as u64, Relaxed);
    }

    /// Whether the connection must close as soon as it is idle.
    pub(in crate::listener) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// Sets the task to be woken when the connection is evicted.
    pub(in crate::listener) fn set_waker(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// Completes when the connection is evicted.
    pub(in crate::listener) async fn evicted(&self) {
        std::future::poll_fn(|context| {
            self.set_waker(context.waker());
            if self.is_evicted() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    pub(super) fn evict(&self) {
        self.evicted.store(true, Relaxed);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    fn set(&self, state: ActivityState, now: Instant) {
        let millis = now.saturating_duration_since(self.epoch).as_millis() as u64;
        self.state.store(millis << 2 | state as u64, Relaxed);
    }

    /// Returns the start of the current idle period in milliseconds since the epoch, if no request is in
    /// flight. Connections without a first request are idle too.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let state = self.state.load(Relaxed);
        (state & 3 != ActivityState::Busy as u64).then_some(state >> 2)
    }

    /// Returns the start of the handshake in milliseconds since the epoch, while it lasts.
    pub(super) fn handshaking_since(&self) -> Option<u64> {
        let state = self.state.load(Relaxed);
        (state & 3 == ActivityState::Handshaking as u64).then_some(state >> 2)
    }
}
