//! Observes the gateway once a second, and publishes what is wrong with it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::journal::JournalFacts;
use super::{AdminState, process, status};
use crate::ccfs::offset_text;
use crate::cluster::{NodeStatus, Serving};
use crate::config::{Authentication, Config, LimitOrigin, Validation};
use crate::findings::{
    AccessKeys, Change, ClaimStatus, ClusterFacts, Counters, Detector, Finding, ListenerFacts,
    NodeClock, Observation, RecordingFacts, Report, Severity, StoreFacts, Timing,
};
use crate::gateway::{GatewayState, NotFound, Snapshot};
use crate::metrics::{
    AccessLogLines, AuditLines, AuthResult, ConnectionEndReason, Limiter, RequestOutcome,
    ShedReason, StatusClass, Totals,
};
use crate::shared_store::Status;
use crate::telemetry;

mod end_dates;
mod files;

use end_dates::EndDates;

/// The findings of the last observation.
#[derive(Debug, Default)]
pub struct FindingsList(ArcSwap<Report>);

impl FindingsList {
    /// Returns the last report.
    pub(super) fn load(&self) -> Arc<Report> {
        self.0.load_full()
    }

    /// Adds the members of `/status` that speak of findings.
    pub(super) fn add_to(&self, status: &mut Value) {
        let report = self.load();
        let findings: Vec<_> = report.findings.iter().map(Finding::to_json).collect();
        status["findings"] = findings.into();
        status["findings_omitted"] = report.omitted.into();
        let claimed: Vec<_> = report.claimed.iter().map(ClaimStatus::to_json).collect();
        status["claimed_access_keys"] = json!(claimed);
        let on_trial = report.on_trial().map(ClaimStatus::to_json);
        status["would_be_refused"] = on_trial.collect();
    }
}

/// Observes the gateway for as long as it is polled.
pub async fn watch_findings(state: AdminState, timing: Timing) {
    let mut detector = Detector::new(timing);
    let mut observer = Observer::default();
    let mut ticks = tokio::time::interval(timing.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let observation = observer.observe(&state);
        let journal = &state.journal;
        journal.note_failed(&observation.incidents.failed_requests);
        let access_keys = ConfiguredKeys(state.shared.snapshot.load_full(), state.shared.clone());
        let (report, changes) = detector.observe(&observation, &access_keys);
        state.findings.0.store(Arc::new(report));
        for change in &changes {
            log_change(change);
            journal.note_finding(change, observation.now);
        }
    }
}

/// Writes one line for each begin, each time that it becomes worse, and each end.
fn log_change(change: &Change) {
    let (Change::Began(finding) | Change::Worsened(finding) | Change::Ended(finding)) = change;
    let (id, cause, advice) = (finding.entry.id, &finding.cause, &finding.advice);
    let (kind, name) = (finding.subject.kind(), finding.subject.name());
    let severity = finding.severity.as_str();
    match change {
        Change::Began(_) if finding.severity == Severity::Note => {
            tracing::info!(finding = id, severity, kind, %name, cause, advice, "finding begins: {id}");
        }
        Change::Began(_) | Change::Worsened(_) => {
            let is_worse = matches!(change, Change::Worsened(_));
            let word = if is_worse { "is worse" } else { "begins" };
            tracing::warn!(finding = id, severity, kind, %name, cause, advice, "finding {word}: {id}");
        }
        Change::Ended(_) => {
            let since = format!("{:.3}", finding.since);
            tracing::info!(finding = id, severity, kind, %name, since, "finding ends: {id}");
        }
    }
}

/// Reads the facts, and keeps what need not be read every second.
#[derive(Debug, Default)]
struct Observer {
    end_dates: EndDates,
    descriptors: Option<(u64, u64)>,
    observations: u64,
}

impl Observer {
    fn observe(&mut self, state: &AdminState) -> Observation {
        let config = state.config.load_full();
        let snapshot = state.shared.snapshot.load_full();
        let totals = state.metrics.sum();
        if self.observations.is_multiple_of(DESCRIPTORS_EVERY) {
            let (open, most) = process::descriptors();
            self.descriptors = open.map(|open| open as u64).zip(most);
        }
        self.observations += 1;
        let now = status::wall_clock();
        let statuses = node_statuses(&snapshot);
        state.journal.observe(&JournalFacts {
            now,
            nodes: (statuses.iter())
                .flat_map(|(cluster, nodes)| nodes.iter().map(move |node| (&**cluster, node)))
                .collect(),
            reload: state.reloads.last(),
            is_draining: state.is_draining(),
        });
        let clusters = clusters(&snapshot, &totals, statuses);
        let last = state.reloads.last();
        let reload_error = last.as_ref().and_then(|last| last.result.as_ref().err());
        Observation {
            at: status::instant(),
            now,
            instance: config.server.name.as_str().into(),
            config_file: state.config_file.clone(),
            listeners: listeners(&config),
            store: store(state),
            end_dates: self.end_dates.at(now, &config, &clusters),
            node_clocks: node_clocks(&clusters),
            clusters,
            counters: counters(&totals),
            incidents: state.metrics.take_incidents(),
            reload_error: reload_error.cloned(),
            restart_needed: state.reloads.restart_needed(),
            unreadable_files: files::unreadable(state),
            recordings: recordings(state, &snapshot),
            dry_run: snapshot.limits.dry_run,
            descriptors: self.descriptors,
        }
    }
}

/// The statuses of the nodes of each cluster.
type Statuses = Vec<(Arc<str>, Vec<NodeStatus>)>;

fn node_statuses(snapshot: &Snapshot) -> Statuses {
    let now = status::instant();
    let clusters = snapshot.clusters().iter();
    clusters
        .map(|(name, cluster)| (name.clone(), cluster.node_statuses(now)))
        .collect()
}

/// Returns the clusters; the addresses of one host name are one node.
fn clusters(snapshot: &Snapshot, totals: &Totals, statuses: Statuses) -> Vec<ClusterFacts> {
    let now = status::instant();
    let clusters = snapshot.clusters().iter().zip(statuses);
    let facts = clusters.map(|((name, cluster), (_, statuses))| {
        let mut nodes: Vec<NodeStatus> = Vec::new();
        for node in statuses {
            match nodes.iter_mut().find(|it| it.address == node.address) {
                Some(known) => known.merge(&node),
                None => nodes.push(node),
            }
        }
        let (requests, failed) = requests(snapshot, totals, name);
        ClusterFacts {
            name: name.clone(),
            nodes,
            panic: cluster.panic(now),
            insecure: cluster.settings().insecure_skip_verify,
            other_tier: other_tier(&cluster.serving(now)),
            requests,
            failed,
        }
    });
    facts.collect()
}

/// Returns why not the nodes of the first tier serve; that nothing serves is another finding.
fn other_tier(serving: &Serving) -> Option<String> {
    match serving {
        Serving::FirstTier | Serving::Nothing => None,
        Serving::Tier(priority) => Some(format!("the nodes of priority {priority} serve")),
        Serving::Fallback(name) => Some(format!("the fallback cluster {name} serves")),
    }
}

/// Returns the nodes whose clock was wrong in several responses.
fn node_clocks(clusters: &[ClusterFacts]) -> Vec<NodeClock> {
    let nodes = clusters
        .iter()
        .flat_map(|cluster| cluster.nodes.iter().map(move |node| (&cluster.name, node)));
    nodes
        .filter(|(_, node)| node.clock_errors >= CLOCK_ERRORS)
        .filter_map(|(cluster, node)| {
            Some(NodeClock {
                node: format!("{cluster}/{}", node.address).into(),
                seconds_ahead: node.clock_offset?,
            })
        })
        .collect()
}

/// Returns the requests for a cluster, and how many of them failed.
fn requests(snapshot: &Snapshot, totals: &Totals, cluster: &str) -> (u64, u64) {
    let (mut all, mut failed) = (0, 0);
    let routes = totals.routes(&snapshot.routes);
    for (_, _, route) in routes.filter(|(_, name, _)| *name == cluster) {
        for (outcome, class, count) in route.requests() {
            all += count;
            if class == StatusClass::ServerError || outcome == RequestOutcome::NodeFailed {
                failed += count;
            }
        }
    }
    (all, failed)
}

fn listeners(config: &Config) -> Vec<ListenerFacts> {
    let facts = config.listeners.iter().map(|(name, listener)| {
        let shadowed = [
            (
                "authentication",
                listener.authentication == Authentication::Shadow,
            ),
            ("validation", listener.validation == Validation::Shadow),
        ];
        ListenerFacts {
            name: name.clone(),
            shadowed: (shadowed.iter().filter(|(_, is_on)| *is_on))
                .map(|&(key, _)| key)
                .collect(),
            ticket_key_since: listener.ticket_key_since,
        }
    });
    facts.collect()
}

fn store(state: &AdminState) -> Option<StoreFacts> {
    let store = state.shared.store.load_full()?;
    let settings = store.settings();
    Some(StoreFacts {
        url: settings.url().into(),
        away: match store.status() {
            Status::Unavailable(reason) => Some(reason),
            Status::Connecting | Status::Connected => None,
        },
        insecure: settings.tls.as_ref().is_some_and(|tls| tls.insecure),
    })
}

fn counters(totals: &Totals) -> Counters {
    let unverified = AuthResult::ALL
        .iter()
        .filter(|result| !matches!(result, AuthResult::Ok | AuthResult::Forwarded));
    let (_, diagnostics_lost) = telemetry::diagnostics_lines();
    Counters {
        requests: totals.requests().map(|(_, _, count)| count).sum(),
        unverified: unverified.map(|&result| totals.get(result)).sum(),
        shadowed: totals.get(AuthResult::Shadowed),
        shed_in_flight: totals.get(ShedReason::InFlight),
        shed_buffered: totals.get(ShedReason::Buffered),
        connections_closed: totals.get(ConnectionEndReason::ConnectionLimit),
        address_connections_closed: totals.get(ConnectionEndReason::AddressLimit),
        access_log_lost: totals.get(AccessLogLines::Dropped),
        diagnostics_lost,
        audit_lost: totals.get(AuditLines::Lost),
        panics: totals.get(ConnectionEndReason::Panic),
    }
}

/// Returns the recordings that were not found in the last ten minutes.
fn recordings(state: &AdminState, snapshot: &Snapshot) -> Vec<RecordingFacts> {
    let (at, now) = (status::instant(), status::wall_clock());
    let facts = |one: NotFound| {
        let account = snapshot.account(&one.access_key)?;
        let age = now.duration_since(one.last).unsigned_abs();
        let slips = one.counts.times_off.iter();
        Some(RecordingFacts {
            answers: account.recent_recordings(now),
            not_found: one.counts.not_found,
            slips: slips.map(|&(by, count)| (offset_text(by), count)).collect(),
            last: at.checked_sub(age).unwrap_or(at),
            access_key: one.access_key,
        })
    };
    let recent = state.shared.not_found.recent(now);
    recent.into_iter().filter_map(facts).collect()
}

/// The access keys of a generation.
struct ConfiguredKeys(Arc<Snapshot>, Arc<GatewayState>);

impl AccessKeys for ConfiguredKeys {
    fn is_configured(&self, access_key: &str) -> bool {
        self.0.account(access_key).is_some()
    }

    fn is_secret(&self, text: &str) -> bool {
        self.0.secrets().contains(text)
    }

    fn mistake(&self, access_key: &str) -> Option<String> {
        let mistake = self.1.doctor.found(access_key, status::wall_clock())?;
        Some(format!("{}: {}", mistake.as_str(), mistake.words()))
    }

    fn verified(&self, access_key: &str) -> u64 {
        self.0
            .account(access_key)
            .map_or(0, |account| account.admitted())
    }

    fn limit_key(&self, access_key: &str, limiter: Limiter) -> Option<String> {
        let settings = &self.0.account(access_key)?.settings;
        let (key, origin) = match limiter {
            Limiter::AccessKey | Limiter::SharedAccessKey => {
                ("rate_limit", settings.origins.rate_limit)
            }
            Limiter::Ceiling => ("ceiling", settings.origins.ceiling),
            Limiter::InFlight => ("in_flight", settings.origins.in_flight),
            Limiter::Address
            | Limiter::Caller
            | Limiter::CallerCeiling
            | Limiter::CallerInFlight => return None,
        };
        match (origin, &settings.plan) {
            (LimitOrigin::Plan, Some(plan)) => Some(format!("[plans.{plan}] {key}")),
            (LimitOrigin::Defaults, _) => Some(format!("[access_key_defaults] {key}")),
            _ => None,
        }
    }

    fn shows_claimed(&self) -> bool {
        self.0.log_claimed_ak
    }
}

/// So many responses in a row with a wrong `Date` are a finding.
const CLOCK_ERRORS: u64 = 3;

/// Counting open descriptors reads a folder with one entry for each, so not every second.
const DESCRIPTORS_EVERY: u64 = 5;
