//! Reads the files of the directory, on all CPUs.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zeroize::Zeroizing;

use super::{KeyDirectory, KeyFile, MAX_FILES, ReadRecord};
use crate::auth::AccessKey;
use crate::config::diagnostics::{Diagnostics, Severity};
use crate::config::document;
use crate::config::named_file::{FileDigest, digest_named_file, read_named_file};
use crate::config::permissions;
use crate::config::problem::Problem;
use crate::config::resolve::AccountReader;
use crate::config::{AccountSettings, secrets};
use crate::encoding;

/// What was read of one file.
pub(super) struct ParsedFile {
    pub(super) name: Arc<str>,
    pub(super) record: ReadRecord,
    /// Its accounts; `None` if it has mistakes.
    pub(super) accounts: Option<Vec<Arc<AccountSettings>>>,
    /// Its text without comments, if it has mistakes.
    text: Option<Zeroizing<String>>,
    /// The first mistake, in one line.
    pub(super) message: String,
    pub(super) problems: Vec<Problem>,
}

impl ParsedFile {
    /// Returns which of the access keys it no longer holds. Nothing is known of a file that cannot be read.
    pub(super) fn missing(&self, access_keys: &[AccessKey]) -> Vec<AccessKey> {
        let missing = |held: &dyn Fn(&AccessKey) -> bool| {
            let all = access_keys.iter();
            all.filter(|access_key| !held(access_key))
                .cloned()
                .collect()
        };
        if let Some(accounts) = &self.accounts {
            let names: HashSet<_> = accounts
                .iter()
                .map(|it| it.credential.access_key())
                .collect();
            return missing(&|access_key| names.contains(access_key));
        }
        let Some(text) = &self.text else {
            return Vec::new();
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let words: HashSet<_> = text.split(|c| !is_word(c)).collect();
        missing(&|access_key| {
            let name = access_key.as_str();
            words.contains(name) || !name.chars().all(is_word) && text.contains(name)
        })
    }
}

/// Reads files of a directory.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) directory: &'a KeyDirectory,
    /// Whether a file whose content is the same needs no reading.
    pub(super) may_reuse: bool,
}

impl Reader<'_> {
    /// Reads files and returns those that changed, in the order of `names`.
    pub(super) fn read_all(self, names: &[Arc<str>]) -> Vec<ParsedFile> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cpus.min(names.len());
        if threads <= 1 {
            return names.iter().filter_map(|name| self.read(name)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut read = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(name) = names.get(index) else {
                    return read;
                };
                read.extend(self.read(name).map(|file| (index, file)));
            }
        };
        let mut files = std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut files = work();
            for helper in helpers {
                // Reading does not panic; the files of a thread that did would be missing.
                files.extend(helper.join().unwrap_or_default());
            }
            files
        });
        files.sort_unstable_by_key(|(index, _)| *index);
        files.into_iter().map(|(_, file)| file).collect()
    }

    /// Reads one file; `None` if it is the same as before.
    fn read(self, name: &Arc<str>) -> Option<ParsedFile> {
        let known = self.directory.files.get(name)?;
        let path = self.directory.path.join(&**name);
        let mut diagnostics = Diagnostics::new(&path);
        let bytes = match permissions::check_key_file(&path).and_then(|()| {
            read_named_file(&path).map_err(|error| format!("cannot be read: {error}"))
        }) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) => {
                diagnostics.file_error(error, permissions::KEY_FILE_HELP);
                return Some(refused(name, ReadRecord::default(), diagnostics, &path, ""));
            }
        };
        let digest = Some(FileDigest::of(&bytes));
        let is_refused = self.directory.refused.contains_key(name);
        if self.may_reuse && !is_refused && known.record.digest == digest && known.is_current() {
            return None;
        }
        let record = ReadRecord {
            digest,
            ..ReadRecord::default()
        };
        let text = match encoding::decode(&bytes) {
            Ok(text) => text,
            Err(error) => {
                diagnostics.file_error(error.to_string(), "must be a TOML file in UTF-8");
                return Some(refused(name, record, diagnostics, &path, ""));
            }
        };
        let parsed = document::read_access_keys(text, &mut diagnostics);
        let tables = parsed.unwrap_or_default().access_keys;
        if tables.is_empty() && !diagnostics.has_errors() {
            diagnostics.file_error(
                "holds no access keys",
                "must hold [access_keys.AK] tables; remove the file to remove its access keys",
            );
        }
        let mut reader = AccountReader::new(&self.directory.rules, known.source);
        let accounts = reader.read(&tables, true, &mut diagnostics);
        let record = ReadRecord {
            named_files: std::mem::take(&mut diagnostics.files),
            ..record
        };
        if diagnostics.has_errors() {
            return Some(refused(name, record, diagnostics, &path, text));
        }
        Some(ParsedFile {
            name: name.clone(),
            record,
            accounts: Some(accounts),
            text: None,
            message: String::new(),
            problems: diagnostics.into_problems(&path, text),
        })
    }
}

impl KeyFile {
    /// Whether all files that it names have the content that was read.
    fn is_current(&self) -> bool {
        let mut named = self.record.named_files.iter();
        named.all(|(path, digest)| digest_named_file(path) == *digest)
    }
}

/// Makes the result for a file with mistakes.
fn refused(
    name: &Arc<str>,
    record: ReadRecord,
    diagnostics: Diagnostics,
    path: &Path,
    text: &str,
) -> ParsedFile {
    let problems = diagnostics.into_problems(path, text);
    let is_error = |problem: &&Problem| problem.severity() == Severity::Error;
    let merged = Problem::merge_equal(&problems);
    let mut errors = merged.iter().filter(is_error);
    let first = errors.next().map(Problem::one_line).unwrap_or_default();
    let message = match errors.count() {
        0 => first,
        others => format!("{first} (and {others} more: `ccfs-gateway check` lists them)"),
    };
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut without_comments = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in lines {
        without_comments.push_str(line);
        without_comments.push('\n');
    }
    ParsedFile {
        name: name.clone(),
        record,
        accounts: None,
        text: (!text.is_empty()).then_some(without_comments),
        message,
        problems,
    }
}

/// Makes the error for a file with an access key that stands elsewhere too, at the line of its table.
pub(super) fn conflict_problem(
    path: &Path,
    access_key: &AccessKey,
    elsewhere: &Path,
) -> Option<Problem> {
    let bytes = Zeroizing::new(read_named_file(path).unwrap_or_default());
    let text = encoding::decode(&bytes).unwrap_or_default();
    let mut diagnostics = Diagnostics::new(path);
    // Only the names of known keys and tables are shown.
    diagnostics.secret_spans =
        secrets::spans_in_invalid_toml(text, &crate::config::schema::KNOWN_KEYS, false);
    let name = access_key.as_str();
    let header = text.match_indices(name).map(|(at, _)| at).find(|at| {
        let line = text[..*at].rfind('\n').map_or(0, |end| end + 1);
        text[line..].trim_start().starts_with('[')
    });
    let message = format!("access key {name} is in {} too", elsewhere.display());
    let help = "must be in one file";
    match header {
        Some(at) => diagnostics.error(at..at + name.len(), message, help),
        None => diagnostics.file_error(message, help),
    }
    diagnostics.into_problems(path, text).pop()
}

/// Lists the files of a directory, sorted.
pub(super) fn list(path: &Path) -> Result<Vec<Arc<str>>, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mode = std::fs::metadata(path).map_err(cannot)?.mode();
    // The mount of a Kubernetes Secret has mode 1777; what others add there belongs to them and is refused.
    if mode & 0o002 != 0 && mode & STICKY == 0 {
        let mode = mode & 0o7777;
        return Err(format!(
            "others can write {} (mode {mode:o})",
            path.display()
        ));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && name.ends_with(".toml") {
            names.push(Arc::from(&*name));
        }
        if names.len() > MAX_FILES {
            return Err(format!("{} holds more than 20,000 files", path.display()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Only its owner can remove or rename a file of the directory (inode(7)).
const STICKY: u32 = 0o1000;
