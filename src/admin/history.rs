//! The last 15 minutes in memory: a bounded ring of samples, from which rates and percentiles are computed.
//! Pure: the time is a parameter.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::node_history::ResultCounts;
use crate::metrics::{
    CacheStatus, Histogram, LongestDurations, RequestOutcome, ResultClass, StatusClass, Totals,
};

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
}

/// The counters at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    at: Instant,
    counts: Counts,
    /// Durations of all requests, of cache hits, and of requests that reached a node.
    durations: [Histogram; 3],
    /// The longest of each since the sample before, in microseconds.
    longest: [u64; 3],
    /// Responses of nodes by the class of their resultCode.
    codes: ResultCounts,
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

impl Sample {
    /// Takes the sample of the counters, with the responses of nodes by class, at the moment `at`.
    pub(super) fn take(totals: &Totals, codes: ResultCounts, at: Instant) -> Self {
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
                | CacheStatus::NoCache
                | CacheStatus::Failed => counts.cacheable += count,
                CacheStatus::Bypass => {}
            }
        }
        let durations = SELECTIONS.map(|selected| totals.durations(selected));
        Self {
            at,
            counts,
            longest: durations.each_ref().map(|durations| durations.max_micros),
            durations,
            codes,
        }
    }

    /// Sets the longest durations, which were taken together with the sample.
    #[must_use]
    pub(super) fn with_longest(mut self, longest: &LongestDurations) -> Self {
        self.longest = SELECTIONS.map(|selected| longest.max_micros(selected));
        self
    }

    /// Returns the chart point between `earlier` and this sample, with the longest duration of that time.
    #[expect(clippy::cast_precision_loss, reason = "rates are rounded for display")]
    fn since(&self, earlier: &Self, longest: u64) -> Value {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let (now, before) = (&self.counts, &earlier.counts);
        let rate = |now: u64, before: u64| {
            let per_second = now.saturating_sub(before) as f64 / seconds.max(0.001);
            (per_second * 100.0).round() / 100.0
        };
        let lookups = now.cacheable.saturating_sub(before.cacheable);
        let hits = now.hits.saturating_sub(before.hits);
        let all = self.durations[0].delta_since(&earlier.durations[0], longest);
        let codes = ResultClass::ALL
            .iter()
            .zip(now_and_before(&self.codes, &earlier.codes));
        let codes: Map<_, _> = codes
            .map(|(class, (now, before))| (class.as_str().to_owned(), rate(now, before).into()))
            .collect();
        json!({
            "seconds": seconds,
            "requests": rate(now.requests, before.requests),
            "errors": rate(now.errors, before.errors),
            "refused": rate(now.rejected, before.rejected),
            "limited": rate(now.rate_limited, before.rate_limited),
            "hit_ratio": (lookups > 0).then(|| (hits as f64 / lookups as f64 * 1000.0).round() / 1000.0),
            "p50_ms": quantile_ms(&all, 0.5),
            "p99_ms": quantile_ms(&all, 0.99),
            "max_ms": all.max_ms().map(rounded),
            "result_codes": codes,
        })
    }
}

fn now_and_before(now: &ResultCounts, before: &ResultCounts) -> impl Iterator<Item = (u64, u64)> {
    now.iter().copied().zip(before.iter().copied())
}

impl History {
    /// Appends a sample; returns its number, counted from 1.
    pub(super) fn push(&self, sample: Sample) -> u64 {
        let mut ring = self.0.lock();
        if ring.samples.len() > POINTS {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
        ring.newest += 1;
        ring.newest
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
            .map(|(earlier, sample)| sample.since(earlier, sample.longest[0]))
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
        let (earlier, longest) = self.window(now, PERIOD);
        now.since(&earlier, longest[0])
    }

    /// Returns the percentiles of the last minute before `now`.
    pub(super) fn latency(&self, now: &Sample) -> Value {
        let (earlier, longest) = self.window(now, LATENCY_WINDOW);
        let seconds = now.at.saturating_duration_since(earlier.at).as_secs_f64();
        let mut percentiles = json!({ "seconds": seconds });
        for (name, index) in [("all", 0), ("hit", 1), ("node", 2)] {
            let histogram =
                now.durations[index].delta_since(&earlier.durations[index], longest[index]);
            percentiles[name] = json!({
                "count": histogram.count(),
                "p50_ms": quantile_ms(&histogram, 0.5),
                "p90_ms": quantile_ms(&histogram, 0.9),
                "p99_ms": quantile_ms(&histogram, 0.99),
                "max_ms": histogram.max_ms().map(rounded),
            });
        }
        percentiles
    }

    /// Returns the newest sample that is at least `age` older than `now`, or else the oldest one, and the longest
    /// durations since then.
    fn window(&self, now: &Sample, age: Duration) -> (Sample, [u64; 3]) {
        let ring = self.0.lock();
        let old_enough = |sample: &&Sample| {
            now.at.saturating_duration_since(sample.at) + SAMPLE_TOLERANCE >= age
        };
        let found = ring.samples.iter().rev().find(old_enough);
        let earlier = found.or(ring.samples.front()).unwrap_or(now);
        let mut longest = now.longest;
        let later = ring.samples.iter().rev();
        for sample in later.take_while(|sample| sample.at > earlier.at) {
            for (longest, of_sample) in longest.iter_mut().zip(sample.longest) {
                *longest = of_sample.max(*longest);
            }
        }
        (earlier.clone(), longest)
    }
}

/// Whether the durations of a cache status belong to all requests, to cache hits, and to requests that reached a
/// node.
const SELECTIONS: [fn(Option<CacheStatus>) -> bool; 3] = [
    |_| true,
    |cache| cache == Some(CacheStatus::Hit),
    |cache| {
        use CacheStatus as S;
        matches!(cache, Some(S::Stored | S::Miss | S::NoCache | S::Bypass))
    },
];

pub(super) fn quantile_ms(histogram: &Histogram, quantile: f64) -> Option<f64> {
    histogram.quantile(quantile).map(rounded)
}

pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Chart points: 15 minutes of samples every [`PERIOD`].
const POINTS: usize = 180;

/// The window of the latency percentiles, as the status page states.
const LATENCY_WINDOW: Duration = Duration::from_secs(60);

/// How much younger than `age` a sample may be, since the sampling timer is some milliseconds late.
const SAMPLE_TOLERANCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
