//! The fallback of each cluster: a known cluster, no ring, and no weaker verification of nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::ClusterSettings;
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName};
use crate::config::spanned::Spanned;
use crate::config::suggestion::suggest;

/// Reports what is wrong with the fallbacks. A cluster that is invalid has an error of its own.
pub(super) fn check(
    file: &ByName<file::Cluster>,
    clusters: &BTreeMap<Arc<str>, ClusterSettings>,
    diagnostics: &mut Diagnostics,
) {
    for (name, table) in file {
        let Some(fallback) = &table.fallback else {
            continue;
        };
        if !file.keys().any(|known| known.value == fallback.value) {
            let names = file.keys().filter(|known| known.value != name.value);
            let help = match suggest(fallback, names.map(|known| known.as_str())) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => "must be the name of another cluster".to_owned(),
            };
            diagnostics.error(fallback.span(), "unknown cluster", help);
        } else if let Some(ring) = ring_from(&name.value, file) {
            diagnostics.error(
                fallback.span(),
                format!("the fallbacks are a ring: {ring}"),
                "must lead to a cluster without a fallback in the end",
            );
        } else {
            check_verification(name, fallback, clusters, diagnostics);
        }
    }
}

/// Returns the ring that leads from a cluster back to itself.
fn ring_from(name: &str, file: &ByName<file::Cluster>) -> Option<String> {
    let fallback_of = |name: &str| {
        let (_, table) = file.iter().find(|(known, _)| known.value == name)?;
        table.fallback.as_ref().map(|fallback| fallback.as_str())
    };
    let mut ring = name.to_owned();
    let mut next = fallback_of(name)?;
    // A ring that does not come back to `name` is reported at its own clusters.
    for _ in 0..file.len() {
        ring += &format!(" -> {next}");
        if next == name {
            return Some(ring);
        }
        next = fallback_of(next)?;
    }
    None
}

fn check_verification(
    name: &Spanned<String>,
    fallback: &Spanned<String>,
    clusters: &BTreeMap<Arc<str>, ClusterSettings>,
    diagnostics: &mut Diagnostics,
) {
    let is_insecure = |name: &str| clusters.get(name).map(|it| it.insecure_skip_verify);
    if let (Some(false), Some(true)) = (is_insecure(&name.value), is_insecure(fallback)) {
        diagnostics.error(
            fallback.span(),
            format!(
                "the nodes of cluster {} are verified, those of its fallback {} are not",
                name.value, fallback.value
            ),
            "must be a cluster whose nodes are verified: give it a ca instead of insecure_skip_verify",
        );
    }
}
