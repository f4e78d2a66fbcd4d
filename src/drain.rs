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
    Announced,
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
        moved,
        now: now.clone(),
    };
    (Trigger { sender, now }, watch)
}

/// Moves the drain on. Not `Clone`: one owner decides.
#[derive(Debug)]
pub struct Trigger {
    sender: watch::Sender<Phase>,
    /// The same as the sender's value.
    now: Arc<AtomicU8>,
}

impl Trigger {
    /// Moves to `phase`; an earlier phase than the current one changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.sender.send_if_modified(|current| {
            let moves = phase > *current;
            if moves {
                *current = phase;
                self.now.store(phase as u8, Ordering::Release);
            }
            moves
        });
    }

    /// A further watch.
    pub fn watch(&self) -> Watch {
        Watch {
            moved: self.sender.subscribe(),
            now: self.now.clone(),
        }
    }

    /// Is every watch dropped?
    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    /// Resolves when every watch is dropped.
    pub async fn all_gone(&self) {
        self.sender.closed().await;
    }
}

/// Sees the phases; keeps the drain from being over while it lives.
#[derive(Clone, Debug)]
pub struct Watch {
    moved: watch::Receiver<Phase>,
    now: Arc<AtomicU8>,
}

impl Watch {
    /// Where the drain is now. Asked for each request, so it is one load and no lock.
    pub fn phase(&self) -> Phase {
        match self.now.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Announced,
            2 => Phase::Closing,
            _ => Phase::Forced,
        }
    }

    /// Resolves when the drain has come to `phase` or beyond; a dropped trigger is [`Phase::Forced`].
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone: nobody will ever end this in order.
        let _ = self.moved.wait_for(|current| *current >= phase).await;
    }
}

/// Has a task woken at every move, at no cost for all its other polls: `reached`, a
/// [`Watch::reached`], is polled only when it was woken itself. One move may wake twice, the second
/// time after the first was seen; so to poll it only when [`Watch::phase`] has moved would lose all
/// later moves.
#[derive(Debug)]
pub struct Follower<'a, F> {
    reached: Pin<&'a mut F>,
    bell: Option<Arc<Bell>>,
    over: bool,
}

impl<'a, F: Future<Output = ()>> Follower<'a, F> {
    /// Not woken before the first [`Follower::follow`].
    pub fn new(reached: Pin<&'a mut F>) -> Self {
        Self {
            reached,
            bell: None,
            over: false,
        }
    }

    /// To be called in every poll, before the phase is looked at; `true` if the task's waker is new.
    pub fn follow(&mut self, context: &Context<'_>) -> bool {
        let known = self.bell.take();
        let known = known.filter(|bell| bell.task.will_wake(context.waker()));
        let is_new = known.is_none();
        let bell = known.unwrap_or_else(|| Arc::new(Bell::rung(context.waker().clone())));
        if bell.has_rung.load(Ordering::Acquire) && !self.over {
            bell.has_rung.store(false, Ordering::Release);
            let waker = Waker::from(bell.clone());
            let polled = self.reached.as_mut().poll(&mut Context::from_waker(&waker));
            self.over = polled.is_ready();
        }
        self.bell = Some(bell);
        is_new
    }
}

/// Wakes a task, and notes that it did.
#[derive(Debug)]
struct Bell {
    has_rung: AtomicBool,
    task: Waker,
}

impl Bell {
    fn rung(task: Waker) -> Self {
        Self {
            has_rung: AtomicBool::new(true),
            task,
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// An extension of a response: it is the last one of its connection. In HTTP/1.1 the field
/// `Connection: close` says so too; HTTP/2 has no such field, there it becomes a GOAWAY.
#[derive(Clone, Copy, Debug)]
pub struct LastAnswer;

/// Extension of an answer that nobody waits for: the client gave its request up half-way. Over HTTP/2
/// the connection lives on, unless that happens again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GivenUp;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_moves_on_and_is_over_when_the_last_watch_goes() {
        let (trigger, mut watch) = channel();
        assert_eq!(watch.phase(), Phase::Serving);
        trigger.advance(Phase::Closing);
        trigger.advance(Phase::Announced);
        watch.reached(Phase::Announced).await;
        assert_eq!(watch.phase(), Phase::Closing);
        let second = trigger.watch();
        drop(watch);
        assert!(futures_now(trigger.all_gone()).await.is_none());
        drop(second);
        trigger.all_gone().await;
    }

    /// The future's output if it is ready at once.
    async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
    }
}
