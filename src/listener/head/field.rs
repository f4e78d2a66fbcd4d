//! Field names and values: one way to write each field that the gateway acts on.

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

/// Splits a field line into its name and its value without the blanks around it.
pub(super) fn parse_line(line: &[u8]) -> Result<(KnownField, &[u8]), HeadError> {
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

/// Refuses names that become one the gateway acts on when `_` is read as `-`, as CGI-like servers do.
pub(super) fn no_look_alike(name: &[u8]) -> Result<(), HeadError> {
    if is_look_alike(name) {
        return Err(HeadError::new(
            MalformedReason::FieldName,
            "a field name looks like another one when its underscores are read as hyphens",
        ));
    }
    Ok(())
}

/// A Content-Length: decimal digits and nothing else, no list, no sign.
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
