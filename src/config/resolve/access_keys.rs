//! The access keys of all places: the configuration itself, `access_keys_file` and `access_keys_dir`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{AccountReader, AccountRules, KeyFiles, KeysFile};
use crate::config::diagnostics::{Diagnostics, Severity};
use crate::config::file::File;
use crate::config::key_directory::{
    self, AccountSource, KeyDirectory, Loaded, Place, Request, Selection,
};
use crate::config::key_file::KeyFile;
use crate::config::problem::Problem;
use crate::config::{AccessKeys, AccountSettings, Config, Plan};

/// The access keys of all places.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) access_keys: AccessKeys,
    pub(super) key_file: Option<KeyFile>,
    pub(super) directory: Option<Arc<KeyDirectory>>,
    pub(super) plans: BTreeMap<Arc<str>, Plan>,
    /// Of the files of the directory.
    pub(super) problems: Vec<Problem>,
    /// Whether no file of the directory is refused.
    pub(super) are_all_good: bool,
}

/// Reads the access keys of all places.
pub(super) fn resolve(
    file: &File,
    mut keys: Option<&mut KeysFile>,
    key_files: KeyFiles<'_>,
    diagnostics: &mut Diagnostics,
) -> Resolved {
    let rules = AccountRules::new(&file.plans, &file.access_key_defaults, diagnostics);
    let plans = rules.plans().clone();
    let rules = Arc::new(rules);
    let mut reader = AccountReader::new(&rules, AccountSource::MAIN);
    let main = reader.read(&file.access_keys, false, diagnostics);
    let (of_file, key_file) = match keys.as_deref_mut() {
        Some(keys) => read_key_file(file, keys, &rules),
        None => (Vec::new(), None),
    };
    let place = |source, accounts| Place {
        source,
        before: None,
        accounts,
    };
    let path = file.access_keys_dir.as_ref();
    let (previous, selection) = selection(key_files);
    let request = Request {
        previous,
        path: path.map(|written| diagnostics.resolve_path(written)),
        rules,
        places: vec![
            place(AccountSource::MAIN, main),
            place(AccountSource::KEY_FILE, of_file),
        ],
        selection,
    };
    let loaded = match key_directory::load(&request) {
        Ok(loaded) => loaded,
        Err(error) => {
            if let Some(written) = path {
                let help =
                    "must be a directory that others cannot write, with at most 20,000 files";
                diagnostics.error(written.span(), error, help);
            }
            return Resolved {
                plans,
                ..Resolved::default()
            };
        }
    };
    for (access_key, holder) in &loaded.main_conflicts {
        report_conflict(file, &mut keys, (access_key.as_str(), holder), diagnostics);
    }
    if let (Some(written), Some(directory)) = (path, &loaded.directory)
        && directory.files() > 0
        && directory.refused().len() == directory.files()
        && previous.is_none()
    {
        let message = "no file of access_keys_dir is good";
        diagnostics.error(
            written.span(),
            message,
            "must hold a file without mistakes, or none",
        );
    }
    Resolved {
        plans,
        key_file,
        ..judge(loaded, key_files, diagnostics.has_errors())
    }
}

/// Reads the accounts of the file of `access_keys_file`.
fn read_key_file(
    file: &File,
    keys: &mut KeysFile,
    rules: &Arc<AccountRules>,
) -> (Vec<Arc<AccountSettings>>, Option<KeyFile>) {
    let mut reader = AccountReader::new(rules, AccountSource::KEY_FILE);
    let accounts = reader.read(&keys.tables, true, &mut keys.diagnostics);
    report_duplicates(file, keys);
    let key_file = KeyFile::new(&keys.path, rules, &accounts, &keys.diagnostics);
    (accounts, key_file)
}

/// Reports access keys that stand in the configuration and in the file of `access_keys_file`.
fn report_duplicates(file: &File, keys: &mut KeysFile) {
    for name in keys.tables.keys() {
        if file.access_keys.contains_key(name.as_str()) {
            keys.diagnostics.error(
                name.span(),
                "this access key is in the other file too",
                "must be in one of the two files",
            );
        }
    }
}

/// Decides which mistakes of the directory's files are errors of the configuration.
fn judge(mut loaded: Loaded, key_files: KeyFiles<'_>, has_errors: bool) -> Resolved {
    let directory = loaded.directory.as_deref();
    let are_all_good = directory
        .is_none_or(|directory| directory.refused().is_empty() && directory.contested().len() == 0);
    match key_files {
        KeyFiles::Checked => {
            let contested = directory.map(key_directory::contested_problems);
            loaded.problems.extend(contested.into_iter().flatten());
        }
        // They explain why the start fails.
        KeyFiles::Served if has_errors => {}
        _ => loaded
            .problems
            .retain(|problem| problem.severity() == Severity::Warning),
    }
    Resolved {
        access_keys: loaded.access_keys,
        key_file: None,
        directory: loaded.directory,
        plans: BTreeMap::new(),
        problems: loaded.problems,
        are_all_good,
    }
}

fn selection<'a>(key_files: KeyFiles<'a>) -> (Option<&'a Config>, Selection<'a>) {
    match key_files {
        KeyFiles::Checked | KeyFiles::Served => (None, Selection::All),
        KeyFiles::Reloaded(previous) => (Some(previous), Selection::All),
        KeyFiles::Changed(previous, changes) => (Some(previous), Selection::Only(changes)),
    }
}

/// Reports an access key of the configuration itself that a file of the directory keeps.
fn report_conflict(
    file: &File,
    keys: &mut Option<&mut KeysFile>,
    (access_key, holder): (&str, &PathBuf),
    diagnostics: &mut Diagnostics,
) {
    let message = format!("access key {access_key} is in {} too", holder.display());
    let help = "must be in one file";
    if let Some((name, _)) = file.access_keys.get_key_value(access_key) {
        diagnostics.error(name.span(), message, help);
    } else if let Some(keys) = keys
        && let Some((name, _)) = keys.tables.get_key_value(access_key)
    {
        keys.diagnostics.error(name.span(), message, help);
    }
}
