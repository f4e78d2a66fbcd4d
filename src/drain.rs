//! How things end: one [`Trigger`] moves through the phases of a shutdown, every connection and task
//! holds a [`Watch`]. A drain is over when all watches are dropped; nobody counts. Knows nobody.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::sync::watch;

/// The acts of a shutdown, in order; a drain never goes back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Business as usual.
    Serving,
    /// Every answer says `Connection: close` (HTTP/2: GOAWAY); idle connections may stay.
    Notified,
    /// Idle connections are closed, what is in flight may finish.
    Closing,
    /// Whatever is left is dropped.
    Forced,
}

/// Makes the two halves, in [`Phase::Serving`].
pub fn channel() -> (Trigger, Watch) {
    let (sender, moved) = watch::channel(Phase::Serving);
    let now = Arc::new(AtomicU8::new(Phase::Serving as u8));
    let watch = Watch {
        changed: moved,
        current: now.clone(),
    };
    (
        Trigger {
            sender,
            current: now,
        },
        watch,
    )
}

/// Moves the drain on. Not `Clone`: one owner decides.
#[derive(Debug)]
pub struct Trigger {
    sender: watch::Sender<Phase>,
    /// The same as the sender's value.
    current: Arc<AtomicU8>,
}

impl Trigger {
    /// Moves to `phase`; an earlier phase than the current one changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.sender.send_if_modified(|current| {
            let moves = phase > *current;
            if moves {
                *current = phase;
                self.current.store(phase as u8, Ordering::Release);
            }
            moves
        });
    }

    /// A further watch.
    pub fn watch(&self) -> Watch {
        Watch {
            changed: self.sender.subscribe(),
            current: self.current.clone(),
        }
    }

    /// Is every watch dropped?
    pub fn is_complete(&self) -> bool {
        self.sender.is_closed()
    }

    /// Resolves when every watch is dropped.
    pub async fn completed(&self) {
        self.sender.closed().await;
    }
}

/// Sees the phases; keeps the drain from being over while it lives.
#[derive(Clone, Debug)]
pub struct Watch {
    changed: watch::Receiver<Phase>,
    current: Arc<AtomicU8>,
}

impl Watch {
    /// Where the drain is now. Asked for each request, so it is one load and no lock.
    pub fn phase(&self) -> Phase {
        match self.current.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Notified,
            2 => Phase::Closing,
            _ => Phase::Forced,
        }
    }

    /// Resolves when the drain has come to `phase` or beyond; a dropped trigger is [`Phase::Forced`].
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone: nobody will ever end this in order.
        let _ = self.changed.wait_for(|current| *current >= phase).await;
    }
}

/// Has a task woken at every move, at no cost for all its other polls: `reached`, a
/// [`Watch::reached`], is polled only when it was woken itself. One move may wake twice, the second
/// time after the first was seen; so to poll it only when [`Watch::phase`] has moved would lose all
/// later moves.
#[derive(Debug)]
pub struct PhaseListener<'a, F> {
    reached: Pin<&'a mut F>,
    wake_flag: Option<Arc<WakeFlag>>,
    is_done: bool,
}

impl<'a, F: Future<Output = ()>> PhaseListener<'a, F> {
    /// Not woken before the first [`Follower::follow`].
    pub fn new(reached: Pin<&'a mut F>) -> Self {
        Self {
            reached,
            wake_flag: None,
            is_done: false,
        }
    }

    /// To be called in every poll, before the phase is looked at; `true` if the task's waker is new.
    pub fn poll_phase(&mut self, context: &Context<'_>) -> bool {
        let known = self.wake_flag.take();
        let known = known.filter(|bell| bell.waker.will_wake(context.waker()));
        let is_new = known.is_none();
        let bell = known.unwrap_or_else(|| Arc::new(WakeFlag::new_set(context.waker().clone())));
        if bell.is_set.load(Ordering::Acquire) && !self.is_done {
            bell.is_set.store(false, Ordering::Release);
            let waker = Waker::from(bell.clone());
            let polled = self.reached.as_mut().poll(&mut Context::from_waker(&waker));
            self.is_done = polled.is_ready();
        }
        self.wake_flag = Some(bell);
        is_new
    }
}

/// Wakes a task, and notes that it did.
#[derive(Debug)]
struct WakeFlag {
    is_set: AtomicBool,
    waker: Waker,
}

impl WakeFlag {
    fn new_set(task: Waker) -> Self {
        Self {
            is_set: AtomicBool::new(true),
            waker: task,
        }
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

/// An extension of a response: it is the last one of its connection. In HTTP/1.1 the field
/// `Connection: close` says so too; HTTP/2 has no such field, there it becomes a GOAWAY.
#[derive(Clone, Copy, Debug)]
pub struct CloseAfterResponse;

/// Extension of an answer that nobody waits for: the client gave its request up half-way. Over HTTP/2
/// the connection lives on, unless that happens again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAborted;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_moves_on_and_is_over_when_the_last_watch_goes() {
        let (trigger, mut watch) = channel();
        assert_eq!(watch.phase(), Phase::Serving);
        trigger.advance(Phase::Closing);
        trigger.advance(Phase::Notified);
        watch.reached(Phase::Notified).await;
        assert_eq!(watch.phase(), Phase::Closing);
        let second = trigger.watch();
        drop(watch);
        assert!(futures_now(trigger.completed()).await.is_none());
        drop(second);
        trigger.completed().await;
    }

    /// The future's output if it is ready at once.
    async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
    }
}
