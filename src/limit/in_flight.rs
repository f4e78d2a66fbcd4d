//! Caps on what runs at once: guards that give back what they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cap on things at once; shared by handle.
#[derive(Clone, Debug)]
pub struct InFlight {
    in_use: Arc<AtomicUsize>,
    limit: usize,
}

impl InFlight {
    /// At most `cap` at once.
    pub fn new(cap: usize) -> Self {
        Self {
            in_use: Arc::default(),
            limit: cap,
        }
    }

    /// The same counter under another cap, so that a reload forgets nothing that runs.
    pub fn with_limit(&self, cap: usize) -> Self {
        Self {
            in_use: self.in_use.clone(),
            limit: cap,
        }
    }

    /// One more, or `None` at the cap.
    pub fn try_acquire(&self) -> Option<Permit> {
        try_add(&self.in_use, 1, self.limit).then(|| Permit(self.in_use.clone()))
    }

    /// How many run now.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
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
pub struct ByteBudget {
    in_use: Arc<AtomicUsize>,
    limit: usize,
}

impl ByteBudget {
    /// At most `cap` bytes at once.
    pub fn new(cap: usize) -> Self {
        Self {
            in_use: Arc::default(),
            limit: cap,
        }
    }

    /// The same bytes under another cap.
    pub fn with_limit(&self, cap: usize) -> Self {
        Self {
            in_use: self.in_use.clone(),
            limit: cap,
        }
    }

    /// An empty reservation, to grow as bytes come.
    pub fn permit(&self) -> BytePermit {
        BytePermit {
            in_use: self.in_use.clone(),
            limit: self.limit,
            held: 0,
        }
    }

    /// Bytes held now.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }
}

/// Bytes held until dropped.
#[derive(Debug)]
pub struct BytePermit {
    in_use: Arc<AtomicUsize>,
    limit: usize,
    held: usize,
}

impl BytePermit {
    /// From now on this one grows only while a quarter of the cap is left: large things must not keep
    /// out the small ones.
    pub fn leave_quarter_free(&mut self) {
        self.limit -= self.limit / 4;
    }

    /// Takes `bytes` more; false, and nothing taken, if that goes over the cap.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let taken = try_add(&self.in_use, bytes, self.limit);
        if taken {
            self.held += bytes;
        }
        taken
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        if self.held > 0 {
            self.in_use.fetch_sub(self.held, Ordering::Relaxed);
        }
    }
}

/// Adds first and takes back on failure: one atomic operation in the common case.
fn try_add(used: &AtomicUsize, amount: usize, cap: usize) -> bool {
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
        let first = in_flight.try_acquire();
        let second = in_flight.try_acquire();
        assert!(first.is_some() && second.is_some() && in_flight.try_acquire().is_none());
        drop(first);
        assert_eq!(in_flight.in_use(), 1);
        assert!(in_flight.try_acquire().is_some());
    }

    #[test]
    fn large_things_leave_a_quarter_to_the_small_ones() {
        let reserve = ByteBudget::new(100);
        let (mut upload, mut small) = (reserve.permit(), reserve.permit());
        upload.leave_quarter_free();
        assert!(upload.try_grow(75) && !upload.try_grow(1));
        assert!(small.try_grow(25) && !small.try_grow(1));
    }

    #[test]
    fn bytes_are_held_until_dropped() {
        let reserve = ByteBudget::new(100);
        let mut one = reserve.permit();
        assert!(one.try_grow(60));
        let mut other = reserve.permit();
        assert!(!other.try_grow(41) && other.try_grow(40));
        drop(one);
        assert_eq!(reserve.in_use(), 40);
    }
}
