//! The JSON object of `/status`. Its members are public.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::histories::Histories;
use super::history::Sample;
use super::{AdminState, callers, certificates};
use crate::cluster::NodeStatus;
use crate::config::Config;
use crate::gateway::Snapshot;
use crate::metrics::Totals;
use crate::shared_store::{Status, Store};

mod access_keys;
mod nodes;

use access_keys::KeyQuery;
pub(super) use access_keys::{access_keys_by_plan, second_secrets};
use nodes::Moment;

/// The query of `GET /status`.
#[derive(Debug, Default)]
pub(super) struct StatusQuery {
    /// Adds the chart points after this number.
    after: Option<u64>,
    /// Adds the access keys that match.
    keys: Option<KeyQuery>,
}

impl StatusQuery {
    /// Parses the query: `after=N`, `keys=TEXT`, `sort=MEMBER`; what it does not know is ignored.
    pub(super) fn parse(query: &str) -> Self {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(found, _)| *found == name)
                .map(|(_, value)| percent_encoding::percent_decode_str(value).decode_utf8_lossy())
        };
        Self {
            after: value("after").and_then(|number| number.parse().ok()),
            keys: value("keys").map(|filter| KeyQuery {
                filter: filter.to_lowercase(),
                sort: value("sort").unwrap_or_default().into_owned(),
            }),
        }
    }
}

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

/// Returns the body of `GET /status`.
pub(super) fn write(state: &AdminState, histories: &Histories, query: &StatusQuery) -> Value {
    let snapshot = state.shared.snapshot.load();
    let config = state.config.load();
    let totals = state.metrics.sum();
    let now = wall_clock();
    let clusters: Vec<_> = (snapshot.clusters().values())
        .map(|cluster| (cluster, cluster.node_statuses(instant())))
        .collect();
    let all_nodes = clusters.iter().flat_map(|(_, nodes)| nodes);
    let codes = histories.nodes.result_counts(all_nodes);
    let sample = Sample::take(&totals, codes, instant());
    let moment = Moment {
        at: instant(),
        now,
        after: query.after,
    };
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": config.server.name,
        "config_file": state.config_file,
        "now": now.to_string(),
        "started": state.started.to_string(),
        "uptime_seconds": now.duration_since(state.started).as_secs(),
        "draining": state.is_draining(),
        "generation": snapshot.generation,
        "reloads": state.reloads.to_json(),
        "listeners": listeners(state, &config, now),
        "clusters": clusters.iter().map(|(cluster, statuses)| {
            nodes::cluster(cluster, statuses, (state, histories), moment)
        }).collect::<Vec<_>>(),
        "callers": callers::list(&snapshot, now),
        "callers_omitted": callers::omitted(&snapshot),
        "access_keys": snapshot.account_count(),
        "access_key_files": config.key_directory.as_deref().map(access_keys::key_directory),
        "access_keys_by_plan": access_keys::plans(state, &snapshot),
        "second_secrets": access_keys::second_secrets_json(&snapshot, now),
        "busiest_access_keys": access_keys::busiest(&histories.keys, &snapshot, now),
        "recordings_not_found": access_keys::recordings_not_found(state, &snapshot, now),
        "audit": audit(state),
        "requests_in_flight": snapshot.in_flight.in_use(),
        "buffered_bytes": snapshot.buffered.in_use(),
        "cache": cache(state, &config),
        "shared": state.shared.store.load().as_deref().map(shared_store),
        "limits": { "dry_run": snapshot.limits.dry_run },
        "rates": histories.charts.rates(&sample),
        "latency": histories.charts.latency(&sample),
        "telemetry": { "node_histograms": on_or_off(config.has_node_histograms()) },
        "counters": counters(&totals),
    });
    state.findings.add_to(&mut status);
    state.journal.add_to(&mut status);
    if let Some(after) = query.after {
        status["history"] = histories.charts.points_after(after);
    }
    if let Some(keys) = &query.keys {
        status["access_key_rows"] = access_keys::rows(keys, &histories.keys, &snapshot, now);
    }
    status
}

/// Returns the head of the audit log.
fn audit(state: &AdminState) -> Option<Value> {
    let (seq, hash) = state.audit.as_ref()?.head();
    Some(json!({ "seq": seq, "hash": hash }))
}

fn cache(state: &AdminState, config: &Config) -> Value {
    let (entries, bytes) = state.shared.cache.size();
    json!({
        "entries": entries,
        "bytes": bytes,
        "max_bytes": config.cache.max_size,
        "fetches": state.shared.fetches.len(),
    })
}

fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
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
            "authentication": listener.authentication,
            "validation": listener.validation,
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
