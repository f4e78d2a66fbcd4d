//! The members of `/status` that speak of clusters and their nodes.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::admin::AdminState;
use crate::admin::histories::Histories;
use crate::admin::history::{quantile_ms, rounded};
use crate::cluster::{Cluster, LastCheck, NodeStatus, Serving};
use crate::tls::CertificateDetails;

/// The moment of a status.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) now: Timestamp,
    /// Nodes have their points after this number, if it is given.
    pub(super) after: Option<u64>,
}

/// Returns one cluster with its nodes.
pub(super) fn cluster(
    cluster: &Cluster,
    nodes: &[NodeStatus],
    source: (&AdminState, &Histories),
    moment: Moment,
) -> Value {
    let settings = cluster.settings();
    json!({
        "name": settings.name,
        "panic": cluster.is_panicking(moment.at),
        "fallback": settings.fallback,
        "serving": serving(&cluster.serving(moment.at)),
        "insecure_skip_verify": settings.insecure_skip_verify,
        "flow_control": settings.flow_control.mode,
        "flow_control_waiters": cluster.waiters(),
        "nodes": nodes.iter().map(|it| node(it, source, moment)).collect::<Vec<_>>(),
    })
}

fn node(node: &NodeStatus, (state, histories): (&AdminState, &Histories), moment: Moment) -> Value {
    let figures = histories.nodes.figures(node, moment.at);
    let since = node.id.and_then(|id| state.journal.state_since(id));
    let failed_at = node.last_failure_age.and_then(|age| ago(moment.now, age));
    let mut value = json!({
        "address": node.address,
        "socket": node.socket.map(|socket| socket.to_string()),
        "weight": node.weight,
        "priority": node.priority,
        "state": node.state.as_str(),
        "state_since": since.map(in_milliseconds),
        "in_flight": node.in_flight,
        "connections": node.connections,
        "requests": node.requests,
        "failures": node.failures,
        "attempts_per_second": figures.attempts_per_second,
        "failures_per_second": figures.failures_per_second,
        "p50_ms": quantile_ms(&figures.durations, 0.5),
        "p99_ms": quantile_ms(&figures.durations, 0.99),
        "max_ms": figures.durations.max_ms().map(rounded),
        "last_error": node.last_failure.map(|failure| failure.as_str()),
        "last_cause": node.last_failure_reason,
        "last_failure_at": failed_at.map(in_milliseconds),
        "last_check": node.last_check.map(|check| last_check(check, moment)),
        "ejected_for_seconds": node.ejected_for.map(|left| left.as_secs_f64()),
        "ejected": ejected(node, moment.now),
        "clock_offset_seconds": node.clock_offset,
        "flow_control": flow_control(node),
        "certificate": node.certificate.as_deref().map(|it| node_certificate(it, moment.now)),
    });
    if let Some(after) = moment.after {
        let points = histories.nodes.points_after(node, after);
        if !points.is_empty() {
            value["points"] = points.into();
        }
    }
    value
}

/// Returns the moment `age` before `now`.
fn ago(now: Timestamp, age: std::time::Duration) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(age).ok()?).ok()
}

fn in_milliseconds(moment: Timestamp) -> String {
    format!("{moment:.3}")
}

fn last_check(check: LastCheck, moment: Moment) -> Value {
    let age = moment.at.saturating_duration_since(check.at);
    json!({
        "at": ago(moment.now, age).map(in_milliseconds),
        "duration_ms": rounded(check.duration.as_secs_f64() * 1000.0),
        "ok": check.is_ok,
    })
}

fn node_certificate(certificate: &CertificateDetails, now: Timestamp) -> Value {
    let end = certificate.validity.map(|validity| validity.not_after);
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "not_after": end.map(|end| end.to_string()),
        "days_left": end.map(|end| end.duration_since(now).as_secs().div_euclid(86_400)),
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
