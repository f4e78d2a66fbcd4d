//! Collects the diagnostics of one file with their spans, and the spans that must not be shown.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::named_file::{FileDigest, read_named_file};
use super::secrets;
use super::spanned::Spanned;
use crate::encoding;
use crate::escape;

/// The diagnostics of one file, and the files that it names.
#[derive(Debug)]
pub(super) struct Diagnostics {
    /// The directory of the file; its relative paths start here.
    directory: PathBuf,
    pub(super) items: Vec<Diagnostic>,
    /// Parts of the text that are redacted when a line is shown.
    pub(super) secret_spans: Vec<Range<usize>>,
    /// Keys (`clusters.ccfs.nodes`) that are present but invalid, and already have an error: they are
    /// not reported as missing.
    pub(super) already_reported: BTreeSet<String>,
    /// Files that this file names, with the content that was read; `None` for one that cannot be read.
    pub(super) files: BTreeMap<PathBuf, Option<FileDigest>>,
    /// The access key that is being read; the diagnostics of many access keys can be equal.
    pub(super) access_key: Option<Arc<str>>,
}

/// One error or warning, without the text of its file; a span of `None` means the file as a whole.
#[derive(Debug)]
pub(super) struct Diagnostic {
    pub(super) severity: Severity,
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) help: String,
    pub(super) access_key: Option<Arc<str>>,
}

/// Whether the gateway starts in spite of a diagnostic.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Severity {
    /// The configuration is rejected.
    Error,
    /// The configuration is accepted.
    Warning,
}

impl Diagnostics {
    /// Starts an empty collection for the file at `path`.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            directory: path.parent().map(Path::to_owned).unwrap_or_default(),
            items: Vec::new(),
            secret_spans: Vec::new(),
            already_reported: BTreeSet::new(),
            files: BTreeMap::new(),
            access_key: None,
        }
    }

    /// Adds an error at a span: what is wrong, and what would be right.
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, Some(span), message.into(), help.into());
    }

    /// Adds an error of the file as a whole.
    pub(super) fn file_error(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, None, message.into(), help.into());
    }

    /// Adds a warning at a span.
    pub(super) fn warning(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, Some(span), message.into(), help.into());
    }

    /// Adds a warning of the file as a whole.
    pub(super) fn file_warning(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warning, None, message.into(), help.into());
    }

    /// Adds an error at `span`, unless `key` is present and already has an error.
    pub(super) fn missing_key(
        &mut self,
        key: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let inside = format!("{key}.");
        let reported = self.already_reported.range(key.to_owned()..).next();
        if !reported.is_some_and(|found| found == key || found.starts_with(&inside)) {
            self.error(span, message, help);
        }
    }

    /// Whether the key `key` of the table at `table` is present and already has an error.
    pub(super) fn is_reported(&self, table: &str, key: &str) -> bool {
        self.already_reported.contains(&format!("{table}.{key}"))
    }

    /// Whether a part of the line at an offset of the text is redacted when it is shown.
    pub(super) fn is_hidden(&self, text: &str, offset: usize) -> bool {
        let line = line_range(text, offset);
        let mut hidden = self.secret_spans.iter();
        hidden.any(|span| span.start < line.end && line.start < span.end)
    }

    /// Whether there is any error.
    pub(super) fn has_errors(&self) -> bool {
        let is_error = |item: &Diagnostic| item.severity == Severity::Error;
        self.items.iter().any(is_error)
    }

    /// Resolves a path of this file against its directory.
    pub(super) fn resolve_path(&self, written: &str) -> PathBuf {
        self.directory.join(written)
    }

    /// Whether a value names an existing file or looks like a path, so that it can be shown.
    pub(super) fn is_path(&self, written: &str) -> bool {
        secrets::looks_like_path(written) || self.resolve_path(written).exists()
    }

    /// Reads a file that this one names, or adds an error.
    pub(super) fn read_file(&mut self, written: &Spanned<impl AsRef<str>>) -> Option<Vec<u8>> {
        self.read_file_at(written.value.as_ref(), &written.span)
    }

    /// Reads a text file that is named at a span, without a byte-order mark, or adds an error.
    pub(super) fn read_file_at(&mut self, written: &str, span: &Range<usize>) -> Option<Vec<u8>> {
        if written.contains("-----BEGIN") || written.contains('\n') {
            self.secret_spans.push(span.clone());
            self.error(
                span.clone(),
                "the content of a file in the place of its name",
                "must be the path of a file",
            );
            return None;
        }
        let bytes = self.read_bytes_at(written, span)?;
        self.as_text(bytes, span)
    }

    /// Reads the exact bytes of a file that is named at a span, or adds an error.
    fn read_bytes_at(&mut self, written: &str, span: &Range<usize>) -> Option<Vec<u8>> {
        let path = self.resolve_path(written);
        let read = read_named_file(&path);
        let digest = read.as_deref().ok().map(FileDigest::of);
        self.files.entry(path.clone()).or_insert(digest);
        match read {
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

    /// Reads the exact bytes of a secret file that is named at a span, or adds an error. A value that is neither an
    /// existing file nor looks like a path is taken for the secret itself and is redacted.
    pub(super) fn read_secret_file(
        &mut self,
        written: &str,
        span: &Range<usize>,
    ) -> Option<Vec<u8>> {
        if self.is_path(written) {
            return self.read_bytes_at(written, span);
        }
        self.secret_spans.push(span.clone());
        self.error(
            span.clone(),
            "there is no file of this name",
            "must be the path of a file; the secret itself does not belong here",
        );
        None
    }

    /// Like [`Diagnostics::read_secret_file`] for a secret that is a text: without a byte-order mark, and
    /// UTF-16 is an error.
    pub(super) fn read_secret_text(
        &mut self,
        written: &str,
        span: &Range<usize>,
    ) -> Option<Vec<u8>> {
        let bytes = self.read_secret_file(written, span)?;
        self.as_text(bytes, span)
    }

    /// Removes a byte-order mark; UTF-16 is an error.
    fn as_text(&mut self, mut bytes: Vec<u8>, span: &Range<usize>) -> Option<Vec<u8>> {
        if encoding::is_utf16(&bytes) {
            self.error(
                span.clone(),
                "line 1 of the file is not UTF-8, but UTF-16",
                "must be a text file in UTF-8 or ASCII",
            );
            return None;
        }
        if bytes.starts_with(encoding::BOM) {
            bytes.drain(..encoding::BOM.len());
        }
        Some(bytes)
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
            access_key: self.access_key.clone(),
        });
    }
}

/// Escapes control characters: messages quote names of the file, and are shown in terminals and logs.
fn escape_controls(text: String) -> String {
    if text.contains(escape::is_unsafe) {
        escape::escaped(&text).into_owned()
    } else {
        text
    }
}

/// Returns where the line at an offset of a text begins and ends, without its line end.
pub(super) fn line_range(text: &str, offset: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let (above, below) = bytes.split_at(offset.min(bytes.len()));
    let start = above.iter().rposition(|byte| *byte == b'\n');
    let end = below.iter().position(|byte| *byte == b'\n');
    let start = start.map_or(0, |at| at + 1);
    start..above.len() + end.unwrap_or(below.len())
}
