//! How things end: one [`Trigger`] moves through the phases of a shutdown, every connection and task
//! holds a [`Watch`]. A drain is over when all watches are dropped; nobody counts. Knows nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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
    let now = Arc::new(Now::default());
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
    now: Arc<Now>,
}

/// The phase, to be looked at without a lock.
#[derive(Debug, Default)]
struct Now {
    /// The same as the sender's value.
    phase: AtomicU8,
    /// The last phase that every watch has been woken for.
    told: AtomicU8,
}

impl Trigger {
    /// Moves to `phase`; an earlier phase than the current one changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.sender.send_if_modified(|current| {
            let moves = phase > *current;
            if moves {
                *current = phase;
                self.now.phase.store(phase as u8, Ordering::Release);
            }
            moves
        });
        self.now.told.fetch_max(phase as u8, Ordering::Release);
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
    now: Arc<Now>,
}

impl Watch {
    /// Where the drain is now. Asked for each request, so it is one load and no lock.
    pub fn phase(&self) -> Phase {
        match self.now.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Announced,
            2 => Phase::Closing,
            _ => Phase::Forced,
        }
    }

    /// Has every watch been woken for `phase`? For tasks that poll [`Watch::reached`] only when the
    /// phase has moved: a poll between the move and the waking uses up the waking, and does not hear
    /// of the next move. So a poll counts only if this was true before it.
    pub fn is_told(&self, phase: Phase) -> bool {
        self.now.told.load(Ordering::Acquire) >= phase as u8
    }

    /// Resolves when the drain has come to `phase` or beyond; a dropped trigger is [`Phase::Forced`].
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone: nobody will ever end this in order.
        let _ = self.moved.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

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

    /// What a connection does: it is woken for many reasons, and polls its watch only if the phase
    /// has moved.
    async fn until_closing(watch: Watch, mut busy: u32) {
        let mut acts = watch.clone();
        let mut acts = std::pin::pin!(async move {
            acts.reached(Phase::Closing).await;
            std::future::pending::<()>().await;
        });
        let mut seen = None;
        std::future::poll_fn(|context| {
            let phase = watch.phase();
            if seen != Some(phase) {
                seen = watch.is_told(phase).then_some(phase);
                let _ = acts.as_mut().poll(context);
            }
            if busy > 0 {
                busy -= 1;
                context.waker().wake_by_ref();
            }
            if phase >= Phase::Closing {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_rarely_polls_its_watch_misses_no_move() {
        for round in 0..3000 {
            let (trigger, watch) = channel();
            #[expect(clippy::disallowed_methods, reason = "awaited below")]
            let task = tokio::spawn(until_closing(watch, round % 300));
            for _ in 0..round % 70 {
                std::hint::spin_loop();
            }
            trigger.advance(Phase::Announced);
            // The task is at rest again, or is not: both must do.
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            trigger.advance(Phase::Closing);
            let deadline = std::time::Duration::from_secs(5);
            tokio::time::timeout(deadline, task).await.unwrap().unwrap();
        }
    }

    /// The future's output if it is ready at once.
    async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
    }
}
