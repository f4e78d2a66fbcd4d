//! Settings that are meant to be temporary.

use serde_json::json;

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
    shadowed
        .map(|listener| {
            let keys = listener.shadowed.join(" and ");
            let mut case = Case::new(
                Severity::Note,
                Subject::Listener(listener.name.clone()),
                format!("{keys} = \"shadow\": what would be refused is counted and let through"),
            );
            case.details = json!({ "keys": listener.shadowed });
            case
        })
        .collect()
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
