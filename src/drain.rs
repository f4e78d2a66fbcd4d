//! Graceful shutdown. [`Trigger`] is used to advance the phases; [`Watch`] is held by every connection
//! and task; the drain completes when the last [`Watch`] is dropped (no counter). No dependencies
//! inside the crate.
//!
//! | phase        | new connections | idle connections | next response says       | requests in flight |
//! |--------------|-----------------|------------------|--------------------------|--------------------|
//! | [`Serving`]  | accepted        | kept             | -                        | served             |
//! | [`Notified`] | accepted        | HTTP/1 kept      | `Connection: close`, GOAWAY | served          |
//! | [`Closing`]  | backlog only    | closed           | `Connection: close`, GOAWAY | served          |
//! | [`Forced`]   | none            | closed           | -                        | aborted            |
//!
//! A phase only ever advances, and may be skipped:
//!
//! ```text
//! Serving ──> Notified ──> Closing ──> Forced
//! ```
//!
//! [`Serving`]: Phase::Serving
//! [`Notified`]: Phase::Notified
//! [`Closing`]: Phase::Closing
//! [`Forced`]: Phase::Forced

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::sync::watch;

/// The phases of a shutdown, in order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Normal operation.
    Serving,
    /// Clients are notified: every response has `Connection: close` (HTTP/2: GOAWAY). Idle HTTP/1
    /// connections stay open.
    Notified,
    /// Idle connections are closed; requests in flight may finish.
    Closing,
    /// All remaining connections are dropped.
    Forced,
}

/// Creates the two halves, in [`Phase::Serving`].
pub fn channel() -> (Trigger, Watch) {
    let (sender, changed) = watch::channel(Phase::Serving);
    let current = Arc::new(AtomicU8::new(Phase::Serving as u8));
    let watch = Watch {
        changed,
        current: current.clone(),
    };
    (Trigger { sender, current }, watch)
}

/// Used to advance the drain; held by the one owner that decides (not `Clone`). Dropping it forces the
/// end.
#[derive(Debug)]
pub struct Trigger {
    sender: watch::Sender<Phase>,
    /// Mirrors the sender's value, for [`Watch::phase`].
    current: Arc<AtomicU8>,
}

impl Trigger {
    /// Advances to `phase`; has no effect if that is an earlier phase than the current one.
    pub fn advance(&self, phase: Phase) {
        self.sender.send_if_modified(|current| {
            let advances = phase > *current;
            if advances {
                *current = phase;
                self.current.store(phase as u8, Ordering::Release);
            }
            advances
        });
    }

    /// Returns a further watch.
    pub fn watch(&self) -> Watch {
        Watch {
            changed: self.sender.subscribe(),
            current: self.current.clone(),
        }
    }

    /// Whether every watch has been dropped.
    pub fn is_complete(&self) -> bool {
        self.sender.is_closed()
    }

    /// Completes when every watch has been dropped.
    pub async fn completed(&self) {
        self.sender.closed().await;
    }
}

/// Used to observe the phase; held by every connection and task that the drain waits for. The drain
/// cannot complete while it exists.
#[derive(Clone, Debug)]
pub struct Watch {
    changed: watch::Receiver<Phase>,
    current: Arc<AtomicU8>,
}

impl Watch {
    /// Returns the current phase. One atomic load and no lock, since each request reads it.
    pub fn phase(&self) -> Phase {
        match self.current.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Notified,
            2 => Phase::Closing,
            _ => Phase::Forced,
        }
    }

    /// Completes when the drain has reached `phase` or a later one. A dropped trigger counts as
    /// [`Phase::Forced`].
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger has been dropped: no further phase will follow.
        let _ = self.changed.wait_for(|current| *current >= phase).await;
    }
}

/// Wakes a task on every phase change, at no cost for the task's other polls: `reached`, a
/// [`Watch::reached`], is polled only after it was woken itself.
///
/// A phase change can wake the task twice. Poll `reached` on every wake-up of its own waker: polling
/// it only when [`Watch::phase`] differs would miss later changes.
#[derive(Debug)]
pub struct PhaseListener<'a, F> {
    reached: Pin<&'a mut F>,
    wake_flag: Option<Arc<WakeFlag>>,
    is_done: bool,
}

impl<'a, F: Future<Output = ()>> PhaseListener<'a, F> {
    /// Creates a listener that wakes no task before its first [`PhaseListener::poll_phase`].
    pub fn new(reached: Pin<&'a mut F>) -> Self {
        Self {
            reached,
            wake_flag: None,
            is_done: false,
        }
    }

    /// Registers the task for the next phase change. Call it in every poll, before reading the phase.
    /// Returns true if the task's waker has changed since the last call.
    pub fn poll_phase(&mut self, context: &Context<'_>) -> bool {
        let known = self.wake_flag.take();
        let known = known.filter(|flag| flag.waker.will_wake(context.waker()));
        let is_new = known.is_none();
        let flag = known.unwrap_or_else(|| Arc::new(WakeFlag::new_set(context.waker().clone())));
        if flag.is_set.load(Ordering::Acquire) && !self.is_done {
            flag.is_set.store(false, Ordering::Release);
            let waker = Waker::from(flag.clone());
            let polled = self.reached.as_mut().poll(&mut Context::from_waker(&waker));
            self.is_done = polled.is_ready();
        }
        self.wake_flag = Some(flag);
        is_new
    }
}

/// A waker that records that it was called.
#[derive(Debug)]
struct WakeFlag {
    is_set: AtomicBool,
    waker: Waker,
}

impl WakeFlag {
    /// Creates a flag that is set already, so that the first poll registers with the drain.
    fn new_set(waker: Waker) -> Self {
        Self {
            is_set: AtomicBool::new(true),
            waker,
        }
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

/// Response extension: the connection closes after this response. Over HTTP/1.1 it becomes
/// `Connection: close`; HTTP/2 has no such header (RFC 9113, 8.2.2), so it becomes a GOAWAY.
#[derive(Clone, Copy, Debug)]
pub struct CloseAfterResponse;

/// Response extension: the client aborted its request, so that the response has no reader. An HTTP/2
/// connection stays open unless this repeats (CVE-2023-44487, rapid reset).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAborted;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_completes_when_the_last_watch_is_dropped() {
        let (trigger, mut watch) = channel();
        assert_eq!(watch.phase(), Phase::Serving);
        trigger.advance(Phase::Closing);
        trigger.advance(Phase::Notified);
        watch.reached(Phase::Notified).await;
        assert_eq!(watch.phase(), Phase::Closing);
        let second = trigger.watch();
        drop(watch);
        assert!(ready_now(trigger.completed()).await.is_none());
        drop(second);
        trigger.completed().await;
    }

    /// Returns the future's output if it is ready at once.
    async fn ready_now<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
    }
}
