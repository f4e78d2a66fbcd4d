//! The connection limit of a node, over all workers. Each worker has its own idle connections; the slots
//! here count all of them, and let a worker close an idle one of another worker to make room.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;

/// The slot of one connection.
#[derive(Debug, Default)]
pub struct ConnectionSlot {
    state: AtomicU8,
    driver: OnceLock<Waker>,
}

impl ConnectionSlot {
    /// Sets the waker of the task that closes the connection when its slot is closed while it is idle.
    /// Only the first call counts.
    pub fn set_driver(&self, waker: &Waker) {
        self.driver.get_or_init(|| waker.clone());
    }

    /// Whether the connection has to be closed.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Changes from idle to busy; returns false if the slot is closed.
    pub fn acquire(&self) -> bool {
        self.transition(IDLE, BUSY)
    }

    /// Changes from busy to idle; returns false if the slot is closed.
    pub fn release(&self) -> bool {
        self.transition(BUSY, IDLE)
    }

    /// Closes the slot if it is idle; returns whether it was.
    pub fn close_idle(&self) -> bool {
        let closed = self.transition(IDLE, CLOSED);
        if let (true, Some(driver)) = (closed, self.driver.get()) {
            driver.wake_by_ref();
        }
        closed
    }

    /// Closes the slot. A busy connection is closed by its owner, which calls this.
    pub fn close(&self) {
        if !self.close_idle() {
            self.state.store(CLOSED, Ordering::Release);
        }
    }

    fn transition(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// All slots of one node.
#[derive(Debug, Default)]
pub(super) struct ConnectionSlots(Mutex<Vec<Arc<ConnectionSlot>>>);

impl ConnectionSlots {
    /// Returns a slot for a new connection, at most `limit` in all. At the limit, an idle connection of
    /// some worker is closed for it; `None` if all are busy.
    pub(super) fn open(&self, limit: usize) -> Option<Arc<ConnectionSlot>> {
        let mut slots = self.0.lock();
        slots.retain(|slot| !slot.is_closed());
        if slots.len() >= limit {
            let idle = slots.iter().position(|slot| slot.close_idle())?;
            slots.swap_remove(idle);
        }
        let slot = Arc::new(ConnectionSlot::default());
        slots.push(slot.clone());
        Some(slot)
    }

    /// Returns the number of connections.
    pub(super) fn count(&self) -> usize {
        let slots = self.0.lock();
        slots.iter().filter(|slot| !slot.is_closed()).count()
    }
}

impl Drop for ConnectionSlots {
    /// The node was removed, so its idle connections are of no use.
    fn drop(&mut self) {
        for slot in self.0.get_mut() {
            slot.close();
        }
    }
}

const BUSY: u8 = 0;
const IDLE: u8 = 1;
const CLOSED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_an_idle_connection_is_closed() {
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
