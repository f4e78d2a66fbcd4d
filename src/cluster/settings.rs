//! What a cluster is told by the configuration. Plain values; every one is within its range.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One cluster as configured.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Its name in the file, unique.
    pub name: Arc<str>,
    /// At least one node; no two have the same address.
    pub nodes: Vec<NodeSettings>,
    /// How a node is chosen.
    pub balance: Policy,
    /// Which Host a node sees.
    pub host: HostPolicy,
    /// How nodes are spoken to: roots or no verification, client certificate, resumption. ALPN is
    /// `http/1.1`.
    pub tls: Arc<rustls::ClientConfig>,
    /// Digest of all that `tls` and `server_name` were made of: equal after a reload that did not
    /// change them.
    pub tls_digest: [u8; 32],
    /// The name to verify instead of the node's own.
    pub server_name: Option<ServerName<'static>>,
    /// True if certificates of nodes are not verified: shown at start and in `/status`.
    pub insecure_skip_verify: bool,
    /// Active health checks; `None` is off.
    pub health_check: Option<HealthCheck>,
    /// Passive ejection.
    pub ejection: EjectionSettings,
    /// The retry budget.
    pub retries: RetrySettings,
    /// Deadlines toward nodes.
    pub timeouts: Timeouts,
    /// Connection pool of one node.
    pub pool: PoolLimits,
}

/// One node as configured.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NodeSettings {
    /// Where it is.
    pub address: NodeAddress,
    /// Its share of the traffic, 1 to 1000.
    pub weight: u32,
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

/// How a node is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By ak and callId, with bounded load.
    ConsistentHash,
    /// The better of two random nodes by in-flight over weight.
    #[default]
    LeastRequest,
    /// In turn, smoothly weighted.
    RoundRobin,
}

/// Which Host a node sees.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPolicy {
    /// The node's own `host:port`; every request is signed again.
    Node,
    /// What the client sent and signed.
    #[default]
    Preserve,
}

/// Active health checks: TLS and a GET; any answer below 500 is alive.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Between two checks of one node (jittered by 10 %).
    pub interval: Duration,
    /// For one check, connection included.
    pub timeout: Duration,
    /// Path of the GET.
    pub path: String,
    /// Consecutive failures that make a node down.
    pub unhealthy_after: u32,
    /// Consecutive successes that make it up again.
    pub healthy_after: u32,
    /// Instead of the GET: a signed recording-URL request and the result codes that mean alive.
    pub signed: Option<SignedCheck>,
}

/// A signed recording-URL request as health check.
#[derive(Clone, Debug)]
pub struct SignedCheck {
    /// Signs it; a configured ak.
    pub access_key: Arc<str>,
    /// The callId it asks for.
    pub call_id: String,
    /// resultCodes that mean alive.
    pub result_codes: Vec<String>,
}

/// When a node is put aside because real requests fail on it.
#[derive(Clone, Debug, Serialize)]
pub struct EjectionSettings {
    /// Consecutive failures that eject; 0 is off.
    pub consecutive_failures: u32,
    /// First time out; doubles with each ejection in a row.
    pub base_time: Duration,
    /// The longest time out.
    pub max_time: Duration,
    /// At most this share of the cluster is out, 0 to 100 percent (one node may always be).
    pub max_ejected: u8,
    /// A node that comes back gets its full share only after this long.
    pub slow_start: Duration,
    /// Below this share of usable nodes, all are tried (panic mode), 0 to 100 percent.
    pub panic_threshold: u8,
    /// resultCodes of a node that count as its failure, e.g. of a broken database.
    pub result_codes: Vec<String>,
}

/// How many requests may be repeated.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// Percent of the traffic of the last ten seconds.
    pub budget_percent: u8,
    /// Retries a second that are always allowed.
    pub min_per_second: u32,
}

/// Deadlines toward nodes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timeouts {
    /// TCP and TLS together.
    pub connect: Duration,
    /// One try, while another node is left to try.
    pub per_try: Duration,
    /// A client's wait, to the first body byte.
    pub overall: Duration,
    /// A fetch for the cache, which may outlive its client.
    pub fetch: Duration,
}

/// The pool of connections to one node.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PoolLimits {
    /// Connections at the most, over all workers; also the cap on requests in flight there.
    pub max_connections: usize,
    /// Idle ones kept, per worker.
    pub max_idle: usize,
    /// An idle one is closed after this.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this.
    pub max_age: Duration,
}
