//! Request targets (RFC 9112, 3.2). The raw path is signed and routed, and nothing is decoded twice. A
//! path that another server could read as a different one is rejected, whatever its signature.

use super::{HeadError, PATH, QUERY, all_in_class, class_run};
use crate::metrics::MalformedReason;

/// A target in a request line.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// The authority, in absolute form.
    pub(super) authority: Option<&'a [u8]>,
}

/// Parses origin form and absolute form, and rejects the others (RFC 9112, 3.2.3 and 3.2.4).
pub(super) fn parse(target: &[u8]) -> Result<Target<'_>, HeadError> {
    if target.first() == Some(&b'/') {
        validate_path_and_query(target)?;
        return Ok(Target { authority: None });
    }
    let rest = strip_scheme(target).ok_or(UNSUPPORTED_FORM)?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.first() != Some(&b'/') {
        return Err(UNSUPPORTED_FORM);
    }
    validate_path_and_query(path)?;
    Ok(Target {
        authority: Some(authority),
    })
}

/// Rejects ambiguous paths, and characters that are not allowed in a URI (RFC 3986, 3.3 and 3.4).
pub(super) fn validate_path_and_query(target: &[u8]) -> Result<(), HeadError> {
    let (path, query) = target.split_at(class_run(target, PATH));
    if path.first() != Some(&b'/') {
        return Err(UNSUPPORTED_FORM);
    }
    if !matches!(query.first(), None | Some(b'?')) || !all_in_class(query, PATH | QUERY) {
        return Err(ILLEGAL_CHARACTER);
    }
    let has_escapes = path.contains(&b'%');
    if has_escapes {
        validate_escapes(path)?;
    }
    let may_be_dotted = has_escapes || path.contains(&b'.');
    if may_be_dotted && path.split(|&byte| byte == b'/').any(is_dot_segment) {
        return Err(HeadError::new(
            MalformedReason::Target,
            "the path holds a dot segment",
        ));
    }
    Ok(())
}

/// Rejects a `%` that begins no escape (RFC 3986, 2.1), and escapes of separators and NUL.
fn validate_escapes(path: &[u8]) -> Result<(), HeadError> {
    for (at, _) in path.iter().enumerate().filter(|&(_, &byte)| byte == b'%') {
        let escape = path.get(at + 1..at + 3).unwrap_or_default();
        if escape.len() != 2 || !escape.iter().all(u8::is_ascii_hexdigit) {
            return Err(HeadError::new(
                MalformedReason::Target,
                "the path holds a broken percent escape",
            ));
        }
        if [b"2f", b"5c", b"00"]
            .iter()
            .any(|bad| escape.eq_ignore_ascii_case(*bad))
        {
            return Err(HeadError::new(
                MalformedReason::Target,
                "the path holds an encoded slash, backslash or NUL",
            ));
        }
    }
    Ok(())
}

/// Whether a segment is `.` or `..` (RFC 3986, 3.3), with plain or encoded dots, with or without
/// `;parameters`.
fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    loop {
        match rest {
            [] | [b';', ..] => return dots > 0,
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => rest = tail,
            _ => return false,
        }
        dots += 1;
        if dots > 2 {
            return false;
        }
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"https://"[..], b"http://"]
        .into_iter()
        .find_map(|scheme| {
            let (head, rest) = target.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then_some(rest)
        })
}

pub(super) const ILLEGAL_CHARACTER: HeadError = HeadError::new(
    MalformedReason::Target,
    "the target holds a character that a URI may not hold",
);

const UNSUPPORTED_FORM: HeadError = HeadError::new(
    MalformedReason::Target,
    "the target is neither a path nor an absolute http URI",
);
