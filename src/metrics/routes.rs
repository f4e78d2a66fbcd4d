//! What is counted per listener and cluster. A pair is a small number that a snapshot hands out, so
//! that counting is index arithmetic; names come back when somebody scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::histogram::{AtomicHistogram, Histogram};
use super::{CacheStatus, RequestOutcome, StatusClass};

/// A listener and the cluster behind it, as a place in every shard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RouteLabel(u16);

/// The names behind [`Route`]s. Append-only, so that a place keeps its meaning over reloads; bounded,
/// since a gateway may be reloaded for years: pairs that find no place share the first, nameless one.
#[derive(Clone, Debug)]
pub struct RouteLabels(Vec<(Arc<str>, Arc<str>)>);

impl RouteLabels {
    /// The place of a pair; an empty name stands for "none".
    pub fn label_for(&mut self, listener: &str, cluster: &str) -> RouteLabel {
        let known = self
            .0
            .iter()
            .position(|(l, c)| **l == *listener && **c == *cluster);
        let place = known.unwrap_or_else(|| {
            if self.0.len() >= MAX_ROUTES {
                return 0;
            }
            self.0.push((listener.into(), cluster.into()));
            self.0.len() - 1
        });
        RouteLabel(u16::try_from(place).unwrap_or_default())
    }

    /// Every pair with its place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, RouteLabel)> {
        self.0.iter().zip(0..).map(|((listener, cluster), place)| {
            (listener.as_ref(), cluster.as_ref(), RouteLabel(place))
        })
    }
}

impl Default for RouteLabels {
    fn default() -> Self {
        Self(vec![("".into(), "".into())])
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct CompletedRequest {
    /// Where it came in and where it went.
    pub route: RouteLabel,
    /// What became of it.
    pub outcome: RequestOutcome,
    /// The status of the answer; 0 if none was given.
    pub status: u16,
    /// What the cache did; `None` where it was not asked.
    pub cache: Option<CacheStatus>,
    /// From the head to the end of the answer.
    pub duration: Duration,
}

/// The routes of one worker; one is made when it is first used.
#[derive(Debug)]
pub(super) struct RouteTable(Box<[OnceLock<Box<RouteCounters>>]>);

#[derive(Debug)]
#[repr(align(64))]
struct RouteCounters {
    requests: Box<[AtomicU64]>,
    /// By cache verdict; first where the cache was not asked.
    durations: [AtomicHistogram; CACHE_STATUSES],
}

impl RouteTable {
    pub(super) fn new() -> Self {
        Self((0..MAX_ROUTES).map(|_| OnceLock::new()).collect())
    }

    pub(super) fn count(&self, ended: &CompletedRequest) {
        let Some(place) = self.0.get(usize::from(ended.route.0)) else {
            return;
        };
        let counters = place.get_or_init(Box::default);
        let class = StatusClass::of(ended.status) as usize;
        let request = ended.outcome as usize * STATUS_CLASSES + class;
        if let Some(counter) = counters.requests.get(request) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let cache = ended.cache.map_or(0, |verdict| verdict as usize + 1);
        if let Some(durations) = counters.durations.get(cache) {
            durations.observe(ended.duration);
        }
    }

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
    /// Counts by outcome and class of status, those that are not zero.
    pub fn requests(&self) -> impl Iterator<Item = (RequestOutcome, StatusClass, u64)> {
        let keys = RequestOutcome::ALL
            .iter()
            .flat_map(|&outcome| StatusClass::ALL.iter().map(move |&class| (outcome, class)));
        keys.zip(&self.requests)
            .map(|((outcome, class), &count)| (outcome, class, count))
            .filter(|&(_, _, count)| count > 0)
    }

    /// Durations by what the cache did (`None`: it was not asked), those that are not empty.
    pub fn durations(&self) -> impl Iterator<Item = (Option<CacheStatus>, &Histogram)> {
        let verdicts = CacheStatus::ALL.iter().copied().map(Some);
        std::iter::once(None)
            .chain(verdicts)
            .zip(&self.durations)
            .filter(|(_, durations)| durations.count() > 0)
    }
}

/// 64 listeners with four clusters each; about 400 KiB a worker if all are in use.
const MAX_ROUTES: usize = 256;
const STATUS_CLASSES: usize = StatusClass::ALL.len();
const REQUEST_COUNTERS: usize = RequestOutcome::ALL.len() * STATUS_CLASSES;
const CACHE_STATUSES: usize = CacheStatus::ALL.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_bounded() {
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
        let ended = CompletedRequest {
            route,
            outcome: RequestOutcome::Cached,
            status: 200,
            cache: Some(CacheStatus::Hit),
            duration: Duration::from_millis(2),
        };
        table.count(&ended);
        table.count(&CompletedRequest {
            outcome: RequestOutcome::ClientDisconnected,
            status: 0,
            cache: None,
            ..ended
        });
        let mut totals = Vec::new();
        table.add_to(&mut totals);
        let of_it = &totals[usize::from(route.0)];
        assert_eq!(
            of_it.requests().collect::<Vec<_>>(),
            [
                (RequestOutcome::Cached, StatusClass::Success, 1),
                (RequestOutcome::ClientDisconnected, StatusClass::None, 1)
            ]
        );
        let caches: Vec<_> = of_it.durations().map(|(cache, _)| cache).collect();
        assert_eq!(caches, [None, Some(CacheStatus::Hit)]);
    }
}
