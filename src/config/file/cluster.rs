//! The tables of a cluster as serde reads them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Setting;
use crate::cluster::{FlowControlMode, HostPolicy, Policy};
use crate::config::spanned::Spanned;
use crate::config::units::ConfigDuration;

/// A cluster of CC-FS nodes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cluster {
    /// Nodes: "https://host:port", or { url = "https://host:port", weight = 2, priority = 1 }.
    pub(in crate::config) nodes: Option<Spanned<Vec<Spanned<Node>>>>,
    /// Cluster that answers verified requests that may be repeated while no node of this one is usable.
    pub(in crate::config) fallback: Setting<String>,
    /// Load-balancing policy.
    pub(in crate::config) balance: Setting<Policy>,
    /// Host header that a node receives: the client's, or the node's own (every request is then signed
    /// again).
    pub(in crate::config) host: Setting<HostPolicy>,
    /// TLS to the nodes; verified against the system's authorities by default.
    pub(in crate::config) tls: Option<Spanned<ClusterTls>>,
    /// Active health checks: a TLS connection and a request at a fixed interval.
    #[serde(default)]
    pub(in crate::config) health_check: HealthCheck,
    /// Passive outlier detection: ejects a node on which real requests fail.
    #[serde(default)]
    pub(in crate::config) ejection: Ejection,
    /// Flow control of nodes: resultCode 0300008 and 0300009.
    #[serde(default)]
    pub(in crate::config) flow_control: FlowControl,
    /// Retry budget.
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

/// A node with a weight.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WeightedNode {
    /// "https://host:port".
    pub(in crate::config) url: Option<String>,
    /// Share of the traffic, relative to the other nodes.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) weight: Option<u32>,
    /// Nodes of the lowest priority serve; those of the next one while none of them is usable.
    #[schemars(range(min = 0, max = 1000))]
    pub(in crate::config) priority: Option<u32>,
}

/// TLS to nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClusterTls {
    /// PEM file: the authorities that nodes are verified against, or certificates that they present
    /// themselves.
    pub(in crate::config) ca: Setting<String>,
    /// Pins of the nodes' keys, "sha256/BASE64". Without `ca` the key alone decides; with `ca` both must
    /// hold, and the name is not compared.
    pub(in crate::config) pins: Option<Spanned<Vec<Spanned<String>>>>,
    /// Name to verify instead of the node's host.
    pub(in crate::config) server_name: Setting<String>,
    /// PEM file: the gateway's client certificate chain, for nodes that request one.
    pub(in crate::config) certificate: Setting<String>,
    /// PEM file: the private key of `certificate`.
    pub(in crate::config) private_key: Setting<String>,
    /// Accept any certificate; excludes `ca` and `pins`. A man in the middle can read and change everything.
    pub(in crate::config) insecure_skip_verify: Setting<bool>,
}

/// Active health checks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HealthCheck {
    /// False: only real requests tell whether a node is healthy.
    pub(in crate::config) enabled: Setting<bool>,
    /// Interval between two checks of one node. Too low: load on the nodes; too high: a failed node is
    /// used for longer.
    pub(in crate::config) interval: Setting<ConfigDuration>,
    /// Deadline for one check, connection included.
    pub(in crate::config) timeout: Setting<ConfigDuration>,
    /// Path of the GET; any status below 500 is healthy.
    pub(in crate::config) path: Setting<String>,
    /// Consecutive failures that make a node unhealthy.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) unhealthy_after: Setting<u32>,
    /// Consecutive successes that make it healthy again.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) healthy_after: Setting<u32>,
    /// Request a recording URL instead of the GET, signed by this ak.
    pub(in crate::config) access_key: Setting<String>,
    /// The callId to request; requires `access_key`.
    pub(in crate::config) call_id: Setting<String>,
    /// The resultCodes that are healthy; requires `access_key`.
    pub(in crate::config) result_codes: Option<Spanned<Vec<String>>>,
}

/// Passive outlier detection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ejection {
    /// Consecutive failures that eject a node; 0 is off.
    #[schemars(range(min = 0, max = 1000))]
    pub(in crate::config) consecutive_failures: Setting<u32>,
    /// Duration of the first ejection; it doubles with each consecutive one.
    pub(in crate::config) base_time: Setting<ConfigDuration>,
    /// Maximum duration of an ejection.
    pub(in crate::config) max_time: Setting<ConfigDuration>,
    /// Maximum share of ejected nodes, in percent; one node can always be ejected.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) max_ejected: Setting<u8>,
    /// Time after which a returned node gets its full share.
    pub(in crate::config) slow_start: Setting<ConfigDuration>,
    /// Share of healthy nodes, in percent, below which all nodes are used (panic mode).
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) panic_threshold: Setting<u8>,
    /// The resultCodes that count as a failure of the node.
    pub(in crate::config) result_codes: Option<Spanned<Vec<String>>>,
}

/// Flow control of nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FlowControl {
    /// "learn": what a node takes is learned from its refusals, and requests wait while every usable node
    /// is at that bound. "pass": another node is tried within the retry budget, and the last refusal is
    /// passed on.
    pub(in crate::config) mode: Setting<FlowControlMode>,
    /// Longest wait of a request for a node with room. Too low: callers see refusals; too high: callers
    /// wait for nothing.
    pub(in crate::config) max_wait: Setting<ConfigDuration>,
    /// Requests that wait, queries and downloads each.
    #[schemars(range(min = 1, max = 100000))]
    pub(in crate::config) max_queue: Setting<usize>,
}

/// Retry budget.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retries {
    /// Retries in percent of the requests of the last ten seconds. Too low: a failing node costs errors;
    /// too high: retries overload the remaining nodes.
    #[schemars(range(min = 0, max = 100))]
    pub(in crate::config) budget: Setting<u8>,
    /// Retries per second that are always allowed.
    #[schemars(range(min = 0, max = 1000000))]
    pub(in crate::config) floor: Setting<u32>,
}

/// Deadlines toward nodes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Timeouts {
    /// TCP and TLS handshake together. Too low: distant nodes fail; too high: a dead node delays the
    /// retry.
    pub(in crate::config) connect: Setting<ConfigDuration>,
    /// One attempt, while another node remains. Too low: slow responses are retried for nothing; too
    /// high: no time remains for a retry.
    pub(in crate::config) per_try: Setting<ConfigDuration>,
    /// All attempts for a client, to the first byte of the response body. Too low: slow responses become
    /// 504; too high: clients give up first.
    pub(in crate::config) overall: Setting<ConfigDuration>,
    /// A fetch for the cache, which can outlive the request that started it.
    pub(in crate::config) fetch: Setting<ConfigDuration>,
}

/// Connections to one node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Pool {
    /// Connections of all workers, and so the requests in flight to the node. Too low: requests wait or
    /// fail over; too high: a slow node is overloaded.
    #[schemars(range(min = 1, max = 1000000))]
    pub(in crate::config) max_connections: Setting<usize>,
    /// Idle connections that each worker keeps.
    #[schemars(range(min = 0, max = 1000000))]
    pub(in crate::config) max_idle: Setting<usize>,
    /// Time after which an idle connection is closed.
    pub(in crate::config) idle_timeout: Setting<ConfigDuration>,
    /// Age after which a connection takes no new request.
    pub(in crate::config) max_age: Setting<ConfigDuration>,
}
