//! The state of the gateway as one JSON object.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::NodeStatus;
use crate::config::Config;
use crate::gateway::{Shared, Snapshot};
use crate::metrics::Totals;

/// Every node of every cluster.
pub(super) fn nodes(snapshot: &Snapshot) -> impl Iterator<Item = (&str, NodeStatus)> {
    let now = instant();
    snapshot.clusters().iter().flat_map(move |(name, cluster)| {
        cluster
            .nodes(now)
            .into_iter()
            .map(move |node| (name.as_ref(), node))
    })
}

/// What `GET /status` answers with.
pub(super) fn write(
    shared: &Shared,
    config: &Config,
    totals: &Totals,
    started: Timestamp,
    draining: bool,
) -> Value {
    let snapshot = shared.snapshot.load();
    let (entries, bytes) = shared.cache.size();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": started.to_string(),
        "draining": draining,
        "generation": snapshot.generation,
        "listeners": config.listeners.iter().map(|(name, listener)| json!({
            "name": name,
            "bind": listener.bind.to_string(),
            "routes": listener.routes.iter().map(|(prefix, cluster)| json!({
                "prefix": prefix,
                "cluster": cluster,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "clusters": snapshot.clusters().iter().map(|(name, cluster)| json!({
            "name": name,
            "panic": cluster.panic(instant()),
            "insecure_skip_verify": cluster.settings().insecure,
            "nodes": cluster.nodes(instant()).iter().map(node).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "access_keys": snapshot.accounts().len(),
        "requests_in_flight": snapshot.in_flight.used(),
        "cache": { "entries": entries, "bytes": bytes, "fetches": shared.flights.len() },
        "counters": totals.families().map(|(name, _, _, values)| {
            let values: serde_json::Map<_, _> =
                values.into_iter().map(|(value, count)| (value.to_owned(), count.into())).collect();
            (name.to_owned(), Value::Object(values))
        }).collect::<serde_json::Map<_, _>>(),
    })
}

fn node(node: &NodeStatus) -> Value {
    json!({
        "address": node.address,
        "socket": node.socket.to_string(),
        "weight": node.weight,
        "state": node.state.as_str(),
        "in_flight": node.in_flight,
        "connections": node.connections,
        "requests": node.requests,
        "failures": node.failures,
        "last_error": node.last_error.map(|fault| fault.as_str()),
        "ejected_for_seconds": node.ejected_for.map(|left| left.as_secs_f64()),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "how a node is depends on the time"
)]
fn instant() -> Instant {
    Instant::now()
}
