//! Differences between two configurations that a reload acts on.

use super::config_changes;
use crate::auth::AccessKey;
use crate::cache::Purge;
use crate::config::{AccountSettings, Config, KeyChanges, NodeHistograms, Telemetry};
use crate::gateway::Snapshot;

/// Gives `after` the values of `before` where a key takes effect only at the start. Returns the keys whose
/// values differ.
pub(super) fn keep_until_restart(before: &Config, after: &mut Config) -> Vec<String> {
    let (telemetry, limits) = (&before.telemetry, &before.limits);
    let changes = [
        (
            before.server.workers != after.server.workers,
            "[server] workers",
        ),
        (
            before.cache.max_size != after.cache.max_size,
            "[cache] max_size",
        ),
        (before.admin.bind != after.admin.bind, "[admin] bind"),
        (
            before.admin.tls.is_some() != after.admin.tls.is_some(),
            "[admin] tls (its certificates can)",
        ),
        (
            telemetry_of_start(before) != telemetry_of_start(after),
            "[telemetry]",
        ),
        (
            limits.max_answer != after.limits.max_answer,
            "[limits] max_answer",
        ),
        (
            limits.min_receive_rate != after.limits.min_receive_rate,
            "[limits] min_receive_rate",
        ),
    ];
    let changed = changes.into_iter().filter(|(changed, _)| *changed);
    let keys = changed.map(|(_, key)| key.to_owned()).collect();
    after.server.workers = before.server.workers;
    after.cache.max_size = before.cache.max_size;
    after.admin.bind = before.admin.bind;
    if before.admin.tls.is_some() != after.admin.tls.is_some() {
        after.admin.tls.clone_from(&before.admin.tls);
    }
    after.telemetry = Telemetry {
        node_histograms: after.telemetry.node_histograms,
        log_claimed_ak: after.telemetry.log_claimed_ak,
        ..telemetry.clone()
    };
    after.limits.max_answer = limits.max_answer;
    after.limits.min_receive_rate = limits.min_receive_rate;
    keys
}

/// Returns `[telemetry]` without what a reload can change.
fn telemetry_of_start(config: &Config) -> Telemetry {
    Telemetry {
        log_claimed_ak: false,
        node_histograms: NodeHistograms::Auto,
        ..config.telemetry.clone()
    }
}

/// Returns the access keys that were removed or disabled, or lost one of their secrets.
fn revoked_access_keys<'a>(
    before: &'a Config,
    after: &'a Config,
) -> impl Iterator<Item = &'a AccessKey> {
    let lost = |old: &AccountSettings, new: &AccountSettings| {
        !new.credential.enabled()
            || old
                .credential
                .secrets()
                .iter()
                .any(|secret| !new.credential.secrets().contains(secret))
    };
    before
        .access_keys
        .unshared(&after.access_keys)
        .filter_map(move |(access_key, old)| {
            let new = after.access_keys.get(access_key);
            new.is_none_or(|new| lost(old, new)).then_some(access_key)
        })
}

/// The access keys of a generation whose other settings are those of the generation before it.
#[derive(Debug)]
pub(super) struct PreparedKeys {
    pub(super) config: Config,
    /// `None` if no access key differs.
    pub(super) snapshot: Option<Snapshot>,
    /// As [`Prepared::purges`].
    pub(super) purges: Vec<Purge>,
    /// What has changed, in words.
    pub(super) changes: Vec<String>,
}

impl PreparedKeys {
    /// Makes what changes of `access_keys_dir` give.
    pub(super) fn new(before: &Config, current: &Snapshot, changes: &KeyChanges) -> Self {
        Self::of(before.after_key_changes(changes), before, current)
    }

    /// Makes what a change of `access_keys_file` gives; `None` if the configuration must be read as a whole.
    pub(super) fn of_key_file(before: &Config, current: &Snapshot) -> Option<Self> {
        let config = before.after_key_file_change()?;
        Some(Self::of(config, before, current))
    }

    fn of(config: Config, before: &Config, current: &Snapshot) -> Self {
        let (old, new) = (&before.access_keys, &config.access_keys);
        let is_same = new.unshared(old).next().is_none() && old.unshared(new).next().is_none();
        Self {
            snapshot: (!is_same).then(|| current.with_access_keys(new)),
            purges: purges_of_revoked(before, &config),
            changes: config_changes::access_keys(old, new),
            config,
        }
    }
}

fn purges_of_revoked(before: &Config, after: &Config) -> Vec<Purge> {
    let purges = revoked_access_keys(before, after).map(|access_key| Purge {
        access_key: Some(access_key.clone()),
        call_id: None,
    });
    purges.collect()
}

/// The parts of a reload whose time grows with the number of access keys; made on a thread of their own.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    /// The responses of access keys that are removed, disabled, or have lost one of their secrets.
    pub(super) purges: Vec<Purge>,
    /// What has changed, in words.
    pub(super) changes: Vec<String>,
}

impl Prepared {
    pub(super) fn new(config: Config, before: &Config, current: &Snapshot) -> Self {
        Self {
            purges: purges_of_revoked(before, &config),
            snapshot: Snapshot::next(&config, Some(current)),
            changes: config_changes::describe(before, &config),
            config,
        }
    }
}
