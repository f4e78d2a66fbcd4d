//! What happened lately: events of the gateway, the last requests that failed, and since when each node is in its
//! state. Bounded, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::reloads::ReloadAttempt;
use crate::cluster::{EjectionReason, NodeId, NodeState, NodeStatus};
use crate::escape;
use crate::findings::{Change, Severity};
use crate::metrics::{FailedRequest, FailedRequests};

/// The journal of one gateway.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// The newest first.
    events: VecDeque<Event>,
    failed: VecDeque<FailedRequest>,
    refused: VecDeque<FailedRequest>,
    nodes: HashMap<NodeId, (NodeState, Timestamp)>,
    /// When the last reload that is in `events` ended.
    last_reload: Option<Timestamp>,
    is_draining: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
struct Event {
    at: Timestamp,
    kind: &'static str,
    /// `None` is no trouble.
    severity: Option<Severity>,
    text: String,
}

/// The facts of one observation that make events when they change.
#[derive(Debug)]
pub(super) struct JournalFacts<'a> {
    pub(super) now: Timestamp,
    /// The nodes, with the names of their clusters.
    pub(super) nodes: Vec<(&'a str, &'a NodeStatus)>,
    pub(super) reload: Option<Arc<ReloadAttempt>>,
    pub(super) is_draining: bool,
}

impl Journal {
    /// Takes the facts of an observation.
    pub(super) fn observe(&self, facts: &JournalFacts<'_>) {
        let mut entries = self.0.lock();
        let mut known = std::mem::take(&mut entries.nodes);
        for (cluster, node) in &facts.nodes {
            let Some(id) = node.id else { continue };
            let before = known.remove(&id);
            let since = match before {
                Some((state, since)) if state == node.state => since,
                _ => facts.now,
            };
            if let Some(event) = state_change(before, cluster, node) {
                entries.push(facts.now, event);
            }
            entries.nodes.insert(id, (node.state, since));
        }
        if let Some(reload) = &facts.reload
            && entries.last_reload != Some(reload.at)
        {
            entries.last_reload = Some(reload.at);
            entries.push(reload.at, reload_event(reload));
        }
        if facts.is_draining && !entries.is_draining {
            entries.is_draining = true;
            let text = "the gateway drains: it ends when its requests have ended".to_owned();
            entries.push(facts.now, ("gateway", None, text));
        }
    }

    /// Takes the begin or the end of a finding.
    pub(super) fn note_finding(&self, change: &Change, now: Timestamp) {
        let (Change::Began(finding) | Change::Worsened(finding) | Change::Ended(finding)) = change;
        let (id, name) = (finding.entry.id, finding.subject.name());
        if id == NODE_DOWN && !matches!(change, Change::Worsened(_)) {
            return;
        }
        let cause = finding.cause.lines().next().unwrap_or_default();
        let (severity, word) = (finding.severity, finding.severity.as_str());
        let event = match change {
            Change::Began(_) => {
                let text = format!("{id} begins: {name}: {cause}");
                ("finding", Some(severity), text)
            }
            Change::Worsened(_) => {
                let text = format!("{id} is {word} now: {name}: {cause}");
                ("finding", Some(severity), text)
            }
            Change::Ended(_) => ("finding", None, format!("{id} ends: {name}")),
        };
        self.0.lock().push(now, event);
    }

    /// Takes an order to the admin interface that was carried out.
    pub(super) fn note_order(&self, text: String, now: Timestamp) {
        self.0.lock().push(now, ("order", None, text));
    }

    /// Takes requests that failed.
    pub(super) fn note_failed(&self, requests: &FailedRequests) {
        if requests.failed.is_empty() && requests.refused.is_empty() {
            return;
        }
        let mut entries = self.0.lock();
        add_newest(&mut entries.failed, &requests.failed);
        add_newest(&mut entries.refused, &requests.refused);
    }

    /// Returns since when a node is in its state, as far as is known.
    pub(super) fn state_since(&self, node: NodeId) -> Option<Timestamp> {
        self.0.lock().nodes.get(&node).map(|(_, since)| *since)
    }

    /// Adds the members of `/status` that speak of what happened, the newest first.
    pub(super) fn add_to(&self, status: &mut Value) {
        let entries = self.0.lock();
        let events: Vec<_> = entries.events.iter().map(Event::to_json).collect();
        let mut failed: Vec<_> = entries.failed.iter().chain(&entries.refused).collect();
        failed.sort_by_key(|request| std::cmp::Reverse(request.at));
        let failed: Vec<_> = failed.into_iter().map(failed_to_json).collect();
        status["events"] = events.into();
        status["failed_requests"] = failed.into();
    }
}

impl Entries {
    fn push(
        &mut self,
        at: Timestamp,
        (kind, severity, text): (&'static str, Option<Severity>, String),
    ) {
        self.events.truncate(EVENTS - 1);
        self.events.push_front(Event {
            at,
            kind,
            severity,
            text: escape::escaped(&shortened(&text)).into_owned(),
        });
    }
}

impl Event {
    fn to_json(&self) -> Value {
        json!({
            "at": format!("{:.3}", self.at),
            "kind": self.kind,
            "severity": self.severity.map_or("info", Severity::as_str),
            "text": self.text,
        })
    }
}

/// Returns the event of a node whose state has changed, or that is not well when it is first seen.
fn state_change(
    before: Option<(NodeState, Timestamp)>,
    cluster: &str,
    node: &NodeStatus,
) -> Option<(&'static str, Option<Severity>, String)> {
    use NodeState as S;
    let before = before.map(|(state, _)| state);
    let is_well = |state| matches!(state, S::Up | S::SlowStart);
    if before == Some(node.state) || before.is_none_or(is_well) && is_well(node.state) {
        return None;
    }
    let why = || {
        let cause = node.last_failure_reason.as_deref().unwrap_or_default();
        let kind = node.last_failure.map_or("", |kind| kind.as_str());
        let parts = [kind, cause].into_iter().filter(|part| !part.is_empty());
        let parts: String = parts.map(|part| format!(": {part}")).collect();
        parts.replace('_', " ")
    };
    let (severity, words) = match node.state {
        S::Up | S::SlowStart => (None, "is up".to_owned()),
        S::Drained => (None, "is drained: it receives no new requests".to_owned()),
        S::Down => (Some(Severity::Warning), format!("is down{}", why())),
        S::Ejected => {
            let reason = node.ejection_reason.map_or("", |reason| reason.as_str());
            // A failure of before is no cause of a refused signature.
            let why = match node.ejection_reason {
                Some(EjectionReason::RefusesSignatures) => String::new(),
                _ => why(),
            };
            let words = format!("is ejected ({}){why}", reason.replace('-', " "));
            (Some(Severity::Warning), words)
        }
        S::Unresolved => (Some(Severity::Warning), "has no address".to_owned()),
    };
    let text = format!("node {cluster}/{} {words}", node.address);
    Some(("node", severity, text))
}

fn reload_event(reload: &ReloadAttempt) -> (&'static str, Option<Severity>, String) {
    match &reload.result {
        Ok(done) => {
            let changes = match done.changes.is_empty() {
                true => "nothing has changed".to_owned(),
                false => done.changes.join("; "),
            };
            let generation = done.generation;
            let text = format!("configuration reloaded, generation {generation}: {changes}");
            ("reload", None, text)
        }
        Err(error) => {
            let first = error.lines().next().unwrap_or_default();
            let text = format!("reload rejected: {first}");
            ("reload", Some(Severity::Warning), text)
        }
    }
}

fn add_newest(places: &mut VecDeque<FailedRequest>, requests: &[FailedRequest]) {
    for request in requests {
        places.push_front(request.clone());
    }
    places.truncate(FAILED);
}

fn failed_to_json(request: &FailedRequest) -> Value {
    let text = |text: &str| escape::escaped(text).into_owned();
    json!({
        "at": format!("{:.3}", request.at),
        "request_id": request.request_id.as_str(),
        "listener": request.listener,
        "client": request.client.to_canonical(),
        "access_key": request.access_key,
        "call_id": request.call_id.as_deref().map(text),
        "method": request.method.as_deref().map(text),
        "interface": request.interface,
        "path": request.path.as_deref().map(text),
        "status": request.status,
        "result_code": request.result_code.as_deref().map(text),
        "outcome": request.outcome.as_str(),
        "node": request.node,
        "attempts": request.attempts,
        "duration_ms": super::history::rounded(request.duration.as_secs_f64() * 1000.0),
        "reason": request.reason.as_deref().map(text),
    })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// The finding that says what the event of its node says.
const NODE_DOWN: &str = "node-down";

/// Events that are kept. Our choice: what a person reads; the log has all of them.
const EVENTS: usize = 50;

/// Requests of each kind that are kept.
const FAILED: usize = 25;

/// Characters of the text of an event.
const MAX_TEXT: usize = 400;

#[cfg(test)]
mod tests;
