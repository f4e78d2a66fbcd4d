//! The JSON object of `/status`. Its members are public.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::history::{History, Sample};
use super::{AdminState, certificates};
use crate::ccfs::offset_text;
use crate::cluster::{Cluster, NodeStatus, Serving};
use crate::config::Config;
use crate::gateway::Snapshot;
use crate::metrics::Totals;
use crate::shared_store::{Status, Store};
use crate::tls::CertificateDetails;

/// Returns the status of every node of every cluster.
pub(super) fn nodes(snapshot: &Snapshot) -> impl Iterator<Item = (&str, NodeStatus)> {
    let now = instant();
    snapshot.clusters().iter().flat_map(move |(name, cluster)| {
        cluster
            .node_statuses(now)
            .into_iter()
            .map(move |node| (name.as_ref(), node))
    })
}

/// Returns the body of `GET /status`, with the chart points after number `after` if it is given.
pub(super) fn write(state: &AdminState, history: &History, after: Option<u64>) -> Value {
    let snapshot = state.shared.snapshot.load();
    let config = state.config.load();
    let totals = state.metrics.sum();
    let (entries, bytes) = state.shared.cache.size();
    let now = wall_clock();
    let sample = Sample::take(&totals, instant());
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": config.server.name,
        "now": now.to_string(),
        "started": state.started.to_string(),
        "uptime_seconds": now.duration_since(state.started).as_secs(),
        "draining": state.is_draining(),
        "generation": snapshot.generation,
        "reloads": state.reloads.to_json(),
        "listeners": listeners(state, &config, now),
        "clusters": snapshot.clusters().values().map(|it| cluster(it, now)).collect::<Vec<_>>(),
        "access_keys": snapshot.accounts().len(),
        "busiest_access_keys": history.top_keys(TOP_KEYS),
        "recordings_not_found": recordings_not_found(state, &snapshot, now),
        "audit": state.audit.as_ref().map(|audit| {
            let (seq, hash) = audit.head();
            json!({ "seq": seq, "hash": hash })
        }),
        "requests_in_flight": snapshot.in_flight.in_use(),
        "buffered_bytes": snapshot.buffered.in_use(),
        "cache": {
            "entries": entries,
            "bytes": bytes,
            "max_bytes": config.cache.max_size,
            "fetches": state.shared.fetches.len(),
        },
        "shared": state.shared.store.load().as_deref().map(shared_store),
        "rates": history.rates(&sample),
        "latency": history.latency(&sample),
        "telemetry": { "node_histograms": on_or_off(config.has_node_histograms()) },
        "counters": counters(&totals),
    });
    state.findings.add_to(&mut status);
    if let Some(after) = after {
        status["history"] = history.points_after(after);
    }
    status
}

fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Returns the access keys of which most recordings were not found in the last ten minutes.
fn recordings_not_found(state: &AdminState, snapshot: &Snapshot, now: Timestamp) -> Value {
    let recent = state.shared.not_found.recent(now);
    let shown = recent.iter().take(TOP_KEYS).map(|one| {
        let account = snapshot.account(&one.access_key);
        let counts = &one.counts;
        let times_off = counts
            .times_off
            .iter()
            .map(|&(by, count)| json!({ "by": offset_text(by), "count": count }));
        json!({
            "access_key": one.access_key,
            "requests": account.map(|account| account.recent_recordings(now)),
            "not_found": counts.not_found,
            "not_synchronised": counts.not_synchronised,
            "ends_before_call": counts.ends_before_call,
            "begins_after_call": counts.begins_after_call,
            "times_off": times_off.collect::<Vec<_>>(),
        })
    });
    shown.collect()
}

fn shared_store(store: &Store) -> Value {
    let status = store.status();
    json!({
        "url": store.settings().url(),
        "connected": status == Status::Connected,
        "state": match &status {
            Status::Connecting => "sought",
            Status::Connected => "connected",
            Status::Unavailable(_) => "away",
        },
        "reason": match &status {
            Status::Connecting | Status::Connected => None,
            Status::Unavailable(reason) => Some(reason),
        },
        "untold_purges": store.unpublished_purges(),
        "insecure_skip_verify": store.settings().tls.as_ref().is_some_and(|tls| tls.insecure),
    })
}

fn listeners(state: &AdminState, config: &Config, now: Timestamp) -> Vec<Value> {
    let ports = state.ports.load();
    let listeners = config.listeners.iter().map(|(name, listener)| {
        let port = ports.iter().find(|port| port.name == *name);
        let routes = listener.routes.iter();
        json!({
            "name": name,
            "bind": listener.bind.to_string(),
            "address": port.map(|port| port.address.to_string()),
            "connections": port.map(|port| port.connections.count()),
            "routes": routes.map(|(prefix, cluster)| json!({
                "prefix": prefix,
                "cluster": cluster,
            })).collect::<Vec<_>>(),
            "certificates": certificates::all(config)
                .filter(|certificate| certificate.listener == name.as_ref())
                .map(|info| certificate(&info, now))
                .collect::<Vec<_>>(),
        })
    });
    listeners.collect()
}

fn certificate(info: &certificates::CertificateInfo<'_>, now: Timestamp) -> Value {
    let not_after = info.validity.map(|validity| validity.not_after);
    json!({
        "names": info.names,
        "not_after": not_after.map(|end| end.to_string()),
        "days_left": not_after.map(|end| end.duration_since(now).as_secs().div_euclid(86_400)),
    })
}

fn cluster(cluster: &Cluster, now: Timestamp) -> Value {
    let settings = cluster.settings();
    let nodes = cluster.node_statuses(instant());
    json!({
        "name": settings.name,
        "panic": cluster.is_panicking(instant()),
        "fallback": settings.fallback,
        "serving": serving(&cluster.serving(instant())),
        "insecure_skip_verify": settings.insecure_skip_verify,
        "flow_control": settings.flow_control.mode,
        "flow_control_waiters": cluster.waiters(),
        "nodes": nodes.iter().map(|it| node(it, now)).collect::<Vec<_>>(),
    })
}

fn node(node: &NodeStatus, now: Timestamp) -> Value {
    let quantile = |q| {
        let value = node.attempts.durations.quantile(q);
        value.map(|value| (value * 100.0).round() / 100.0)
    };
    json!({
        "address": node.address,
        "socket": node.socket.map(|socket| socket.to_string()),
        "weight": node.weight,
        "priority": node.priority,
        "state": node.state.as_str(),
        "in_flight": node.in_flight,
        "connections": node.connections,
        "requests": node.requests,
        "failures": node.failures,
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "last_error": node.last_failure.map(|failure| failure.as_str()),
        "last_cause": node.last_failure_reason,
        "ejected_for_seconds": node.ejected_for.map(|left| left.as_secs_f64()),
        "ejected": ejected(node, now),
        "clock_offset_seconds": node.clock_offset,
        "flow_control": flow_control(node),
        "certificate": node.certificate.as_deref().map(node_certificate),
    })
}

fn node_certificate(certificate: &CertificateDetails) -> Value {
    let end = certificate.validity.map(|validity| validity.not_after);
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "not_after": end.map(|end| end.to_string()),
        "names": certificate.names,
    })
}

/// Returns which nodes serve: `first-tier`, `tier-N` with the priority N, `fallback` or `none`.
fn serving(serving: &Serving) -> String {
    match serving {
        Serving::FirstTier => "first-tier".to_owned(),
        Serving::Tier(priority) => format!("tier-{priority}"),
        Serving::Fallback(_) => "fallback".to_owned(),
        Serving::Nothing => "none".to_owned(),
    }
}

/// Returns what was learned of the flow control of a node, by class: attempts in flight, attempts a second,
/// and how many access keys it limits by themselves.
fn flow_control(node: &NodeStatus) -> Value {
    let classes = node.flow_bounds.iter().map(|bounds| {
        let value = json!({
            "in_flight": bounds.in_flight,
            "per_second": bounds.per_second.map(|rate| (rate * 10.0).round() / 10.0),
            "access_keys": bounds.access_keys,
        });
        (bounds.class.as_str().to_owned(), value)
    });
    Value::Object(classes.collect())
}

fn ejected(node: &NodeStatus, now: Timestamp) -> Option<Value> {
    let until = now.checked_add(node.ejected_for?).ok()?;
    Some(json!({
        "reason": node.ejection_reason?.as_str(),
        "until": until.to_string(),
    }))
}

/// Returns all counters with closed label sets, and the requests by outcome.
fn counters(totals: &Totals) -> Value {
    let mut counters = Map::new();
    let mut requests = Map::new();
    for (outcome, _, count) in totals.requests() {
        let before = requests.get(outcome.as_str()).and_then(Value::as_u64);
        let sum = before.unwrap_or_default() + count;
        requests.insert(outcome.as_str().to_owned(), sum.into());
    }
    counters.insert("requests".to_owned(), Value::Object(requests));
    for (family, counts) in totals.families() {
        let value = if family.labels.is_empty() {
            counts.first().copied().unwrap_or_default().into()
        } else {
            let values = family.values.iter().zip(counts);
            let values = values.map(|(value, &count)| ((*value).to_owned(), count.into()));
            Value::Object(values.collect())
        };
        counters.insert(family.name.to_owned(), value);
    }
    Value::Object(counters)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how a node is depends on the time"
)]
pub(super) fn instant() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "what a reader's clock says")]
pub(super) fn wall_clock() -> Timestamp {
    Timestamp::now()
}

/// How many access keys the status page has room for.
const TOP_KEYS: usize = 8;
