//! What is wrong, and what to do about it: one list, from which the status page, `/status`, the metrics, the
//! log and `doctor` speak.
//!
//! [`CATALOGUE`] has one [`Entry`] for each kind of finding. Once a second a [`Detector`] gets an
//! [`Observation`] of the whole gateway. It remembers what happened in the last minutes, asks each entry for
//! its cases, and keeps the list of what holds. Pure: times are parameters.
//!
//! A new kind of finding is one entry of the catalogue, its condition, a heading in
//! `deploy/troubleshooting.md` and an alerting rule.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

mod board;
mod catalogue;
mod claimed;
mod conditions;
mod detector;
mod observation;
mod recent;

#[cfg(test)]
mod tests;

pub use catalogue::{CATALOGUE, End, Entry, entry};
pub use claimed::{ClaimStatus, Claimed};
pub use detector::{AccessKeys, Change, Detector, Report, Timing};
pub use observation::{
    ClusterFacts, Counters, EndDate, EndKind, ListenerFacts, NodeClock, Observation,
    RecordingFacts, StoreFacts, UnreadableFile,
};

/// How bad a finding is. The order is from worst to best.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Callers fail now, or will within days.
    Critical,
    /// To be looked at today.
    Warning,
    /// A setting that is meant to be temporary, or a date that comes near.
    Note,
}

impl Severity {
    /// All severities, the worst first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Note];

    /// Returns the name in `/status` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subject {
    /// The whole gateway, by its instance name.
    Gateway(Arc<str>),
    /// A cluster by name.
    Cluster(Arc<str>),
    /// A node, as `CLUSTER/HOST:PORT`.
    Node(Arc<str>),
    /// An access key.
    AccessKey(Arc<str>),
    /// A caller without a secret key, by name.
    Caller(Arc<str>),
    /// A listener by name.
    Listener(Arc<str>),
    /// The shared store, by its URL.
    Store(Arc<str>),
    /// The configuration file, or a file that it names.
    Configuration(Arc<str>),
}

impl Subject {
    /// Returns the kind in `/status`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "gateway",
            Self::Cluster(_) => "cluster",
            Self::Node(_) => "node",
            Self::AccessKey(_) => "access_key",
            Self::Caller(_) => "caller",
            Self::Listener(_) => "listener",
            Self::Store(_) => "store",
            Self::Configuration(_) => "configuration",
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Gateway(name)
            | Self::Cluster(name)
            | Self::Node(name)
            | Self::AccessKey(name)
            | Self::Caller(name)
            | Self::Listener(name)
            | Self::Store(name)
            | Self::Configuration(name) => name,
        }
    }
}

/// How much fails, of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Failing {
    /// Failures a second; `None` where that means nothing.
    pub per_second: Option<f64>,
    /// From 0 to 1: the share of all that could have failed; `None` where that means nothing.
    pub share: Option<f64>,
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Its kind.
    pub entry: &'static Entry,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// When it began.
    pub since: Timestamp,
    /// The time of its last case.
    pub last_seen: Timestamp,
    /// How much fails.
    pub failing: Failing,
    /// What happens, and why.
    pub cause: String,
    /// What to do.
    pub advice: String,
    /// Figures and names for programs; an object.
    pub details: Value,
}

impl Finding {
    /// Returns the object in `/status`.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.entry.id,
            "severity": self.severity.as_str(),
            "subject": { "kind": self.subject.kind(), "name": self.subject.name() },
            "since": format!("{:.3}", self.since),
            "last_seen": format!("{:.3}", self.last_seen),
            "failing_per_second": self.failing.per_second,
            "failing_share": self.failing.share,
            "cause": self.cause,
            "advice": self.advice,
            "runbook": self.entry.runbook(),
            "details": self.details,
        })
    }
}

/// One case of a finding, as its condition sees it at one moment.
#[derive(Clone, Debug)]
struct Case {
    subject: Subject,
    severity: Severity,
    cause: String,
    /// Replaces the advice of the entry.
    advice: Option<String>,
    failing: Failing,
    details: Value,
    /// When it happened; `None` is now.
    seen: Option<std::time::Instant>,
    /// Whether the finding may begin with it. False for a case that only keeps one.
    begins: bool,
}

impl Case {
    fn new(severity: Severity, subject: Subject, cause: impl Into<String>) -> Self {
        Self {
            subject,
            severity,
            cause: cause.into(),
            advice: None,
            failing: Failing::default(),
            details: json!({}),
            seen: None,
            begins: true,
        }
    }
}
