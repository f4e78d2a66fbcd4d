//! The connections that a node has, over all workers. Each worker keeps its own idle ones; this is
//! only the count of all, and the way to take an idle one away from a worker that does not need it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

/// One connection's place in its node's count.
#[derive(Debug, Default)]
pub struct ConnectionSlot {
    state: AtomicU8,
    use_count: AtomicU32,
    response_started: AtomicBool,
    driver: OnceLock<Waker>,
}

impl ConnectionSlot {
    /// Says which task drives the connection; it is woken when the slot is closed. A task's waker
    /// stays the same, so once is enough.
    pub fn set_driver(&self, waker: &Waker) {
        self.driver.get_or_init(|| waker.clone());
    }

    /// Has the connection to end?
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CLOSED
    }

    /// Was it idle when it was closed, so that no answer is cut?
    pub fn was_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED_IDLE
    }

    /// How often the connection was given back; unchanged for as long as it is idle.
    pub fn use_count(&self) -> u32 {
        self.use_count.load(Ordering::Relaxed)
    }

    /// From idle to busy; false if it was closed meanwhile.
    pub fn acquire(&self) -> bool {
        self.response_started.store(false, Ordering::Relaxed);
        self.transition(IDLE, BUSY)
    }

    /// From busy to idle; false if it was closed meanwhile.
    pub fn release(&self) -> bool {
        self.use_count.fetch_add(1, Ordering::Relaxed);
        self.transition(BUSY, IDLE)
    }

    /// Ends the connection if it is idle; was it?
    pub fn close_idle(&self) -> bool {
        let closed = self.transition(IDLE, CLOSED_IDLE);
        if closed {
            self.wake_driver();
        }
        closed
    }

    /// Ends the connection.
    pub fn close(&self) {
        if !self.close_idle() && self.transition(BUSY, CLOSED) {
            self.wake_driver();
        }
    }

    /// A byte came from the node since the connection was last taken.
    pub fn mark_response_started(&self) {
        // Read first: a store for every read of a long body would dirty the line for nothing.
        if !self.has_response_started() {
            self.response_started.store(true, Ordering::Relaxed);
        }
    }

    /// Did a byte come from the node since the connection was last taken?
    pub fn has_response_started(&self) -> bool {
        self.response_started.load(Ordering::Relaxed)
    }

    fn transition(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn wake_driver(&self) {
        // A connection is driven before it is ever idle, so an idle one has its waker.
        if let Some(driver) = self.driver.get() {
            driver.wake_by_ref();
        }
    }
}

/// All slots of one node.
#[derive(Debug, Default)]
pub(super) struct ConnectionSlots(Mutex<Vec<Arc<ConnectionSlot>>>);

impl ConnectionSlots {
    /// A slot for a new connection, at most `cap` in all. At the cap an idle connection of another
    /// worker is closed for it; `None` if every one is busy.
    pub(super) fn open(&self, cap: usize) -> Option<Arc<ConnectionSlot>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| !slot.is_closed());
        if slots.len() >= cap {
            let idle = slots.iter().position(|slot| slot.close_idle())?;
            slots.swap_remove(idle);
        }
        let slot = Arc::new(ConnectionSlot::default());
        slots.push(slot.clone());
        Some(slot)
    }

    /// Connections now.
    pub(super) fn count(&self) -> usize {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().filter(|slot| !slot.is_closed()).count()
    }
}

impl Drop for ConnectionSlots {
    /// The node is gone: nobody can need its idle connections again.
    fn drop(&mut self) {
        let slots = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for slot in slots {
            slot.close();
        }
    }
}

const BUSY: u8 = 0;
const IDLE: u8 = 1;
const CLOSED: u8 = 2;
const CLOSED_IDLE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_cap_an_idle_connection_makes_room() {
        let slots = ConnectionSlots::default();
        let (one, two) = (slots.open(2).unwrap(), slots.open(2).unwrap());
        assert!(slots.open(2).is_none(), "both are busy");
        assert!(two.release());
        let three = slots.open(2).expect("an idle one makes room");
        assert!(two.is_closed() && !two.acquire() && !one.is_closed());
        assert_eq!(slots.count(), 2);
        three.close();
        assert_eq!(slots.count(), 1);
        drop(slots);
        assert!(one.is_closed(), "the node is gone");
    }
}
