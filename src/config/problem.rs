//! Diagnostics with the text of their file, and how they are rendered: file, line, column, a caret
//! under the text, and what would be right. A [`Problem`] holds no secret: the text of its file is
//! redacted when it is made.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::diagnostics::{Diagnostic, Diagnostics, Severity};

/// All problems of a configuration in the order of the file, at least one of them an error.
#[derive(Clone, Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One error or warning with its location. `Display` renders several lines of text without secrets.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    source: Arc<Source>,
    span: Option<Range<usize>>,
    message: String,
    help: String,
    access_key: Option<Arc<str>>,
    count: usize,
}

/// A file whose secrets are redacted.
struct Source {
    path: PathBuf,
    redacted: String,
    /// Byte offset of each line; the first one is 0.
    line_starts: Vec<usize>,
}

impl ConfigError {
    /// Takes the problems, at least one of which must be an error.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// All problems, warnings included.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Equal errors are merged, and at most [`MAX_LISTED`] are listed: this text goes into logs and
/// responses. [`ConfigError::all`] lists every error.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut omitted = 0;
        let (errors, warnings): (Vec<_>, Vec<_>) = Problem::merge_equal(&self.problems)
            .into_iter()
            .partition(|problem| problem.severity == Severity::Error);
        for problem in errors.iter().skip(MAX_LISTED) {
            omitted += problem.count;
        }
        let mut listed: Vec<_> = errors.iter().take(MAX_LISTED).collect();
        listed.extend(warnings.iter().take(MAX_LISTED));
        self.write(&listed, f)?;
        if omitted > 0 {
            write!(
                f,
                "\nerrors_omitted: {omitted} (`ccfs-gateway check --all` lists them)"
            )?;
        }
        Ok(())
    }
}

impl ConfigError {
    /// Returns a text of all problems, each by itself.
    pub fn all(&self) -> impl fmt::Display {
        fmt::from_fn(|f| self.write(&self.problems.iter().collect::<Vec<_>>(), f))
    }

    fn write(&self, problems: &[&Problem], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in problems {
            fmt::Display::fmt(problem, f)?;
            f.write_str("\n\n")?;
        }
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let errors = self.problems.iter().filter(is_error).count();
        write!(
            f,
            "{errors} error{} in the configuration",
            if errors == 1 { "" } else { "s" }
        )
    }
}

impl std::error::Error for ConfigError {}

impl Problem {
    /// Merges equal problems of a file: the first of them stays, with their number and some of the
    /// access keys in its message.
    pub fn merge_equal(problems: &[Self]) -> Vec<Self> {
        let mut groups: Vec<(Self, Vec<&str>)> = Vec::new();
        let mut index: HashMap<_, usize> = HashMap::new();
        for problem in problems {
            let message = problem.message_for_any();
            let key = (
                &problem.source.path,
                problem.severity,
                message,
                &problem.help,
            );
            let access_key = problem.access_key.as_deref();
            match index.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(groups.len());
                    groups.push((problem.clone(), access_key.into_iter().collect()));
                }
                Entry::Occupied(entry) => {
                    let (first, examples) = &mut groups[*entry.get()];
                    first.count += 1;
                    if examples.len() < EXAMPLES {
                        examples.extend(access_key.filter(|it| !examples.contains(it)));
                    }
                }
            }
        }
        groups
            .into_iter()
            .map(|(mut first, examples)| {
                if first.count > 1 {
                    first.message = first.message_for_many(&examples);
                }
                first
            })
            .collect()
    }

    /// Returns at most 20 texts of several lines for these warnings, equal ones merged.
    pub fn summarize(warnings: &[Self]) -> Vec<String> {
        Self::summarize_with(warnings, Self::to_string)
    }

    /// Like [`Self::summarize`], with the colours of a terminal.
    pub fn summarize_styled(warnings: &[Self]) -> Vec<String> {
        Self::summarize_with(warnings, |warning| format!("{warning:#}"))
    }

    fn summarize_with(warnings: &[Self], text: impl Fn(&Self) -> String) -> Vec<String> {
        let merged = Self::merge_equal(warnings);
        let mut texts: Vec<_> = merged.iter().take(MAX_LISTED).map(text).collect();
        let omitted: usize = merged.iter().skip(MAX_LISTED).map(|it| it.count).sum();
        if omitted > 0 {
            texts.push(format!(
                "warnings_omitted: {omitted} (`ccfs-gateway check --all` lists them)"
            ));
        }
        texts
    }

    /// The message without the name of the access key.
    fn message_for_any(&self) -> String {
        let Some(access_key) = &self.access_key else {
            return self.message.clone();
        };
        let table = format!("access_keys.{access_key}");
        let file = format!("/{access_key}");
        self.message
            .replace(&table, "access_keys.*")
            .replace(&file, "/*")
    }

    fn message_for_many(&self, examples: &[&str]) -> String {
        let message = self.message_for_any();
        let count = with_separators(self.count);
        if examples.is_empty() {
            format!("{message} in {count} places")
        } else {
            format!(
                "{message} in {count} access keys, e.g. {}",
                examples.join(", ")
            )
        }
    }

    /// Returns how many equal problems were merged into this one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns whether it is an error or a warning.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Returns what is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns what would be right, in one line; may be empty.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Returns all of it in one line: `gateway.toml:3:1: what is wrong; what would be right`.
    pub fn one_line(&self) -> String {
        let mut line = self.source.path.to_string_lossy().into_owned();
        if let Some((number, column)) = self.location() {
            line.push_str(&format!(":{number}:{column}"));
        }
        line.push_str(": ");
        line.push_str(&self.message);
        if !self.help.is_empty() {
            line.push_str("; ");
            line.push_str(&self.help);
        }
        line
    }

    /// Returns line and column (in characters), both from 1; `None` for the file as a whole.
    pub fn location(&self) -> Option<(usize, usize)> {
        let start = self.span.as_ref()?.start;
        let (number, line) = self.source.line_at(start);
        let column = self.source.redacted[line.start..start].chars().count() + 1;
        Some((number, column))
    }
}

/// `{:#}` adds the colours of a terminal.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str());
        let path = self.source.path.to_string_lossy();
        let group = match &self.span {
            Some(span) => {
                let (number, line) = self.source.line_at(span.start);
                let end = span.end.min(line.end).max(span.start);
                let mark = AnnotationKind::Primary
                    .span(span.start - line.start..end - line.start)
                    .label(self.help.as_str());
                title.element(
                    Snippet::source(&self.source.redacted[line])
                        .line_start(number)
                        .path(path)
                        .annotation(mark),
                )
            }
            None if self.help.is_empty() => title.element(Origin::path(path)),
            None => title
                .element(Origin::path(path))
                .element(Level::HELP.message(self.help.as_str())),
        };
        let renderer = if f.alternate() {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        f.write_str(&renderer.render(&[group]))
    }
}

impl Source {
    fn new(path: &Path, masked: String) -> Self {
        let after = masked.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            path: path.to_owned(),
            line_starts: std::iter::once(0).chain(after).collect(),
            redacted: masked,
        }
    }

    /// Returns the number, from 1, and the byte range of the line that holds a byte, without its `\n`.
    fn line_at(&self, offset: usize) -> (usize, Range<usize>) {
        let number = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(number - 1).copied().unwrap_or(0);
        let end = self
            .line_starts
            .get(number)
            .map_or(self.redacted.len(), |next| next - 1);
        (number, start..end)
    }
}

/// Prints only the path: the text can be long.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Diagnostics {
    /// Returns the diagnostics of the file `text` in its order, with all secrets redacted.
    pub(super) fn into_problems(self, path: &Path, text: &str) -> Vec<Problem> {
        let mut items = self.items;
        if items.is_empty() {
            return Vec::new();
        }
        items.sort_by_key(|item| item.span.as_ref().map_or(0, |span| span.start));
        let mut secret_spans = self.secret_spans;
        let spans = items.iter().filter_map(|item| item.span.as_ref());
        secret_spans.extend(spans.filter_map(|span| comment_after(text, span.end)));
        let source = Arc::new(Source::new(path, redact(text, &secret_spans)));
        let problem = |item: Diagnostic| Problem {
            severity: item.severity,
            span: item
                .span
                .map(|span| clamp_to_char_boundaries(&source.redacted, &span)),
            source: Arc::clone(&source),
            message: item.message,
            help: item.help,
            access_key: item.access_key,
            count: 1,
        };
        items.into_iter().map(problem).collect()
    }
}

/// Returns the span of a comment that follows on the same line: an old secret is often kept in one.
fn comment_after(text: &str, offset: usize) -> Option<Range<usize>> {
    let rest = text.get(offset..)?;
    let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
    let start = [" #", "\t#"]
        .iter()
        .filter_map(|mark| line.find(mark))
        .min()?;
    Some(offset + start..offset + line.len())
}

/// Overwrites the spans byte by byte, so that all offsets stay valid.
fn redact(text: &str, spans: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in spans {
        if let Some(secret) = bytes.get_mut(range.clone()) {
            secret
                .iter_mut()
                .filter(|byte| **byte != b'\n')
                .for_each(|byte| *byte = b'*');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Clamps a span to the text and to character boundaries; a parser may return any span.
fn clamp_to_char_boundaries(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
    start..end
}

/// `2000` as `2,000`.
fn with_separators(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Our choice: about a screen and a half of errors, 10 KiB in a log line and in `/status`.
pub const MAX_LISTED: usize = 20;

/// Access keys that are named as examples.
const EXAMPLES: usize = 3;
