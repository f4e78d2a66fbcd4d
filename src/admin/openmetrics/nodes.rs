//! The metric families labelled by node.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::admin::gauges::NodeRow;
use crate::cluster::NodeState;
use crate::metrics::{AttemptTotals, ResultClass};

/// Encodes the families of all nodes. Without `histograms` those are left out, and so are the series that
/// are zero, except `node_up`, so that hundreds of nodes do not make a scrape of megabytes.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[NodeRow],
    histograms: bool,
) -> Result<(), fmt::Error> {
    states(encoder, rows, histograms)?;
    clock_offsets(encoder, rows)?;
    ceilings(encoder, rows)?;
    attempts(encoder, rows, histograms)?;
    result_codes(encoder, rows)?;
    let rows = if histograms { rows } else { &[] };
    let series = rows
        .iter()
        .map(|row| (row.labels(), &row.status.attempts.durations));
    super::histograms(
        encoder,
        "upstream_duration",
        "Time from choosing a node to its response head",
        series,
    )
}

fn states(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[NodeRow],
    zeros: bool,
) -> Result<(), fmt::Error> {
    type Read = fn(&NodeRow) -> i64;
    let gauges: [(&str, &str, Read); 5] = [
        ("node_up", "1 if a node is healthy", |row| {
            matches!(row.status.state, NodeState::Up | NodeState::SlowStart).into()
        }),
        ("node_ejected", "1 while a node is ejected", |row| {
            (row.status.state == NodeState::Ejected).into()
        }),
        (
            "node_drained",
            "1 while a node is drained by an operator",
            |row| (row.status.state == NodeState::Drained).into(),
        ),
        (
            "upstream_in_flight",
            "Requests in flight at a node",
            |row| i64::try_from(row.status.in_flight).unwrap_or(i64::MAX),
        ),
        (
            "upstream_connections",
            "Connections to a node, over all workers",
            |row| i64::try_from(row.status.connections).unwrap_or(i64::MAX),
        ),
    ];
    for (name, help, read) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in rows {
            let value = read(row);
            if value != 0 || zeros || name == "node_up" {
                ConstGauge::new(value).encode(family.encode_family(&row.labels())?)?;
            }
        }
    }
    certificate_ends(encoder, rows)
}

/// Encodes the ends of the nodes' certificates; a node without a full handshake has none.
fn certificate_ends(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[NodeRow],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "upstream_node_certificate_not_after_seconds",
        "End of a node's certificate, in seconds since 1970",
        None,
        MetricType::Gauge,
    )?;
    for row in rows {
        let validity = row.status.certificate.as_ref().and_then(|it| it.validity);
        if let Some(validity) = validity {
            let end = validity.not_after.as_second();
            ConstGauge::new(end).encode(family.encode_family(&row.labels())?)?;
        }
    }
    Ok(())
}

fn clock_offsets(encoder: &mut DescriptorEncoder<'_>, rows: &[NodeRow]) -> Result<(), fmt::Error> {
    let help = "By how many seconds the clock of a node is ahead, as last seen";
    let name = "node_clock_offset";
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for row in rows {
        if let Some(offset) = row.status.clock_offset {
            ConstGauge::new(offset).encode(family.encode_family(&row.labels())?)?;
        }
    }
    Ok(())
}

/// Encodes what nodes take before they refuse for flow control, where it was learned.
fn ceilings(encoder: &mut DescriptorEncoder<'_>, rows: &[NodeRow]) -> Result<(), fmt::Error> {
    let help = "What a node takes before it refuses for flow control, as learned";
    let mut family =
        encoder.encode_descriptor("upstream_ceiling", help, None, MetricType::Gauge)?;
    for row in rows {
        let [cluster, node] = row.labels();
        for bounds in &row.status.flow_bounds {
            #[expect(clippy::cast_precision_loss, reason = "a number of requests in flight")]
            let in_flight = bounds.in_flight.map(|limit| limit as f64);
            for (kind, value) in [("in_flight", in_flight), ("per_second", bounds.per_second)] {
                let class = ("class", bounds.class.as_str());
                if let Some(value) = value {
                    let labels = [cluster, node, class, ("kind", kind)];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
    }
    Ok(())
}

fn attempts(
    encoder: &mut DescriptorEncoder<'_>,
    rows: &[NodeRow],
    zeros: bool,
) -> Result<(), fmt::Error> {
    let help = "Upstream attempts by result";
    let mut family =
        encoder.encode_descriptor("upstream_requests", help, None, MetricType::Counter)?;
    for row in rows {
        let [cluster, node] = row.labels();
        let results = row.status.attempts.results();
        for (result, count) in results.filter(|(_, count)| zeros || *count > 0) {
            let labels = [cluster, node, ("result", result.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Encodes the result codes, summed per cluster; the rows of one cluster are adjacent.
fn result_codes(encoder: &mut DescriptorEncoder<'_>, rows: &[NodeRow]) -> Result<(), fmt::Error> {
    let help = "JSON responses of nodes by the class of their resultCode";
    let mut family =
        encoder.encode_descriptor("upstream_result_codes", help, None, MetricType::Counter)?;
    for cluster_rows in rows.chunk_by(|one, other| one.cluster == other.cluster) {
        let cluster = cluster_rows.first().map_or("", |row| &row.cluster);
        for &class in ResultClass::ALL {
            let of_class = |totals: &AttemptTotals| -> u64 {
                let counts = totals.classes().filter(|(it, _)| *it == class);
                counts.map(|(_, count)| count).sum()
            };
            let count = cluster_rows
                .iter()
                .map(|row| of_class(&row.status.attempts))
                .sum::<u64>();
            let labels = [("cluster", cluster), ("class", class.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
