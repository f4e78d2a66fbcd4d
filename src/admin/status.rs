//! The JSON object of `/status`. Its members are public.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::history::{History, Sample};
use super::{AdminState, certificates};
use crate::auth::AccessKey;
use crate::cluster::{Cluster, NodeStatus};
use crate::config::{Config, KeyDirectory, MAX_LISTED};
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
        "now": now.to_string(),
        "started": state.started.to_string(),
        "uptime_seconds": now.duration_since(state.started).as_secs(),
        "draining": state.is_draining(),
        "generation": snapshot.generation,
        "reloads": state.reloads.to_json(),
        "listeners": listeners(state, &config, now),
        "clusters": snapshot.clusters().values().map(|it| cluster(it)).collect::<Vec<_>>(),
        "access_keys": snapshot.account_count(),
        "access_key_files": config.key_directory.as_deref().map(key_directory),
        "busiest_access_keys": history.top_keys(TOP_KEYS),
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
        "counters": counters(&totals),
    });
    state.findings.add_to(&mut status);
    if let Some(after) = after {
        status["history"] = history.points_after(after);
    }
    status
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

/// Returns the state of `access_keys_dir`.
fn key_directory(directory: &KeyDirectory) -> Value {
    let refused = directory.refused().values().take(MAX_LISTED).map(|file| {
        let keys = file.not_yet_revoked.iter().map(AccessKey::as_str);
        json!({
            "file": file.path.display().to_string(),
            "message": file.message,
            "not_yet_revoked": keys.take(MAX_LISTED).collect::<Vec<_>>(),
            "not_yet_revoked_omitted": file.not_yet_revoked.len().saturating_sub(MAX_LISTED),
        })
    });
    let contested = directory.contested().take(MAX_LISTED).map(|contested| {
        json!({ "access_key": contested.access_key.as_str(), "files": contested.files })
    });
    json!({
        "directory": directory.path().display().to_string(),
        "files": directory.files(),
        "error": directory.error(),
        "refused": refused.collect::<Vec<_>>(),
        "refused_omitted": directory.refused().len().saturating_sub(MAX_LISTED),
        "in_several_files": contested.collect::<Vec<_>>(),
        "in_several_files_omitted": directory.contested().len().saturating_sub(MAX_LISTED),
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

fn cluster(cluster: &Cluster) -> Value {
    let settings = cluster.settings();
    let nodes = cluster.node_statuses(instant());
    json!({
        "name": settings.name,
        "panic": cluster.is_panicking(instant()),
        "insecure_skip_verify": settings.insecure_skip_verify,
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn node(node: &NodeStatus) -> Value {
    let p50 = node.attempts.durations.quantile(0.5);
    json!({
        "address": node.address,
        "socket": node.socket.map(|socket| socket.to_string()),
        "weight": node.weight,
        "state": node.state.as_str(),
        "in_flight": node.in_flight,
        "connections": node.connections,
        "requests": node.requests,
        "failures": node.failures,
        "p50_ms": p50.map(|value| (value * 100.0).round() / 100.0),
        "last_error": node.last_failure.map(|failure| failure.as_str()),
        "last_cause": node.last_failure_reason,
        "ejected_for_seconds": node.ejected_for.map(|left| left.as_secs_f64()),
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
