//! The last 15 minutes in memory: a bounded ring of samples, from which rates, percentiles and the top
//! access keys are computed. Pure: the time is a parameter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::metrics::{CacheStatus, Histogram, RequestOutcome, StatusClass, Totals};

/// How often a sample is taken. Our choice: 180 chart points in 15 minutes.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// The recorded samples.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    /// The number of the newest sample, counted from 1.
    newest: u64,
    keys: HashMap<Arc<str>, KeyUsage>,
}

/// The counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    at: Instant,
    counts: Counts,
    /// Durations of all requests, of cache hits, and of requests that reached a node.
    durations: [Histogram; 3],
}

/// The counters that the charts show.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    requests: u64,
    /// 5xx of the gateway or a node, and responses that were cut off.
    errors: u64,
    /// 4xx, rate limiting excepted.
    rejected: u64,
    rate_limited: u64,
    /// Requests served from the cache.
    hits: u64,
    /// Requests to which the cache applies: all cache statuses but `Bypass`.
    cacheable: u64,
}

/// The usage of one access key.
#[derive(Clone, Copy, Debug)]
struct KeyUsage {
    count: u64,
    /// Exponentially decaying average of requests per second.
    rate: f64,
}

impl Sample {
    /// Takes the sample of the counters at the moment `at`.
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
        for &status in CacheStatus::ALL {
            let count = totals.get(status);
            match status {
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
            use CacheStatus as S;
            matches!(cache, Some(S::Stored | S::Miss | S::NoCache | S::Bypass))
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

    /// Returns the chart point between `earlier` and this sample.
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded for display")]
    fn since(&self, earlier: &Self) -> Value {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let (now, before) = (&self.counts, &earlier.counts);
        let rate = |now: u64, before: u64| {
            let per_second = now.saturating_sub(before) as f64 / seconds.max(0.001);
            (per_second * 100.0).round() / 100.0
        };
        let lookups = now.cacheable.saturating_sub(before.cacheable);
        let hits = now.hits.saturating_sub(before.hits);
        let all = self.durations[0].delta_since(&earlier.durations[0]);
        json!({
            "seconds": seconds,
            "requests": rate(now.requests, before.requests),
            "errors": rate(now.errors, before.errors),
            "refused": rate(now.rejected, before.rejected),
            "limited": rate(now.rate_limited, before.rate_limited),
            "hit_ratio": (lookups > 0).then(|| (hits as f64 / lookups as f64 * 1000.0).round() / 1000.0),
            "p50_ms": quantile_ms(&all, 0.5),
            "p99_ms": quantile_ms(&all, 0.99),
        })
    }
}

impl History {
    /// Appends a sample, with the total of admitted requests of each access key.
    pub(super) fn push(&self, sample: Sample, keys: impl Iterator<Item = (Arc<str>, u64)>) {
        let mut ring = self.0.lock();
        let before = ring.samples.back().map(|last| last.at);
        let elapsed = before.map_or(Duration::ZERO, |before| {
            sample.at.saturating_duration_since(before)
        });
        ring.keys = keys
            .filter(|&(_, count)| count > 0)
            .map(|(key, count)| {
                let usage = ring.keys.get(&key).copied();
                (key, KeyUsage::updated(usage, count, elapsed))
            })
            .collect();
        if ring.samples.len() > POINTS {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
        ring.newest += 1;
    }

    /// Returns the points after sample number `after`, oldest first; all points if that sample is no longer
    /// held or is in the future (of an earlier process).
    pub(super) fn points_after(&self, after: u64) -> Value {
        let ring = self.0.lock();
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

    /// Returns the rates of the last [`PERIOD`] before `now`.
    pub(super) fn rates(&self, now: &Sample) -> Value {
        now.since(&self.sample_before(now, PERIOD))
    }

    /// Returns the percentiles of the last minute before `now`.
    pub(super) fn latency(&self, now: &Sample) -> Value {
        let earlier = self.sample_before(now, LATENCY_WINDOW);
        let seconds = now.at.saturating_duration_since(earlier.at).as_secs_f64();
        let mut percentiles = json!({ "seconds": seconds });
        for (name, index) in [("all", 0), ("hit", 1), ("node", 2)] {
            let histogram = now.durations[index].delta_since(&earlier.durations[index]);
            percentiles[name] = json!({
                "count": histogram.count(),
                "p50_ms": quantile_ms(&histogram, 0.5),
                "p90_ms": quantile_ms(&histogram, 0.9),
                "p99_ms": quantile_ms(&histogram, 0.99),
            });
        }
        percentiles
    }

    /// Returns up to `limit` access keys with the highest current rate.
    pub(super) fn top_keys(&self, limit: usize) -> Value {
        let ring = self.0.lock();
        let mut keys: Vec<_> = ring.keys.iter().collect();
        keys.sort_by(|(one, a), (other, b)| {
            let by_usage = b.rate.total_cmp(&a.rate).then(b.count.cmp(&a.count));
            by_usage.then_with(|| one.cmp(other))
        });
        let top = keys.iter().take(limit).map(|(key, usage)| {
            json!({
                "access_key": key,
                "requests": usage.count,
                "per_second": (usage.rate * 100.0).round() / 100.0,
            })
        });
        top.collect()
    }

    /// Returns the newest sample that is at least `age` older than `now`, or else the oldest one.
    fn sample_before(&self, now: &Sample, age: Duration) -> Sample {
        let ring = self.0.lock();
        let old_enough = |sample: &&Sample| {
            now.at.saturating_duration_since(sample.at) + SAMPLE_TOLERANCE >= age
        };
        let found = ring.samples.iter().rev().find(old_enough);
        found.or(ring.samples.front()).unwrap_or(now).clone()
    }
}

impl KeyUsage {
    /// Returns the usage after `count` requests in total, with the rate decayed by `HALF_LIFE_SECONDS`.
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded for display")]
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

fn quantile_ms(histogram: &Histogram, quantile: f64) -> Option<f64> {
    histogram
        .quantile(quantile)
        .map(|value| (value * 100.0).round() / 100.0)
}

/// Chart points: 15 minutes of samples every [`PERIOD`].
const POINTS: usize = 180;

/// The window of the latency percentiles, as the status page states.
const LATENCY_WINDOW: Duration = Duration::from_secs(60);

/// How much younger than `age` a sample may be, since the sampling timer is some milliseconds late.
const SAMPLE_TOLERANCE: Duration = Duration::from_millis(500);

/// Half-life of an access key's rate. Our choice: steady enough to read, and the rate of an unused
/// key decays within minutes.
const HALF_LIFE_SECONDS: f64 = 30.0;

#[cfg(test)]
mod tests;
