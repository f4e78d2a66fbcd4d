//! Caps on what runs at once: guards that give back what they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cap on things at once; shared by handle.
#[derive(Clone, Debug)]
pub struct InFlight {
    used: Arc<AtomicUsize>,
    cap: usize,
}

impl InFlight {
    /// At most `cap` at once.
    pub fn new(cap: usize) -> Self {
        Self {
            used: Arc::default(),
            cap,
        }
    }

    /// The same counter under another cap, so that a reload forgets nothing that runs.
    pub fn with_cap(&self, cap: usize) -> Self {
        Self {
            used: self.used.clone(),
            cap,
        }
    }

    /// One more, or `None` at the cap.
    pub fn enter(&self) -> Option<Permit> {
        take(&self.used, 1, self.cap).then(|| Permit(self.used.clone()))
    }

    /// How many run now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One thing in flight, until dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cap on bytes at once.
#[derive(Clone, Debug)]
pub struct Reserve {
    used: Arc<AtomicUsize>,
    cap: usize,
}

impl Reserve {
    /// At most `cap` bytes at once.
    pub fn new(cap: usize) -> Self {
        Self {
            used: Arc::default(),
            cap,
        }
    }

    /// The same bytes under another cap.
    pub fn with_cap(&self, cap: usize) -> Self {
        Self {
            used: self.used.clone(),
            cap,
        }
    }

    /// An empty reservation, to grow as bytes come.
    pub fn begin(&self) -> Reservation {
        Reservation {
            used: self.used.clone(),
            cap: self.cap,
            held: 0,
        }
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Bytes held until dropped.
#[derive(Debug)]
pub struct Reservation {
    used: Arc<AtomicUsize>,
    cap: usize,
    held: usize,
}

impl Reservation {
    /// From now on this one grows only while a quarter of the cap is left: large things must not keep
    /// out the small ones.
    pub fn leave_a_quarter(&mut self) {
        self.cap -= self.cap / 4;
    }

    /// Takes `bytes` more; false, and nothing taken, if that goes over the cap.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = take(&self.used, bytes, self.cap);
        if taken {
            self.held += bytes;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.held > 0 {
            self.used.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}

/// Adds first and takes back on failure: one atomic operation in the common case.
fn take(used: &AtomicUsize, amount: usize, cap: usize) -> bool {
    let before = used.fetch_add(amount, Ordering::Relaxed);
    let fits = before.checked_add(amount).is_some_and(|after| after <= cap);
    if !fits {
        used.fetch_sub(amount, Ordering::Relaxed);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_holds_and_guards_give_back() {
        let in_flight = InFlight::new(2);
        let first = in_flight.enter();
        let second = in_flight.enter();
        assert!(first.is_some() && second.is_some() && in_flight.enter().is_none());
        drop(first);
        assert_eq!(in_flight.used(), 1);
        assert!(in_flight.enter().is_some());
    }

    #[test]
    fn large_things_leave_a_quarter_to_the_small_ones() {
        let reserve = Reserve::new(100);
        let (mut upload, mut small) = (reserve.begin(), reserve.begin());
        upload.leave_a_quarter();
        assert!(upload.grow(75) && !upload.grow(1));
        assert!(small.grow(25) && !small.grow(1));
    }

    #[test]
    fn bytes_are_held_until_dropped() {
        let reserve = Reserve::new(100);
        let mut one = reserve.begin();
        assert!(one.grow(60));
        let mut other = reserve.begin();
        assert!(!other.grow(41) && other.grow(40));
        drop(one);
        assert_eq!(reserve.used(), 40);
    }
}
