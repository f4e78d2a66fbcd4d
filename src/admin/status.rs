//! The JSON object of `/status`. Its members are public.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::history::{History, Sample};
use super::{AdminState, callers, certificates};
use crate::auth::AccessKey;
use crate::ccfs::offset_text;
use crate::cluster::{Cluster, NodeStatus, Serving};
use crate::config::{Config, KeyDirectory, MAX_LISTED};
use crate::gateway::{Account, Snapshot};
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
        "callers": callers::list(&snapshot, now),
        "callers_omitted": callers::omitted(&snapshot),
        "access_keys": snapshot.account_count(),
        "access_key_files": config.key_directory.as_deref().map(key_directory),
        "access_keys_by_plan": plans(state, &snapshot),
        "second_secrets": second_secrets_json(&snapshot, now),
        "busiest_access_keys": with_names(history.top_keys(TOP_KEYS), &snapshot),
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

/// Returns the number of access keys of each plan.
pub(super) fn access_keys_by_plan(
    state: &AdminState,
    snapshot: &Snapshot,
) -> BTreeMap<Arc<str>, usize> {
    let config = state.config.load();
    let mut counts: BTreeMap<_, _> = config.plans.keys().map(|name| (name.clone(), 0)).collect();
    if counts.is_empty() {
        return counts;
    }
    for account in snapshot.accounts() {
        if let Some(count) = account
            .settings
            .plan
            .as_ref()
            .and_then(|it| counts.get_mut(it))
        {
            *count += 1;
        }
    }
    counts
}

fn plans(state: &AdminState, snapshot: &Snapshot) -> Value {
    let counts = access_keys_by_plan(state, snapshot)
        .into_iter()
        .take(MAX_LISTED);
    Value::Object(
        counts
            .map(|(name, count)| (name.to_string(), count.into()))
            .collect(),
    )
}

/// Returns the accounts whose second secret was used in the last seven days.
pub(super) fn second_secrets(
    snapshot: &Snapshot,
    now: Timestamp,
) -> impl Iterator<Item = (&Arc<Account>, Timestamp)> {
    snapshot.accounts().filter_map(move |account| {
        let used = account.second_secret_used()?;
        (now.duration_since(used) <= SECOND_SECRET_WINDOW).then_some((account, used))
    })
}

/// Returns the accounts with two secrets, those first whose second one was never used: it can be removed.
fn second_secrets_json(snapshot: &Snapshot, now: Timestamp) -> Value {
    let has_two = |account: &&Arc<Account>| account.credential.secrets().len() > 1;
    let mut accounts: Vec<_> = snapshot.accounts().filter(has_two).collect();
    let order = |account: &Arc<Account>| {
        let name = account.credential.access_key().clone();
        (account.second_secret_used(), name)
    };
    accounts.sort_by_cached_key(|account| order(account));
    let shown = accounts.iter().take(MAX_LISTED).map(|account| {
        let used = account.second_secret_used();
        let note = match used.map(|used| now.duration_since(used).as_secs()) {
            None => "never since the start: safe to remove".to_owned(),
            Some(seconds @ ..172_800) => format!("last used {} hours ago", seconds.max(0) / 3_600),
            Some(seconds) => format!("last used {} days ago", seconds / 86_400),
        };
        json!({
            "access_key": account.credential.access_key().as_str(),
            "last_used": used.map(|used| used.to_string()),
            "note": note,
        })
    });
    json!({
        "used_in_7_days": second_secrets(snapshot, now).count(),
        "access_keys": shown.collect::<Vec<_>>(),
        "access_keys_omitted": accounts.len().saturating_sub(MAX_LISTED),
    })
}

/// Adds the name for people and the plan to each of the access keys.
fn with_names(mut keys: Value, snapshot: &Snapshot) -> Value {
    for key in keys.as_array_mut().into_iter().flatten() {
        let account = key["access_key"]
            .as_str()
            .and_then(|name| snapshot.account(name))
            .cloned();
        if let Some(account) = account {
            key["name"] = json!(account.settings.name);
            key["plan"] = json!(account.settings.plan);
        }
    }
    keys
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

/// A secret that was not used for a week is not used by a job that runs weekly either.
const SECOND_SECRET_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How many access keys the status page has room for.
const TOP_KEYS: usize = 8;
