//! Remembers what happened in the last minutes, and keeps the list of what is wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::board::Change;
use super::board::{Board, Moment};
use super::claimed::{ClaimStatus, Claimed};
use super::observation::{ClusterFacts, Counters, ListenerFacts, Observation};
use super::recent::{Growth, Recent, forget_all};
use super::{CATALOGUE, Finding, Severity};
use crate::cluster::NodeStatus;
use crate::metrics::{Attempt, AuthResult, Incidents, Limiter, NodeRefusal, Refused, ResultClass};

/// The windows of the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// How often the gateway is observed.
    pub interval: Duration,
    /// The "minute" in which cases are counted, and after which a finding without a case ends.
    pub minute: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            minute: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// Returns the window of rules that look at ten minutes.
    pub(super) fn ten_minutes(&self) -> Duration {
        self.minute * 10
    }
}

/// Keeps the list of findings over time.
#[derive(Debug, Default)]
pub struct Detector {
    timing: Timing,
    memory: Memory,
    claimed: Claimed,
    board: Board,
}

/// The list of findings at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The worst findings, at most `MAX_SHOWN`.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub omitted: usize,
    /// All of them, by kind and severity.
    pub counts: HashMap<(&'static str, Severity), u64>,
    /// Whose requests did not verify.
    pub claimed: Vec<ClaimStatus>,
    /// Whether a listener has `authentication = "shadow"`.
    is_on_trial: bool,
}

impl Report {
    /// Returns who would be refused if no listener had `authentication = "shadow"`, the heaviest first.
    pub fn on_trial(&self) -> impl Iterator<Item = &ClaimStatus> {
        let claimed = self.claimed.iter().filter(|_| self.is_on_trial);
        claimed.filter(|claim| claim.is_on_trial)
    }
}

/// What a condition sees.
pub(super) struct Situation<'a> {
    pub(super) now: &'a Observation,
    pub(super) memory: &'a Memory,
    pub(super) claimed: &'a Claimed,
    pub(super) access_keys: &'a dyn AccessKeys,
    pub(super) timing: Timing,
}

/// What happened in the last minutes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) nodes: HashMap<Arc<str>, NodeMemory>,
    pub(super) clusters: HashMap<Arc<str>, ClusterMemory>,
    pub(super) refusals: HashMap<NodeRefusal, RefusalMemory>,
    pub(super) limited: HashMap<(Arc<str>, Limiter), Recent>,
    /// Configured access keys whose signatures were stale, with the last distance in seconds; of ten minutes.
    pub(super) stale: HashMap<Arc<str>, (Recent, i64)>,
    pub(super) counters: CounterMemory,
}

/// The attempts at one node.
#[derive(Debug, Default)]
pub(super) struct NodeMemory {
    pub(super) attempts: Growth,
    pub(super) failures: Growth,
    pub(super) flow_controlled: Growth,
}

/// The requests of one cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterMemory {
    pub(super) requests: Growth,
    pub(super) failed: Growth,
}

/// The refusals of one access key by one node.
#[derive(Debug)]
pub(super) struct RefusalMemory {
    pub(super) recent: Recent,
    pub(super) last: Refused,
}

/// The counters of the whole gateway.
#[derive(Debug, Default)]
pub(super) struct CounterMemory {
    pub(super) requests: Growth,
    pub(super) unverified: Growth,
    pub(super) shadowed: Growth,
    pub(super) shed_in_flight: Growth,
    pub(super) shed_buffered: Growth,
    pub(super) connections_closed: Growth,
    pub(super) address_connections_closed: Growth,
    pub(super) access_log_lost: Growth,
    pub(super) diagnostics_lost: Growth,
    pub(super) audit_lost: Growth,
    pub(super) panics: Growth,
}

/// What the detector asks about the configured access keys.
pub trait AccessKeys {
    /// Whether an access key is configured.
    fn is_configured(&self, access_key: &str) -> bool;
    /// Whether a text is a configured secret key.
    fn is_secret(&self, text: &str) -> bool;
    /// The mistake that was found in the signatures of an access key.
    fn mistake(&self, access_key: &str) -> Option<String>;
    /// The number of verified requests of an access key.
    fn verified(&self, access_key: &str) -> u64;
    /// The configuration key that sets a limit of an access key, where it is not its own table.
    fn limit_key(&self, access_key: &str, limiter: Limiter) -> Option<String>;
    /// Whether claimed access keys may be shown whole (`[telemetry] log_claimed_ak`).
    fn shows_claimed(&self) -> bool;
}

impl Detector {
    /// Creates a detector with these windows.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            ..Self::default()
        }
    }

    /// Takes the next observation. Returns the list, and what began and ended.
    pub fn observe(
        &mut self,
        now: &Observation,
        access_keys: &dyn AccessKeys,
    ) -> (Report, Vec<Change>) {
        self.memory.take(now, self.timing, access_keys);
        self.claimed.take(now, access_keys, self.timing.minute);
        let moment = Moment {
            at: now.at,
            now: now.now,
            hold: self.timing.minute,
        };
        let mut changes = Vec::new();
        for entry in CATALOGUE {
            let situation = Situation {
                now,
                memory: &self.memory,
                claimed: &self.claimed,
                access_keys,
                timing: self.timing,
            };
            let cases = (entry.condition)(&situation);
            changes.extend(self.board.update(entry, cases, moment));
        }
        let all = self.board.sorted();
        let report = Report {
            omitted: all.len().saturating_sub(MAX_SHOWN),
            findings: all.into_iter().take(MAX_SHOWN).cloned().collect(),
            counts: self.board.counts(),
            claimed: self.claimed.statuses((now.at, now.now)),
            is_on_trial: now
                .listeners
                .iter()
                .any(ListenerFacts::shadows_authentication),
        };
        (report, changes)
    }
}

impl Memory {
    fn take(&mut self, now: &Observation, timing: Timing, access_keys: &dyn AccessKeys) {
        let (at, minute) = (now.at, timing.minute);
        self.take_nodes(&now.clusters, at, minute);
        self.take_incidents(&now.incidents, at, timing, access_keys);
        self.counters.take(&now.counters, at, minute);
    }

    fn take_nodes(&mut self, clusters: &[ClusterFacts], at: Instant, minute: Duration) {
        let mut known = std::mem::take(&mut self.nodes);
        for cluster in clusters {
            let of_cluster = self.clusters.entry(cluster.name.clone()).or_default();
            of_cluster.requests.observe(at, cluster.requests, minute);
            of_cluster.failed.observe(at, cluster.failed, minute);
            for node in &cluster.nodes {
                let name = node_name(&cluster.name, node);
                let mut memory = known.remove(&name).unwrap_or_default();
                memory.attempts.observe(at, node.requests, minute);
                memory.failures.observe(at, failures(node), minute);
                let classes = node.attempts.classes();
                let busy = classes.filter(|(class, _)| *class == ResultClass::FlowControl);
                let busy = busy.map(|(_, count)| count).sum();
                memory.flow_controlled.observe(at, busy, minute);
                self.nodes.insert(name, memory);
            }
        }
        self.clusters
            .retain(|name, _| clusters.iter().any(|cluster| cluster.name == *name));
    }

    fn take_incidents(
        &mut self,
        incidents: &Incidents,
        at: Instant,
        timing: Timing,
        access_keys: &dyn AccessKeys,
    ) {
        let minute = timing.minute;
        for (refusal, last) in &incidents.node_refusals {
            if self.refusals.len() >= MAX_REMEMBERED && !self.refusals.contains_key(refusal) {
                continue;
            }
            let memory = self.refusals.entry(refusal.clone());
            let memory = memory.or_insert_with(|| RefusalMemory {
                recent: Recent::default(),
                last: *last,
            });
            memory.recent.add(at, last.count);
            memory.last = *last;
        }
        for (limited, &count) in &incidents.limited {
            if self.limited.len() < MAX_REMEMBERED || self.limited.contains_key(limited) {
                self.limited
                    .entry(limited.clone())
                    .or_default()
                    .add(at, count);
            }
        }
        for (claimant, event) in &incidents.unverified {
            let access_key = claimant.access_key.as_str();
            let has_place =
                self.stale.len() < MAX_REMEMBERED || self.stale.contains_key(access_key);
            if claimant.class == AuthResult::Stale
                && has_place
                && access_keys.is_configured(access_key)
            {
                let (recent, seconds) = self.stale.entry(access_key.into()).or_default();
                recent.add(at, event.count);
                *seconds = event.seconds_ahead;
            }
        }
        forget_all(&mut self.refusals, |it| &mut it.recent, at, minute);
        forget_all(&mut self.limited, |it| it, at, minute);
        forget_all(&mut self.stale, |it| &mut it.0, at, timing.ten_minutes());
    }
}

impl CounterMemory {
    fn take(&mut self, counters: &Counters, at: Instant, minute: Duration) {
        let pairs = [
            (&mut self.requests, counters.requests),
            (&mut self.unverified, counters.unverified),
            (&mut self.shadowed, counters.shadowed),
            (&mut self.shed_in_flight, counters.shed_in_flight),
            (&mut self.shed_buffered, counters.shed_buffered),
            (&mut self.connections_closed, counters.connections_closed),
            (
                &mut self.address_connections_closed,
                counters.address_connections_closed,
            ),
            (&mut self.access_log_lost, counters.access_log_lost),
            (&mut self.diagnostics_lost, counters.diagnostics_lost),
            (&mut self.audit_lost, counters.audit_lost),
            (&mut self.panics, counters.panics),
        ];
        for (growth, total) in pairs {
            growth.observe(at, total, minute);
        }
    }
}

/// Returns the name of a node's findings: `CLUSTER/HOST:PORT`.
pub(super) fn node_name(cluster: &str, node: &NodeStatus) -> Arc<str> {
    format!("{cluster}/{}", node.address).into()
}

/// Returns how many attempts at a node failed.
fn failures(node: &NodeStatus) -> u64 {
    let results = node.attempts.results();
    results
        .filter(|(result, _)| match result {
            Attempt::ServerError
            | Attempt::ConnectFailed
            | Attempt::ConnectionClosed
            | Attempt::InvalidResponse
            | Attempt::Timeout => true,
            Attempt::Ok | Attempt::FlowControl | Attempt::Refused | Attempt::Cancelled => false,
        })
        .map(|(_, count)| count)
        .sum()
}

/// How many findings `/status` shows.
const MAX_SHOWN: usize = 100;

/// Bounds each of the maps whose keys are access keys. Our choice: ten times what is shown.
const MAX_REMEMBERED: usize = 1000;
