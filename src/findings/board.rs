//! The findings that hold, from their begin to their end.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Case, End, Entry, Finding, Severity, Subject};

/// All findings that hold.
#[derive(Debug, Default)]
pub(super) struct Board(HashMap<(&'static str, Subject), Active>);

#[derive(Debug)]
struct Active {
    finding: Finding,
    last_case: Instant,
    /// The worst severity so far, which is reported once.
    worst: Severity,
}

/// When the cases were seen, and how long a finding holds without one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) now: Timestamp,
    pub(super) hold: Duration,
}

/// A finding that began, became worse or ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It began.
    Began(Finding),
    /// It became worse than it ever was.
    Worsened(Finding),
    /// It ended: the finding as it last was.
    Ended(Finding),
}

impl Change {
    /// Returns what is to be said of a case whose finding was at worst `worst`; `None` if it was none.
    fn of(finding: &Finding, worst: Option<Severity>) -> Option<Self> {
        match worst {
            None => Some(Self::Began(finding.clone())),
            Some(worst) if finding.severity < worst => Some(Self::Worsened(finding.clone())),
            Some(_) => None,
        }
    }
}

impl Board {
    /// Takes the cases of one entry, and ends the findings of which there was none for too long.
    pub(super) fn update(
        &mut self,
        entry: &'static Entry,
        cases: Vec<Case>,
        moment: Moment,
    ) -> Vec<Change> {
        let Moment { at, now, hold } = moment;
        let mut changes = Vec::new();
        let mut seen = HashSet::new();
        for case in cases {
            let last_case = case.seen.unwrap_or(at);
            let is_old = at.saturating_duration_since(last_case) >= hold;
            if is_old && entry.end == End::AfterHold {
                continue;
            }
            let key = (entry.id, case.subject.clone());
            if !self.0.contains_key(&key) && (!case.begins || self.0.len() >= MAX_ACTIVE) {
                continue;
            }
            seen.insert(case.subject.clone());
            let last_seen = timestamp_of(last_case, (at, now));
            let known = self.0.get(&key);
            let finding = Finding {
                entry,
                severity: case.severity,
                subject: case.subject,
                since: known.map_or(last_seen, |active| active.finding.since),
                last_seen,
                failing: case.failing,
                cause: case.cause,
                advice: case.advice.unwrap_or_else(|| entry.advice.to_owned()),
                details: case.details,
            };
            let before = known.map(|active| active.worst);
            changes.extend(Change::of(&finding, before));
            let worst = before.map_or(finding.severity, |worst| worst.min(finding.severity));
            let active = Active {
                finding,
                last_case,
                worst,
            };
            self.0.insert(key, active);
        }
        self.0.retain(|(id, subject), active| {
            if *id != entry.id || seen.contains(subject) {
                return true;
            }
            let holds = match entry.end {
                End::AtOnce => false,
                End::AfterHold => at.saturating_duration_since(active.last_case) < hold,
            };
            if !holds {
                changes.push(Change::Ended(active.finding.clone()));
            }
            holds
        });
        changes
    }

    /// Returns all findings, the worst first: by severity, those that hold before those that only have not ended
    /// yet, then by what fails, then the oldest.
    pub(super) fn sorted(&self) -> Vec<&Finding> {
        let newest = self.0.values().map(|active| active.last_case).max();
        let is_quiet = |active: &Active| {
            let silence = newest.map(|newest| newest.saturating_duration_since(active.last_case));
            silence.is_some_and(|silence| silence >= QUIET_AFTER)
        };
        let all = self.0.values();
        let mut all: Vec<_> = all.map(|it| (is_quiet(it), &it.finding)).collect();
        let failing = |finding: &Finding| finding.failing.per_second.unwrap_or(0.0);
        all.sort_by(|(one_is_quiet, one), (other_is_quiet, other)| {
            let by_severity = one.severity.cmp(&other.severity);
            by_severity
                .then_with(|| one_is_quiet.cmp(other_is_quiet))
                .then_with(|| failing(other).total_cmp(&failing(one)))
                .then_with(|| one.since.cmp(&other.since))
                .then_with(|| one.entry.id.cmp(other.entry.id))
                .then_with(|| one.subject.name().cmp(other.subject.name()))
        });
        all.into_iter().map(|(_, finding)| finding).collect()
    }

    /// Returns the number of findings by kind and severity.
    pub(super) fn counts(&self) -> HashMap<(&'static str, Severity), u64> {
        let mut counts = HashMap::new();
        for active in self.0.values() {
            let key = (active.finding.entry.id, active.finding.severity);
            *counts.entry(key).or_default() += 1;
        }
        counts
    }
}

/// Returns the wall-clock time of a moment in the past.
fn timestamp_of(moment: Instant, (at, now): (Instant, Timestamp)) -> Timestamp {
    let age = at.saturating_duration_since(moment);
    now.checked_sub(age).unwrap_or(now)
}

/// So long without a case, what is wrong now comes first. Our choice: five looks at the page.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// Bounds memory where access keys or nodes are many. Our choice: ten times what is shown.
const MAX_ACTIVE: usize = 1000;
