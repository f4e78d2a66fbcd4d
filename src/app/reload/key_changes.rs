//! Changes of access keys alone, and what ends with the access keys of a generation.

use std::sync::Arc;
use std::time::Duration;

use super::super::config_diff::PreparedKeys;
use super::super::file_watcher::FileChanges;
use super::super::{App, FileWatcher};
use super::ReloadCause;
use crate::admin::Reloaded;
use crate::cache::{Purge, PurgeSet};
use crate::config::{Config, KeyChanges, MAX_LISTED, RefusedFile};
use crate::gateway::Snapshot;
use crate::shared_store::OrderOrigin;
use crate::task::boxed;

impl App {
    /// Applies changes of watched files; logs the result.
    pub(in crate::app) async fn on_changed_files(&mut self, mut changes: FileChanges) {
        if let Some(watcher) = &self.file_watcher {
            self.reloads
                .set_unreadable_files(watcher.unreadable_files());
        }
        if self.is_key_file_alone(&changes) && self.apply_key_file_change().await {
            return;
        }
        if !changes.named.is_empty() {
            let cause = ReloadCause::FilesChanged(changes.clone());
            if self.reload(cause).await.is_ok() {
                return;
            }
        }
        match changes.keys.take() {
            Some(keys) => self.apply_key_changes(keys).await,
            None => self.file_watcher.iter_mut().for_each(FileWatcher::resume),
        }
    }

    /// Whether nothing has changed but the file of `access_keys_file`.
    fn is_key_file_alone(&self, changes: &FileChanges) -> bool {
        let config = self.config.load();
        let key_file = config.key_file();
        changes.keys.is_none() && matches!(&changes.named[..], [path] if Some(&**path) == key_file)
    }

    /// Applies a change of `access_keys_file` without a reload of everything else; false if that is needed.
    async fn apply_key_file_change(&mut self) -> bool {
        let (before, current) = (self.config.load_full(), self.shared.snapshot.load_full());
        let prepare = {
            let (before, current) = (before.clone(), current.clone());
            move || PreparedKeys::of_key_file(&before, &current)
        };
        let prepared = tokio::task::spawn_blocking(prepare).await.ok().flatten();
        let Some(prepared) = prepared else {
            return false;
        };
        let changes = prepared.changes.clone();
        let generation = self.apply_prepared_keys(prepared, (before, current));
        // A mistake of the file before is over, also if its content is in force already.
        self.record_keys(generation, changes);
        true
    }

    /// Applies changes of files in `access_keys_dir`. Costs what changed, however many other access keys
    /// there are.
    async fn apply_key_changes(&mut self, changes: KeyChanges) {
        let (before, current) = (self.config.load_full(), self.shared.snapshot.load_full());
        let generation = current.generation;
        let prepare = {
            let (before, current) = (before.clone(), current.clone());
            move || PreparedKeys::new(&before, &current, &changes)
        };
        // Does not panic.
        let Ok(prepared) = tokio::task::spawn_blocking(prepare).await else {
            return;
        };
        let changes = prepared.changes.clone();
        let after = self.apply_prepared_keys(prepared, (before, current));
        if after != generation {
            self.record_keys(after, changes);
        }
    }

    /// Puts other access keys in force. Returns the generation.
    fn apply_prepared_keys(
        &mut self,
        prepared: PreparedKeys,
        (before, current): (Arc<Config>, Arc<Snapshot>),
    ) -> u64 {
        let PreparedKeys {
            config,
            snapshot,
            purges,
            ..
        } = prepared;
        log_refused_files(&before, &config);
        let config = Arc::new(config);
        if let Some(watcher) = &mut self.file_watcher {
            watcher.continue_with(&config);
        }
        self.config.store(config.clone());
        let Some(snapshot) = snapshot else {
            return current.generation;
        };
        let generation = snapshot.generation;
        self.shared.snapshot.store(Arc::new(snapshot));
        tracing::info!(
            generation,
            access_keys = config.access_keys.len(),
            revoked = purges.len(),
            "access keys have changed"
        );
        self.purge(purges, (before, current));
        self.cluster_tasks.reconcile(&self.shared.snapshot.load());
        self.apply_orders();
        generation
    }

    /// Records that access keys have changed as a successful reload.
    fn record_keys(&self, generation: u64, changes: Vec<String>) {
        let result = Ok(Reloaded {
            restart_needed: self.reloads.restart_needed(),
            changes,
            ..Reloaded::new(generation, &self.config.load(), Vec::new())
        });
        self.reloads.record(super::super::now(), &result);
        self.notifier
            .ready(&format!("serving, generation {generation}"));
    }

    /// Applies the orders of the shared store for access keys that were not configured when they came.
    pub(super) fn apply_orders(&self) {
        let Some(store) = self.shared.store.load_full() else {
            return;
        };
        let snapshot = self.shared.snapshot.load();
        for order in store.orders() {
            let account = snapshot.account(order.access_key.as_str());
            if account.is_some_and(|account| !account.has_order()) {
                self.shared.apply_order(&order, OrderOrigin::Stored);
            }
        }
    }

    /// Purges responses in all replicas. They are not served from now on; one pass over the cache removes
    /// them on a thread of its own, which also drops what the reload has `replaced`.
    pub(super) fn purge(&self, purges: Vec<Purge>, replaced: (Arc<Config>, Arc<Snapshot>)) {
        if let Some(store) = self.shared.store.load_full() {
            store.purge(purges.iter().cloned());
        }
        let set: PurgeSet = purges.into_iter().collect();
        if !set.is_empty() {
            self.shared.begin_purge(set);
        }
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || {
            shared.cache.sweep();
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last request of the generation"
        )]
        tokio::spawn(boxed(drop_when_unused(replaced)));
    }
}

/// Logs each file of access keys that is refused for another reason than before.
pub(super) fn log_refused_files(before: &Config, after: &Config) {
    let known = before.key_directory.as_deref();
    let Some(directory) = after.key_directory.as_deref() else {
        return;
    };
    if let Some(error) = directory.error()
        && known.is_none_or(|known| known.error() != Some(error))
    {
        tracing::error!(
            error,
            "access_keys_dir cannot be read; all its access keys are kept"
        );
    }
    let is_new = |(name, file): &(&Arc<str>, &Arc<RefusedFile>)| {
        let before = known.and_then(|known| known.refused().get(*name));
        before.is_none_or(|before| before.message != file.message)
    };
    let mut refused = directory.refused().iter().filter(is_new);
    for (_, file) in refused.by_ref().take(MAX_LISTED) {
        let kept: Vec<_> = file.not_yet_revoked.iter().take(MAX_LISTED).collect();
        tracing::error!(
            file = %file.path.display(),
            mistake = file.message,
            not_yet_revoked = file.not_yet_revoked.len(),
            access_keys = ?kept,
            "a file of access keys is refused; what it held before stays in force"
        );
    }
    let omitted = refused.count();
    if omitted > 0 {
        tracing::error!(omitted, "more files of access keys are refused");
    }
}

/// Drops a generation on a thread that serves no requests, once nothing else holds it: a hundred thousand
/// accounts take milliseconds.
async fn drop_when_unused((config, snapshot): (Arc<Config>, Arc<Snapshot>)) {
    while Arc::strong_count(&snapshot) > 1 || Arc::strong_count(&config) > 1 {
        tokio::time::sleep(UNUSED_CHECK_INTERVAL).await;
    }
    tokio::task::spawn_blocking(move || drop((config, snapshot)));
}

/// How often it is checked whether the last request of a generation has ended.
const UNUSED_CHECK_INTERVAL: Duration = Duration::from_secs(1);
