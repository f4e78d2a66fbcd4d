//! The responses of the admin interface. Every one forbids caching, framing and content sniffing.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use serde_json::{Value, json};

use super::tail::TailBody;

pub(super) type AdminResponse = Response<AdminBody>;

/// A complete body, or one that goes on.
pub(super) type AdminBody = Either<Full<Bytes>, TailBody>;

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
    respond(status, content_type, Either::Left(Full::new(body.into())))
}

/// Responds with lines for as long as the client reads them.
pub(super) fn stream(content_type: &'static str, body: TailBody) -> AdminResponse {
    respond(StatusCode::OK, content_type, Either::Right(body))
}

fn respond(status: StatusCode, content_type: &'static str, body: AdminBody) -> AdminResponse {
    let mut response = Response::new(body);
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
