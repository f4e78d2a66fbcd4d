//! The last quarter of an hour, as the gateway itself remembers it: a ring of samples of bounded size,
//! from which rates, percentiles and the busiest access keys are told. Pure: the clock is handed in.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::metrics::{CacheStatus, Histogram, RequestOutcome, StatusClass, Totals};

/// How often a sample is taken.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    /// The number of the newest sample, counted from 1.
    newest: u64,
    keys: HashMap<Arc<str>, KeyUsage>,
}

/// Counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    at: Instant,
    counts: Counts,
    /// All requests, hits, and those that went to a node.
    durations: [Histogram; 3],
}

/// What charts show.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    requests: u64,
    /// 5xx, of the gateway or a node, and answers that broke off.
    errors: u64,
    /// What the caller did wrong, limits excepted.
    rejected: u64,
    rate_limited: u64,
    /// Answered from the cache.
    hits: u64,
    /// All that the cache could have answered.
    cacheable: u64,
}

/// The use of one access key.
#[derive(Clone, Copy, Debug)]
struct KeyUsage {
    count: u64,
    /// Requests a second, of late.
    rate: f64,
}

impl Sample {
    /// The counters as they are `at` a moment.
    pub(super) fn take(totals: &Totals, at: Instant) -> Self {
        let mut counts = Counts::default();
        for (outcome, class, count) in totals.requests() {
            counts.requests += count;
            if outcome == RequestOutcome::RateLimited {
                counts.rate_limited += count;
            } else if class == StatusClass::ServerError || outcome == RequestOutcome::NodeFailed {
                counts.errors += count;
            } else if class == StatusClass::ClientError || outcome == RequestOutcome::InvalidRequest
            {
                counts.rejected += count;
            }
        }
        for &verdict in CacheStatus::ALL {
            let count = totals.get(verdict);
            match verdict {
                CacheStatus::Hit | CacheStatus::Negative | CacheStatus::StaleIfError => {
                    counts.hits += count;
                    counts.cacheable += count;
                }
                CacheStatus::Stored
                | CacheStatus::Miss
                | CacheStatus::Collapsed
                | CacheStatus::NoCache => counts.cacheable += count,
                CacheStatus::Bypass => {}
            }
        }
        let fetched = |cache| {
            use CacheStatus as V;
            matches!(cache, Some(V::Stored | V::Miss | V::NoCache | V::Bypass))
        };
        Self {
            at,
            counts,
            durations: [
                totals.durations(|_| true),
                totals.durations(|cache| cache == Some(CacheStatus::Hit)),
                totals.durations(fetched),
            ],
        }
    }

    /// What happened between `earlier` and this one, for a chart.
    #[expect(clippy::cast_precision_loss, reason = "rates for the eye")]
    fn since(&self, earlier: &Self) -> Value {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let (now, before) = (&self.counts, &earlier.counts);
        let rate = |now: u64, before: u64| {
            let per_second = now.saturating_sub(before) as f64 / seconds.max(0.001);
            (per_second * 100.0).round() / 100.0
        };
        let asked = now.cacheable.saturating_sub(before.cacheable);
        let hits = now.hits.saturating_sub(before.hits);
        let all = self.durations[0].delta_since(&earlier.durations[0]);
        json!({
            "seconds": seconds,
            "requests": rate(now.requests, before.requests),
            "errors": rate(now.errors, before.errors),
            "refused": rate(now.rejected, before.rejected),
            "limited": rate(now.rate_limited, before.rate_limited),
            "hit_ratio": (asked > 0).then(|| (hits as f64 / asked as f64 * 1000.0).round() / 1000.0),
            "p50_ms": quantile_ms(&all, 0.5),
            "p99_ms": quantile_ms(&all, 0.99),
        })
    }
}

impl History {
    /// Adds a sample, and how often each access key was let in so far.
    pub(super) fn push(&self, sample: Sample, keys: impl Iterator<Item = (Arc<str>, u64)>) {
        let mut ring = self.ring();
        let before = ring.samples.back().map(|last| last.at);
        let elapsed = before.map_or(Duration::ZERO, |before| {
            sample.at.saturating_duration_since(before)
        });
        ring.keys = keys
            .filter(|&(_, count)| count > 0)
            .map(|(key, count)| {
                let used = ring.keys.get(&key).copied();
                (key, KeyUsage::updated(used, count, elapsed))
            })
            .collect();
        if ring.samples.len() > POINTS {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
        ring.newest += 1;
    }

    /// What came after sample number `after`, oldest first; all that is remembered if that is longer
    /// ago or was never.
    pub(super) fn points_after(&self, after: u64) -> Value {
        let ring = self.ring();
        let points = ring.samples.len().saturating_sub(1);
        let missed = ring.newest.checked_sub(after);
        let wanted = missed.map_or(points, |missed| {
            usize::try_from(missed).unwrap_or(points).min(points)
        });
        let all = ring.samples.iter().zip(ring.samples.iter().skip(1));
        let points: Vec<_> = all
            .skip(points - wanted)
            .map(|(earlier, sample)| sample.since(earlier))
            .collect();
        json!({
            "newest": ring.newest,
            "period_seconds": PERIOD.as_secs(),
            "capacity": POINTS,
            "points": points,
        })
    }

    /// Rates of the last seconds before `now`.
    pub(super) fn rates(&self, now: &Sample) -> Value {
        now.since(&self.sample_before(now, PERIOD))
    }

    /// Percentiles of the last minute before `now`.
    pub(super) fn latency(&self, now: &Sample) -> Value {
        let earlier = self.sample_before(now, LATENCY_WINDOW);
        let seconds = now.at.saturating_duration_since(earlier.at).as_secs_f64();
        let mut shown = json!({ "seconds": seconds });
        for (name, place) in [("all", 0), ("hit", 1), ("node", 2)] {
            let seen = now.durations[place].delta_since(&earlier.durations[place]);
            shown[name] = json!({
                "count": seen.count(),
                "p50_ms": quantile_ms(&seen, 0.5),
                "p90_ms": quantile_ms(&seen, 0.9),
                "p99_ms": quantile_ms(&seen, 0.99),
            });
        }
        shown
    }

    /// The access keys with most requests of late, at most `most`.
    pub(super) fn top_keys(&self, most: usize) -> Value {
        let ring = self.ring();
        let mut keys: Vec<_> = ring.keys.iter().collect();
        keys.sort_by(|(one, a), (other, b)| {
            let by_use = b.rate.total_cmp(&a.rate).then(b.count.cmp(&a.count));
            by_use.then_with(|| one.cmp(other))
        });
        let shown = keys.iter().take(most).map(|(key, used)| {
            json!({
                "access_key": key,
                "requests": used.count,
                "per_second": (used.rate * 100.0).round() / 100.0,
            })
        });
        shown.collect()
    }

    /// The youngest sample that is at least `age` older than `now`, else the oldest there is.
    fn sample_before(&self, now: &Sample, age: Duration) -> Sample {
        let ring = self.ring();
        let old_enough = |sample: &&Sample| {
            now.at.saturating_duration_since(sample.at) + SAMPLE_TOLERANCE >= age
        };
        let found = ring.samples.iter().rev().find(old_enough);
        found.or(ring.samples.front()).unwrap_or(now).clone()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyUsage {
    /// A rate that forgets half of the past in half a minute.
    #[expect(clippy::cast_precision_loss, reason = "rates for the eye")]
    fn updated(before: Option<Self>, count: u64, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let before = before.unwrap_or(Self {
            count: 0,
            rate: 0.0,
        });
        if seconds <= 0.0 {
            return Self { count, ..before };
        }
        let now = count.saturating_sub(before.count) as f64 / seconds;
        let kept = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
        Self {
            count,
            rate: before.rate * kept + now * (1.0 - kept),
        }
    }
}

fn quantile_ms(seen: &Histogram, share: f64) -> Option<f64> {
    seen.quantile(share)
        .map(|value| (value * 100.0).round() / 100.0)
}

/// Fifteen minutes.
const POINTS: usize = 180;
const LATENCY_WINDOW: Duration = Duration::from_secs(60);
/// A sample that was taken a moment late is old enough all the same.
const SAMPLE_TOLERANCE: Duration = Duration::from_millis(500);
const HALF_LIFE_SECONDS: f64 = 30.0;

#[cfg(test)]
mod tests;
