//! `X-Gateway-Hint`: a structured field (RFC 8941, a list) about a response that passes through. It is made
//! for each response and never stored.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::ccfs::{ParsedResponse, ResultKind};
use crate::http_fields::X_GATEWAY_HINT;
use crate::message::AttemptSummary;

/// Puts `fallback` first if a fallback cluster answered that it has no such recording or does not accept the
/// signature: the cluster of the request may know better.
pub(super) fn add_fallback(
    headers: &mut HeaderMap,
    attempts: &AttemptSummary,
    status: StatusCode,
    parsed: Option<&ParsedResponse>,
) {
    if attempts.fallback.is_none() {
        return;
    }
    let has_no_data = parsed.is_some_and(|parsed| parsed.result_kind() == ResultKind::NoData);
    if !has_no_data && status != StatusCode::UNAUTHORIZED {
        return;
    }
    let others = headers.get(&X_GATEWAY_HINT);
    let value = match others.and_then(|others| others.to_str().ok()) {
        Some(others) => HeaderValue::try_from(format!("fallback, {others}")).ok(),
        None => Some(HeaderValue::from_static("fallback")),
    };
    if let Some(value) = value {
        headers.insert(X_GATEWAY_HINT, value);
    }
}
