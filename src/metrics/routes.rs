//! What is counted per listener and cluster. A pair is a small number that a snapshot hands out, so
//! that counting is index arithmetic; names come back when somebody scrapes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::histogram::{AtomicHistogram, Histogram};
use super::{Answered, CacheVerdict, CodeClass};

/// A listener and the cluster behind it, as a place in every shard.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Route(u16);

/// The names behind [`Route`]s. Append-only, so that a place keeps its meaning over reloads; bounded,
/// since a gateway may be reloaded for years: pairs that find no place share the first, nameless one.
#[derive(Clone, Debug)]
pub struct Routes(Vec<(Arc<str>, Arc<str>)>);

impl Routes {
    /// The place of a pair; an empty name stands for "none".
    pub fn place(&mut self, listener: &str, cluster: &str) -> Route {
        let known = self
            .0
            .iter()
            .position(|(l, c)| **l == *listener && **c == *cluster);
        let place = known.unwrap_or_else(|| {
            if self.0.len() >= ROUTES {
                return 0;
            }
            self.0.push((listener.into(), cluster.into()));
            self.0.len() - 1
        });
        Route(u16::try_from(place).unwrap_or_default())
    }

    /// Every pair with its place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Route)> {
        self.0
            .iter()
            .zip(0..)
            .map(|((listener, cluster), place)| (listener.as_ref(), cluster.as_ref(), Route(place)))
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self(vec![("".into(), "".into())])
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Where it came in and where it went.
    pub route: Route,
    /// What became of it.
    pub outcome: Answered,
    /// The status of the answer; 0 if none was given.
    pub status: u16,
    /// What the cache did; `None` where it was not asked.
    pub cache: Option<CacheVerdict>,
    /// From the head to the end of the answer.
    pub duration: Duration,
}

/// The routes of one worker; one is made when it is first used.
#[derive(Debug)]
pub(super) struct Table(Box<[OnceLock<Box<Counters>>]>);

#[derive(Debug)]
#[repr(align(64))]
struct Counters {
    requests: Box<[AtomicU64]>,
    /// By cache verdict; first where the cache was not asked.
    durations: [AtomicHistogram; CACHES],
}

impl Table {
    pub(super) fn new() -> Self {
        Self((0..ROUTES).map(|_| OnceLock::new()).collect())
    }

    pub(super) fn count(&self, ended: &Ended) {
        let Some(place) = self.0.get(usize::from(ended.route.0)) else {
            return;
        };
        let counters = place.get_or_init(Box::default);
        let class = CodeClass::of(ended.status) as usize;
        let request = ended.outcome as usize * CLASSES + class;
        if let Some(counter) = counters.requests.get(request) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let cache = ended.cache.map_or(0, |verdict| verdict as usize + 1);
        if let Some(durations) = counters.durations.get(cache) {
            durations.observe(ended.duration);
        }
    }

    pub(super) fn add_to(&self, totals: &mut Vec<RouteTotals>) {
        totals.resize_with(ROUTES, RouteTotals::default);
        for (total, counters) in totals.iter_mut().zip(&self.0) {
            let Some(counters) = counters.get() else {
                continue;
            };
            total.requests.resize(REQUESTS, 0);
            total.durations.resize(CACHES, Histogram::default());
            for (sum, counter) in total.requests.iter_mut().zip(&counters.requests) {
                *sum += counter.load(Ordering::Relaxed);
            }
            for (sum, durations) in total.durations.iter_mut().zip(&counters.durations) {
                sum.merge(&durations.read());
            }
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: (0..REQUESTS).map(|_| AtomicU64::new(0)).collect(),
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
    pub fn requests(&self) -> impl Iterator<Item = (Answered, CodeClass, u64)> {
        let keys = Answered::ALL
            .iter()
            .flat_map(|&outcome| CodeClass::ALL.iter().map(move |&class| (outcome, class)));
        keys.zip(&self.requests)
            .map(|((outcome, class), &count)| (outcome, class, count))
            .filter(|&(_, _, count)| count > 0)
    }

    /// Durations by what the cache did (`None`: it was not asked), those that are not empty.
    pub fn durations(&self) -> impl Iterator<Item = (Option<CacheVerdict>, &Histogram)> {
        let verdicts = CacheVerdict::ALL.iter().copied().map(Some);
        std::iter::once(None)
            .chain(verdicts)
            .zip(&self.durations)
            .filter(|(_, durations)| durations.count() > 0)
    }
}

/// 64 listeners with four clusters each; about 400 KiB a worker if all are in use.
const ROUTES: usize = 256;
const CLASSES: usize = CodeClass::ALL.len();
const REQUESTS: usize = Answered::ALL.len() * CLASSES;
const CACHES: usize = CacheVerdict::ALL.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_bounded() {
        let mut routes = Routes::default();
        let ccfs = routes.place("ccfs", "north");
        let other = routes.place("ccfs", "south");
        assert_ne!(ccfs, other);
        assert_eq!(routes.place("ccfs", "north"), ccfs);
        for index in 0..1000 {
            routes.place("ccfs", &index.to_string());
        }
        assert_eq!(routes.iter().count(), ROUTES);
        assert_eq!(routes.place("one", "more"), Route::default());
        assert_eq!(routes.place("ccfs", "south"), other);
    }

    #[test]
    fn a_request_is_counted_under_all_its_labels() {
        let mut routes = Routes::default();
        let route = routes.place("ccfs", "north");
        let table = Table::new();
        let ended = Ended {
            route,
            outcome: Answered::Cached,
            status: 200,
            cache: Some(CacheVerdict::Hit),
            duration: Duration::from_millis(2),
        };
        table.count(&ended);
        table.count(&Ended {
            outcome: Answered::ClientGone,
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
                (Answered::Cached, CodeClass::Success, 1),
                (Answered::ClientGone, CodeClass::None, 1)
            ]
        );
        let caches: Vec<_> = of_it.durations().map(|(cache, _)| cache).collect();
        assert_eq!(caches, [None, Some(CacheVerdict::Hit)]);
    }
}
