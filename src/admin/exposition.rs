//! The counters in OpenMetrics text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::cluster::NodeState;
use crate::gateway::Shared;
use crate::metrics::{BUCKETS_MS, Histogram, Totals};

/// What `GET /metrics` answers with.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics at this moment.
pub(super) fn write(totals: Totals, gauges: Gauges) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ccfs_gateway");
    registry.register_collector(Box::new(Exposition { totals, gauges }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

/// Values that are read, not counted.
#[derive(Debug)]
pub(super) struct Gauges {
    plain: Vec<(&'static str, &'static str, i64)>,
    nodes: Vec<NodeRow>,
}

#[derive(Debug)]
struct NodeRow {
    cluster: String,
    node: String,
    up: bool,
    ejected: bool,
    in_flight: i64,
    requests: u64,
    failures: u64,
}

impl Gauges {
    /// Reads them.
    pub(super) fn read(shared: &Shared, draining: bool) -> Self {
        let snapshot = shared.snapshot.load();
        let (entries, weight) = shared.cache.size();
        let plain = vec![
            (
                "inflight_requests",
                "Requests in flight",
                count(snapshot.in_flight.used()),
            ),
            (
                "buffered_bytes",
                "Bytes of request bodies held",
                count(snapshot.buffered.used()),
            ),
            (
                "cache_entries",
                "Answers in the cache",
                i64::try_from(entries).unwrap_or(i64::MAX),
            ),
            (
                "cache_weight_bytes",
                "Bytes in the cache",
                i64::try_from(weight).unwrap_or(i64::MAX),
            ),
            (
                "coalesced_fetches",
                "Fetches under way",
                count(shared.flights.len()),
            ),
            (
                "access_keys",
                "Access keys configured",
                count(snapshot.accounts().len()),
            ),
            (
                "config_generation",
                "Generation of the configuration",
                i64::try_from(snapshot.generation).unwrap_or(i64::MAX),
            ),
            (
                "draining",
                "1 from the beginning of a drain",
                i64::from(draining),
            ),
        ];
        let nodes = super::status::nodes(&snapshot)
            .map(|(cluster, node)| NodeRow {
                cluster: cluster.to_owned(),
                up: matches!(node.state, NodeState::Up | NodeState::SlowStart),
                ejected: node.state == NodeState::Ejected,
                in_flight: count(node.in_flight),
                requests: node.requests,
                failures: node.failures,
                node: node.address.to_string(),
            })
            .collect();
        Self { plain, nodes }
    }
}

#[derive(Debug)]
struct Exposition {
    totals: Totals,
    gauges: Gauges,
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, label, values) in self.totals.families() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in values {
                let labels = [(label, value)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        durations(&mut encoder, &self.totals.durations)?;
        for &(name, help, value) in &self.gauges.plain {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        self.nodes(&mut encoder)
    }
}

impl Exposition {
    fn nodes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        type Read = fn(&NodeRow) -> i64;
        let gauges: [(&str, &str, Read); 3] = [
            ("node_up", "1 if a node is taken to be well", |row| {
                row.up.into()
            }),
            ("node_ejected", "1 while a node is put aside", |row| {
                row.ejected.into()
            }),
            (
                "upstream_in_flight",
                "Requests in flight at a node",
                |row| row.in_flight,
            ),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for row in &self.gauges.nodes {
                ConstGauge::new(read(row)).encode(family.encode_family(&row.labels())?)?;
            }
        }
        type Count = fn(&NodeRow) -> u64;
        let counters: [(&str, &str, Count); 2] = [
            ("node_requests", "Tries at a node", |row| row.requests),
            ("node_failures", "Failed tries at a node", |row| {
                row.failures
            }),
        ];
        for (name, help, read) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for row in &self.gauges.nodes {
                ConstCounter::new(read(row)).encode(family.encode_family(&row.labels())?)?;
            }
        }
        Ok(())
    }
}

impl NodeRow {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("cluster", &self.cluster), ("node", &self.node)]
    }
}

fn durations(encoder: &mut DescriptorEncoder<'_>, seen: &Histogram) -> Result<(), fmt::Error> {
    let mut metric: MetricEncoder<'_> = encoder.encode_descriptor(
        "request_duration",
        "From the request's head to the end of its answer",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a process's life fit"
    )]
    let seconds = |micros: u64| micros as f64 / 1e6;
    let bounds = BUCKETS_MS
        .iter()
        .map(|ms| seconds(ms * 1000))
        .chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(seen.buckets).collect();
    let count = seen.buckets.iter().sum();
    let no_exemplars: Option<&std::collections::HashMap<usize, _>> = None;
    metric.encode_histogram::<NoLabelSet>(seconds(seen.sum_micros), count, &buckets, no_exemplars)
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
