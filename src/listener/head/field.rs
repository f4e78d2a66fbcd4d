//! Field lines (RFC 9112, 5): one way to write each field that the gateway acts on.

use super::{HeadError, TOKEN, all_in_class};
use crate::framing::content_length;
use crate::http_fields::is_look_alike;
use crate::metrics::MalformedReason;

/// The fields that decide about framing and routing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KnownField {
    /// Host.
    Host,
    /// Content-Length.
    ContentLength,
    /// Transfer-Encoding.
    TransferEncoding,
    /// Any other.
    Other,
}

/// Splits a field line into its name and its value without surrounding whitespace.
pub(super) fn parse_line(line: &[u8]) -> Result<(KnownField, &[u8]), HeadError> {
    // RFC 9112, 5.2: obsolete line folding.
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::new(
            MalformedReason::FieldName,
            "a field is folded over several lines",
        ));
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Err(HeadError::new(
            MalformedReason::FieldName,
            "a field line has no colon",
        ));
    };
    let (name, value) = line.split_at(colon);
    // RFC 9112, 5.1: no whitespace between name and colon. RFC 9110, 5.1: a name is a token.
    if name.is_empty() || !all_in_class(name, TOKEN) {
        return Err(HeadError::new(
            MalformedReason::FieldName,
            "a field name is empty or holds a blank or another illegal character",
        ));
    }
    no_look_alike(name)?;
    Ok((
        classify(name),
        value.get(1..).unwrap_or_default().trim_ascii(),
    ))
}

/// Rejects names that a lenient node reads as one that the gateway acts on.
pub(super) fn no_look_alike(name: &[u8]) -> Result<(), HeadError> {
    if is_look_alike(name) {
        return Err(HeadError::new(
            MalformedReason::FieldName,
            "a field name reads like another one when only its letters and digits count",
        ));
    }
    Ok(())
}

/// Parses a Content-Length: decimal digits and nothing else, no list, no sign (RFC 9110, 8.6).
pub(super) fn parse_content_length(value: &[u8]) -> Result<u64, HeadError> {
    content_length(value).ok_or(HeadError::new(
        MalformedReason::Framing,
        "Content-Length is not one decimal number",
    ))
}

fn classify(name: &[u8]) -> KnownField {
    match name.len() {
        4 if name.eq_ignore_ascii_case(b"host") => KnownField::Host,
        14 if name.eq_ignore_ascii_case(b"content-length") => KnownField::ContentLength,
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => KnownField::TransferEncoding,
        _ => KnownField::Other,
    }
}
