//! The responses of the admin interface. Every one forbids caching, framing and content sniffing.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

pub(super) type AdminResponse = Response<Full<Bytes>>;

pub(super) fn plain(status: StatusCode, text: &'static str) -> AdminResponse {
    with_content_type(status, "text/plain; charset=utf-8", text)
}

pub(super) fn json(status: StatusCode, value: &Value) -> AdminResponse {
    with_content_type(status, "application/json", format!("{value:#}\n"))
}

/// A problem document (RFC 9457).
pub(super) fn problem(status: StatusCode, detail: &str) -> AdminResponse {
    let body = json!({ "status": status.as_u16(), "detail": detail });
    with_content_type(status, "application/problem+json", format!("{body}\n"))
}

pub(super) fn method_not_allowed(allow: &'static str) -> AdminResponse {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

pub(super) fn with_basic_challenge(mut response: AdminResponse) -> AdminResponse {
    let challenge = HeaderValue::from_static("Basic realm=\"ccfs-gateway\", charset=\"UTF-8\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

pub(super) fn with_content_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> AdminResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The Content-Security-Policy: only same-origin scripts, styles, images and requests; no forms, frames or
/// base element.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
