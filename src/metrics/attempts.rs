//! Counters per node. A node owns its counters, one set for each worker, so that they live as long as
//! the node and counting shares no cache line.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{AtomicHistogram, Histogram};
use super::{Attempt, ResultClass, Shard};

/// The attempts at one node, by worker.
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
    /// Counts one attempt of the worker that owns `shard`, and the class of the node's resultCode,
    /// where a response was read.
    pub fn count(
        &self,
        shard: &Shard,
        result: Attempt,
        class: Option<ResultClass>,
        duration: Duration,
    ) {
        let Some(counters) = self.0.get(shard.index % WORKER_SLOTS) else {
            return;
        };
        let counters = counters.get_or_init(Box::default);
        counters.results[result as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(class) = class {
            counters.classes[class as usize].fetch_add(1, Ordering::Relaxed);
        }
        counters.durations.observe(duration);
    }

    /// Takes the longest duration since the last call, in microseconds. Meant for one caller.
    pub fn take_longest(&self) -> u64 {
        let counters = self.0.iter().filter_map(OnceLock::get);
        let longest = counters.map(|counters| counters.durations.take_longest());
        longest.max().unwrap_or_default()
    }

    /// Returns the sum over all workers.
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

/// The sum of the attempts at one node.
#[derive(Clone, Debug, Default)]
pub struct AttemptTotals {
    results: [u64; Attempt::ALL.len()],
    classes: [u64; ResultClass::ALL.len()],
    /// From the choice of the node to the head of the response; for buffered responses to their end.
    pub durations: Histogram,
}

impl AttemptTotals {
    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        let results = self.results.iter_mut().zip(&other.results);
        let classes = self.classes.iter_mut().zip(&other.classes);
        for (sum, count) in results.chain(classes) {
            *sum += count;
        }
        self.durations.merge(&other.durations);
    }

    /// Returns the counts by result, zeros included.
    pub fn results(&self) -> impl Iterator<Item = (Attempt, u64)> {
        Attempt::ALL.iter().copied().zip(self.results)
    }

    /// Returns the counts by class of the resultCode, zeros included.
    pub fn classes(&self) -> impl Iterator<Item = (ResultClass, u64)> {
        ResultClass::ALL.iter().copied().zip(self.classes)
    }
}

/// Workers beyond this number share counters; the counts stay exact. Our choice: 64 pointers a node.
const WORKER_SLOTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn attempts_of_all_workers_are_summed() {
        let (metrics, attempts) = (Metrics::default(), NodeAttempts::default());
        let second = Duration::from_secs(1);
        for _ in 0..=WORKER_SLOTS {
            let class = Some(ResultClass::NoData);
            attempts.count(&metrics.add_shard(), Attempt::Ok, class, second);
        }
        attempts.count(&metrics.add_shard(), Attempt::Timeout, None, second);
        let totals = attempts.sum();
        let count = |result| totals.results().find(|(it, _)| *it == result).unwrap().1;
        assert_eq!((count(Attempt::Ok), count(Attempt::Timeout)), (65, 1));
        assert_eq!(totals.durations.count(), 66);
        assert_eq!(totals.classes().map(|(_, n)| n).sum::<u64>(), 65);
    }
}
