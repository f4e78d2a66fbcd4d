//! What is found while one file is read: faults with their places, and what must not be shown.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnose::Severity;
use super::named_file::read_named_file;
use super::secrets;
use super::spanned::Spanned;
use crate::escape;

/// The findings of one file, and the files that it names.
#[derive(Debug)]
pub(super) struct Diagnostics {
    /// Relative paths of the file are relative to this.
    directory: PathBuf,
    pub(super) items: Vec<Diagnostic>,
    /// Never shown.
    pub(super) secret_spans: Vec<Range<usize>>,
    /// Keys (`clusters.ccfs.nodes`) that are there but were judged wrong already: nobody says that
    /// they are missing.
    pub(super) already_reported: BTreeSet<String>,
    /// Files that were read.
    pub(super) files: BTreeSet<PathBuf>,
}

/// A problem without its file.
#[derive(Debug)]
pub(super) struct Diagnostic {
    pub(super) severity: Severity,
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Diagnostics {
    /// Of the file at `path`, nothing found yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            directory: path.parent().map(Path::to_owned).unwrap_or_default(),
            items: Vec::new(),
            secret_spans: Vec::new(),
            already_reported: BTreeSet::new(),
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
        self.push(Severity::Error, Some(span), message.into(), help.into());
    }

    /// An error of the file as a whole.
    pub(super) fn file_error(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, None, message.into(), help.into());
    }

    /// A warning at a place.
    pub(super) fn warning(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, Some(span), message.into(), help.into());
    }

    /// A warning of the file as a whole.
    pub(super) fn file_warning(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warning, None, message.into(), help.into());
    }

    /// An error at `span` unless `key` is there and was judged wrong already.
    pub(super) fn missing_key(
        &mut self,
        key: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let inside = format!("{key}.");
        let judged = self.already_reported.range(key.to_owned()..).next();
        if !judged.is_some_and(|found| found == key || found.starts_with(&inside)) {
            self.error(span, message, help);
        }
    }

    /// Was any error found?
    pub(super) fn has_errors(&self) -> bool {
        let is_error = |fault: &Diagnostic| fault.severity == Severity::Error;
        self.items.iter().any(is_error)
    }

    /// The path as this file means it.
    pub(super) fn resolve_path(&self, written: &str) -> PathBuf {
        self.directory.join(written)
    }

    /// Reads a file that this one names; an error names it.
    pub(super) fn read_file(&mut self, written: &Spanned<impl AsRef<str>>) -> Option<Vec<u8>> {
        self.read_file_at(written.value.as_ref(), &written.span)
    }

    /// Reads a file that is named at a place; an error names it.
    pub(super) fn read_file_at(&mut self, written: &str, span: &Range<usize>) -> Option<Vec<u8>> {
        let path = self.resolve_path(written);
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
    pub(super) fn read_secret_file(
        &mut self,
        written: &str,
        span: &Range<usize>,
    ) -> Option<Vec<u8>> {
        if secrets::looks_like_path(written) || self.resolve_path(written).exists() {
            return self.read_file_at(written, span);
        }
        self.secret_spans.push(span.clone());
        self.error(
            span.clone(),
            "there is no file of this name",
            "must be the path of a file; the secret itself does not belong here",
        );
        None
    }

    fn push(
        &mut self,
        severity: Severity,
        span: Option<Range<usize>>,
        message: String,
        help: String,
    ) {
        self.items.push(Diagnostic {
            severity,
            span,
            message: escape_controls(message),
            help: escape_controls(help),
        });
    }
}

/// Names of the file stand in messages, and messages stand in terminals and logs.
fn escape_controls(text: String) -> String {
    if text.contains(escape::is_unsafe) {
        escape::escaped(&text).into_owned()
    } else {
        text
    }
}
