//! Loads a directory: reads the files that changed, and makes the accounts of the next generation.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::merge::{Candidate, Conflict, Contested, Merged, merge};
use super::read::{self, ParsedFile, Reader};
use super::{AccountSource, KeyChanges, KeyDirectory, KeyFile, RefusedFile};
use crate::auth::AccessKey;
use crate::config::problem::Problem;
use crate::config::resolve::AccountRules;
use crate::config::{AccessKeys, AccountSettings, Config};

/// What is read again.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Selection<'a> {
    /// The whole directory.
    All,
    /// Only what changed.
    Only(&'a KeyChanges),
}

/// What a directory is loaded with.
pub(in crate::config) struct Request<'a> {
    /// The configuration in force.
    pub(in crate::config) previous: Option<&'a Config>,
    /// `None` without `access_keys_dir`.
    pub(in crate::config) path: Option<PathBuf>,
    pub(in crate::config) rules: Arc<AccountRules>,
    /// The places outside the directory that were read again.
    pub(in crate::config) places: Vec<Place>,
    pub(in crate::config) selection: Selection<'a>,
}

/// The configuration file or the file of `access_keys_file`.
pub(in crate::config) struct Place {
    pub(in crate::config) source: AccountSource,
    /// The access keys that it had; `None` if that is not known without a look at all of them.
    pub(in crate::config) before: Option<Arc<[AccessKey]>>,
    /// All that it has now.
    pub(in crate::config) accounts: Vec<Arc<AccountSettings>>,
}

/// The accounts of a generation.
pub(in crate::config) struct Loaded {
    pub(in crate::config) access_keys: AccessKeys,
    pub(in crate::config) directory: Option<Arc<KeyDirectory>>,
    /// The errors and warnings of the files that were read.
    pub(in crate::config) problems: Vec<Problem>,
    /// The access keys of other places that a file of the directory keeps, with that file.
    pub(in crate::config) main_conflicts: Vec<(AccessKey, PathBuf)>,
}

/// Reads the directory, and makes the accounts of all places.
///
/// # Errors
/// The directory cannot be read, and was not read before.
pub(in crate::config) fn load(request: &Request<'_>) -> Result<Loaded, String> {
    let before = request.previous.and_then(|it| it.key_directory.as_deref());
    let next_source = before.map_or(AccountSource::FIRST_OF_DIRECTORY, |before| {
        before.next_source
    });
    let Some(path) = &request.path else {
        return Ok(assemble(request, None, Vec::new(), &[]));
    };
    let kept = before.filter(|before| *before.path == **path);
    let mut directory = match kept {
        Some(kept) => kept.clone(),
        None => KeyDirectory::empty(path, request.rules.clone(), next_source),
    };
    let has_same_rules = *directory.rules == *request.rules;
    directory.rules = request.rules.clone();
    let (names, removed) = match request.selection {
        Selection::Only(changes) if has_same_rules && kept.is_some() => {
            directory.error = changes.error.clone();
            let mut names = changes.changed.clone();
            // What it conflicts with may be gone.
            let conflicts = directory.refused.iter().filter(|(_, it)| it.is_conflict);
            names.extend(conflicts.map(|(name, _)| name.clone()));
            names.sort();
            names.dedup();
            let removed: HashSet<_> = changes.removed.iter().collect();
            names.retain(|name| !removed.contains(name));
            (names, changes.removed.clone())
        }
        _ => match read::list(path) {
            Ok(names) => {
                directory.error = None;
                let is_gone = |name: &&Arc<str>| names.binary_search(name).is_err();
                let removed = directory.files.keys().filter(is_gone).cloned().collect();
                (names, removed)
            }
            Err(error) if kept.is_some() => {
                directory.error = Some(error.into());
                (Vec::new(), Vec::new())
            }
            Err(error) => return Err(error),
        },
    };
    for name in &names {
        if !directory.files.contains_key(name) {
            let file = KeyFile {
                source: AccountSource(directory.next_source),
                access_keys: Arc::default(),
                record: Arc::default(),
            };
            directory.files.insert(name.clone(), Arc::new(file));
            directory.next_source += 1;
        }
    }
    let reader = Reader {
        directory: &directory,
        may_reuse: has_same_rules && kept.is_some(),
    };
    let parsed = reader.read_all(&names);
    Ok(assemble(request, Some(directory), parsed, &removed))
}

/// Merges the accounts of all places, and makes the directory of the next generation.
fn assemble(
    request: &Request<'_>,
    directory: Option<KeyDirectory>,
    parsed: Vec<ParsedFile>,
    removed: &[Arc<str>],
) -> Loaded {
    let before = request.previous.and_then(|it| it.key_directory.as_deref());
    let keys_before = request
        .previous
        .map_or_else(AccessKeys::default, |it| it.access_keys.clone());
    let places = request.places.iter().map(|place| match &place.before {
        Some(before) => before.clone(),
        None => keys_before
            .iter()
            .filter(|(_, account)| account.source == place.source)
            .map(|(access_key, _)| access_key.clone())
            .collect(),
    });
    let places: Vec<Arc<[AccessKey]>> = places.collect();
    let mut candidates: Vec<_> = request
        .places
        .iter()
        .zip(&places)
        .map(|(place, before)| Candidate {
            source: place.source,
            before,
            accounts: &place.accounts,
        })
        .collect();
    // Of files that are gone, and of another directory.
    let is_other = directory.as_ref().map(|it| &it.path) != before.map(|it| &it.path);
    let gone: Vec<_> = match before {
        Some(before) if is_other => before.files.values().collect(),
        Some(before) => removed
            .iter()
            .filter_map(|name| before.files.get(name))
            .collect(),
        None => Vec::new(),
    };
    candidates.extend(gone.into_iter().map(|file| Candidate {
        source: file.source,
        before: &file.access_keys,
        accounts: &[],
    }));
    let file_of = |name: &str| directory.as_ref().and_then(|it| it.files.get(name));
    candidates.extend(parsed.iter().filter_map(|file| {
        let known = file_of(&file.name)?;
        Some(Candidate {
            source: known.source,
            before: &known.access_keys,
            accounts: file.accounts.as_deref()?,
        })
    }));
    let contested = before.map_or_else(Contested::new, |it| it.contested.clone());
    let merged = merge(&keys_before, &contested, &candidates);
    drop(candidates);
    match directory {
        Some(directory) => directory.finish(merged, parsed, removed),
        None => Loaded {
            access_keys: merged.access_keys,
            directory: None,
            problems: Vec::new(),
            main_conflicts: Vec::new(),
        },
    }
}

impl KeyDirectory {
    /// Makes the directory of the next generation.
    fn finish(mut self, merged: Merged, parsed: Vec<ParsedFile>, removed: &[Arc<str>]) -> Loaded {
        self.contested = merged.contested;
        let conflicts = self.conflicts(&merged.conflicts);
        let outside = [AccountSource::MAIN, AccountSource::KEY_FILE];
        let main_conflicts = merged
            .conflicts
            .iter()
            // Those between the two are reported when they are read.
            .filter(|it| outside.contains(&it.source) && !outside.contains(&it.holder))
            .filter_map(|it| conflicts.get(&it.source))
            .map(|it| (it.access_key.clone(), it.holder.clone()))
            .collect();
        for name in removed {
            self.files.remove(name);
            self.refused.remove(name);
        }
        let mut problems = Vec::new();
        for mut file in parsed {
            problems.append(&mut file.problems);
            problems.extend(self.take(file, &conflicts));
        }
        Loaded {
            access_keys: merged.access_keys,
            directory: Some(Arc::new(self)),
            problems,
            main_conflicts,
        }
    }

    /// Takes the new state of one file. Returns the error of a conflict.
    fn take(
        &mut self,
        file: ParsedFile,
        conflicts: &HashMap<AccountSource, NamedConflict<'_>>,
    ) -> Option<Problem> {
        let known = self.files.get(&file.name)?.clone();
        let conflict = conflicts.get(&known.source);
        let path = self.path.join(&*file.name);
        let (access_keys, problem) = match (&file.accounts, conflict) {
            (Some(accounts), None) => {
                self.refused.remove(&file.name);
                let names = accounts.iter().map(|it| it.credential.access_key().clone());
                (names.collect(), None)
            }
            (_, conflict) => {
                let problem = conflict.and_then(|conflict| {
                    read::conflict_problem(&path, conflict.access_key, &conflict.holder)
                });
                let message = problem.as_ref().map(Problem::one_line);
                let refused = RefusedFile {
                    message: message.unwrap_or_else(|| file.message.clone()),
                    path,
                    not_yet_revoked: file.missing(&known.access_keys),
                    is_conflict: conflict.is_some(),
                };
                self.refused.insert(file.name.clone(), Arc::new(refused));
                (known.access_keys.clone(), problem)
            }
        };
        let next = KeyFile {
            source: known.source,
            access_keys,
            record: Arc::new(file.record),
        };
        self.files.insert(file.name, Arc::new(next));
        problem
    }

    /// Returns the conflicts by the place that brought the access key, with the path of the other place.
    fn conflicts<'a>(
        &self,
        conflicts: &'a [Conflict],
    ) -> HashMap<AccountSource, NamedConflict<'a>> {
        if conflicts.is_empty() {
            return HashMap::new();
        }
        let files = self.files.iter();
        let names: HashMap<_, _> = files.map(|(name, file)| (file.source, name)).collect();
        let named = conflicts.iter().map(|conflict| {
            let holder = match names.get(&conflict.holder) {
                Some(name) => self.path.join(&***name),
                None => PathBuf::from("the configuration"),
            };
            let access_key = &conflict.access_key;
            (conflict.source, NamedConflict { access_key, holder })
        });
        named.collect()
    }
}

/// An access key that another place holds.
struct NamedConflict<'a> {
    access_key: &'a AccessKey,
    /// The path of the other place.
    holder: PathBuf,
}
