//! The rules of the HTTP/1 scanner, applied to an HTTP/2 request that h2 has parsed. Afterwards both
//! versions look alike: one Host header, a target in origin form.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{HeadError, HeadLimits, field, host, target};
use crate::metrics::MalformedReason;

/// Marks a request whose target had a fragment: [`http::Uri`] does not keep it.
#[derive(Clone, Copy, Debug)]
pub(in crate::listener) struct TargetHadFragment;

/// Rejects what the HTTP/1 scanner rejects, then copies `:authority` into Host.
pub(in crate::listener) fn validate(head: &mut Parts, limits: HeadLimits) -> Result<(), HeadError> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(HeadError::method_not_allowed());
    }
    if head.extensions.get::<TargetHadFragment>().is_some() {
        return Err(target::ILLEGAL_CHARACTER);
    }
    target::validate_path_and_query(
        head.uri
            .path_and_query()
            .map_or(&b""[..], |target| target.as_str().as_bytes()),
    )?;
    validate_fields(head, limits)?;
    let authority = validate_authority(head)?;
    if let Some(authority) = authority {
        head.headers.insert(HOST, authority);
    }
    join_cookies(&mut head.headers);
    to_origin_form(head);
    Ok(())
}

/// Joins the Cookie headers that HTTP/2 may split: HTTP/1.1 allows one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else {
        return;
    };
    let mut joined = [first, second].join(&b"; "[..]);
    for piece in pieces {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(piece);
    }
    // Legal values joined by legal bytes are a legal value.
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

/// Reduces the target to path and query, the origin form (RFC 9112, 3.2.1).
pub(in crate::listener) fn to_origin_form(head: &mut Parts) {
    if head.uri.authority().is_some()
        && let Some(target) = head.uri.path_and_query()
    {
        head.uri = Uri::from(target.clone());
    }
}

fn validate_fields(head: &Parts, limits: HeadLimits) -> Result<(), HeadError> {
    if head.headers.len() > limits.fields {
        return Err(HeadError::too_large());
    }
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let mut size = head.method.as_str().len() + target + FIELD_OVERHEAD;
    for (name, value) in &head.headers {
        size += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        field::no_look_alike(name.as_str().as_bytes())?;
        // RFC 9113, 8.2.1. HTTP/1 trims whitespace: a node would see another value than was signed.
        if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value.as_bytes() {
            return Err(HeadError::new(
                MalformedReason::FieldValue,
                "a field value begins or ends with a blank",
            ));
        }
    }
    if size > limits.size {
        return Err(HeadError::too_large());
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        field::parse_content_length(length.as_bytes())?;
    }
    if lengths.next().is_some() {
        return Err(HeadError::new(
            MalformedReason::Framing,
            "there is more than one Content-Length",
        ));
    }
    Ok(())
}

/// Validates Host and `:authority` (RFC 9113, 8.3.1). Returns the authority if Host is missing.
fn validate_authority(head: &Parts) -> Result<Option<HeaderValue>, HeadError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host_field = hosts.next();
    if hosts.next().is_some() {
        return Err(HeadError::new(
            MalformedReason::Host,
            "there is more than one Host",
        ));
    }
    if let Some(host_field) = host_field {
        host::validate(host_field.as_bytes())?;
    }
    let Some(authority) = head.uri.authority() else {
        return if host_field.is_some() {
            Ok(None)
        } else {
            Err(HeadError::new(
                MalformedReason::Host,
                "there is neither :authority nor Host",
            ))
        };
    };
    let authority = authority.as_str();
    host::validate(authority.as_bytes())?;
    if let Some(host_field) = host_field {
        host::require_same_host(authority.as_bytes(), host_field.as_bytes())?;
        return Ok(None);
    }
    HeaderValue::from_str(authority).map(Some).map_err(|_| {
        HeadError::new(
            MalformedReason::Host,
            "the authority is not a legal field value",
        )
    })
}

/// Bytes that HTTP/1 spends on a field besides name and value: colon, space, CR LF.
const FIELD_OVERHEAD: usize = 4;

#[cfg(test)]
mod tests;
