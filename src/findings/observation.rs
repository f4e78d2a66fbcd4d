//! What the gateway looks like at one moment: the facts that the conditions judge.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::cluster::{NodeStatus, Panic};
use crate::metrics::Incidents;

/// All facts of one moment. Counters count from the start of the process.
#[derive(Debug)]
pub struct Observation {
    /// The moment, for windows.
    pub at: Instant,
    /// The same moment by the wall clock.
    pub now: Timestamp,
    /// The name of this gateway.
    pub instance: Arc<str>,
    /// The configuration file; `None` if there is none.
    pub config_file: Option<Arc<str>>,
    /// All clusters.
    pub clusters: Vec<ClusterFacts>,
    /// All listeners.
    pub listeners: Vec<ListenerFacts>,
    /// The shared store, if one is configured.
    pub store: Option<StoreFacts>,
    /// Everything with a known end: certificates, revocation lists, access keys.
    pub end_dates: Vec<EndDate>,
    /// Counters of the whole gateway.
    pub counters: Counters,
    /// The events since the last observation.
    pub incidents: Incidents,
    /// The mistakes of the last reload, if it was rejected.
    pub reload_error: Option<String>,
    /// The changed keys that take effect only after a restart.
    pub restart_needed: Vec<String>,
    /// Files that the configuration names and that cannot be read.
    pub unreadable_files: Vec<UnreadableFile>,
    /// The recording requests of the access keys that found nothing in the last ten minutes.
    pub recordings: Vec<RecordingFacts>,
    /// The nodes whose clock was wrong in three responses.
    pub node_clocks: Vec<NodeClock>,
    /// Whether limits only count (`[limits] dry_run`).
    pub dry_run: bool,
    /// Open file descriptors and their limit, where the system reports them.
    pub descriptors: Option<(u64, u64)>,
}

/// A cluster and its nodes.
#[derive(Debug)]
pub struct ClusterFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its nodes; the addresses of one host name are one node.
    pub nodes: Vec<NodeStatus>,
    /// Set while so few nodes are healthy that all are used.
    pub panic: Option<Panic>,
    /// Whether the certificates of its nodes are not verified.
    pub insecure: bool,
    /// Why not the nodes of the first tier serve, in words; `None` while they do.
    pub other_tier: Option<String>,
    /// Requests routed to it.
    pub requests: u64,
    /// Of these, the ones answered 5xx or cut off.
    pub failed: u64,
}

/// A listener.
#[derive(Debug)]
pub struct ListenerFacts {
    /// Its name.
    pub name: Arc<str>,
    /// The settings of it that only watch: `validation` or `authentication`.
    pub shadowed: Vec<&'static str>,
    /// When the file of the ticket key that issues was written; `None` without one.
    pub ticket_key_since: Option<Timestamp>,
}

impl ListenerFacts {
    /// Whether it forwards what does not verify.
    pub fn shadows_authentication(&self) -> bool {
        self.shadowed.contains(&"authentication")
    }
}

/// The shared store.
#[derive(Debug)]
pub struct StoreFacts {
    /// Its URL, without a password.
    pub url: Arc<str>,
    /// Why it is away; `None` while it is connected or not yet tried.
    pub away: Option<String>,
    /// Whether its certificate is not verified.
    pub insecure: bool,
}

/// A file that cannot be read.
#[derive(Clone, Debug)]
pub struct UnreadableFile {
    /// Its path.
    pub path: Arc<str>,
    /// What that means, in words.
    pub cause: String,
    /// Whether callers fail for it now.
    pub is_critical: bool,
}

/// The recording requests of one access key in the last ten minutes.
#[derive(Clone, Debug)]
pub struct RecordingFacts {
    /// The access key.
    pub access_key: Arc<str>,
    /// All answers.
    pub answers: u64,
    /// Of these, 0300012.
    pub not_found: u64,
    /// The offsets by which windows were shifted, such as `+08:00`, with their counts.
    pub slips: Vec<(String, u64)>,
    /// The time of the last 0300012.
    pub last: Instant,
}

/// A node whose clock is wrong.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// The node, as `CLUSTER/HOST:PORT`.
    pub node: Arc<str>,
    /// How far its `Date` is ahead of the gateway's clock.
    pub seconds_ahead: i64,
}

/// Something that is valid until a date.
#[derive(Clone, Debug)]
pub struct EndDate {
    /// What it is.
    pub kind: EndKind,
    /// The node, listener or access key that it belongs to, as the subject is named.
    pub owner: Arc<str>,
    /// Its own name: the first name of a certificate; may be empty.
    pub name: String,
    /// When its validity began, which shortens the notice of what is short-lived; `None` is long ago.
    pub since: Option<Timestamp>,
    /// The end.
    pub at: Timestamp,
}

/// What ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EndKind {
    /// The certificate of a node.
    NodeCertificate,
    /// A certificate of a listener.
    ListenerCertificate,
    /// A revocation list of a listener's clients.
    Crl,
    /// An access key (`not_after`).
    AccessKey,
    /// A caller without a secret key (`not_after`).
    Caller,
}

/// Counters of the whole gateway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Requests.
    pub requests: u64,
    /// Requests that did not verify.
    pub unverified: u64,
    /// Of these, the ones that shadow authentication forwarded.
    pub shadowed: u64,
    /// Requests shed because `[limits] max_in_flight` was reached.
    pub shed_in_flight: u64,
    /// Requests shed because `[limits] max_buffered` was reached.
    pub shed_buffered: u64,
    /// Connections closed because `[limits] max_connections` was reached.
    pub connections_closed: u64,
    /// Connections closed because `[limits] max_connections_per_address` was reached.
    pub address_connections_closed: u64,
    /// Access-log lines that were lost.
    pub access_log_lost: u64,
    /// Diagnostics that were lost.
    pub diagnostics_lost: u64,
    /// Lines of the audit log that were lost.
    pub audit_lost: u64,
    /// Panics.
    pub panics: u64,
}
