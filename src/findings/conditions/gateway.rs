//! The gateway itself: its limits, its files, its logs.

use std::sync::Arc;

use serde_json::json;

use super::super::recent::Recent;
use super::{Case, Severity, Situation, Subject, counted, failing, later};
use crate::words;

/// A limit of the gateway refuses requests or closes connections.
pub(in crate::findings) fn at_capacity(situation: &Situation<'_>) -> Vec<Case> {
    let counters = &situation.memory.counters;
    let limits = [
        (counters.shed_in_flight.recent(), "max_in_flight"),
        (counters.shed_buffered.recent(), "max_buffered"),
        (counters.connections_closed.recent(), "max_connections"),
        (
            counters.address_connections_closed.recent(),
            "max_connections_per_address",
        ),
    ];
    let mut reached: Vec<_> = limits.iter().filter(|(it, _)| it.sum() > 0).collect();
    if reached.is_empty() {
        return Vec::new();
    }
    reached.sort_by_key(|(recent, _)| u64::MAX - recent.sum());
    let refused = reached.iter().map(|(recent, _)| recent.sum()).sum();
    let keys: Vec<_> = reached
        .iter()
        .map(|(_, key)| format!("[limits] {key}"))
        .collect();
    let mut case = Case::new(
        Severity::Warning,
        gateway(situation),
        format!(
            "{} refused or closed {} in the last minute",
            keys.join(", "),
            words::count(refused, "request or connection"),
        ),
    );
    case.failing = failing(situation, refused, None);
    let seen = reached.iter().map(|(recent, _)| recent.last());
    case.seen = seen.fold(None, later);
    let limits = reached.iter().zip(&keys).map(
        |((recent, limit), key)| json!({ "limit": limit, "key": key, "refused": recent.sum() }),
    );
    case.details = json!({ "limits": limits.collect::<Vec<_>>() });
    vec![case]
}

/// The shared store cannot be used.
pub(in crate::findings) fn store_away(situation: &Situation<'_>) -> Vec<Case> {
    let store = situation.now.store.as_ref();
    let away = store.and_then(|store| {
        let reason = store.away.as_ref()?;
        let cause = format!("the shared store is away: {reason}");
        let subject = Subject::Store(store.url.clone());
        Some(Case::new(Severity::Warning, subject, cause))
    });
    away.into_iter().collect()
}

/// The last reload was rejected.
pub(in crate::findings) fn reload_refused(situation: &Situation<'_>) -> Vec<Case> {
    let refused = situation.now.reload_error.as_ref().map(|error| {
        let first = error.lines().find(|line| !line.trim().is_empty());
        let first = first.unwrap_or("no reason was given").trim();
        let cause = format!("the new configuration is rejected, the old one stays: {first}");
        let mut case = Case::new(Severity::Warning, configuration(situation), cause);
        let lines: Vec<_> = error.lines().take(MAX_LINES).collect();
        case.details = json!({ "error": lines.join("\n") });
        case
    });
    refused.into_iter().collect()
}

/// A file that the configuration names cannot be read.
pub(in crate::findings) fn file_unreadable(situation: &Situation<'_>) -> Vec<Case> {
    let files = situation.now.unreadable_files.iter();
    files
        .map(|file| {
            let severity = if file.is_critical {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let subject = Subject::Configuration(file.path.clone());
            Case::new(severity, subject, file.cause.clone())
        })
        .collect()
}

/// Changed keys take effect only after a restart.
pub(in crate::findings) fn restart_needed(situation: &Situation<'_>) -> Vec<Case> {
    let keys = &situation.now.restart_needed;
    if keys.is_empty() {
        return Vec::new();
    }
    let cause = format!(
        "changed, but not in force before a restart: {}",
        keys.join(", ")
    );
    let mut case = Case::new(Severity::Warning, configuration(situation), cause);
    case.details = json!({ "keys": keys });
    vec![case]
}

/// Lines of the access log or of the diagnostics are lost.
pub(in crate::findings) fn log_lines_lost(situation: &Situation<'_>) -> Vec<Case> {
    let counters = &situation.memory.counters;
    let logs = [
        (counters.access_log_lost.recent(), "the access log"),
        (counters.diagnostics_lost.recent(), "standard error"),
    ];
    let lost: Vec<_> = logs.iter().filter(|(it, _)| it.sum() > 0).collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let lines = |recent: &Recent| words::count(recent.sum(), "line");
    let parts: Vec<_> = lost
        .iter()
        .map(|(recent, log)| format!("{} of {log}", lines(recent)))
        .collect();
    let cause = format!("lost in the last minute: {}", parts.join(", "));
    let mut case = Case::new(Severity::Warning, gateway(situation), cause);
    case.seen = lost
        .iter()
        .map(|(recent, _)| recent.last())
        .fold(None, later);
    case.details = json!({
        "access_log": counters.access_log_lost.recent().sum(),
        "diagnostics": counters.diagnostics_lost.recent().sum(),
    });
    vec![case]
}

/// Lines of the audit log are lost.
pub(in crate::findings) fn audit_lines_lost(situation: &Situation<'_>) -> Vec<Case> {
    let lost = situation.memory.counters.audit_lost.recent();
    let case = counted(lost, 1, || {
        let lines = words::count(lost.sum(), "line");
        let cause = format!("{lines} of the audit log were lost in the last minute");
        let mut case = Case::new(Severity::Critical, gateway(situation), cause);
        case.details = json!({ "lines": lost.sum() });
        case
    });
    case.into_iter().collect()
}

/// File descriptors run short.
pub(in crate::findings) fn descriptors_short(situation: &Situation<'_>) -> Vec<Case> {
    let short = situation
        .now
        .descriptors
        .filter(|(open, most)| open.saturating_mul(100) > most.saturating_mul(DESCRIPTORS_PERCENT));
    let case = short.map(|(open, most)| {
        let cause = format!("{open} of {most} file descriptors are open");
        let mut case = Case::new(Severity::Warning, gateway(situation), cause);
        case.details = json!({ "open": open, "limit": most });
        case
    });
    case.into_iter().collect()
}

/// A panic was caught.
pub(in crate::findings) fn defect(situation: &Situation<'_>) -> Vec<Case> {
    let panics = situation.memory.counters.panics.recent();
    let case = counted(panics, 1, || {
        let cause = format!(
            "{} caught in the last minute; each closed one connection",
            words::count(panics.sum(), "panic")
        );
        Case::new(Severity::Warning, gateway(situation), cause)
    });
    case.into_iter().collect()
}

/// Only commands can see it, since it is about the gateway that does not answer.
pub(in crate::findings) fn unreachable(_: &Situation<'_>) -> Vec<Case> {
    Vec::new()
}

fn gateway(situation: &Situation<'_>) -> Subject {
    Subject::Gateway(situation.now.instance.clone())
}

fn configuration(situation: &Situation<'_>) -> Subject {
    let file: Option<Arc<str>> = situation.now.config_file.clone();
    Subject::Configuration(file.unwrap_or_default())
}

/// More open descriptors than this share of the limit are short: accepting connections fails at 100 %.
const DESCRIPTORS_PERCENT: u64 = 80;

/// How many lines of a rejected configuration's mistakes the details hold.
const MAX_LINES: usize = 40;
