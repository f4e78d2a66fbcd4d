//! Metrics. Every label set is closed or comes from the configuration. Each worker owns a [`Shard`] of
//! plain counters, so that counting shares no cache line; a scrape sums the shards. No dependencies but
//! [`crate::gauge`]: each stage counts what it sees.
//!
//! Where a label is a name of the configuration, the index of its counters is found beforehand: a
//! listener with its cluster is a [`RouteLabel`], a node owns its [`NodeAttempts`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::gauge::{Gauge, GaugeGuard};

mod attempts;
mod failed_requests;
mod families;
mod histogram;
mod incidents;
mod routes;

pub use attempts::{AttemptTotals, NodeAttempts};
pub use failed_requests::{FailedRequest, FailedRequests, RequestFailure};
pub use families::{
    AccessLogLines, Attempt, AuditLines, AuthResult, CacheStatus, CallerWay, ConnectionEndReason,
    Decision, Family, HandshakeResult, Label, Limiter, MalformedReason, RefreshResult,
    RequestOutcome, ResultClass, RetryOverflow, RetryReason, Shadow, SharedStoreDisconnect,
    SharedStoreUse, ShedReason, SignatureHint, StatusClass, TraceSpans, ValidationReject,
};
pub use histogram::{BUCKETS_MS, Histogram};
pub use incidents::{
    CLAIM_LENGTH, Claimant, Incident, Incidents, NodeRefusal, Refused, Unverified,
};
pub use routes::{CompletedRequest, LongestDurations, RouteLabel, RouteLabels, RouteTotals};

/// All shards of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    shards: Mutex<Vec<Arc<Shard>>>,
}

impl Metrics {
    /// Adds a shard for one worker.
    pub fn add_shard(&self) -> Arc<Shard> {
        let mut shards = self.shards.lock();
        let shard = Arc::new(Shard {
            index: shards.len(),
            ..Shard::new()
        });
        shards.push(shard.clone());
        shard
    }

    /// Returns the sum over all shards.
    pub fn sum(&self) -> Totals {
        let shards = self.shards.lock();
        let mut totals = Totals {
            counters: vec![0; families::TOTAL],
            routes: Vec::new(),
            waiters: 0,
        };
        for shard in shards.iter() {
            for (sum, counter) in totals.counters.iter_mut().zip(&shard.counters) {
                *sum += counter.load(Ordering::Relaxed);
            }
            shard.routes.add_to(&mut totals.routes);
            totals.waiters += shard.waiters.count();
        }
        totals
    }

    /// Takes the longest durations of requests since the last call. Meant for one caller.
    pub fn take_longest(&self) -> LongestDurations {
        let mut longest = LongestDurations::default();
        for shard in self.shards.lock().iter() {
            shard.routes.take_longest(&mut longest);
        }
        longest
    }

    /// Takes the events that all workers have noted since the last call.
    pub fn take_incidents(&self) -> Incidents {
        let mut taken = Incidents::default();
        for shard in self.shards.lock().iter() {
            taken.merge(std::mem::take(&mut *shard.incidents.lock()));
        }
        taken
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub struct Shard {
    /// Among all shards.
    index: usize,
    counters: Box<[AtomicU64]>,
    routes: routes::RouteTable,
    waiters: Gauge,
    /// Contended only while [`Metrics::take_incidents`] swaps it, once a second.
    incidents: Mutex<Incidents>,
}

impl Shard {
    /// Creates a shard that no scrape sums, for tests and tools.
    pub fn new() -> Self {
        Self {
            index: 0,
            counters: (0..families::TOTAL).map(|_| AtomicU64::new(0)).collect(),
            routes: routes::RouteTable::new(),
            waiters: Gauge::default(),
            incidents: Mutex::default(),
        }
    }

    /// Notes an event for the findings. Not for what happens to every request: it takes a lock and may
    /// allocate.
    pub fn note(&self, incident: Incident) {
        self.incidents.lock().note(incident);
    }

    /// Notes a request that failed; `request` is not called once all places of this second are taken.
    pub fn note_failed(&self, failure: RequestFailure, request: impl FnOnce() -> FailedRequest) {
        self.incidents.lock().failed_requests.note(failure, request);
    }

    /// Adds one to the counter of `label`.
    pub fn count(&self, label: impl Label) {
        self.count_many(label, 1);
    }

    /// Adds `many` to the counter of `label`.
    pub fn count_many(&self, label: impl Label, many: u64) {
        if let Some(counter) = self.counters.get(label.counter_index()) {
            counter.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// Counts one completed request.
    pub fn count_request(&self, ended: &CompletedRequest) {
        self.routes.count(ended);
    }

    /// Counts a request that waits for the fetch of another request, until the guard is dropped.
    pub fn track_waiter(&self) -> GaugeGuard {
        self.waiters.enter()
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::new()
    }
}

/// The sum over all shards.
#[derive(Clone, Debug)]
pub struct Totals {
    counters: Vec<u64>,
    routes: Vec<RouteTotals>,
    /// Requests that wait for the fetch of another request.
    pub waiters: usize,
}

impl Totals {
    /// Returns the count of one label value.
    pub fn get(&self, label: impl Label) -> u64 {
        self.counters
            .get(label.counter_index())
            .copied()
            .unwrap_or_default()
    }

    /// Returns each family with a closed label set, and its counts in the order of its values.
    pub fn families(&self) -> impl Iterator<Item = (Family, &[u64])> {
        families::FAMILIES.iter().map(|family| {
            let counts = self.counters.get(family.first_index..).unwrap_or_default();
            (*family, counts.get(..family.values.len()).unwrap_or(counts))
        })
    }

    /// Returns the listener, the cluster and the totals of each route that was used.
    pub fn routes<'a>(
        &'a self,
        names: &'a RouteLabels,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a RouteTotals)> {
        names
            .iter()
            .zip(&self.routes)
            .map(|((listener, cluster, _), totals)| (listener, cluster, totals))
    }

    /// Returns the requests of all routes by outcome and status class.
    pub fn requests(&self) -> impl Iterator<Item = (RequestOutcome, StatusClass, u64)> {
        self.routes.iter().flat_map(RouteTotals::requests)
    }

    /// Returns the durations of all routes for the requests whose cache status `filter` selects.
    pub fn durations(&self, filter: impl Fn(Option<CacheStatus>) -> bool) -> Histogram {
        let mut sum = Histogram::default();
        for (cache, durations) in self.routes.iter().flat_map(RouteTotals::durations) {
            if filter(cache) {
                sum.merge(durations);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_by_label() {
        let metrics = Metrics::default();
        let (one, two) = (metrics.add_shard(), metrics.add_shard());
        one.count(AuthResult::Ok);
        two.count(AuthResult::Ok);
        two.count(AuthResult::Stale);
        let waiting = two.track_waiter();
        let totals = metrics.sum();
        assert_eq!(totals.get(AuthResult::Ok), 2);
        assert_eq!(totals.get(AuthResult::Stale), 1);
        assert_eq!(totals.get(AuthResult::Missing), 0);
        assert_eq!(totals.waiters, 1);
        drop(waiting);
        assert_eq!(metrics.sum().waiters, 0);
        let (family, counts) = totals
            .families()
            .find(|(family, _)| family.name == "auth")
            .expect("declared");
        assert_eq!(family.labels, "result");
        assert_eq!(family.values.len(), counts.len());
        assert_eq!((family.values[0], counts[0]), ("ok", 2));
    }

    #[test]
    fn every_value_has_as_many_labels_as_its_family() {
        let parts = |text: &str| text.split(',').count();
        for family in families::FAMILIES {
            for value in family.values {
                assert_eq!(parts(value), parts(family.labels), "{}", family.name);
            }
        }
    }
}
