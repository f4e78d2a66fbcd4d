//! Callers and their access keys.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::json;

use super::super::recent::Recent;
use super::{Case, Severity, Situation, Subject, counted, failing, later};
use crate::metrics::Limiter;
use crate::words;

/// At least ten requests in a minute do not verify.
pub(in crate::findings) fn refused(situation: &Situation<'_>) -> Vec<Case> {
    let counters = &situation.memory.counters;
    let unverified = counters.unverified.recent();
    let case = counted(unverified, REFUSED_LEAST, || {
        let claims = situation
            .claimed
            .statuses((situation.now.at, situation.now.now));
        let heaviest = claims.first().map(|claim| {
            let name = claim.name();
            let mistake = claim.mistake.as_ref().filter(|_| !claim.is_secret);
            let mistake = mistake.map_or_else(String::new, |mistake| format!(": {mistake}"));
            format!(
                "; most claim {name} ({}{mistake})",
                claim.class.replace('_', " ")
            )
        });
        let requests = words::count(unverified.sum(), "request");
        let forwarded = counters.shadowed.recent().sum();
        let on_trial = match forwarded {
            0 => String::new(),
            some => format!("; {some} of them went to a node all the same (shadow)"),
        };
        let mut case = Case::new(
            Severity::Warning,
            Subject::Gateway(situation.now.instance.clone()),
            format!(
                "the signatures of {requests} in the last minute did not verify{on_trial}{}",
                heaviest.unwrap_or_default()
            ),
        );
        let all = counters.requests.recent().sum();
        let refused = unverified.sum().saturating_sub(forwarded);
        case.failing = failing(situation, refused, Some(all));
        let claimed: Vec<_> = claims.iter().map(|claim| claim.to_json()).collect();
        case.details = json!({ "claimed": claimed });
        case
    });
    case.into_iter().collect()
}

/// A limit of an access key or a caller refuses its requests.
pub(in crate::findings) fn limited(situation: &Situation<'_>) -> Vec<Case> {
    let mut by_name: BTreeMap<_, Vec<(Limiter, &Recent)>> = BTreeMap::new();
    for ((name, limiter), recent) in &situation.memory.limited {
        by_name
            .entry((limiter.is_of_caller(), name))
            .or_default()
            .push((*limiter, recent));
    }
    by_name
        .into_iter()
        .map(|((is_caller, name), mut limits)| {
            limits.sort_by_key(|(limiter, recent)| (u64::MAX - recent.sum(), limiter.as_str()));
            let refused = limits.iter().map(|(_, recent)| recent.sum()).sum();
            let keys: Vec<_> = limits
                .iter()
                .map(|(it, _)| limit_key(situation, name, *it))
                .collect();
            let (subject, kind) = if is_caller {
                (Subject::Caller(name.clone()), "caller")
            } else {
                (Subject::AccessKey(name.clone()), "access key")
            };
            let mut case = Case::new(
                Severity::Warning,
                subject,
                format!(
                    "{} of this {kind} got 429 in the last minute: {} is reached",
                    words::count(refused, "request"),
                    keys.join(", "),
                ),
            );
            case.failing = failing(situation, refused, None);
            case.seen = limits
                .iter()
                .fold(None, |seen: Option<Instant>, (_, recent)| {
                    later(seen, recent.last())
                });
            let limits = limits.iter().zip(&keys).map(|((limiter, recent), key)| {
                json!({ "limit": limiter.as_str(), "key": key, "refused": recent.sum() })
            });
            case.details = json!({ "limits": limits.collect::<Vec<_>>() });
            case
        })
        .collect()
}

/// Returns the configuration key that would raise a limit.
fn limit_key(situation: &Situation<'_>, name: &str, limiter: Limiter) -> String {
    let of_plan = (!limiter.is_of_caller())
        .then(|| situation.access_keys.limit_key(name, limiter))
        .flatten();
    if let Some(key) = of_plan {
        return key;
    }
    let key = match limiter {
        Limiter::AccessKey | Limiter::SharedAccessKey | Limiter::Caller => "rate_limit",
        Limiter::Ceiling | Limiter::CallerCeiling => "ceiling",
        Limiter::InFlight | Limiter::CallerInFlight => "in_flight",
        Limiter::Address => return "[limits] per_address".to_owned(),
    };
    let tables = if limiter.is_of_caller() {
        "callers"
    } else {
        "access_keys"
    };
    format!("[{tables}.{name}] {key}")
}

/// Many of an access key's recordings are not found, or its times are shifted.
pub(in crate::findings) fn recordings_not_found(situation: &Situation<'_>) -> Vec<Case> {
    let facts = situation.now.recordings.iter().filter_map(|facts| {
        let slip = facts.slips.iter().max_by_key(|(_, count)| *count);
        let slip = slip.filter(|(_, count)| *count >= SLIPS_LEAST);
        let is_frequent =
            facts.not_found >= NOT_FOUND_LEAST && facts.not_found * 2 >= facts.answers;
        if slip.is_none() && !is_frequent {
            return None;
        }
        let cause = match slip {
            Some((by, count)) => format!(
                "{} of this access key ask for a window that is {by} away from the call: a zone was mixed up",
                words::count(*count, "request"),
            ),
            None => format!(
                "{} of {} in ten minutes found no recording (0300012)",
                facts.not_found,
                words::count(facts.answers, "request"),
            ),
        };
        let subject = Subject::AccessKey(facts.access_key.clone());
        let mut case = Case::new(Severity::Warning, subject, cause);
        case.seen = Some(facts.last);
        case.details = json!({
            "answers": facts.answers,
            "not_found": facts.not_found,
            "slips": facts.slips.iter().map(|(by, count)| json!({ "by": by, "count": count }))
                .collect::<Vec<_>>(),
        });
        Some(case)
    });
    facts.collect()
}

/// Signatures of several access keys, or the clock of a node, are off in one direction.
pub(in crate::findings) fn clock_off(situation: &Situation<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for early in [true, false] {
        let keys = situation.memory.stale.iter();
        let mut keys: Vec<_> = keys
            .filter(|(_, (_, ahead))| (*ahead < 0) == early)
            .collect();
        keys.sort_by_key(|(name, _)| *name);
        if keys.len() < CLOCK_KEYS {
            continue;
        }
        let names: Vec<_> = keys.iter().map(|(name, _)| name).collect();
        let distance = median(keys.iter().map(|(_, (_, ahead))| *ahead).collect());
        let mut case = Case::new(
            Severity::Warning,
            Subject::Gateway(situation.now.instance.clone()),
            format!(
                "signatures of {} are {}, so the gateway's own clock may be wrong: {}",
                words::count(keys.len() as u64, "access key"),
                words::clock_error(distance),
                words::list(&names, SHOWN_KEYS),
            ),
        );
        let seen = keys.iter().map(|(_, (recent, _))| recent.last());
        case.seen = seen.fold(None, later);
        case.details = json!({ "seconds_ahead": distance, "access_keys": names });
        cases.push(case);
    }
    for clock in &situation.now.node_clocks {
        let mut case = Case::new(
            Severity::Warning,
            Subject::Node(clock.node.clone()),
            format!(
                "the node's Date is {} {} the gateway's clock",
                words::duration(clock.seconds_ahead),
                if clock.seconds_ahead < 0 {
                    "behind"
                } else {
                    "ahead of"
                },
            ),
        );
        case.details = json!({ "seconds_ahead": clock.seconds_ahead });
        cases.push(case);
    }
    cases
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Fewer failed verifications in a minute are no finding.
const REFUSED_LEAST: u64 = 10;

/// Fewer recordings that are not found are no finding.
const NOT_FOUND_LEAST: u64 = 20;

/// As many requests that are shifted by the same time are a finding.
const SLIPS_LEAST: u64 = 3;

/// As many access keys whose signatures are off in one direction are a finding.
const CLOCK_KEYS: usize = 3;

/// How many access keys a cause names.
const SHOWN_KEYS: usize = 5;
