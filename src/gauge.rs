//! A gauge with RAII guards: a count of live things that goes down when a guard is dropped. No
//! dependencies inside the crate.

mod recent;

pub use recent::RecentCount;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of live things. Clones share the count.
///
/// All operations are relaxed: the count orders nothing else.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Counts one more, until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.guard(1)
    }

    /// Counts one more unless the count has reached `limit`.
    pub fn try_enter(&self, limit: usize) -> Option<GaugeGuard> {
        self.try_add(1, limit).then(|| self.guard(1))
    }

    /// Returns a guard that counts nothing until [`GaugeGuard::try_grow`].
    pub fn enter_empty(&self) -> GaugeGuard {
        self.guard(0)
    }

    /// Returns the current count.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn guard(&self, amount: usize) -> GaugeGuard {
        GaugeGuard {
            gauge: self.clone(),
            amount,
        }
    }

    /// Compares and swaps instead of adding first: a large amount that does not fit must not make a
    /// small one fail meanwhile.
    fn try_add(&self, amount: usize, limit: usize) -> bool {
        let added = |count: usize| count.checked_add(amount).filter(|&sum| sum <= limit);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, added)
            .is_ok()
    }
}

/// One share of a [`Gauge`]; subtracted when dropped.
#[derive(Debug)]
pub struct GaugeGuard {
    gauge: Gauge,
    amount: usize,
}

impl GaugeGuard {
    /// Counts `amount` more on this guard; returns false and changes nothing if the gauge would
    /// exceed `limit`.
    #[must_use]
    pub fn try_grow(&mut self, amount: usize, limit: usize) -> bool {
        let fits = self.gauge.try_add(amount, limit);
        if fits {
            self.amount += amount;
        }
        fits
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.gauge.0.fetch_sub(self.amount, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_give_back_what_they_took() {
        let gauge = Gauge::default();
        let one = gauge.enter();
        let mut bytes = gauge.enter_empty();
        assert!(bytes.try_grow(4, 5) && !bytes.try_grow(1, 5));
        assert_eq!(gauge.count(), 5);
        assert!(gauge.try_enter(5).is_none());
        drop(one);
        assert!(gauge.try_enter(5).is_some());
        drop(bytes);
        assert_eq!(gauge.count(), 0);
    }

    #[test]
    fn an_amount_that_overflows_does_not_fit() {
        let gauge = Gauge::default();
        let _one = gauge.enter();
        assert!(!gauge.enter_empty().try_grow(usize::MAX, usize::MAX));
        assert_eq!(gauge.count(), 1);
    }
}
