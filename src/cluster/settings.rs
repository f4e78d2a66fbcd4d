//! The settings of a cluster. Plain values, validated by `config`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tls::Pin;

/// The settings of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Its name in the file, unique.
    pub name: Arc<str>,
    /// At least one; no two have the same address.
    pub nodes: Vec<NodeSettings>,
    /// The name of the cluster that answers requests that may be repeated when no node is usable.
    pub fallback: Option<Arc<str>>,
    /// The load balancing policy.
    pub balance: Policy,
    /// The Host field toward nodes.
    pub host: HostPolicy,
    /// TLS toward nodes: roots or no verification, client certificate, session resumption. ALPN is
    /// `http/1.1`.
    pub tls: Arc<rustls::ClientConfig>,
    /// For health checks: the same trust, but key exchanges without ML-KEM first. What a check says need not
    /// stay secret.
    pub check_tls: Arc<rustls::ClientConfig>,
    /// A digest of the inputs of `tls`, `check_tls` and `server_name`: equal after a reload that did not change them.
    pub tls_digest: [u8; 32],
    /// The name to verify instead of the node's own.
    pub server_name: Option<ServerName<'static>>,
    /// The keys of nodes that are accepted; empty if any key is.
    pub pins: Vec<Pin>,
    /// Whether certificates of nodes are not verified: warned about at start, shown in `/status`.
    pub insecure_skip_verify: bool,
    /// Active health checks; `None` is off.
    pub health_check: Option<HealthCheck>,
    /// Passive ejection.
    pub ejection: EjectionSettings,
    /// What is done about the flow control of nodes.
    pub flow_control: FlowControlSettings,
    /// The retry budget.
    pub retries: RetrySettings,
    /// Timeouts toward nodes.
    pub timeouts: Timeouts,
    /// The connection pool of one node.
    pub pool: PoolLimits,
}

/// The settings of one node.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NodeSettings {
    /// Its address.
    pub address: NodeAddress,
    /// Its weight in load balancing, 1 to 1000.
    pub weight: u32,
    /// Its priority: nodes of the lowest one serve, those of the next when none of them is usable.
    pub priority: u32,
}

/// `host:port` of a node, as written in its URL. IPv6 addresses stand in brackets in `Display`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeAddress {
    /// A DNS name or an IP address, without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The load balancing policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By ak and callId, with bounded load.
    ConsistentHash,
    /// The better of two random nodes by in-flight over weight.
    #[default]
    LeastRequest,
    /// The better of two random nodes by latency times in-flight over weight.
    LeastTime,
    /// In turn, smoothly weighted.
    RoundRobin,
}

/// What is done about the flow control of nodes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FlowControlSettings {
    /// Whether it is learned.
    pub mode: FlowControlMode,
    /// How long a request waits for a node with room, all its waits together.
    pub max_wait: Duration,
    /// Requests that wait, of each class.
    pub max_queue: usize,
}

impl Default for FlowControlSettings {
    fn default() -> Self {
        Self {
            mode: FlowControlMode::Learn,
            max_wait: Duration::from_millis(500),
            max_queue: 256,
        }
    }
}

/// What is done about the flow control of nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowControlMode {
    /// What a node takes is learned from its refusals; requests wait while every node is at that bound.
    #[default]
    Learn,
    /// Another node is tried, within the retry budget; the last refusal is passed on.
    Pass,
}

/// The Host field toward nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPolicy {
    /// The node's own `host:port`; every request is signed again.
    Node,
    /// What the client sent and signed.
    #[default]
    Preserve,
}

/// Active health checks: TLS and a GET; any status below 500 is healthy.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Between two checks of one node, with a jitter of 10 %.
    pub interval: Duration,
    /// For one check, connection included.
    pub timeout: Duration,
    /// Path of the GET.
    pub path: String,
    /// Consecutive failures that make a node down.
    pub unhealthy_after: u32,
    /// Consecutive successes that make it up again.
    pub healthy_after: u32,
    /// Instead of the GET: a signed recording-URL request and the result codes that mean healthy.
    pub signed: Option<SignedCheck>,
}

/// A signed recording-URL request as health check.
#[derive(Clone, Debug)]
pub struct SignedCheck {
    /// The ak that signs it.
    pub access_key: Arc<str>,
    /// The callId to request.
    pub call_id: String,
    /// The result codes that mean healthy.
    pub result_codes: Vec<String>,
}

/// Passive ejection (outlier detection): when a node is ejected because requests fail there.
#[derive(Clone, Debug, Serialize)]
pub struct EjectionSettings {
    /// Consecutive failures that eject; 0 is off.
    pub consecutive_failures: u32,
    /// The length of the first ejection; doubles with each one in a row.
    pub base_time: Duration,
    /// The longest ejection.
    pub max_time: Duration,
    /// At most this share of the cluster is ejected, 0 to 100 percent. One node always may be.
    pub max_ejected: u8,
    /// The length of the slow start after an ejection, or after the node was down.
    pub slow_start: Duration,
    /// Below this share of healthy nodes, all are used (panic mode), 0 to 100 percent.
    pub panic_threshold: u8,
    /// Result codes that count as a failure of the node, e.g. of its database.
    pub result_codes: Vec<String>,
}

/// The retry budget.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// Percent of the requests of the last ten seconds.
    pub budget_percent: u8,
    /// Retries a second that are allowed in any case.
    pub min_per_second: u32,
}

/// Timeouts toward nodes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timeouts {
    /// TCP and TLS together.
    pub connect: Duration,
    /// One attempt, while another node is left.
    pub per_try: Duration,
    /// All attempts of a request together, to the first byte of the body.
    pub overall: Duration,
    /// All attempts of a fetch for the cache, which may outlive its client.
    pub fetch: Duration,
}

/// The pool of connections to one node.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PoolLimits {
    /// The connection limit, over all workers; also the limit of requests in flight.
    pub max_connections: usize,
    /// The limit of idle connections, per worker.
    pub max_idle: usize,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this.
    pub max_age: Duration,
}
