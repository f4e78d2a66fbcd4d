//! Request targets. The raw path is what is signed and routed, and nothing is decoded twice; so a
//! path that another server could read as a different one is refused whatever its signature says.

use super::{HeadError, PATH, QUERY, all_in_class};
use crate::metrics::MalformedReason;

/// A target as it stands in a request line.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// Of the absolute form.
    pub(super) authority: Option<&'a [u8]>,
}

/// Takes origin form and absolute form, nothing else.
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

/// Refuses paths that could be read in two ways, and characters that no URI may hold.
pub(super) fn validate_path_and_query(target: &[u8]) -> Result<(), HeadError> {
    let end = target
        .iter()
        .position(|&byte| byte == b'?')
        .unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if path.first() != Some(&b'/') {
        return Err(UNSUPPORTED_FORM);
    }
    if !all_in_class(path, PATH) || !all_in_class(query, PATH | QUERY) {
        return Err(HeadError::new(
            MalformedReason::Target,
            "the target holds a character that a URI may not hold",
        ));
    }
    let escaped = path.contains(&b'%');
    if escaped {
        validate_escapes(path)?;
    }
    let dotted = escaped || path.contains(&b'.');
    if dotted && path.split(|&byte| byte == b'/').any(is_dot_segment) {
        return Err(HeadError::new(
            MalformedReason::Target,
            "the path holds a dot segment",
        ));
    }
    Ok(())
}

/// Each `%` of a path begins an escape, and none stands for a separator or NUL.
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

/// `.` or `..`, each dot plain or encoded, with or without `;parameters`.
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

const UNSUPPORTED_FORM: HeadError = HeadError::new(
    MalformedReason::Target,
    "the target is neither a path nor an absolute http URI",
);
