//! Requests that CC-FS itself would reject, with its codes (error code reference, page 4240 / 0835).

use compact_str::CompactString;

use super::super::json::{JsonError, write_string};
use crate::escape;

/// A request that CC-FS itself would reject. Answered with HTTP 200 and the code, as CC-FS does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code} {text}")]
pub struct InvalidRequest {
    /// `03000xx`.
    pub code: &'static str,
    /// Names the member and shows its value, shortened and with control characters escaped.
    pub text: String,
    /// Closed label for metrics and log: `body`, `null`, `empty`, `too_long`, `format`, `version`,
    /// `order` or `span`.
    pub reason: &'static str,
    /// The callId, if the body has one; at most [`super::MAX_NAME_CHARACTERS`] characters.
    pub call_id: Option<CompactString>,
}

impl InvalidRequest {
    pub(super) fn body(fault: JsonError) -> Self {
        Self::new("0300007", "body", format!("The request body {fault}"))
    }

    pub(super) fn null(field: &str) -> Self {
        Self::new("0300001", "null", format!("{field} is null"))
    }

    pub(super) fn empty(field: &str) -> Self {
        Self::new("0300002", "empty", format!("{field} is an empty string"))
    }

    pub(super) fn too_long(field: &str, most: usize, value: &str) -> Self {
        let value = quoted_for_display(value);
        let text = format!("{field} is longer than {most} characters: {value}");
        Self::new("0300003", "too_long", text)
    }

    pub(super) fn format(field: &str, expected: &str, value: &str) -> Self {
        let value = quoted_for_display(value);
        Self::new(
            "0300004",
            "format",
            format!("{field} is not {expected}: {value}"),
        )
    }

    pub(super) fn version(text: String) -> Self {
        Self::new("0300006", "version", text)
    }

    pub(super) fn order(text: String) -> Self {
        Self::new("0300013", "order", text)
    }

    pub(super) fn span(text: String) -> Self {
        Self::new("0300004", "span", text)
    }

    fn new(code: &'static str, reason: &'static str, text: String) -> Self {
        Self {
            code,
            text,
            reason,
            call_id: None,
        }
    }

    /// Returns the fault of a request for this call.
    pub(super) fn of_call(self, call_id: Option<CompactString>) -> Self {
        Self { call_id, ..self }
    }
}

/// Returns a client's value as a string literal for a log line or a terminal: at most forty characters, with
/// those escaped that move the cursor, break the line or change the direction of text.
pub(super) fn quoted_for_display(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars().take(MAX_SHOWN_CHARACTERS) {
        // `write_string` escapes the C0 controls.
        if escape::is_unsafe(character) && character >= ' ' {
            text.extend(character.escape_unicode());
        } else {
            text.push(character);
        }
    }
    let mut literal = String::with_capacity(text.len() + 8);
    write_string(&mut literal, &text);
    if value.chars().nth(MAX_SHOWN_CHARACTERS).is_some() {
        literal.push('…');
    }
    literal
}

/// Longer than any legal value; keeps a log line short.
const MAX_SHOWN_CHARACTERS: usize = 40;
