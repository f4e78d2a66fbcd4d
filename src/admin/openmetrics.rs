//! The metrics in OpenMetrics text format.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::gauges::{self, Gauges};
use crate::metrics::{BUCKETS_MS, ConnectionEndReason, Histogram, RouteTotals, Totals};

mod nodes;

/// The content type of `/metrics` (OpenMetrics 1.0.0).
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders all metrics.
///
/// # Errors
/// The encoder failed.
pub(super) fn write(totals: Totals, gauges: Gauges) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ccfs_gateway");
    registry.register_collector(Box::new(MetricsCollector { totals, gauges }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct MetricsCollector {
    totals: Totals,
    gauges: Gauges,
}

impl Collector for MetricsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.closed_families(&mut encoder)?;
        self.requests(&mut encoder)?;
        self.durations(&mut encoder)?;
        let build = "Version and architecture";
        let mut info = encoder.encode_descriptor("build", build, None, MetricType::Info)?;
        info.encode_info(&[
            ("version", env!("CARGO_PKG_VERSION")),
            ("arch", std::env::consts::ARCH),
        ])?;
        for family in &self.gauges.gauges {
            encode_values(&mut encoder, family, MetricType::Gauge)?;
        }
        for family in &self.gauges.counters {
            encode_values(&mut encoder, family, MetricType::Counter)?;
        }
        nodes::encode(
            &mut encoder,
            &self.gauges.nodes,
            self.gauges.node_histograms,
        )
    }
}

impl MetricsCollector {
    fn closed_families(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (family, counts) in self.totals.families() {
            let mut encoded =
                encoder.encode_descriptor(family.name, family.help, None, MetricType::Counter)?;
            for (values, &count) in family.values.iter().zip(counts) {
                let counter = ConstCounter::new(count);
                if family.labels.is_empty() {
                    counter.encode(encoded)?;
                    break;
                }
                let labels: Vec<_> = family.labels.split(',').zip(values.split(',')).collect();
                counter.encode(encoded.encode_family(&labels)?)?;
            }
        }
        let panics = self.totals.get(ConnectionEndReason::Panic);
        let help = "Caught panics; each is a defect";
        let metric = encoder.encode_descriptor("panics", help, None, MetricType::Counter)?;
        ConstCounter::new(panics).encode(metric)
    }

    fn routes(&self) -> impl Iterator<Item = (&str, &str, &RouteTotals)> {
        self.totals.routes(&self.gauges.routes)
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests by listener, cluster and outcome";
        let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (listener, cluster, totals) in self.routes() {
            for (outcome, class, count) in totals.requests() {
                let labels = [
                    ("listener", listener),
                    ("cluster", cluster),
                    ("outcome", outcome.as_str()),
                    ("code_class", class.as_str()),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// One series per cluster, summed over its listeners.
    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut clusters = std::collections::BTreeMap::<_, Histogram>::new();
        for (_, cluster, totals) in self.routes() {
            for (cache, durations) in totals.durations() {
                let cache = cache.map_or("none", |status| status.as_str());
                clusters
                    .entry((cluster, cache))
                    .or_default()
                    .merge(durations);
            }
        }
        let series = clusters.iter().map(|(&(cluster, cache), histogram)| {
            ([("cluster", cluster), ("cache", cache)], histogram)
        });
        histograms(
            encoder,
            "request_duration",
            "Time from the request's head to the end of the response",
            series,
        )
    }
}

/// Encodes a histogram family, in seconds.
fn histograms<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl Iterator<Item = ([(&'a str, &'a str); N], &'a Histogram)>,
) -> Result<(), fmt::Error> {
    let mut family =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a process's life fit"
    )]
    let seconds = |micros: u64| micros as f64 / 1e6;
    for (labels, histogram) in series {
        let bounds = BUCKETS_MS
            .iter()
            .map(|ms| seconds(ms * 1000))
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(histogram.buckets).collect();
        let no_exemplars: Option<&std::collections::HashMap<usize, _>> = None;
        family
            .encode_family(&labels)?
            .encode_histogram::<[(&str, &str); 0]>(
                seconds(histogram.sum_micros),
                histogram.count(),
                &buckets,
                no_exemplars,
            )?;
    }
    Ok(())
}

/// Encodes a family of gauge or counter values; one without labels has a single value.
fn encode_values(
    encoder: &mut DescriptorEncoder<'_>,
    family: &gauges::Family,
    kind: MetricType,
) -> Result<(), fmt::Error> {
    let mut encoded = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    for (labels, value) in &family.values {
        if labels.is_empty() {
            return encode_value(encoded, kind, *value);
        }
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        encode_value(encoded.encode_family(&labels)?, kind, *value)?;
    }
    Ok(())
}

fn encode_value(
    encoder: MetricEncoder<'_>,
    kind: MetricType,
    value: i64,
) -> Result<(), fmt::Error> {
    if let MetricType::Counter = kind {
        ConstCounter::new(u64::try_from(value).unwrap_or_default()).encode(encoder)
    } else {
        ConstGauge::new(value).encode(encoder)
    }
}
