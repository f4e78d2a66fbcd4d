//! What is counted per node. A node carries its own counters, one set for each worker, so that they
//! come and go with it and counting shares no cache line.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{AtomicHistogram, Histogram};
use super::{Attempt, ResultClass, Shard};

/// Tries at one node, by worker.
#[derive(Debug)]
pub struct NodeAttempts(Box<[OnceLock<Box<WorkerCounters>>]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct WorkerCounters {
    results: [AtomicU64; Attempt::ALL.len()],
    classes: [AtomicU64; ResultClass::ALL.len()],
    durations: AtomicHistogram,
}

impl NodeAttempts {
    /// Counts one try that `shard`'s worker made, and what the node said, where that was read.
    pub fn count(
        &self,
        shard: &Shard,
        ended: Attempt,
        said: Option<ResultClass>,
        duration: Duration,
    ) {
        let Some(place) = self.0.get(shard.index % WORKER_SLOTS) else {
            return;
        };
        let counters = place.get_or_init(Box::default);
        counters.results[ended as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(class) = said {
            counters.classes[class as usize].fetch_add(1, Ordering::Relaxed);
        }
        counters.durations.observe(duration);
    }

    /// The sum over all workers.
    pub fn sum(&self) -> AttemptTotals {
        let mut totals = AttemptTotals::default();
        for counters in self.0.iter().filter_map(OnceLock::get) {
            for (sum, counter) in totals.results.iter_mut().zip(&counters.results) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, counter) in totals.classes.iter_mut().zip(&counters.classes) {
                *sum += counter.load(Ordering::Relaxed);
            }
            totals.durations.merge(&counters.durations.snapshot());
        }
        totals
    }
}

impl Default for NodeAttempts {
    fn default() -> Self {
        Self((0..WORKER_SLOTS).map(|_| OnceLock::new()).collect())
    }
}

/// Tries at one node.
#[derive(Clone, Debug, Default)]
pub struct AttemptTotals {
    results: [u64; Attempt::ALL.len()],
    classes: [u64; ResultClass::ALL.len()],
    /// From the choice of the node to the answer's head (whole answers: to its end).
    pub durations: Histogram,
}

impl AttemptTotals {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        let results = self.results.iter_mut().zip(&other.results);
        let classes = self.classes.iter_mut().zip(&other.classes);
        for (sum, count) in results.chain(classes) {
            *sum += count;
        }
        self.durations.merge(&other.durations);
    }

    /// By result, zeros included.
    pub fn results(&self) -> impl Iterator<Item = (Attempt, u64)> {
        Attempt::ALL.iter().copied().zip(self.results)
    }

    /// By what the node said, zeros included.
    pub fn classes(&self) -> impl Iterator<Item = (ResultClass, u64)> {
        ResultClass::ALL.iter().copied().zip(self.classes)
    }
}

/// More workers than this share counters, and count rightly all the same.
const WORKER_SLOTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn tries_of_all_workers_are_summed() {
        let (metrics, tries) = (Metrics::default(), NodeAttempts::default());
        let second = Duration::from_secs(1);
        for _ in 0..=WORKER_SLOTS {
            let said = Some(ResultClass::NoData);
            tries.count(&metrics.add_shard(), Attempt::Ok, said, second);
        }
        tries.count(&metrics.add_shard(), Attempt::Timeout, None, second);
        let totals = tries.sum();
        let count = |result| totals.results().find(|(it, _)| *it == result).unwrap().1;
        assert_eq!((count(Attempt::Ok), count(Attempt::Timeout)), (65, 1));
        assert_eq!(totals.durations.count(), 66);
        assert_eq!(totals.classes().map(|(_, n)| n).sum::<u64>(), 65);
    }
}
