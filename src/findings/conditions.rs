//! The conditions of the catalogue: each returns the cases of its finding at one moment.

pub(super) mod callers;
pub(super) mod dates;
pub(super) mod gateway;
pub(super) mod nodes;
pub(super) mod settings;

use std::time::Instant;

use super::detector::Situation;
use super::recent::Recent;
use super::{Case, Failing, Severity, Subject};

/// Returns what fails, from the events of the last minute and all that could have failed; `None` if there is no
/// such total.
#[expect(clippy::cast_precision_loss, reason = "rounded for people")]
fn failing(situation: &Situation<'_>, failed: u64, all: Option<u64>) -> Failing {
    let seconds = situation.timing.minute.as_secs_f64().max(0.001);
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    Failing {
        per_second: Some(rounded(failed as f64 / seconds)),
        share: all
            .filter(|&all| all > 0)
            .map(|all| rounded(failed as f64 / all.max(failed) as f64)),
    }
}

/// Returns the later of two moments that may be missing.
fn later(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.max(other)
}

/// A case of the last minute: nothing without events; it begins at `least` of them.
fn counted(recent: &Recent, least: u64, case: impl FnOnce() -> Case) -> Option<Case> {
    let seen = recent.last()?;
    Some(Case {
        seen: Some(seen),
        begins: recent.sum() >= least,
        ..case()
    })
}
