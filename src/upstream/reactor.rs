//! Whether the reactor of a worker has polled its sockets since a moment. tokio remembers that a socket had
//! nothing more to read until the reactor reports it again, so what arrives in between is not seen: neither
//! a close nor an unsolicited response.

use std::cell::Cell;

thread_local! {
    /// Turns of this thread's reactor that were counted; some are not.
    static TURNS: Cell<u64> = const { Cell::new(0) };
}

/// A moment between two turns of the reactor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Turn(u64);

/// Counts one turn. The runtime of a worker calls it each time that its thread is unparked. A runtime that
/// never does is correct too, but slower.
pub fn count_reactor_turn() {
    TURNS.set(TURNS.get().wrapping_add(1));
}

impl Turn {
    /// Returns the current turn of this thread.
    pub(super) fn now() -> Self {
        Self(TURNS.get())
    }

    /// Whether the reactor has certainly polled its sockets since.
    pub(super) fn is_over(self) -> bool {
        self != Self::now()
    }
}

/// Waits until the reactor has polled its sockets.
pub(super) async fn next_turn() {
    // The runtime resumes tasks that yield only after a turn.
    tokio::task::yield_now().await;
    count_reactor_turn();
}
