//! The file of `access_keys_file`, whose changes can be taken without a reload of everything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::diagnostics::Diagnostics;
use super::document;
use super::key_directory::{self, AccountSource, Place, Request, Selection};
use super::named_file::{FileDigest, read_named_file};
use super::permissions;
use super::resolve::{AccountReader, AccountRules};
use super::{AccountSettings, Config};
use crate::auth::AccessKey;
use crate::encoding;

/// The file as it was read.
#[derive(Clone, Debug)]
pub(super) struct KeyFile {
    path: Arc<Path>,
    rules: Arc<AccountRules>,
    access_keys: Arc<[AccessKey]>,
}

impl KeyFile {
    /// Keeps what a change of the file needs; `None` if the file names others, whose changes are not its own.
    pub(super) fn new(
        path: &Path,
        rules: &Arc<AccountRules>,
        accounts: &[Arc<AccountSettings>],
        diagnostics: &Diagnostics,
    ) -> Option<Self> {
        let names = accounts.iter().map(|it| it.credential.access_key().clone());
        diagnostics.files.is_empty().then(|| Self {
            path: path.into(),
            rules: rules.clone(),
            access_keys: names.collect(),
        })
    }

    /// Reads the file again; `None` if there is anything to say about it.
    fn read(&self) -> Option<(FileDigest, Vec<Arc<AccountSettings>>)> {
        permissions::check_key_file(&self.path).ok()?;
        let bytes = Zeroizing::new(read_named_file(&self.path).ok()?);
        let text = encoding::decode(&bytes).ok()?;
        let mut diagnostics = Diagnostics::new(&self.path);
        let file = document::read_access_keys(text, &mut diagnostics)?;
        let mut reader = AccountReader::new(&self.rules, AccountSource::KEY_FILE);
        let accounts = reader.read(&file.access_keys, true, &mut diagnostics);
        let is_quiet = diagnostics.items.is_empty() && diagnostics.files.is_empty();
        is_quiet.then(|| (FileDigest::of(&bytes), accounts))
    }
}

impl Config {
    /// Returns the path of `access_keys_file`, if [`Config::after_key_file_change`] can take its changes.
    pub fn key_file(&self) -> Option<&Path> {
        self.key_file.as_ref().map(|file| &*file.path)
    }

    /// Returns the next generation after a change of `access_keys_file` alone, at the cost of what is in it.
    /// `None` if the whole configuration must be read to say what is wrong or what else changes: a mistake or
    /// a warning, an access key that stands elsewhere too, or one that a health check needs.
    pub fn after_key_file_change(&self) -> Option<Self> {
        let file = self.key_file.as_ref()?;
        let (digest, accounts) = file.read()?;
        let access_keys: Arc<[AccessKey]> = accounts
            .iter()
            .map(|it| it.credential.access_key().clone())
            .collect();
        let unchanged = self.no_key_changes();
        let loaded = key_directory::load(&Request {
            previous: Some(self),
            path: self.key_directory.as_ref().map(|it| it.path().into()),
            rules: file.rules.clone(),
            places: vec![Place {
                source: AccountSource::KEY_FILE,
                before: Some(file.access_keys.clone()),
                accounts,
            }],
            selection: Selection::Only(&unchanged),
        });
        let loaded = loaded.ok()?;
        let is_mine = |access_key: &AccessKey| {
            let account = loaded.access_keys.get(access_key);
            account.is_some_and(|account| account.source == AccountSource::KEY_FILE)
        };
        let needed = self.clusters.values().filter_map(|cluster| {
            let check = cluster.health_check.as_ref()?;
            Some(&check.signed.as_ref()?.access_key)
        });
        let is_enabled = |access_key: &Arc<str>| {
            let account = loaded.access_keys.get(&**access_key);
            account.is_some_and(|account| account.credential.enabled())
        };
        let is_whole = access_keys.iter().all(is_mine) && needed.into_iter().all(is_enabled);
        if !is_whole || loaded.access_keys.is_empty() {
            return None;
        }
        let mut files = (*self.files).clone();
        files.insert(PathBuf::from(&*file.path), Some(digest));
        let file = KeyFile {
            access_keys,
            ..file.clone()
        };
        Some(Self {
            access_keys: loaded.access_keys,
            key_directory: loaded.directory,
            files: Arc::new(files),
            key_file: Some(file),
            ..self.clone()
        })
    }
}
