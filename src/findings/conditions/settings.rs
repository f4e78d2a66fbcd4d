//! Settings that are meant to be temporary.

use serde_json::json;

use super::super::claimed::ClaimStatus;
use super::{Case, Severity, Situation, Subject};

/// Certificates are not verified somewhere.
pub(in crate::findings) fn insecure(situation: &Situation<'_>) -> Vec<Case> {
    let clusters = situation.now.clusters.iter().filter(|it| it.insecure);
    let mut cases: Vec<_> = clusters
        .map(|cluster| {
            Case::new(
                Severity::Note,
                Subject::Cluster(cluster.name.clone()),
                "the certificates of its nodes are not verified (insecure_skip_verify)",
            )
        })
        .collect();
    if let Some(store) = situation.now.store.as_ref().filter(|store| store.insecure) {
        cases.push(Case::new(
            Severity::Note,
            Subject::Store(store.url.clone()),
            "the certificate of the store is not verified (insecure_skip_verify)",
        ));
    }
    cases
}

/// A listener only watches what it would refuse.
pub(in crate::findings) fn shadow(situation: &Situation<'_>) -> Vec<Case> {
    let listeners = situation.now.listeners.iter();
    let shadowed = listeners.filter(|listener| !listener.shadowed.is_empty());
    let mut claims = situation
        .claimed
        .statuses((situation.now.at, situation.now.now));
    claims.retain(|claim| claim.is_on_trial);
    shadowed
        .map(|listener| {
            let keys = listener.shadowed.join(" and ");
            let mut cause =
                format!("{keys} = \"shadow\": what would be refused is counted and let through");
            let mut details = json!({ "keys": listener.shadowed });
            if listener.shadows_authentication() {
                cause += &would_be_refused(&claims);
                details["would_be_refused"] = claims.iter().map(ClaimStatus::to_json).collect();
            }
            let subject = Subject::Listener(listener.name.clone());
            let mut case = Case::new(Severity::Note, subject, cause);
            case.details = details;
            case
        })
        .collect()
}

/// Says who would get 401, and for which mistake.
fn would_be_refused(claims: &[ClaimStatus]) -> String {
    if claims.is_empty() {
        return "; no access key would get 401".to_owned();
    }
    let named = claims.iter().take(MAX_NAMED).map(|claim| {
        let mistake = claim.mistake.as_deref().filter(|_| !claim.is_secret);
        format!("{} ({})", claim.name(), mistake.unwrap_or(claim.class))
    });
    let named: Vec<_> = named.collect();
    let more = match claims.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("; would get 401: {}{more}", named.join(", "))
}

/// Limits only count.
pub(in crate::findings) fn dry_run(situation: &Situation<'_>) -> Vec<Case> {
    let note = situation.now.dry_run.then(|| {
        Case::new(
            Severity::Note,
            Subject::Gateway(situation.now.instance.clone()),
            "[limits] dry_run = true: limits of accounts and addresses are counted and refuse nothing",
        )
    });
    note.into_iter().collect()
}

/// Claimed access keys that the cause names; the details have all.
const MAX_NAMED: usize = 10;
