//! What ends soon.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::super::observation::{EndDate, EndKind};
use super::{Case, Severity, Situation, Subject};
use crate::words;

/// A node's certificate ends.
pub(in crate::findings) fn node_certificates(situation: &Situation<'_>) -> Vec<Case> {
    ending(situation, EndKind::NodeCertificate, Subject::Node)
}

/// A listener's certificate ends.
pub(in crate::findings) fn listener_certificates(situation: &Situation<'_>) -> Vec<Case> {
    ending(situation, EndKind::ListenerCertificate, Subject::Listener)
}

/// A revocation list of a listener's clients ends.
pub(in crate::findings) fn crls(situation: &Situation<'_>) -> Vec<Case> {
    ending(situation, EndKind::Crl, Subject::Listener)
}

/// An access key or a caller ends.
pub(in crate::findings) fn access_keys(situation: &Situation<'_>) -> Vec<Case> {
    let mut cases = ending(situation, EndKind::AccessKey, Subject::AccessKey);
    cases.extend(ending(situation, EndKind::Caller, Subject::Caller));
    for case in &mut cases {
        case.severity = Severity::Note;
    }
    cases
}

/// The key that issues a listener's session tickets is old.
pub(in crate::findings) fn ticket_keys(situation: &Situation<'_>) -> Vec<Case> {
    let now = situation.now.now;
    let old = situation.now.listeners.iter().filter_map(|listener| {
        let since = listener.ticket_key_since?;
        let age = now.duration_since(since).as_secs();
        (age > TICKET_KEY_SECONDS).then(|| {
            let cause = format!(
                "the file of the ticket key that issues was written {} ago",
                words::duration(age)
            );
            let subject = Subject::Listener(listener.name.clone());
            let mut case = Case::new(Severity::Warning, subject, cause);
            case.details = json!({ "written": format!("{since:.0}") });
            case
        })
    });
    old.collect()
}

/// Returns one case for each owner of which something ends soon; the earliest end counts.
fn ending(
    situation: &Situation<'_>,
    kind: EndKind,
    subject: impl Fn(Arc<str>) -> Subject,
) -> Vec<Case> {
    let now = situation.now.now;
    let mut by_owner: BTreeMap<&Arc<str>, Vec<&EndDate>> = BTreeMap::new();
    for end in &situation.now.end_dates {
        if end.kind == kind && seconds_left(end.at, now) <= notice_seconds(end) {
            by_owner.entry(&end.owner).or_default().push(end);
        }
    }
    let mut cases = Vec::new();
    for (owner, mut ends) in by_owner {
        ends.sort_by_key(|end| end.at);
        let Some(first) = ends.first() else {
            continue;
        };
        let left = seconds_left(first.at, now);
        let severity = if left <= critical_seconds(first) {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let name = match first.name.as_str() {
            "" => String::new(),
            name => format!(" of {name}"),
        };
        let when = if left > 0 {
            format!("ends in {}", words::duration(left))
        } else {
            format!("ended {} ago", words::duration(left))
        };
        let cause = format!("{}{name} {when}, at {:.0}", noun(kind), first.at);
        let mut case = Case::new(severity, subject(owner.clone()), cause);
        let ends = ends.iter().take(MAX_DETAILS).map(|end| {
            json!({
                "name": end.name,
                "not_after": format!("{:.0}", end.at),
                "days_left": seconds_left(end.at, now).div_euclid(86_400),
            })
        });
        case.details = json!({ "ends": ends.collect::<Vec<_>>() });
        cases.push(case);
    }
    cases
}

fn noun(kind: EndKind) -> &'static str {
    match kind {
        EndKind::NodeCertificate | EndKind::ListenerCertificate => "the certificate",
        EndKind::Crl => "the revocation list (CRL) of the clients",
        EndKind::AccessKey => "the access key",
        EndKind::Caller => "the caller",
    }
}

fn seconds_left(at: Timestamp, now: Timestamp) -> i64 {
    at.duration_since(now).as_secs()
}

/// How long before its end something is mentioned: fourteen days, time to get a certificate signed. What is
/// renewed more often has a third of its period, when the usual tools renew it: a daily revocation list would
/// never be without a finding otherwise.
fn notice_seconds(end: &EndDate) -> i64 {
    period_seconds(end).map_or(NOTICE_SECONDS, |period| NOTICE_SECONDS.min(period / 3))
}

/// How long before its end it is critical: three days, time left over a weekend, or a twelfth of its period.
fn critical_seconds(end: &EndDate) -> i64 {
    period_seconds(end).map_or(CRITICAL_SECONDS, |period| CRITICAL_SECONDS.min(period / 12))
}

fn period_seconds(end: &EndDate) -> Option<i64> {
    Some(seconds_left(end.at, end.since?).max(0))
}

const NOTICE_SECONDS: i64 = 14 * 86_400;
const CRITICAL_SECONDS: i64 = 3 * 86_400;

/// A ticket key that leaks opens all sessions that it has issued, so that it is replaced weekly (RFC 8446,
/// B.3.4 lets a ticket live seven days).
const TICKET_KEY_SECONDS: i64 = 7 * 86_400;

/// How many end dates the details list.
const MAX_DETAILS: usize = 40;
