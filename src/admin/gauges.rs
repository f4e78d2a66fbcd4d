//! Metrics that are read at scrape time instead of being counted on the request path.

use super::{AdminState, certificates, process, status};
use crate::cluster::NodeStatus;
use crate::findings::{CATALOGUE, Severity};
use crate::gateway::Snapshot;
use crate::metrics::RouteLabels;
use crate::shared_store::{Status, Store};
use crate::telemetry;

/// All values of one scrape.
#[derive(Debug)]
pub(super) struct Gauges {
    /// The gauge families.
    pub(super) gauges: Vec<Family>,
    /// Counter families that are kept outside `Metrics`.
    pub(super) counters: Vec<Family>,
    /// Every configured node; a host name with several addresses is one row.
    pub(super) nodes: Vec<NodeRow>,
    /// The names of the routes.
    pub(super) routes: RouteLabels,
}

/// A metric family: values by their labels.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) values: Vec<(Vec<(&'static str, String)>, i64)>,
}

/// One configured node of a cluster.
#[derive(Debug)]
pub(super) struct NodeRow {
    pub(super) cluster: String,
    node: String,
    pub(super) status: NodeStatus,
}

impl NodeRow {
    pub(super) fn labels(&self) -> [(&'static str, &str); 2] {
        [("cluster", &self.cluster), ("node", &self.node)]
    }
}

impl Gauges {
    /// Reads all values.
    pub(super) fn read(state: &AdminState, waiting: usize) -> Self {
        let snapshot = state.shared.snapshot.load();
        let mut gauges = gateway_gauges(state, &snapshot, waiting);
        gauges.extend(listener_and_cluster_gauges(state, &snapshot));
        gauges.extend(shared_store_gauges(state));
        gauges.extend(config_gauges(state));
        gauges.push(findings(state));
        gauges.extend(process_gauges());
        let reloads = &state.reloads;
        Self {
            gauges,
            counters: vec![
                diagnostics_lines(),
                Family {
                    name: "config_reloads",
                    help: "Reloads of the configuration by result",
                    values: vec![
                        result("ok", reloads.succeeded()),
                        result("refused", reloads.refused()),
                    ],
                },
            ],
            nodes: nodes(&snapshot),
            routes: snapshot.routes.clone(),
        }
    }
}

/// Returns one value of a counter family labelled by result.
fn result(result: &str, count: u64) -> (Vec<(&'static str, String)>, i64) {
    (vec![("result", result.to_owned())], saturating_i64(count))
}

fn diagnostics_lines() -> Family {
    let (written, dropped) = telemetry::diagnostics_lines();
    Family {
        name: "diagnostics_lines",
        help: "Lines of diagnostics by result",
        values: vec![result("written", written), result("dropped", dropped)],
    }
}

/// Returns one row per host name: the addresses of one name have the same labels, so they are summed.
fn nodes(snapshot: &Snapshot) -> Vec<NodeRow> {
    let mut rows: Vec<NodeRow> = Vec::new();
    for (cluster, status) in status::nodes(snapshot) {
        let known = rows
            .iter_mut()
            .find(|row| row.cluster == cluster && *row.node == *status.address);
        match known {
            None => rows.push(NodeRow {
                cluster: cluster.to_owned(),
                node: status.address.to_string(),
                status,
            }),
            Some(row) => row.status.merge(&status),
        }
    }
    rows
}

fn gateway_gauges(state: &AdminState, snapshot: &Snapshot, waiting: usize) -> Vec<Family> {
    let shared = &state.shared;
    let (entries, weight) = shared.cache.size();
    let limited = snapshot
        .accounts()
        .filter(|account| account.is_limited())
        .count();
    vec![
        unlabelled(
            "inflight_requests",
            "Requests in flight",
            snapshot.in_flight.in_use(),
        ),
        unlabelled(
            "buffered_bytes",
            "Bytes of buffered request bodies",
            snapshot.buffered.in_use(),
        ),
        unlabelled("cache_entries", "Responses in the cache", entries),
        unlabelled("cache_weight_bytes", "Bytes in the cache", weight),
        unlabelled(
            "coalesced_fetches",
            "Fetches in progress",
            shared.fetches.len(),
        ),
        unlabelled(
            "coalesced_waiters",
            "Requests waiting for a coalesced fetch",
            waiting,
        ),
        unlabelled(
            "access_keys",
            "Access keys configured",
            snapshot.account_count(),
        ),
        unlabelled("ratelimit_keys", "Access keys with a rate limit", limited),
        unlabelled(
            "draining",
            "1 while draining",
            i64::from(state.is_draining()),
        ),
    ]
}

fn listener_and_cluster_gauges(state: &AdminState, snapshot: &Snapshot) -> Vec<Family> {
    vec![
        Family {
            name: "connections",
            help: "Connections by listener",
            values: state
                .ports
                .load()
                .iter()
                .map(|port| {
                    let labels = vec![("listener", port.name.to_string())];
                    (labels, saturating_i64(port.connections.count()))
                })
                .collect(),
        },
        Family {
            name: "cluster_panic",
            help: "1 while a cluster is in panic mode: too few healthy nodes, so all are used",
            values: snapshot
                .clusters()
                .iter()
                .map(|(name, cluster)| {
                    let labels = vec![("cluster", name.to_string())];
                    (labels, i64::from(cluster.is_panicking(status::instant())))
                })
                .collect(),
        },
    ]
}

/// Returns families without values if `[shared]` is not configured.
fn shared_store_gauges(state: &AdminState) -> Vec<Family> {
    let store = state.shared.store.load();
    let family = |name, help, value: fn(&Store) -> i64| Family {
        name,
        help,
        values: store
            .as_deref()
            .map(|store| (Vec::new(), value(store)))
            .into_iter()
            .collect(),
    };
    vec![
        family(
            "shared_up",
            "1 while connected to the shared store",
            |store| i64::from(store.status() == Status::Connected),
        ),
        family(
            "shared_untold_purges",
            "Purges not yet published to the shared store",
            |store| saturating_i64(store.unpublished_purges()),
        ),
    ]
}

fn config_gauges(state: &AdminState) -> Vec<Family> {
    let last = state.reloads.last();
    let at = last.as_ref().map_or(state.started, |last| last.at);
    let config = state.config.load();
    let certificates = certificates::all(&config).filter_map(|certificate| {
        let labels = vec![("name", certificate.label())];
        Some((labels, certificate.validity?.not_after.as_second()))
    });
    vec![
        unlabelled(
            "config_generation",
            "Generation of the configuration",
            state.shared.snapshot.load().generation,
        ),
        unlabelled(
            "config_last_reload_success",
            "0 if the last reload was rejected; the start counts as a reload",
            i64::from(last.is_none_or(|last| last.result.is_ok())),
        ),
        unlabelled(
            "config_last_reload_timestamp_seconds",
            "When the last reload ended",
            at.as_second(),
        ),
        Family {
            name: "tls_cert_not_after_timestamp_seconds",
            help: "Expiry of a listener's certificate",
            values: earliest_by_labels(certificates),
        },
        Family {
            name: "tls_crl_next_update_timestamp_seconds",
            help: "Earliest nextUpdate of a listener's client CRLs",
            values: earliest_by_labels(certificates::crl_expiries(&config)),
        },
    ]
}

/// Returns the findings of every kind and severity, zeros included, so that a rule can tell none from unknown.
fn findings(state: &AdminState) -> Family {
    let report = state.findings.load();
    let kinds = CATALOGUE.iter().flat_map(|entry| {
        let severities = Severity::ALL.iter();
        severities.map(move |&severity| (entry.id, severity))
    });
    let value = |(id, severity): (&'static str, Severity)| {
        let labels = vec![
            ("id", id.to_owned()),
            ("severity", severity.as_str().to_owned()),
        ];
        let count = report.counts.get(&(id, severity)).copied();
        (labels, saturating_i64(count.unwrap_or_default()))
    };
    Family {
        name: "findings",
        help: "What is wrong, by kind and severity",
        values: kinds.map(value).collect(),
    }
}

fn process_gauges() -> Vec<Family> {
    let (open, most) = process::descriptors();
    let open = open.map(|open| unlabelled("process_open_fds", "Open file descriptors", open));
    let most =
        most.map(|most| unlabelled("process_max_fds", "Limit of open file descriptors", most));
    let memory = process::resident_memory().map(|bytes| {
        unlabelled(
            "process_resident_memory_bytes",
            "Resident memory in bytes",
            bytes,
        )
    });
    [open, most, memory].into_iter().flatten().collect()
}

/// Keeps the smallest value of equal labels: an RSA and an ECDSA certificate may have the same name, and
/// the earlier expiry counts.
fn earliest_by_labels(
    values: impl Iterator<Item = (Vec<(&'static str, String)>, i64)>,
) -> Vec<(Vec<(&'static str, String)>, i64)> {
    let mut kept = std::collections::BTreeMap::new();
    for (labels, value) in values {
        let least = kept.entry(labels).or_insert(value);
        *least = value.min(*least);
    }
    kept.into_iter().collect()
}

fn unlabelled<T: TryInto<i64>>(name: &'static str, help: &'static str, value: T) -> Family {
    let values = vec![(Vec::new(), saturating_i64(value))];
    Family { name, help, values }
}

fn saturating_i64<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
