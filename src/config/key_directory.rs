//! `access_keys_dir`: many files of access keys, each valid or refused by itself. A generation of the
//! configuration holds what each file last held while it was good; the next one reads only the files
//! that changed and shares the rest.

mod merge;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use merge::{Candidate, Conflict, Contested, Merged, merge};
use read::{ParsedFile, Reader};

use super::named_file::FileDigest;
use super::problem::Problem;
use super::resolve::AccountRules;
use super::{AccessKeys, AccountSettings, Config};
use crate::auth::AccessKey;
use crate::sharded_map::ShardedMap;

/// The file that an account stands in. Unique over all generations of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AccountSource(u32);

impl AccountSource {
    /// The configuration file, with the file of `access_keys_file`.
    pub(super) const MAIN: Self = Self(0);
}

/// The files of `access_keys_dir` in one generation.
#[derive(Clone, Debug)]
pub struct KeyDirectory {
    path: Arc<Path>,
    rules: Arc<AccountRules>,
    files: ShardedMap<Arc<str>, Arc<KeyFile>>,
    refused: BTreeMap<Arc<str>, Arc<RefusedFile>>,
    contested: Contested,
    error: Option<Arc<str>>,
    next_source: u32,
}

/// One file.
#[derive(Clone, Debug)]
struct KeyFile {
    source: AccountSource,
    /// The access keys that it held when it was last good.
    access_keys: Arc<[AccessKey]>,
    record: Arc<ReadRecord>,
}

/// The content of a file when it was last read, and of the files that it names.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct ReadRecord {
    /// `None` if it could not be read.
    pub digest: Option<FileDigest>,
    /// The secret files that it names.
    pub named_files: BTreeMap<PathBuf, Option<FileDigest>>,
}

/// A file whose content is not in force.
#[derive(Debug)]
pub struct RefusedFile {
    /// The path of the file.
    pub path: PathBuf,
    /// What is wrong, in one line: the first mistake and the number of the others.
    pub message: String,
    /// The access keys of its last good content that it no longer holds; they are still in force.
    pub not_yet_revoked: Vec<AccessKey>,
    /// Whether it has an access key that another file holds.
    is_conflict: bool,
}

/// An access key that has stood in several places since the start. It is in force in none of them.
#[derive(Debug)]
pub struct ContestedKey {
    /// The access key.
    pub access_key: AccessKey,
    /// The names of its files in the directory; `None` is the configuration itself.
    pub files: Vec<Option<Arc<str>>>,
}

/// The files of the directory that changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyChanges {
    /// The names of new and changed files.
    pub changed: Vec<Arc<str>>,
    /// The names of files that are gone.
    pub removed: Vec<Arc<str>>,
    /// Why the directory cannot be read; all access keys are kept meanwhile.
    pub error: Option<Arc<str>>,
}

/// What is read again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selection<'a> {
    /// The whole directory.
    All,
    /// Only what changed.
    Only(&'a KeyChanges),
}

/// What a directory is loaded with.
pub(super) struct Request<'a> {
    /// The configuration in force.
    pub(super) previous: Option<&'a Config>,
    /// `None` without `access_keys_dir`.
    pub(super) path: Option<PathBuf>,
    pub(super) rules: Arc<AccountRules>,
    /// The accounts of the configuration itself; `None` if they have not changed.
    pub(super) main: Option<Vec<Arc<AccountSettings>>>,
    pub(super) selection: Selection<'a>,
}

/// The accounts of a generation.
pub(super) struct Loaded {
    pub(super) access_keys: AccessKeys,
    pub(super) directory: Option<Arc<KeyDirectory>>,
    /// The errors and warnings of the files that were read.
    pub(super) problems: Vec<Problem>,
    /// The access keys of the configuration itself that a file of the directory keeps, with that file.
    pub(super) main_conflicts: Vec<(AccessKey, PathBuf)>,
}

impl KeyDirectory {
    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns why the directory could not be read when it was last looked at.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Returns the number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns the refused files by name.
    pub fn refused(&self) -> &BTreeMap<Arc<str>, Arc<RefusedFile>> {
        &self.refused
    }

    /// Returns the access keys that are in several places.
    pub fn contested(&self) -> impl ExactSizeIterator<Item = ContestedKey> {
        self.contested.iter().map(|(access_key, claims)| {
            let name_of = |account: &Arc<AccountSettings>| self.name_of(account.source);
            ContestedKey {
                access_key: access_key.clone(),
                files: claims.iter().map(name_of).collect(),
            }
        })
    }

    /// Returns the content of each file when it was last read, by name.
    pub fn records(&self) -> impl Iterator<Item = (&Arc<str>, &ReadRecord)> {
        self.files
            .iter()
            .map(|(name, file)| (name, file.record.as_ref()))
    }

    /// Returns the content of a file when it was last read.
    pub fn record(&self, name: &str) -> Option<&ReadRecord> {
        self.files.get(name).map(|file| file.record.as_ref())
    }

    fn name_of(&self, source: AccountSource) -> Option<Arc<str>> {
        let mut files = self.files.iter();
        files
            .find(|(_, file)| file.source == source)
            .map(|(name, _)| name.clone())
    }

    fn empty(path: &Path, rules: Arc<AccountRules>, next_source: u32) -> Self {
        Self {
            path: path.into(),
            rules,
            files: ShardedMap::default(),
            refused: BTreeMap::new(),
            contested: Contested::new(),
            error: None,
            next_source,
        }
    }
}

impl Config {
    /// Returns changes of `access_keys_dir` that change nothing.
    pub fn no_key_changes(&self) -> KeyChanges {
        let directory = self.key_directory.as_deref();
        KeyChanges {
            error: directory.and_then(|directory| directory.error.clone()),
            ..KeyChanges::default()
        }
    }

    /// Returns the next generation after changes of files in `access_keys_dir` alone. Files with mistakes
    /// keep their last good access keys.
    pub fn after_key_changes(&self, changes: &KeyChanges) -> Self {
        let Some(directory) = &self.key_directory else {
            return self.clone();
        };
        let request = Request {
            previous: Some(self),
            path: Some(directory.path.to_path_buf()),
            rules: directory.rules.clone(),
            main: None,
            selection: Selection::Only(changes),
        };
        match load(&request) {
            Ok(loaded) => Self {
                access_keys: loaded.access_keys,
                key_directory: loaded.directory,
                ..self.clone()
            },
            // Fails only without a previous generation.
            Err(_) => self.clone(),
        }
    }
}

/// Returns an error for each place of each access key that is in several.
pub(super) fn contested_problems(directory: &KeyDirectory) -> Vec<Problem> {
    let mut problems = Vec::new();
    for contested in directory.contested() {
        let path_of = |name: &Option<Arc<str>>| match name {
            Some(name) => directory.path.join(&**name),
            None => PathBuf::from("the configuration"),
        };
        for (index, name) in contested.files.iter().enumerate() {
            let other = contested.files.get(usize::from(index == 0));
            if let (Some(_), Some(other)) = (name, other) {
                let (path, other) = (path_of(name), path_of(other));
                problems.extend(read::conflict_problem(&path, &contested.access_key, &other));
            }
        }
    }
    problems
}

/// Lists the files that are in a directory.
///
/// # Errors
/// It cannot be read, others can write it, or it holds too many files.
pub fn list_key_files(path: &Path) -> Result<Vec<Arc<str>>, String> {
    read::list(path)
}

/// Reads the directory, and makes the accounts of all places.
///
/// # Errors
/// The directory cannot be read, and was not read before.
pub(super) fn load(request: &Request<'_>) -> Result<Loaded, String> {
    let before = request.previous.and_then(|it| it.key_directory.as_deref());
    let next_source = before.map_or(1, |before| before.next_source);
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
            names.retain(|name| !changes.removed.contains(name));
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
    let is_main =
        |(_, account): &(&AccessKey, &Arc<AccountSettings>)| account.source == AccountSource::MAIN;
    let main_before: Vec<_> = match &request.main {
        Some(_) => keys_before
            .iter()
            .filter(is_main)
            .map(|(key, _)| key.clone())
            .collect(),
        None => Vec::new(),
    };
    let main = request.main.as_deref().map(|accounts| Candidate {
        source: AccountSource::MAIN,
        before: &main_before,
        accounts,
    });
    let mut candidates: Vec<_> = main.into_iter().collect();
    // Of files that are gone, and of another directory.
    let is_other = directory.as_ref().map(|it| &it.path) != before.map(|it| &it.path);
    let gone = before.into_iter().flat_map(|it| it.files.iter());
    let gone = gone.filter(|(name, _)| is_other || removed.contains(name));
    candidates.extend(gone.map(|(_, file)| Candidate {
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
        let conflicts: HashMap<_, _> = merged
            .conflicts
            .iter()
            .map(|conflict| (conflict.source, conflict))
            .collect();
        let main_conflict = conflicts.get(&AccountSource::MAIN).map(|conflict| {
            let holder = self.path_of(conflict.holder);
            (conflict.access_key.clone(), holder)
        });
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
            main_conflicts: main_conflict.into_iter().collect(),
        }
    }

    /// Takes the new state of one file. Returns the error of a conflict.
    fn take(
        &mut self,
        file: ParsedFile,
        conflicts: &HashMap<AccountSource, &Conflict>,
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
                    let holder = self.path_of(conflict.holder);
                    read::conflict_problem(&path, &conflict.access_key, &holder)
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

    fn path_of(&self, source: AccountSource) -> PathBuf {
        match self.name_of(source) {
            Some(name) => self.path.join(&*name),
            None => PathBuf::from("the configuration"),
        }
    }
}

/// More are refused: our choice, documented at `access_keys_dir`.
pub(super) const MAX_FILES: usize = 20_000;
