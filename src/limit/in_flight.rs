//! Limits on what is in flight at once; guards give back what they took.

use crate::gauge::{Gauge, GaugeGuard};

/// A limit on the number of requests in flight. Clones share the count.
#[derive(Clone, Debug)]
pub struct InFlight {
    in_use: Gauge,
    limit: usize,
}

impl InFlight {
    /// Creates a limit of `limit` at once.
    pub fn new(limit: usize) -> Self {
        Self {
            in_use: Gauge::default(),
            limit,
        }
    }

    /// Returns another limit on the same count, so that a reload keeps counting what is in flight.
    pub fn with_limit(&self, limit: usize) -> Self {
        Self {
            in_use: self.in_use.clone(),
            limit,
        }
    }

    /// Returns a permit, or `None` at the limit.
    pub fn try_acquire(&self) -> Option<Permit> {
        self.in_use.try_enter(self.limit).map(Permit)
    }

    /// Returns the number of permits in use.
    pub fn in_use(&self) -> usize {
        self.in_use.count()
    }

    /// Returns how many may be in use.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// One request in flight, until dropped.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "counts until dropped")] GaugeGuard);

/// A limit on buffered bytes. Clones share the count.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    in_use: Gauge,
    limit: usize,
}

impl ByteBudget {
    /// Creates a budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            in_use: Gauge::default(),
            limit,
        }
    }

    /// Returns another limit on the same count, so that a reload keeps counting what is buffered.
    pub fn with_limit(&self, limit: usize) -> Self {
        Self {
            in_use: self.in_use.clone(),
            limit,
        }
    }

    /// Returns a permit for no bytes, which grows as bytes arrive.
    pub fn permit(&self) -> BytePermit {
        BytePermit {
            bytes: self.in_use.enter_empty(),
            limit: self.limit,
        }
    }

    /// Returns the number of bytes in use.
    pub fn in_use(&self) -> usize {
        self.in_use.count()
    }
}

/// Bytes of a [`ByteBudget`], until dropped.
#[derive(Debug)]
pub struct BytePermit {
    bytes: GaugeGuard,
    limit: usize,
}

impl BytePermit {
    /// From now on this permit grows only while a quarter of the budget stays free, so that large
    /// bodies cannot starve small ones.
    pub fn leave_quarter_free(&mut self) {
        self.limit -= self.limit / 4;
    }

    /// Takes `bytes` more; returns false and takes nothing if that exceeds the budget.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        self.bytes.try_grow(bytes, self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_dropped_permits_are_given_back() {
        let in_flight = InFlight::new(2);
        let first = in_flight.try_acquire();
        let second = in_flight.try_acquire();
        assert!(first.is_some() && second.is_some() && in_flight.try_acquire().is_none());
        drop(first);
        assert_eq!(in_flight.in_use(), 1);
        assert!(in_flight.try_acquire().is_some());
    }

    #[test]
    fn large_bodies_leave_a_quarter_to_small_ones() {
        let budget = ByteBudget::new(100);
        let (mut upload, mut small) = (budget.permit(), budget.permit());
        upload.leave_quarter_free();
        assert!(upload.try_grow(75) && !upload.try_grow(1));
        assert!(small.try_grow(25) && !small.try_grow(1));
    }

    #[test]
    fn bytes_are_held_until_dropped() {
        let budget = ByteBudget::new(100);
        let mut one = budget.permit();
        assert!(one.try_grow(60));
        let mut other = budget.permit();
        assert!(!other.try_grow(41) && other.try_grow(40));
        drop(one);
        assert_eq!(budget.in_use(), 40);
    }
}
