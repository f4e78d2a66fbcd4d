//! Values that are read at a scrape, not counted on the way.

use super::{AdminState, certificates, process, status};
use crate::cluster::NodeStatus;
use crate::gateway::Snapshot;
use crate::metrics::RouteLabels;
use crate::shared_store::{Status, Store};

/// All of them.
#[derive(Debug)]
pub(super) struct Gauges {
    /// By their labels, names and values.
    pub(super) gauges: Vec<Family>,
    /// Counts that are kept elsewhere.
    pub(super) counters: Vec<Family>,
    /// Every node. A name that stands for several addresses is one row.
    pub(super) nodes: Vec<NodeRow>,
    /// What the routes are called.
    pub(super) routes: RouteLabels,
}

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) values: Vec<(Vec<(&'static str, String)>, i64)>,
}

/// One node of one cluster.
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
    /// Reads them.
    pub(super) fn read(subject: &AdminState, waiting: usize) -> Self {
        let snapshot = subject.shared.snapshot.load();
        let mut plain = gateway_gauges(subject, &snapshot, waiting);
        plain.extend(listener_and_cluster_gauges(subject, &snapshot));
        plain.extend(shared_store_gauges(subject));
        plain.extend(config_gauges(subject));
        plain.extend(process_gauges());
        let reloads = &subject.reloads;
        let result = |text: &str, count: u64| {
            let labels = vec![("result", text.to_owned())];
            (labels, i64::try_from(count).unwrap_or(i64::MAX))
        };
        Self {
            gauges: plain,
            counters: vec![Family {
                name: "config_reloads",
                help: "Reloads of the configuration by result",
                values: vec![
                    result("ok", reloads.succeeded()),
                    result("refused", reloads.refused()),
                ],
            }],
            nodes: nodes(&snapshot),
            routes: snapshot.routes.clone(),
        }
    }
}

/// One row for each name, however many addresses it stands for: their labels are the same.
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

fn gateway_gauges(subject: &AdminState, snapshot: &Snapshot, waiting: usize) -> Vec<Family> {
    let shared = &subject.shared;
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
            "Bytes of request bodies held",
            snapshot.buffered.in_use(),
        ),
        unlabelled("cache_entries", "Answers in the cache", entries),
        unlabelled("cache_weight_bytes", "Bytes in the cache", weight),
        unlabelled(
            "coalesced_fetches",
            "Fetches under way",
            shared.fetches.len(),
        ),
        unlabelled(
            "coalesced_waiters",
            "Requests that wait for a fetch which another began",
            waiting,
        ),
        unlabelled(
            "access_keys",
            "Access keys configured",
            snapshot.accounts().len(),
        ),
        unlabelled("ratelimit_keys", "Access keys that have a rate", limited),
        unlabelled(
            "draining",
            "1 from the beginning of a drain",
            i64::from(subject.is_draining()),
        ),
    ]
}

fn listener_and_cluster_gauges(subject: &AdminState, snapshot: &Snapshot) -> Vec<Family> {
    vec![
        Family {
            name: "connections",
            help: "Connections by listener",
            values: subject
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
            help: "1 while so few nodes of a cluster look well that all are tried",
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

/// No values without `[shared]`.
fn shared_store_gauges(subject: &AdminState) -> Vec<Family> {
    let store = subject.shared.store.load();
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
            "1 while the store that replicas share is at work",
            |store| i64::from(store.status() == Status::Connected),
        ),
        family(
            "shared_untold_purges",
            "Purges that the store which replicas share is yet to be told of",
            |store| saturating_i64(store.unpublished_purges()),
        ),
    ]
}

fn config_gauges(subject: &AdminState) -> Vec<Family> {
    let last = subject.reloads.last();
    let at = last.as_ref().map_or(subject.started, |last| last.at);
    let config = subject.config.load();
    let certificates = certificates::all(&config).filter_map(|shown| {
        let labels = vec![("name", shown.label())];
        Some((labels, shown.validity?.not_after.as_second()))
    });
    vec![
        unlabelled(
            "config_generation",
            "Generation of the configuration",
            subject.shared.snapshot.load().generation,
        ),
        unlabelled(
            "config_last_reload_success",
            "0 if the last reload was refused; the start counts as one",
            i64::from(last.is_none_or(|last| last.result.is_ok())),
        ),
        unlabelled(
            "config_last_reload_timestamp_seconds",
            "When the last reload ended",
            at.as_second(),
        ),
        Family {
            name: "tls_cert_not_after_timestamp_seconds",
            help: "When a certificate of a listener ends to hold",
            values: earliest_by_labels(certificates),
        },
        Family {
            name: "tls_crl_next_update_timestamp_seconds",
            help: "When the first list of revoked client certificates of a listener ends to hold",
            values: earliest_by_labels(certificates::crl_expiries(&config)),
        },
    ]
}

fn process_gauges() -> Vec<Family> {
    let (open, most) = process::descriptors();
    let open = open.map(|open| unlabelled("process_open_fds", "Open file descriptors", open));
    let most = most.map(|most| {
        unlabelled(
            "process_max_fds",
            "File descriptors that may be open at once",
            most,
        )
    });
    let memory = process::resident_memory().map(|bytes| {
        unlabelled(
            "process_resident_memory_bytes",
            "Bytes of memory in use",
            bytes,
        )
    });
    [open, most, memory].into_iter().flatten().collect()
}

/// Two certificates may be for one name, as RSA and ECDSA are: the earlier end counts.
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
