//! The latency of a node for `balance = "least-time"`: a moving average that follows a slower response at
//! once and a faster one slowly (peak EWMA, as in Finagle and linkerd).
//!
//! While a node gets no requests its figure approaches those of the others, so that a node that has
//! recovered is noticed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The figure of one node. All workers share it, without a lock.
#[derive(Debug, Default)]
pub(super) struct Latency {
    epoch: OnceLock<Instant>,
    /// The figure in microseconds as the bits of an `f32`, and the milliseconds since `epoch` at which it
    /// was last changed. All zero without a figure.
    packed: AtomicU64,
}

impl Latency {
    /// Adds the duration of one response.
    pub(super) fn observe(&self, duration: Duration, now: Instant) {
        let sample = (duration.as_secs_f32() * 1e6).max(1.0);
        let at = self.millis(now);
        let update = |packed: u64| {
            let (figure, last) = unpack(packed);
            let kept = decay(at.saturating_sub(last));
            Some(pack(
                if sample >= figure {
                    sample
                } else {
                    figure * kept + sample * (1.0 - kept)
                },
                at,
            ))
        };
        // The update never declines.
        let _ = self
            .packed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Returns the figure in microseconds, at least `median` once it is old; `None` without one.
    pub(super) fn figure(&self, median: f32, now: Instant) -> Option<f32> {
        let (figure, last) = unpack(self.packed.load(Ordering::Relaxed));
        if figure == 0.0 {
            return None;
        }
        let faded = figure * decay(self.millis(now).saturating_sub(last));
        Some(faded.max(figure.min(median)))
    }

    /// Milliseconds since the first use, from 1.
    fn millis(&self, now: Instant) -> u32 {
        let epoch = *self.epoch.get_or_init(|| now);
        let elapsed = now.saturating_duration_since(epoch).as_millis();
        u32::try_from(elapsed + 1).unwrap_or(u32::MAX)
    }
}

/// The median of the figures of a cluster, computed once a second.
#[derive(Debug, Default)]
pub(super) struct MedianLatency {
    epoch: OnceLock<Instant>,
    /// The bits of an `f32`, in microseconds; 0 without figures.
    median: AtomicU32,
    /// The second since `epoch` in which it was computed.
    computed: AtomicU32,
}

impl MedianLatency {
    /// Returns the median of `figures` of this second in microseconds; 1 without any.
    pub(super) fn get<I: Iterator<Item = f32>>(
        &self,
        now: Instant,
        figures: impl Fn() -> I,
    ) -> f32 {
        let epoch = *self.epoch.get_or_init(|| now);
        let elapsed = now.saturating_duration_since(epoch).as_secs();
        let second = u32::try_from(elapsed + 1).unwrap_or(u32::MAX);
        let known = f32::from_bits(self.median.load(Ordering::Relaxed));
        let is_known = known > 0.0 && self.computed.load(Ordering::Relaxed) == second;
        if is_known {
            return known;
        }
        let mut figures: Vec<f32> = figures().collect();
        if figures.is_empty() {
            return 1.0;
        }
        figures.sort_unstable_by(f32::total_cmp);
        let median = figures.get((figures.len() - 1) / 2).copied();
        let median = median.unwrap_or(1.0);
        self.median.store(median.to_bits(), Ordering::Relaxed);
        self.computed.store(second, Ordering::Relaxed);
        median
    }
}

fn pack(figure: f32, at: u32) -> u64 {
    u64::from(figure.to_bits()) << 32 | u64::from(at)
}

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

/// The part of a figure that is left after this time.
fn decay(millis: u32) -> f32 {
    (-(millis as f32) / TIME_CONSTANT_MILLIS).exp()
}

/// τ of the average.
const TIME_CONSTANT_MILLIS: f32 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn a_slow_response_counts_at_once_and_a_fast_one_slowly() {
        let (latency, start) = (Latency::default(), now());
        assert_eq!(latency.figure(5.0, start), None);
        latency.observe(Duration::from_millis(10), start);
        latency.observe(Duration::from_millis(100), start);
        let figure = |at: Instant| latency.figure(0.0, at).unwrap();
        assert_eq!(figure(start), 100_000.0);
        let later = start + Duration::from_secs(1);
        latency.observe(Duration::from_millis(10), later);
        assert!(
            (91_000.0..92_000.0).contains(&figure(later)),
            "{}",
            figure(later)
        );
        let much_later = start + Duration::from_secs(60);
        latency.observe(Duration::from_millis(10), much_later);
        assert!(figure(much_later) < 10_500.0);
    }

    #[test]
    fn an_old_figure_fades_to_the_median_and_not_below() {
        let (slow, fast, start) = (Latency::default(), Latency::default(), now());
        slow.observe(Duration::from_secs(1), start);
        fast.observe(Duration::from_millis(1), start);
        let later = start + Duration::from_secs(600);
        assert_eq!(slow.figure(10_000.0, later), Some(10_000.0));
        let fast = fast.figure(10_000.0, later).unwrap();
        assert!((fast - 1_000.0).abs() < 1.0, "{fast}");
    }

    #[test]
    fn the_median_is_computed_once_a_second() {
        let (median, start) = (MedianLatency::default(), now());
        let of = |figures: &'static [f32]| move || figures.iter().copied();
        assert_eq!(median.get(start, of(&[])), 1.0);
        assert_eq!(median.get(start, of(&[9.0, 2.0, 3.0])), 3.0);
        assert_eq!(median.get(start, of(&[7.0])), 3.0);
        let later = start + Duration::from_secs(1);
        assert_eq!(median.get(later, of(&[7.0, 8.0])), 7.0);
    }
}
