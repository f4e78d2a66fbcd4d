//! What is found while one file is read: faults with their places, and what must not be shown.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnose::Severity;
use super::named_file::read_named_file;
use super::secrets;
use super::spanned::At;

/// The findings of one file, and the files that it names.
#[derive(Debug)]
pub(super) struct Report {
    /// Relative paths of the file are relative to this.
    directory: PathBuf,
    pub(super) faults: Vec<Fault>,
    /// Never shown.
    pub(super) hidden: Vec<Range<usize>>,
    /// Keys (`clusters.ccfs.nodes`) that are there but were judged wrong already: nobody says that
    /// they are missing.
    pub(super) judged: BTreeSet<String>,
    /// Files that were read.
    pub(super) files: BTreeSet<PathBuf>,
}

/// A problem without its file.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) severity: Severity,
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Report {
    /// Of the file at `path`, nothing found yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            directory: path.parent().map(Path::to_owned).unwrap_or_default(),
            faults: Vec::new(),
            hidden: Vec::new(),
            judged: BTreeSet::new(),
            files: BTreeSet::new(),
        }
    }

    /// An error at a place: what is wrong, and what would be right.
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Error, Some(span), message.into(), help.into());
    }

    /// An error of the file as a whole.
    pub(super) fn error_of_file(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, None, message.into(), help.into());
    }

    /// A warning at a place.
    pub(super) fn warn(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Warning, Some(span), message.into(), help.into());
    }

    /// A warning of the file as a whole.
    pub(super) fn warn_of_file(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, None, message.into(), help.into());
    }

    /// An error at `span` unless `key` is there and was judged wrong already.
    pub(super) fn missing(
        &mut self,
        key: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let inside = format!("{key}.");
        let judged = self.judged.range(key.to_owned()..).next();
        if !judged.is_some_and(|found| found == key || found.starts_with(&inside)) {
            self.error(span, message, help);
        }
    }

    /// Was any error found?
    pub(super) fn has_errors(&self) -> bool {
        let is_error = |fault: &Fault| fault.severity == Severity::Error;
        self.faults.iter().any(is_error)
    }

    /// The path as this file means it.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.directory.join(written)
    }

    /// Reads a file that this one names; an error names it.
    pub(super) fn read(&mut self, written: &At<impl AsRef<str>>) -> Option<Vec<u8>> {
        self.read_at(written.value.as_ref(), &written.span)
    }

    /// Reads a file that is named at a place; an error names it.
    pub(super) fn read_at(&mut self, written: &str, span: &Range<usize>) -> Option<Vec<u8>> {
        let path = self.path(written);
        self.files.insert(path.clone());
        match read_named_file(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                self.error(
                    span.clone(),
                    message,
                    "must be a readable file; a relative path is relative to this file",
                );
                None
            }
        }
    }

    /// Reads a secret from a file that is named at a place. What names no file and looks like no
    /// path is taken for the secret itself, and not shown.
    pub(super) fn read_secret_at(&mut self, written: &str, span: &Range<usize>) -> Option<Vec<u8>> {
        if secrets::looks_like_a_path(written) || self.path(written).exists() {
            return self.read_at(written, span);
        }
        self.hidden.push(span.clone());
        self.error(
            span.clone(),
            "there is no file of this name",
            "must be the path of a file; the secret itself does not belong here",
        );
        None
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Option<Range<usize>>,
        message: String,
        help: String,
    ) {
        self.faults.push(Fault {
            severity,
            span,
            message: without_controls(message),
            help: without_controls(help),
        });
    }
}

/// Names of the file stand in messages, and messages stand in terminals and logs.
fn without_controls(text: String) -> String {
    if text.contains(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text
    }
}
