//! The files of `access_keys_dir`, and the secret files that they name.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::observation::{Clock, Observation, Seen};
use crate::config::{KeyChanges, KeyDirectory, ReadRecord, list_key_files};

/// What is known of the directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    path: PathBuf,
    files: HashMap<Arc<str>, WatchedFile>,
    error: Option<Arc<str>>,
    /// When files were first found missing while others were still being written.
    missing_since: Option<Instant>,
}

/// A file with the secret files that it names.
#[derive(Debug, Default)]
struct WatchedFile {
    own: Seen,
    named: BTreeMap<PathBuf, Seen>,
}

impl WatchedFile {
    fn of(record: &ReadRecord, before: Option<&Self>) -> Self {
        let named = record.named_files.iter().map(|(path, digest)| {
            let before = before.and_then(|before| before.named.get(path));
            (path.clone(), Seen::read(*digest).or_same(before))
        });
        Self {
            own: Seen::read(record.digest).or_same(before.map(|before| &before.own)),
            named: named.collect(),
        }
    }
}

impl DirectoryWatch {
    /// Starts with what was read.
    pub(super) fn new(directory: &KeyDirectory) -> Self {
        let records = directory.records();
        Self {
            path: directory.path().to_owned(),
            files: records
                .map(|(name, record)| (name.clone(), WatchedFile::of(record, None)))
                .collect(),
            error: directory.error().map(Into::into),
            missing_since: None,
        }
    }

    /// Whether it watches this directory.
    pub(super) fn is_of(&self, directory: &KeyDirectory) -> bool {
        self.path == directory.path()
    }

    /// Continues with what was read since.
    pub(super) fn update(&mut self, directory: &KeyDirectory) {
        self.files
            .retain(|name, file| match directory.record(name) {
                Some(record) => {
                    *file = WatchedFile::of(record, Some(file));
                    true
                }
                // A new file that is still written.
                None => file.own.is_pending(),
            });
        for (name, record) in directory.records() {
            self.files
                .entry(name.clone())
                .or_insert_with(|| WatchedFile::of(record, None));
        }
        self.error = directory.error().map(Into::into);
    }

    /// Looks at the files. Returns the changes, and whether a file may still be written.
    pub(super) fn scan(&mut self, clock: &Clock) -> (Option<KeyChanges>, bool) {
        let names = match list_key_files(&self.path) {
            Ok(names) => names,
            Err(error) => {
                let error = Some(Arc::from(error));
                let is_new = self.error != error;
                self.error = error.clone();
                let changes = KeyChanges {
                    error,
                    ..KeyChanges::default()
                };
                return (is_new.then_some(changes), false);
            }
        };
        let is_back = self.error.take().is_some();
        let mut changes = KeyChanges::default();
        let mut unsettled = Vec::new();
        for name in &names {
            let file = self.files.entry(name.clone()).or_default();
            let mut found = file.own.observe(&self.path.join(&**name), clock);
            for (path, seen) in &mut file.named {
                match seen.observe(path, clock) {
                    Observation::Changed => found = Observation::Changed,
                    Observation::Unsettled if found == Observation::Same => {
                        found = Observation::Unsettled;
                    }
                    Observation::Same | Observation::Unsettled => {}
                }
            }
            match found {
                Observation::Same => {}
                Observation::Unsettled => unsettled.push(name.clone()),
                Observation::Changed => changes.changed.push(name.clone()),
            }
        }
        self.find_missing(&names, &mut unsettled, clock, &mut changes);
        let has_changed = is_back || !changes.changed.is_empty() || !changes.removed.is_empty();
        (has_changed.then_some(changes), !unsettled.is_empty())
    }

    /// Finds removed files. A file that has only another name is taken at once; other removals wait for
    /// files that are still written, which may hold the same access keys.
    fn find_missing(
        &mut self,
        names: &[Arc<str>],
        unsettled: &mut Vec<Arc<str>>,
        clock: &Clock,
        changes: &mut KeyChanges,
    ) {
        let is_missing = |name: &&Arc<str>| names.binary_search(name).is_err();
        let missing: Vec<_> = self.files.keys().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            self.missing_since = None;
            return;
        }
        let is_moved = |name: &Arc<str>| {
            let file = self.files.get(name);
            let before = missing.iter().filter_map(|name| self.files.get(name));
            file.is_some_and(|file| before.into_iter().any(|it| file.own.is_moved_from(&it.own)))
        };
        let moved: Vec<_> = unsettled
            .iter()
            .filter(|name| is_moved(name))
            .cloned()
            .collect();
        unsettled.retain(|name| !moved.contains(name));
        for name in moved {
            if let Some(file) = self.files.get_mut(&name) {
                file.own.take_pending();
            }
            changes.changed.push(name);
        }
        let since = *self.missing_since.get_or_insert(clock.now);
        if !unsettled.is_empty() && clock.now.duration_since(since) < 2 * clock.settle {
            return;
        }
        self.missing_since = None;
        for name in &missing {
            self.files.remove(name);
        }
        changes.removed = missing;
    }
}
