//! Counters per listener and cluster. A pair of both is a small index that the configuration snapshot
//! assigns, so that counting is index arithmetic; a scrape maps it back to the names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::histogram::{AtomicHistogram, Histogram};
use super::{CacheStatus, RequestOutcome, StatusClass};

/// A listener and the cluster that it routes to, as an index into each shard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RouteLabel(u16);

/// The names of all [`RouteLabel`]s. Append-only, so that an index keeps its meaning over reloads.
/// Bounded, since a gateway may be reloaded for years: pairs beyond the bound share index 0, which has
/// no names.
#[derive(Clone, Debug)]
pub struct RouteLabels(Vec<(Arc<str>, Arc<str>)>);

impl RouteLabels {
    /// Returns the label of a pair, and adds it if it is new; an empty name stands for "none".
    pub fn label_for(&mut self, listener: &str, cluster: &str) -> RouteLabel {
        let known = self
            .0
            .iter()
            .position(|(l, c)| **l == *listener && **c == *cluster);
        let index = known.unwrap_or_else(|| {
            if self.0.len() >= MAX_ROUTES {
                return 0;
            }
            self.0.push((listener.into(), cluster.into()));
            self.0.len() - 1
        });
        RouteLabel(u16::try_from(index).unwrap_or_default())
    }

    /// Returns all pairs with their labels.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, RouteLabel)> {
        self.0.iter().zip(0..).map(|((listener, cluster), index)| {
            (listener.as_ref(), cluster.as_ref(), RouteLabel(index))
        })
    }
}

impl Default for RouteLabels {
    fn default() -> Self {
        Self(vec![("".into(), "".into())])
    }
}

/// What is counted at the end of a request.
#[derive(Clone, Copy, Debug)]
pub struct CompletedRequest {
    /// The listener and the cluster.
    pub route: RouteLabel,
    /// The outcome.
    pub outcome: RequestOutcome,
    /// The status of the response; 0 if none was sent.
    pub status: u16,
    /// The cache status; `None` where the cache was not used.
    pub cache: Option<CacheStatus>,
    /// From the request head to the end of the response.
    pub duration: Duration,
}

/// The counters of one worker, by route; allocated on first use.
#[derive(Debug)]
pub(super) struct RouteTable(Box<[OnceLock<Box<RouteCounters>>]>);

#[derive(Debug)]
#[repr(align(64))]
struct RouteCounters {
    requests: Box<[AtomicU64]>,
    /// By cache status; index 0 where the cache was not used.
    durations: [AtomicHistogram; CACHE_STATUSES],
}

impl RouteTable {
    pub(super) fn new() -> Self {
        Self((0..MAX_ROUTES).map(|_| OnceLock::new()).collect())
    }

    pub(super) fn count(&self, request: &CompletedRequest) {
        let Some(counters) = self.0.get(usize::from(request.route.0)) else {
            return;
        };
        let counters = counters.get_or_init(Box::default);
        let class = StatusClass::of(request.status) as usize;
        let index = request.outcome as usize * STATUS_CLASSES + class;
        if let Some(counter) = counters.requests.get(index) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let cache = request.cache.map_or(0, |status| status as usize + 1);
        if let Some(durations) = counters.durations.get(cache) {
            durations.observe(request.duration);
        }
    }

    /// Takes the longest durations, by cache status, and raises those of `longest` to them.
    pub(super) fn take_longest(&self, longest: &mut LongestDurations) {
        for counters in self.0.iter().filter_map(OnceLock::get) {
            for (known, durations) in longest.0.iter_mut().zip(&counters.durations) {
                *known = durations.take_longest().max(*known);
            }
        }
    }

    /// Adds all counts to `totals`, by the index of the route.
    pub(super) fn add_to(&self, totals: &mut Vec<RouteTotals>) {
        totals.resize_with(MAX_ROUTES, RouteTotals::default);
        for (total, counters) in totals.iter_mut().zip(&self.0) {
            let Some(counters) = counters.get() else {
                continue;
            };
            total.requests.resize(REQUEST_COUNTERS, 0);
            total.durations.resize(CACHE_STATUSES, Histogram::default());
            for (sum, counter) in total.requests.iter_mut().zip(&counters.requests) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, durations) in total.durations.iter_mut().zip(&counters.durations) {
                sum.merge(&durations.snapshot());
            }
        }
    }
}

impl Default for RouteCounters {
    fn default() -> Self {
        Self {
            requests: (0..REQUEST_COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            durations: Default::default(),
        }
    }
}

/// The sum of one route over all workers.
#[derive(Clone, Debug, Default)]
pub struct RouteTotals {
    requests: Vec<u64>,
    durations: Vec<Histogram>,
}

impl RouteTotals {
    /// Returns the counts by outcome and status class, without zeros.
    pub fn requests(&self) -> impl Iterator<Item = (RequestOutcome, StatusClass, u64)> {
        let keys = RequestOutcome::ALL
            .iter()
            .flat_map(|&outcome| StatusClass::ALL.iter().map(move |&class| (outcome, class)));
        keys.zip(&self.requests)
            .map(|((outcome, class), &count)| (outcome, class, count))
            .filter(|&(_, _, count)| count > 0)
    }

    /// Returns the durations by cache status (`None`: the cache was not used), without empty ones.
    pub fn durations(&self) -> impl Iterator<Item = (Option<CacheStatus>, &Histogram)> {
        let statuses = CacheStatus::ALL.iter().copied().map(Some);
        std::iter::once(None)
            .chain(statuses)
            .zip(&self.durations)
            .filter(|(_, durations)| durations.count() > 0)
    }
}

/// The longest durations of a time, by cache status.
#[derive(Clone, Copy, Debug, Default)]
pub struct LongestDurations([u64; CACHE_STATUSES]);

impl LongestDurations {
    /// Returns the longest duration of the requests whose cache status `filter` selects, in microseconds.
    pub fn max_micros(&self, filter: impl Fn(Option<CacheStatus>) -> bool) -> u64 {
        let statuses = CacheStatus::ALL.iter().copied().map(Some);
        std::iter::once(None)
            .chain(statuses)
            .zip(self.0)
            .filter(|&(status, _)| filter(status))
            .map(|(_, micros)| micros)
            .max()
            .unwrap_or_default()
    }
}

/// Our choice: 64 listeners with four clusters each; about 400 KiB per worker if all are in use.
const MAX_ROUTES: usize = 256;
const STATUS_CLASSES: usize = StatusClass::ALL.len();
const REQUEST_COUNTERS: usize = RequestOutcome::ALL.len() * STATUS_CLASSES;
const CACHE_STATUSES: usize = CacheStatus::ALL.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_stable_and_bounded() {
        let mut routes = RouteLabels::default();
        let ccfs = routes.label_for("ccfs", "north");
        let other = routes.label_for("ccfs", "south");
        assert_ne!(ccfs, other);
        assert_eq!(routes.label_for("ccfs", "north"), ccfs);
        for index in 0..1000 {
            routes.label_for("ccfs", &index.to_string());
        }
        assert_eq!(routes.iter().count(), MAX_ROUTES);
        assert_eq!(routes.label_for("one", "more"), RouteLabel::default());
        assert_eq!(routes.label_for("ccfs", "south"), other);
    }

    #[test]
    fn a_request_is_counted_under_all_its_labels() {
        let mut routes = RouteLabels::default();
        let route = routes.label_for("ccfs", "north");
        let table = RouteTable::new();
        let request = CompletedRequest {
            route,
            outcome: RequestOutcome::Cached,
            status: 200,
            cache: Some(CacheStatus::Hit),
            duration: Duration::from_millis(2),
        };
        table.count(&request);
        table.count(&CompletedRequest {
            outcome: RequestOutcome::ClientDisconnected,
            status: 0,
            cache: None,
            ..request
        });
        let mut totals = Vec::new();
        table.add_to(&mut totals);
        let route_totals = &totals[usize::from(route.0)];
        assert_eq!(
            route_totals.requests().collect::<Vec<_>>(),
            [
                (RequestOutcome::Cached, StatusClass::Success, 1),
                (RequestOutcome::ClientDisconnected, StatusClass::None, 1)
            ]
        );
        let caches: Vec<_> = route_totals.durations().map(|(cache, _)| cache).collect();
        assert_eq!(caches, [None, Some(CacheStatus::Hit)]);
    }
}
