//! Watches files by content. Keys, secrets and certificates are replaced at run time by an editor, by an
//! ACME client, or by the symbolic link of a Kubernetes secret volume. Periodic looking detects all of
//! these on every file system; inotify does not (network file systems, swapped links).

mod directory;
mod observation;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;

use crate::config::{Config, FileDigest, KeyChanges};
use crate::task::boxed;
use directory::DirectoryWatch;
use observation::{Clock, Observation, Seen};

/// Looks at files periodically, on the blocking thread pool.
#[derive(Debug)]
pub(super) struct FileWatcher {
    interval: Duration,
    /// What is known of the files, while no scan is scheduled.
    state: Option<WatchState>,
    next_scan: Option<JoinHandle<(WatchState, FileChanges)>>,
}

/// Files whose content has changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FileChanges {
    /// Files that the configuration names.
    pub(super) named: Vec<PathBuf>,
    /// Files of `access_keys_dir`; `None` if nothing changed there.
    pub(super) keys: Option<KeyChanges>,
}

impl FileChanges {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.keys.is_none()
    }
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        self.next_scan.iter().for_each(JoinHandle::abort);
    }
}

impl FileWatcher {
    /// Starts to watch all files of `config`; the content that was read for it is the baseline.
    pub(super) fn start(config: &Config, interval: Duration) -> Self {
        let mut watcher = Self {
            interval,
            state: Some(WatchState::new(config)),
            next_scan: None,
        };
        watcher.schedule(false);
        watcher
    }

    /// Continues with a new configuration, which was read from its files.
    pub(super) fn continue_with(&mut self, config: &Config) {
        if let Some(scan) = self.next_scan.take() {
            scan.abort();
        }
        match &mut self.state {
            Some(state) => state.update(config),
            // A scan was running.
            None => self.state = Some(WatchState::new(config)),
        }
        self.schedule(false);
    }

    /// Returns the files that could not be read at the last look.
    pub(super) fn unreadable_files(&self) -> Vec<PathBuf> {
        let named = self.state.iter().flat_map(|state| &state.named);
        let unreadable = named.filter(|(_, seen)| seen.is_unreadable());
        unreadable.map(|(path, _)| path.clone()).collect()
    }

    /// Continues after changes that were rejected: they are reported again when the files change again.
    pub(super) fn resume(&mut self) {
        self.schedule(false);
    }

    fn schedule(&mut self, is_unsettled: bool) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        let settle = SETTLE_TIME.min(self.interval);
        let delay = if is_unsettled { settle } else { self.interval };
        let scan = move || {
            let changes = state.scan(is_unsettled, settle);
            (state, changes)
        };
        #[expect(clippy::disallowed_methods, reason = "ends with its `FileWatcher`")]
        let task = tokio::spawn(boxed(async move {
            tokio::time::sleep(delay).await;
            let scan = tokio::task::spawn_blocking(scan);
            match scan.await {
                Ok(result) => result,
                // Scanning does not panic; after a panic nothing more is watched.
                Err(_) => std::future::pending().await,
            }
        }));
        self.next_scan = Some(task);
    }

    /// Returns the next changes, after which the caller continues the watch. Cancel safe.
    async fn changes(&mut self) -> FileChanges {
        loop {
            let Some(scan) = &mut self.next_scan else {
                return std::future::pending().await;
            };
            let Ok((state, changes)) = scan.await else {
                // A scan is cancelled only when the runtime shuts down.
                return std::future::pending().await;
            };
            self.next_scan = None;
            let is_unsettled = state.is_unsettled;
            self.state = Some(state);
            if !changes.is_empty() {
                return changes;
            }
            self.schedule(is_unsettled);
        }
    }
}

/// Resolves when files have changed, once per change; never without a watcher. Cancel safe.
pub(super) async fn changes(watcher: &mut Option<FileWatcher>) -> FileChanges {
    match watcher {
        Some(watcher) => watcher.changes().await,
        None => std::future::pending().await,
    }
}

/// What is known of all watched files.
#[derive(Debug)]
struct WatchState {
    named: BTreeMap<PathBuf, Seen>,
    directory: Option<DirectoryWatch>,
    last_verified: Option<Instant>,
    /// Whether a file has changed so recently that it can still be written.
    is_unsettled: bool,
}

impl WatchState {
    fn new(config: &Config) -> Self {
        let named = config.files.iter();
        Self {
            named: named
                .map(|(path, digest)| (path.clone(), Seen::read(*digest)))
                .collect(),
            directory: config.key_directory.as_ref().map(DirectoryWatch::new),
            last_verified: None,
            is_unsettled: false,
        }
    }

    /// Continues with the files of another configuration.
    fn update(&mut self, config: &Config) {
        let before = std::mem::take(&mut self.named);
        let seen = |(path, digest): (&PathBuf, &Option<FileDigest>)| {
            let seen = Seen::read(*digest).or_same(before.get(path));
            (path.clone(), seen)
        };
        self.named = config.files.iter().map(seen).collect();
        self.directory = match (self.directory.take(), &config.key_directory) {
            (Some(mut watch), Some(directory)) if watch.is_of(directory) => {
                watch.update(directory);
                Some(watch)
            }
            (_, directory) => directory.as_ref().map(DirectoryWatch::new),
        };
    }

    /// Looks at all files, or only at those that may still be written.
    #[expect(
        clippy::disallowed_methods,
        reason = "when a file was last looked at, and whether its times are recent"
    )]
    fn scan(&mut self, only_unsettled: bool, settle: Duration) -> FileChanges {
        let now = Instant::now();
        let is_due = self
            .last_verified
            .is_none_or(|last| now.duration_since(last) >= VERIFY_INTERVAL);
        let clock = Clock {
            now,
            wall: SystemTime::now(),
            settle,
            verify_all: is_due && !only_unsettled,
            only_unsettled,
        };
        if clock.verify_all {
            self.last_verified = Some(now);
        }
        self.is_unsettled = false;
        let mut changes = FileChanges::default();
        for (path, seen) in &mut self.named {
            match seen.observe(path, &clock) {
                Observation::Same => {}
                Observation::Unsettled => self.is_unsettled = true,
                Observation::Changed => changes.named.push(path.clone()),
            }
        }
        if let Some(directory) = &mut self.directory {
            let (keys, is_unsettled) = directory.scan(&clock);
            self.is_unsettled |= is_unsettled;
            changes.keys = keys;
        }
        changes
    }
}

/// A changed file is taken when its size and times have been the same for this time, so that it is not
/// read half written.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// All files are read and compared this often, whatever their times say.
const VERIFY_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
