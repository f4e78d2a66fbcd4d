//! The successes of the last two seconds, in constant memory: how many there were in the last second, and
//! with how many attempts in flight.

use std::time::{Duration, Instant};

/// The recent successes at one node.
#[derive(Clone, Debug)]
pub(super) struct SuccessHistory {
    began: Instant,
    /// The number of the newest bucket since `began`.
    newest: u64,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    successes: u32,
    most_in_flight: u32,
}

impl SuccessHistory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            newest: 0,
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    /// Records a success of an attempt that was sent as the `in_flight`-th at once.
    pub(super) fn record(&mut self, in_flight: usize, now: Instant) {
        self.advance(now);
        let bucket = &mut self.buckets[index(self.newest)];
        bucket.successes = bucket.successes.saturating_add(1);
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        bucket.most_in_flight = bucket.most_in_flight.max(in_flight);
    }

    /// Returns the successes of the last second; `None` during the first one.
    pub(super) fn per_second(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        let age = now.saturating_duration_since(self.began);
        let oldest = self.newest.checked_sub(PER_SECOND)?;
        let whole: u32 = (oldest + 1..=self.newest)
            .map(|number| self.buckets[index(number)].successes)
            .sum();
        // The part of the oldest bucket that lies within the second.
        let into = age.as_secs_f64() / BUCKET.as_secs_f64() - self.newest as f64;
        let partial = f64::from(self.buckets[index(oldest)].successes) * (1.0 - into);
        Some(f64::from(whole) + partial.max(0.0))
    }

    /// Returns the largest number of attempts in flight, itself included, with which an attempt was sent
    /// that succeeded in the last two seconds; 0 without one.
    pub(super) fn most_in_flight(&mut self, now: Instant) -> usize {
        self.advance(now);
        let most = self
            .buckets
            .iter()
            .map(|bucket| bucket.most_in_flight)
            .max();
        most.unwrap_or(0) as usize
    }

    /// Empties the buckets between the last event and `now`.
    fn advance(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        let current = u64::try_from(age.as_nanos() / BUCKET.as_nanos()).unwrap_or(u64::MAX);
        if current <= self.newest {
            return;
        }
        for number in (self.newest + 1..=current).take(BUCKETS) {
            self.buckets[index(number)] = Bucket::default();
        }
        if current - self.newest > BUCKETS as u64 {
            self.buckets = [Bucket::default(); BUCKETS];
        }
        self.newest = current;
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % BUCKETS as u64).unwrap_or(0)
}

/// A sixteenth of a second.
const BUCKET: Duration = Duration::from_micros(62_500);
const PER_SECOND: u64 = 16;
/// Two seconds.
const BUCKETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_slides() {
        let began = tokio::time::Instant::now().into_std();
        let mut history = SuccessHistory::new(began);
        let at = |millis| began + Duration::from_millis(millis);
        for ten in 0..300 {
            history.record(1 + usize::from(ten == 10), at(ten * 10));
            if ten < 99 {
                assert_eq!(history.per_second(at(ten * 10)), None);
            }
        }
        let rate = history.per_second(at(2990)).unwrap();
        assert!((98.0..=101.0).contains(&rate), "{rate}");
        assert_eq!(history.most_in_flight(at(2990)), 1, "the 2 is too old");
        let half = history.per_second(at(3490)).unwrap();
        assert!((48.0..=52.0).contains(&half), "{half}");
        assert_eq!(history.per_second(at(60_000)), Some(0.0));
        assert_eq!(history.most_in_flight(at(60_000)), 0);
    }
}
