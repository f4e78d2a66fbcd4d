use super::*;
use crate::metrics::{CompletedRequest, Metrics, RouteLabel};

struct TestHistory {
    metrics: Metrics,
    history: History,
    now: Instant,
}

impl TestHistory {
    fn new() -> Self {
        let test = Self {
            metrics: Metrics::default(),
            history: History::default(),
            now: tokio::time::Instant::now().into_std(),
        };
        test.history.push(test.sample());
        test
    }

    fn sample(&self) -> Sample {
        Sample::take(&self.metrics.sum(), ResultCounts::default(), self.now)
    }

    /// `count` requests in the next five seconds.
    fn record(
        &mut self,
        count: u64,
        outcome: RequestOutcome,
        status: u16,
        cache: Option<CacheStatus>,
    ) {
        let shard = self.metrics.add_shard();
        for _ in 0..count {
            cache.iter().for_each(|&verdict| shard.count(verdict));
            shard.count_request(&CompletedRequest {
                route: RouteLabel::default(),
                outcome,
                status,
                cache,
                duration: Duration::from_millis(4),
            });
        }
        self.now += PERIOD;
        let sample = self.sample().with_longest(&self.metrics.take_longest());
        self.history.push(sample);
    }

    fn points(&self, after: u64) -> Vec<Value> {
        let history = self.history.points_after(after);
        history["points"].as_array().unwrap().clone()
    }
}

#[test]
fn a_point_contains_rates_and_percentiles() {
    let mut test = TestHistory::new();
    test.record(50, RequestOutcome::Cached, 200, Some(CacheStatus::Hit));
    test.record(10, RequestOutcome::NodeTimeout, 504, None);
    test.record(20, RequestOutcome::RateLimited, 429, None);
    test.record(5, RequestOutcome::Unauthenticated, 401, None);
    let points = test.points(0);
    let rates = |name: &str| -> Vec<f64> {
        let values = points.iter().map(|point| point[name].as_f64().unwrap());
        values.collect()
    };
    assert_eq!(rates("requests"), [10.0, 2.0, 4.0, 1.0]);
    assert_eq!(rates("errors"), [0.0, 2.0, 0.0, 0.0]);
    assert_eq!(rates("limited"), [0.0, 0.0, 4.0, 0.0]);
    assert_eq!(rates("refused"), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(points[0]["hit_ratio"], 1.0);
    assert_eq!(points[1]["hit_ratio"], Value::Null);
    let p50 = points[0]["p50_ms"].as_f64().unwrap();
    assert!((3.0..5.0).contains(&p50), "{p50}");
}

#[test]
fn only_new_points_are_returned_and_the_ring_is_bounded() {
    let mut test = TestHistory::new();
    for _ in 0..POINTS + 20 {
        test.record(1, RequestOutcome::Node, 200, None);
    }
    let newest = test.history.points_after(0)["newest"].as_u64().unwrap();
    assert_eq!(test.points(0).len(), POINTS);
    assert_eq!(test.points(newest).len(), 0);
    assert_eq!(test.points(newest - 3).len(), 3);
    assert_eq!(
        test.points(newest + 1).len(),
        POINTS,
        "a page of an earlier life of the gateway gets all"
    );
}

#[test]
fn rates_look_back_seconds_and_percentiles_a_minute() {
    let mut test = TestHistory::new();
    test.record(100, RequestOutcome::Node, 200, Some(CacheStatus::Stored));
    for _ in 0..6 {
        test.record(0, RequestOutcome::Node, 200, None);
    }
    let now = test.sample();
    assert_eq!(test.history.rates(&now)["requests"], 0.0);
    assert_eq!(test.history.latency(&now)["node"]["count"], 100);
    assert_eq!(test.history.latency(&now)["hit"]["count"], 0);
    for _ in 0..12 {
        test.record(0, RequestOutcome::Node, 200, None);
    }
    let now = test.sample();
    assert_eq!(test.history.latency(&now)["all"]["count"], 0);
}

#[test]
fn a_percentile_never_exceeds_what_was_seen_in_its_minute() {
    let mut test = TestHistory::new();
    let shard = test.metrics.add_shard();
    let mut request = CompletedRequest {
        route: RouteLabel::default(),
        outcome: RequestOutcome::Node,
        status: 200,
        cache: Some(CacheStatus::Miss),
        duration: Duration::from_millis(4990),
    };
    shard.count_request(&request);
    for _ in 0..15 {
        test.record(0, RequestOutcome::Node, 200, None);
    }
    request.duration = Duration::from_millis(3050);
    shard.count_request(&request);
    let figures = |test: &TestHistory| {
        let latency = test.history.latency(&test.sample());
        ["all", "node"].map(|name| {
            ["count", "p99_ms", "max_ms"].map(|figure| latency[name][figure].as_f64().unwrap())
        })
    };
    assert_eq!(figures(&test), [[1.0, 3050.0, 3050.0]; 2]);
    // Also once the sample is taken.
    test.record(0, RequestOutcome::Node, 200, None);
    assert_eq!(figures(&test), [[1.0, 3050.0, 3050.0]; 2]);
    assert_eq!(test.points(0).last().unwrap()["max_ms"], 3050.0);
}

#[test]
fn a_failed_fetch_is_no_hit() {
    let mut test = TestHistory::new();
    test.record(3, RequestOutcome::Cached, 200, Some(CacheStatus::Hit));
    let shard = test.metrics.add_shard();
    shard.count(CacheStatus::Failed);
    shard.count(CacheStatus::Hit);
    test.record(0, RequestOutcome::Cached, 200, None);
    assert_eq!(test.points(0)[1]["hit_ratio"], 0.5);
}
