//! `access_keys_dir`: many files of access keys, each valid or refused by itself. A generation of the
//! configuration holds what each file last held while it was good; the next one reads only the files
//! that changed and shares the rest.

mod load;
mod merge;
mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use load::{Loaded, Place, Request, Selection, load};
use merge::Contested;

use super::named_file::FileDigest;
use super::problem::Problem;
use super::resolve::AccountRules;
use super::{AccountSettings, Config};
use crate::auth::AccessKey;
use crate::sharded_map::ShardedMap;

/// The file that an account stands in. Unique over all generations of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AccountSource(u32);

impl AccountSource {
    /// The configuration file.
    pub(super) const MAIN: Self = Self(0);
    /// The file of `access_keys_file`.
    pub(super) const KEY_FILE: Self = Self(1);
    /// The first of the files of `access_keys_dir`.
    const FIRST_OF_DIRECTORY: u32 = 2;
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

    /// Returns the names of files that may have been read, or are gone, since `before`: a few, however many
    /// there are.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Arc<str>> {
        let here = self.files.unshared(&before.files);
        let gone = before.files.unshared(&self.files);
        here.chain(gone).map(|(name, _)| name)
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
            places: Vec::new(),
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

/// More are refused: our choice, documented at `access_keys_dir`.
pub(super) const MAX_FILES: usize = 20_000;
