//! The files of `access_keys_dir`, and the secret files that they name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::observation::{Clock, Observation, Seen};
use crate::config::{KeyChanges, KeyDirectory, ReadRecord, list_key_files};

/// What is known of the directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    path: PathBuf,
    /// As it was last read.
    known: Arc<KeyDirectory>,
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
    pub(super) fn new(directory: &Arc<KeyDirectory>) -> Self {
        let records = directory.records();
        Self {
            known: directory.clone(),
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
    pub(super) fn update(&mut self, directory: &Arc<KeyDirectory>) {
        for name in directory.changed_since(&self.known) {
            let file = self.files.get(name);
            match directory.record(name) {
                Some(record) => {
                    let file = WatchedFile::of(record, file);
                    self.files.insert(name.clone(), file);
                }
                // A new file may still be written.
                None if file.is_some_and(|file| file.own.is_pending()) => {}
                None => drop(self.files.remove(name)),
            }
        }
        self.known = directory.clone();
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
        let is_unsettled = !unsettled.is_empty() || self.missing_since.is_some();
        (has_changed.then_some(changes), is_unsettled)
    }

    /// Finds removed files. A file that has only another name is taken at once. Others must be missing for the
    /// settle time, since a listing can miss a file that is renamed meanwhile, and wait twice as long for files
    /// that are still written, which may hold the same access keys.
    fn find_missing(
        &mut self,
        names: &[Arc<str>],
        unsettled: &mut Vec<Arc<str>>,
        clock: &Clock,
        changes: &mut KeyChanges,
    ) {
        let is_missing = |name: &&Arc<str>| names.binary_search(name).is_err();
        let mut missing: Vec<_> = self.files.keys().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            self.missing_since = None;
            return;
        }
        self.take_moved(&mut missing, unsettled, changes);
        let since = *self.missing_since.get_or_insert(clock.now);
        let patience = match unsettled.is_empty() {
            true => clock.settle,
            false => 2 * clock.settle,
        };
        if !missing.is_empty() && clock.now.duration_since(since) < patience {
            return;
        }
        self.missing_since = None;
        for name in &missing {
            self.files.remove(name);
        }
        changes.removed.append(&mut missing);
    }

    /// Takes new files that have the content of a missing one, and takes that one as removed.
    fn take_moved(
        &mut self,
        missing: &mut Vec<Arc<str>>,
        unsettled: &mut Vec<Arc<str>>,
        changes: &mut KeyChanges,
    ) {
        let known = missing.iter().filter_map(|name| self.files.get(name));
        let known: HashSet<_> = known.filter_map(|file| file.own.known_digest()).collect();
        let mut moved = HashSet::new();
        unsettled.retain(|name| {
            let file = self.files.get_mut(name);
            let pending = file.and_then(|file| Some((file.own.pending_digest()?, file)));
            match pending.filter(|(digest, _)| known.contains(digest)) {
                Some((digest, file)) => {
                    moved.insert(digest);
                    file.own.take_pending();
                    changes.changed.push(name.clone());
                    false
                }
                None => true,
            }
        });
        missing.retain(|name| {
            let file = self.files.get(name);
            let digest = file.and_then(|file| file.own.known_digest());
            let is_moved = digest.is_some_and(|digest| moved.contains(&digest));
            if is_moved {
                self.files.remove(name);
                changes.removed.push(name.clone());
            }
            !is_moved
        });
    }
}
