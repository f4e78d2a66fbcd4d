//! A waker that can leave out a wake-up.
//!
//! hyper hands a request body over in a channel, and taking the last piece wakes the channel's sender even
//! if it is gone. Sender and receiver are parts of one task, which is running at that moment: it would be
//! polled once more for nothing, through all layers, with each request that has a Content-Length.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Wake, Waker};

thread_local! {
    /// What this thread does with wake-ups of the wakers below.
    static MODE: Cell<Mode> = const { Cell::new(Mode::Forward) };
}

enum Mode {
    /// Forwards them.
    Forward,
    /// Keeps the first.
    Hold,
    /// Has kept this one.
    Held(Waker),
}

/// Returns a waker that wakes `task`, except within [`hold`].
pub(super) fn holdable(task: &Waker) -> Waker {
    Waker::from(Arc::new(Holdable(task.clone())))
}

/// Runs `action` and returns the waker that it would have woken, to be woken or dropped. Held is the first that
/// was made by [`holdable`] and is woken on this thread; others are woken at once.
pub(in crate::listener) fn hold<T>(action: impl FnOnce() -> T) -> (T, Option<Waker>) {
    MODE.set(Mode::Hold);
    let forwards_again = ForwardsAgain;
    let done = action();
    let mode = MODE.replace(Mode::Forward);
    drop(forwards_again);
    match mode {
        Mode::Held(waker) => (done, Some(waker)),
        Mode::Forward | Mode::Hold => (done, None),
    }
}

/// Ends the holding, also if the action panics: the driver of a connection catches panics.
struct ForwardsAgain;

impl Drop for ForwardsAgain {
    fn drop(&mut self) {
        MODE.set(Mode::Forward);
    }
}

struct Holdable(Waker);

impl Wake for Holdable {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match MODE.replace(Mode::Forward) {
            Mode::Forward => self.0.wake_by_ref(),
            Mode::Hold => MODE.set(Mode::Held(self.0.clone())),
            Mode::Held(waker) => {
                if !waker.will_wake(&self.0) {
                    self.0.wake_by_ref();
                }
                MODE.set(Mode::Held(waker));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn wake_ups_are_held_on_this_thread_and_forwarded_everywhere_else() {
        let tasks = [(); 2].map(|()| Arc::<Wakes>::default());
        let [first, second] = tasks.each_ref().map(|task| holdable(&task.clone().into()));
        let wakes = || tasks.each_ref().map(|task| task.0.load(Relaxed));
        first.wake_by_ref();
        assert_eq!(wakes(), [1, 0]);
        let (_, held) = hold(|| {
            first.wake_by_ref();
            first.wake_by_ref();
            assert_eq!(wakes(), [1, 0]);
            second.wake_by_ref();
            assert_eq!(wakes(), [1, 1], "only one is held");
            std::thread::scope(|scope| {
                scope.spawn(|| first.wake_by_ref());
            });
            assert_eq!(wakes(), [2, 1], "another thread");
        });
        held.unwrap().wake();
        assert_eq!(wakes(), [3, 1]);
        assert!(hold(|| ()).1.is_none());
        let panicked = std::panic::catch_unwind(|| hold(|| panic!("a bug")));
        assert!(panicked.is_err());
        first.wake();
        assert_eq!(wakes(), [4, 1], "forwarded again");
    }
}
