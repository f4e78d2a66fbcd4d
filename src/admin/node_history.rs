//! The last minutes of each node: rates, percentiles and the points of its sparkline, and the classes of the
//! resultCodes of all nodes. Pure: the time is a parameter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{Node, NodeId, NodeStatus};
use crate::metrics::{Attempt, AttemptTotals, Histogram, ResultClass};

/// The samples of all nodes.
#[derive(Debug, Default)]
pub(super) struct NodeHistory(Mutex<Tracks>);

/// Counts of nodes' responses by class, in the order of [`ResultClass::ALL`]; they only grow.
pub(super) type ResultCounts = [u64; ResultClass::ALL.len()];

#[derive(Debug, Default)]
struct Tracks {
    nodes: HashMap<NodeId, Track>,
    /// The responses of all nodes, former ones included, up to the last observation.
    codes: ResultCounts,
    /// The number of the last observation; that of the sample of the charts that is taken with it.
    observations: u64,
}

/// What is remembered of one node.
#[derive(Debug, Default)]
struct Track {
    samples: VecDeque<Sample>,
    points: VecDeque<Point>,
    codes: ResultCounts,
    /// In microseconds, since the last sample.
    longest: u64,
}

/// The counters of a node at one moment.
#[derive(Debug)]
struct Sample {
    at: Instant,
    attempts: u64,
    failures: u64,
    durations: Histogram,
    /// The longest duration since the sample before, in microseconds.
    longest: u64,
}

/// The rates between two samples.
#[derive(Debug)]
struct Point {
    /// The number of the observation.
    number: u64,
    attempts: f64,
    failures: f64,
}

/// What `/status` shows of a node's last minute.
#[derive(Debug)]
pub(super) struct NodeFigures {
    /// Since a sample that is at least ten seconds old; `None` without one.
    pub(super) attempts_per_second: Option<f64>,
    pub(super) failures_per_second: Option<f64>,
    /// The attempts of the last minute.
    pub(super) durations: Histogram,
}

impl NodeHistory {
    /// Observes all nodes, every [`super::history::PERIOD`]; returns the responses by class.
    pub(super) fn observe(&self, nodes: &[Arc<Node>], now: Instant) -> ResultCounts {
        let mut tracks = self.0.lock();
        tracks.observations += 1;
        let number = tracks.observations;
        let mut known = std::mem::take(&mut tracks.nodes);
        for (index, node) in nodes.iter().enumerate() {
            let totals = node.attempts().sum();
            let mut track = known.remove(&node.id()).unwrap_or_default();
            add_growth(&mut tracks.codes, &totals, &track.codes);
            track.codes = result_counts(&totals);
            track.longest = track.longest.max(node.attempts().take_longest());
            let is_sampled = number % OBSERVATIONS_PER_SAMPLE == 1;
            match (index < MAX_NODES, track.samples.is_empty()) {
                (false, _) => {}
                // Its counters began at zero with its membership.
                (true, true) => track.samples.push_back(Sample::first(now)),
                (true, false) if is_sampled => track.push(&totals, number, now),
                (true, false) => {}
            }
            tracks.nodes.insert(node.id(), track);
        }
        tracks.codes
    }

    /// Returns the responses by class, those since the last observation included.
    pub(super) fn result_counts<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeStatus>,
    ) -> ResultCounts {
        let tracks = self.0.lock();
        let mut counts = tracks.codes;
        for node in nodes {
            let track = node.id.and_then(|id| tracks.nodes.get(&id));
            let before = track.map_or([0; ResultClass::ALL.len()], |track| track.codes);
            add_growth(&mut counts, &node.attempts, &before);
        }
        counts
    }

    /// Returns the figures of a node's last minute.
    pub(super) fn figures(&self, node: &NodeStatus, now: Instant) -> NodeFigures {
        let tracks = self.0.lock();
        let track = node.id.and_then(|id| tracks.nodes.get(&id));
        let Some(track) = track.filter(|track| !track.samples.is_empty()) else {
            return NodeFigures {
                attempts_per_second: None,
                failures_per_second: None,
                durations: node.attempts.durations.clone(),
            };
        };
        let age = |sample: &Sample| now.saturating_duration_since(sample.at);
        let samples = || track.samples.iter().rev();
        let oldest = track.samples.front();
        let start = samples().find(|it| age(it) >= WINDOW).or(oldest);
        let recent = samples().find(|it| age(it) >= RATE_WINDOW);
        let rate = |count: u64, before: fn(&Sample) -> u64| {
            recent.map(|sample| per_second(count, before(sample), age(sample)))
        };
        NodeFigures {
            attempts_per_second: rate(attempts(&node.attempts), |sample| sample.attempts),
            failures_per_second: rate(failures(&node.attempts), |sample| sample.failures),
            durations: start.map_or_else(Histogram::default, |start| {
                let within = samples().take_while(|sample| sample.at > start.at);
                let longest = within.map(|sample| sample.longest).max();
                let open = track.longest.max(node.attempts.durations.max_micros);
                let longest = longest.unwrap_or_default().max(open);
                node.attempts
                    .durations
                    .delta_since(&start.durations, longest)
            }),
        }
    }

    /// Returns the points of a node after observation `after`, oldest first: attempts and failures a second, of 15
    /// seconds each.
    pub(super) fn points_after(&self, node: &NodeStatus, after: u64) -> Vec<Value> {
        let tracks = self.0.lock();
        let track = node.id.and_then(|id| tracks.nodes.get(&id));
        let points = track.into_iter().flat_map(|track| &track.points);
        points
            .filter(|point| point.number > after)
            .map(|point| json!([point.attempts, point.failures]))
            .collect()
    }
}

impl Sample {
    fn first(at: Instant) -> Self {
        Self {
            at,
            attempts: 0,
            failures: 0,
            durations: Histogram::default(),
            longest: 0,
        }
    }
}

impl Track {
    fn push(&mut self, totals: &AttemptTotals, number: u64, now: Instant) {
        let sample = Sample {
            at: now,
            attempts: attempts(totals),
            failures: failures(totals),
            durations: totals.durations.clone(),
            longest: std::mem::take(&mut self.longest),
        };
        if let Some(before) = self.samples.back() {
            let elapsed = now.saturating_duration_since(before.at);
            self.points.push_back(Point {
                number,
                attempts: per_second(sample.attempts, before.attempts, elapsed),
                failures: per_second(sample.failures, before.failures, elapsed),
            });
        }
        self.samples.push_back(sample);
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        if self.points.len() > POINTS {
            self.points.pop_front();
        }
    }
}

fn result_counts(totals: &AttemptTotals) -> ResultCounts {
    let mut counts = ResultCounts::default();
    for (count, (_, total)) in counts.iter_mut().zip(totals.classes()) {
        *count = total;
    }
    counts
}

fn add_growth(sum: &mut ResultCounts, totals: &AttemptTotals, before: &ResultCounts) {
    for ((sum, now), before) in sum.iter_mut().zip(result_counts(totals)).zip(before) {
        *sum += now.saturating_sub(*before);
    }
}

fn attempts(totals: &AttemptTotals) -> u64 {
    totals.results().map(|(_, count)| count).sum()
}

/// Returns how many attempts failed. Refusals, flow control and clients that have gone are no failures.
fn failures(totals: &AttemptTotals) -> u64 {
    use Attempt as A;
    let is_failure = |result| !matches!(result, A::Ok | A::FlowControl | A::Refused | A::Cancelled);
    let failed = totals.results().filter(|&(result, _)| is_failure(result));
    failed.map(|(_, count)| count).sum()
}

#[expect(clippy::cast_precision_loss, reason = "rates are rounded for display")]
fn per_second(now: u64, before: u64, elapsed: Duration) -> f64 {
    let rate = now.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001);
    (rate * 100.0).round() / 100.0
}

/// The window of percentiles.
const WINDOW: Duration = Duration::from_secs(60);

/// The least window of rates. Our choice: short enough for "now", long enough for one request every few seconds.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// A sample is taken with every third observation: every 15 seconds.
const OBSERVATIONS_PER_SAMPLE: u64 = 3;

/// A minute of samples, and the one before.
const SAMPLES: usize = 6;

/// 15 minutes of points.
const POINTS: usize = 60;

/// Further nodes have no history: 2 KiB a node.
const MAX_NODES: usize = 500;
