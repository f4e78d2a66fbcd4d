//! Histograms of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in milliseconds: denser where cache hits (1–50 ms) and node responses
/// (0.2–8 s) are, and around the default timeouts (`per_try` 8 s, `overall` 9 s) and what callers wait (10 s).
pub const BUCKETS_MS: [u64; 23] = [
    1, 2, 3, 5, 8, 12, 20, 35, 50, 100, 200, 400, 800, 1500, 3000, 5000, 7000, 8000, 9000, 10_000,
    12_000, 15_000, 30_000,
];

/// Counts of durations by bucket; the last bucket is unbounded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Histogram {
    /// By [`BUCKETS_MS`], and one for everything above.
    pub buckets: [u64; BUCKETS_MS.len() + 1],
    /// The sum of all durations in microseconds.
    pub sum_micros: u64,
    /// The longest duration in microseconds since the longest one was last taken; in the result of
    /// [`Histogram::delta_since`] the longest one of that time.
    pub max_micros: u64,
}

impl Histogram {
    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum_micros += other.sum_micros;
        self.max_micros = self.max_micros.max(other.max_micros);
    }

    /// Returns what was observed since `earlier`, a former state of the same histogram, of which the longest
    /// duration was `max_micros`.
    pub fn delta_since(&self, earlier: &Self, max_micros: u64) -> Self {
        let mut grown = self.clone();
        for (now, before) in grown.buckets.iter_mut().zip(&earlier.buckets) {
            *now = now.saturating_sub(*before);
        }
        grown.sum_micros = grown.sum_micros.saturating_sub(earlier.sum_micros);
        // What is counted while the longest duration is taken may belong to the time before: it is never
        // outside the bucket of the longest duration.
        let highest = grown.buckets.iter().rposition(|&count| count > 0);
        let bound = |bucket| {
            BUCKETS_MS
                .get(bucket)
                .map_or(u64::MAX, |ms: &u64| ms * 1000)
        };
        let (least, most) = highest.map_or((0, 0), |bucket| {
            (bucket.checked_sub(1).map_or(0, bound), bound(bucket))
        });
        grown.max_micros = max_micros.clamp(least, most);
        grown
    }

    /// Returns the longest duration in milliseconds; `None` if there are no durations.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of one request fit"
    )]
    pub fn max_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.max_micros as f64 / 1000.0)
    }

    /// Returns the quantile `q` (0 to 1) in milliseconds, interpolated linearly inside its bucket and never
    /// above the longest duration; `None` if there are no durations.
    #[expect(
        clippy::cast_precision_loss,
        reason = "an estimate between two bounds of a bucket"
    )]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let max = self.max_ms()?;
        let rank = q * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0_f64;
        for (bucket, &in_bucket) in self.buckets.iter().enumerate() {
            // The last bucket ends with the longest duration.
            let upper = BUCKETS_MS.get(bucket).map_or(max, |&bound| bound as f64);
            let in_bucket = in_bucket as f64;
            if in_bucket > 0.0 && below + in_bucket >= rank {
                let within = lower + (upper - lower) * ((rank - below) / in_bucket).max(0.0);
                return Some(within.min(max));
            }
            below += in_bucket;
            lower = upper;
        }
        Some(lower.min(max))
    }
}

/// A [`Histogram`] that one worker writes and scrapes read.
#[derive(Debug, Default)]
pub(super) struct AtomicHistogram {
    buckets: [AtomicU64; BUCKETS_MS.len() + 1],
    sum_micros: AtomicU64,
    max_micros: AtomicU64,
}

impl AtomicHistogram {
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MS.iter().position(|&limit| micros <= limit * 1000);
        if let Some(counter) = self.buckets.get(bucket.unwrap_or(BUCKETS_MS.len())) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        // Nearly always only the load.
        if micros > self.max_micros.load(Ordering::Relaxed) {
            self.max_micros.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// Returns the longest duration since the last call, in microseconds. Meant for one caller, which takes it
    /// periodically: so a window of time has a longest duration of its own.
    pub(super) fn take_longest(&self) -> u64 {
        self.max_micros.swap(0, Ordering::Relaxed)
    }

    pub(super) fn snapshot(&self) -> Histogram {
        Histogram {
            buckets: self.buckets.each_ref().map(|it| it.load(Ordering::Relaxed)),
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
            max_micros: self.max_micros.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_inside_their_bucket() {
        let durations = AtomicHistogram::default();
        assert_eq!(durations.snapshot().quantile(0.5), None);
        for _ in 0..90 {
            durations.observe(Duration::from_micros(900));
        }
        for _ in 0..10 {
            durations.observe(Duration::from_millis(300));
        }
        let seen = durations.snapshot();
        let within = |q: f64, low: f64, high: f64| {
            let value = seen.quantile(q).unwrap();
            assert!((low..=high).contains(&value), "{q}: {value}");
        };
        within(0.5, 0.4, 0.7);
        within(0.9, 0.9, 1.0);
        within(0.95, 200.0, 300.0);
        within(1.0, 300.0, 300.0);
        assert_eq!(seen.sum_micros, 90 * 900 + 10 * 300_000);
    }

    #[test]
    fn a_duration_above_all_bounds_is_shown_as_it_was() {
        let durations = AtomicHistogram::default();
        durations.observe(Duration::from_secs(45));
        assert_eq!(durations.snapshot().quantile(1.0), Some(45_000.0));
    }

    #[test]
    fn a_quantile_never_exceeds_the_longest_duration_of_its_time() {
        let durations = AtomicHistogram::default();
        durations.observe(Duration::from_millis(4900));
        let before = durations.snapshot();
        assert_eq!(before.quantile(1.0), Some(4900.0));
        assert_eq!(durations.take_longest(), 4_900_000);
        // An earlier request of the same bucket took longer.
        durations.observe(Duration::from_millis(3050));
        let now = durations.snapshot();
        let later = now.delta_since(&before, now.max_micros);
        assert_eq!(
            (later.quantile(0.99), later.max_ms()),
            (Some(3050.0), Some(3050.0))
        );
        let unknown = now.delta_since(&before, 0);
        assert_eq!(unknown.max_ms(), Some(3000.0), "the bound of the bucket");
    }

    #[test]
    fn a_delta_contains_only_later_durations() {
        let durations = AtomicHistogram::default();
        durations.observe(Duration::from_millis(1));
        let before = durations.snapshot();
        durations.observe(Duration::from_millis(40));
        let grown = durations.snapshot().delta_since(&before, 40_000);
        assert_eq!((grown.count(), grown.sum_micros), (1, 40_000));
    }
}
