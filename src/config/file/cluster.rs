//! The tables of a cluster, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Key;
use crate::cluster::{HostPolicy, Policy};
use crate::config::spanned::At;
use crate::config::units::Time;

/// CC-FS nodes behind one service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cluster {
    /// Nodes: "https://host:port", or { url = "https://host:port", weight = 2 }.
    pub(in crate::config) nodes: Option<At<Vec<At<Node>>>>,
    /// How a node is chosen.
    pub(in crate::config) balance: Key<Policy>,
    /// Which Host a node sees: what the client sent and signed, or its own (then every request is
    /// signed again).
    pub(in crate::config) host: Key<HostPolicy>,
    /// TLS to the nodes; the roots of the system without it.
    pub(in crate::config) tls: Option<At<ClusterTls>>,
    /// Active health checks: a TLS connection and a request, from time to time.
    #[serde(default)]
    pub(in crate::config) health_check: HealthCheck,
    /// When a node is put aside because real requests fail on it.
    #[serde(default)]
    pub(in crate::config) ejection: Ejection,
    /// How many requests may be repeated on another node.
    #[serde(default)]
    pub(in crate::config) retries: Retries,
    /// Deadlines toward nodes.
    #[serde(default)]
    pub(in crate::config) timeouts: Timeouts,
    /// Connections to one node.
    #[serde(default)]
    pub(in crate::config) pool: Pool,
}

/// A node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Node {
    Url(String),
    Weighted(WeightedNode),
}

/// A node and its share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WeightedNode {
    /// Where it is: "https://host:port".
    pub(in crate::config) url: Option<String>,
    /// Its share of the traffic.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) weight: Option<u32>,
}

/// TLS to nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClusterTls {
    /// PEM file: the authorities that nodes are verified against.
    pub(in crate::config) ca: Key<String>,
    /// The name to verify instead of the node's own.
    pub(in crate::config) server_name: Key<String>,
    /// PEM file: the gateway's own certificate chain, for nodes that ask.
    pub(in crate::config) certificate: Key<String>,
    /// PEM file: the key of `certificate`.
    pub(in crate::config) private_key: Key<String>,
    /// Accept any certificate. Whoever is in between reads and changes everything.
    pub(in crate::config) insecure_skip_verify: Key<bool>,
}

/// Active health checks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthCheck {
    /// False: nodes are judged by real requests only.
    pub(in crate::config) enabled: Key<bool>,
    /// Between two checks of one node.
    pub(in crate::config) interval: Key<Time>,
    /// For one check, connection included.
    pub(in crate::config) timeout: Key<Time>,
    /// Path of the GET; any answer below 500 is alive.
    pub(in crate::config) path: Key<String>,
    /// Failures in a row that make a node down.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) unhealthy_after: Key<u32>,
    /// Successes in a row that make it up again.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) healthy_after: Key<u32>,
    /// Ask for a recording URL instead of the GET, signed by this ak.
    pub(in crate::config) access_key: Key<String>,
    /// The callId to ask for; goes with `access_key`.
    pub(in crate::config) call_id: Key<String>,
    /// The resultCodes that mean alive; goes with `access_key`.
    pub(in crate::config) result_codes: Option<At<Vec<String>>>,
}

/// When a node is put aside because real requests fail on it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ejection {
    /// Failures in a row; 0 is off.
    #[schemars(range(min = 0, max = 1000))]
    pub(in crate::config) consecutive_failures: Key<u32>,
    /// The first time out; it doubles with each one in a row.
    pub(in crate::config) base_time: Key<Time>,
    /// The longest time out.
    pub(in crate::config) max_time: Key<Time>,
    /// At most this share of the cluster is out, in percent; one node may always be.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) max_ejected: Key<u8>,
    /// A node that comes back gets its full share after this.
    pub(in crate::config) slow_start: Key<Time>,
    /// Below this share of usable nodes, in percent, all are tried.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) panic_threshold: Key<u8>,
    /// The resultCodes of a node that count as its failure.
    pub(in crate::config) result_codes: Option<At<Vec<String>>>,
}

/// How many requests may be repeated on another node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retries {
    /// Share of the traffic of the last ten seconds, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) budget: Key<u8>,
    /// Retries a second that are always allowed.
    #[schemars(range(min = 0, max = 1000000))]
    pub(in crate::config) floor: Key<u32>,
}

/// Deadlines toward nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Timeouts {
    /// TCP and TLS together.
    pub(in crate::config) connect: Key<Time>,
    /// One try, while another node is left to try.
    pub(in crate::config) per_try: Key<Time>,
    /// A client's wait, to the first byte of the body.
    pub(in crate::config) overall: Key<Time>,
    /// A fetch for the cache, which may outlive its client.
    pub(in crate::config) fetch: Key<Time>,
}

/// Connections to one node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// Connections over all workers; also the requests in flight there.
    #[schemars(range(min = 1, max = 1000000))]
    pub(in crate::config) max_connections: Key<usize>,
    /// Idle connections that a worker keeps.
    #[schemars(range(min = 0, max = 1000000))]
    pub(in crate::config) max_idle: Key<usize>,
    /// An idle connection is closed after this.
    pub(in crate::config) idle_timeout: Key<Time>,
    /// A connection takes no new request after this.
    pub(in crate::config) max_age: Key<Time>,
}
