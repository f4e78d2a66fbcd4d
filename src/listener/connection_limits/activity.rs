//! The sign of life of one connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use tokio::time::Instant;

/// What one connection is doing, for those who look for a connection to close.
#[derive(Debug)]
pub(in crate::listener) struct Activity {
    /// Milliseconds since the epoch, and a [`State`] in the two lowest bits.
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
        let pulse = Self {
            state: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
            waker: Mutex::new(None),
            epoch,
        };
        pulse.set(ActivityState::Handshaking, Instant::now());
        pulse
    }

    /// Nothing is asked since `now`.
    pub(in crate::listener) fn set_idle(&self, now: Instant) {
        self.set(ActivityState::Idle, now);
    }

    /// A request has come.
    pub(in crate::listener) fn set_busy(&self) {
        self.state.store(ActivityState::Busy as u64, Relaxed);
    }

    /// Must the connection end as soon as it is idle?
    pub(in crate::listener) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// Who is to be woken when the connection is evicted.
    pub(in crate::listener) fn set_waker(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Resolves when the connection is evicted.
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
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }

    fn set(&self, state: ActivityState, now: Instant) {
        let millis = now.saturating_duration_since(self.epoch).as_millis() as u64;
        self.state.store(millis << 2 | state as u64, Relaxed);
    }

    /// Since when nobody is served here; connections that have not asked yet are idle too.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let state = self.state.load(Relaxed);
        (state & 3 != ActivityState::Busy as u64).then_some(state >> 2)
    }

    pub(super) fn handshaking_since(&self) -> Option<u64> {
        let state = self.state.load(Relaxed);
        (state & 3 == ActivityState::Handshaking as u64).then_some(state >> 2)
    }
}
