//! The tables of a cluster, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Setting;
use crate::cluster::{HostPolicy, Policy};
use crate::config::spanned::Spanned;
use crate::config::units::ConfigDuration;

/// CC-FS nodes behind one service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cluster {
    /// Nodes: "https://host:port", or { url = "https://host:port", weight = 2 }.
    pub(in crate::config) nodes: Option<Spanned<Vec<Spanned<Node>>>>,
    /// How a node is chosen.
    pub(in crate::config) balance: Setting<Policy>,
    /// Which Host a node sees: what the client sent and signed, or its own (then every request is
    /// signed again).
    pub(in crate::config) host: Setting<HostPolicy>,
    /// TLS to the nodes; the roots of the system without it.
    pub(in crate::config) tls: Option<Spanned<ClusterTls>>,
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
    pub(in crate::config) ca: Setting<String>,
    /// The name to verify instead of the node's own.
    pub(in crate::config) server_name: Setting<String>,
    /// PEM file: the gateway's own certificate chain, for nodes that ask.
    pub(in crate::config) certificate: Setting<String>,
    /// PEM file: the key of `certificate`.
    pub(in crate::config) private_key: Setting<String>,
    /// Accept any certificate. Whoever is in between reads and changes everything.
    pub(in crate::config) insecure_skip_verify: Setting<bool>,
}

/// Active health checks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthCheck {
    /// False: nodes are judged by real requests only.
    pub(in crate::config) enabled: Setting<bool>,
    /// Between two checks of one node.
    pub(in crate::config) interval: Setting<ConfigDuration>,
    /// For one check, connection included.
    pub(in crate::config) timeout: Setting<ConfigDuration>,
    /// Path of the GET; any answer below 500 is alive.
    pub(in crate::config) path: Setting<String>,
    /// Failures in a row that make a node down.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) unhealthy_after: Setting<u32>,
    /// Successes in a row that make it up again.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) healthy_after: Setting<u32>,
    /// Ask for a recording URL instead of the GET, signed by this ak.
    pub(in crate::config) access_key: Setting<String>,
    /// The callId to ask for; goes with `access_key`.
    pub(in crate::config) call_id: Setting<String>,
    /// The resultCodes that mean alive; goes with `access_key`.
    pub(in crate::config) result_codes: Option<Spanned<Vec<String>>>,
}

/// When a node is put aside because real requests fail on it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ejection {
    /// Failures in a row; 0 is off.
    #[schemars(range(min = 0, max = 1000))]
    pub(in crate::config) consecutive_failures: Setting<u32>,
    /// The first time out; it doubles with each one in a row.
    pub(in crate::config) base_time: Setting<ConfigDuration>,
    /// The longest time out.
    pub(in crate::config) max_time: Setting<ConfigDuration>,
    /// At most this share of the cluster is out, in percent; one node may always be.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) max_ejected: Setting<u8>,
    /// A node that comes back gets its full share after this.
    pub(in crate::config) slow_start: Setting<ConfigDuration>,
    /// Below this share of usable nodes, in percent, all are tried.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) panic_threshold: Setting<u8>,
    /// The resultCodes of a node that count as its failure.
    pub(in crate::config) result_codes: Option<Spanned<Vec<String>>>,
}

/// How many requests may be repeated on another node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retries {
    /// Share of the traffic of the last ten seconds, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) budget: Setting<u8>,
    /// Retries a second that are always allowed.
    #[schemars(range(min = 0, max = 1000000))]
    pub(in crate::config) floor: Setting<u32>,
}

/// Deadlines toward nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Timeouts {
    /// TCP and TLS together.
    pub(in crate::config) connect: Setting<ConfigDuration>,
    /// One try, while another node is left to try.
    pub(in crate::config) per_try: Setting<ConfigDuration>,
    /// A client's wait, to the first byte of the body.
    pub(in crate::config) overall: Setting<ConfigDuration>,
    /// A fetch for the cache, which may outlive its client.
    pub(in crate::config) fetch: Setting<ConfigDuration>,
}

/// Connections to one node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// Connections over all workers; also the requests in flight there.
    #[schemars(range(min = 1, max = 1000000))]
    pub(in crate::config) max_connections: Setting<usize>,
    /// Idle connections that a worker keeps.
    #[schemars(range(min = 0, max = 1000000))]
    pub(in crate::config) max_idle: Setting<usize>,
    /// An idle connection is closed after this.
    pub(in crate::config) idle_timeout: Setting<ConfigDuration>,
    /// A connection takes no new request after this.
    pub(in crate::config) max_age: Setting<ConfigDuration>,
}
