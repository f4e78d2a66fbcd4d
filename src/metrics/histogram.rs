//! Durations in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in milliseconds: denser where hits (1–50 ms) and node calls (0.2–8 s) live.
pub const BUCKETS_MS: [u64; 18] = [
    1, 2, 3, 5, 8, 12, 20, 35, 50, 100, 200, 400, 800, 1500, 3000, 5000, 8000, 30000,
];

/// Durations in buckets; the last bucket is everything above.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    /// One more than [`BUCKETS_MS`].
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// Microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum_micros += other.sum_micros;
    }

    /// What came since `earlier`.
    pub fn delta_since(&self, earlier: &Self) -> Self {
        let mut grown = self.clone();
        for (now, before) in grown.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*before);
        }
        grown.sum_micros = grown.sum_micros.saturating_sub(earlier.sum_micros);
        grown
    }

    /// The duration in milliseconds that `share` (0 to 1) of them stay below, taken to be spread
    /// evenly inside a bucket; `None` if there are none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate between two bounds of a bucket"
    )]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (bucket, &held) in self.buckets.iter().enumerate() {
            // Of what is above the last bound nothing more is known.
            let Some(&upper) = BUCKETS_MS.get(bucket) else {
                break;
            };
            let (held, upper) = (held as f64, upper as f64);
            if held > 0.0 && below + held >= rank {
                return Some(lower + (upper - lower) * ((rank - below) / held).max(0.0));
            }
            below += held;
            lower = upper;
        }
        Some(lower)
    }
}

/// A [`Histogram`] that one worker adds to.
#[derive(Debug, Default)]
pub(super) struct AtomicHistogram {
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_micros: AtomicU64,
}

impl AtomicHistogram {
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MS.iter().position(|&limit| micros <= limit * 1000);
        if let Some(counter) = self.buckets.get(bucket.unwrap_or(BUCKETS_MS.len())) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: self.buckets.each_ref().map(|it| it.load(Ordering::Relaxed)),
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_inside_their_bucket() {
        let durations = AtomicHistogram::default();
        assert_eq!(durations.snapshot().quantile(0.5), None);
        for _ in 0..90 {
            durations.observe(Duration::from_micros(900));
        }
        for _ in 0..10 {
            durations.observe(Duration::from_millis(300));
        }
        let seen = durations.snapshot();
        let within = |share: f64, low: f64, high: f64| {
            let value = seen.quantile(share).unwrap();
            assert!((low..=high).contains(&value), "{share}: {value}");
        };
        within(0.5, 0.4, 0.7);
        within(0.9, 0.9, 1.0);
        within(0.95, 200.0, 400.0);
        within(1.0, 400.0, 400.0);
        assert_eq!(seen.sum_micros, 90 * 900 + 10 * 300_000);
    }

    #[test]
    fn what_is_above_all_bounds_is_told_as_the_last_bound() {
        let durations = AtomicHistogram::default();
        durations.observe(Duration::from_secs(3600));
        assert_eq!(durations.snapshot().quantile(0.5), Some(30_000.0));
    }

    #[test]
    fn the_difference_is_what_came_between() {
        let durations = AtomicHistogram::default();
        durations.observe(Duration::from_millis(1));
        let before = durations.snapshot();
        durations.observe(Duration::from_millis(40));
        let grown = durations.snapshot().delta_since(&before);
        assert_eq!((grown.count(), grown.sum_micros), (1, 40_000));
    }
}
