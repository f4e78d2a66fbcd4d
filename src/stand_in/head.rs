//! Validates request heads more strictly than a server must: whatever a proxy should have removed or
//! corrected is rejected, so that a test notices it.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request};

/// Returns why a head is rejected, if it is.
pub(super) fn validate<B>(request: &Request<B>) -> Result<(), String> {
    let (headers, uri) = (request.headers(), request.uri());
    if uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err("the target is not a path".into());
    }
    let count = |name| headers.get_all(name).iter().count();
    if count(HOST) != 1 || headers.get(HOST).is_some_and(|host| host.is_empty()) {
        return Err("not exactly one Host".into());
    }
    if count(CONTENT_LENGTH) > 1 || headers.contains_key(TRANSFER_ENCODING) {
        return Err("the body is not framed by one Content-Length".into());
    }
    if request.method() == Method::POST && count(CONTENT_LENGTH) == 0 {
        return Err("no Content-Length".into());
    }
    check_hop_by_hop(headers)
}

fn check_hop_by_hop(headers: &HeaderMap) -> Result<(), String> {
    for value in headers.get_all(CONNECTION) {
        let ours = |word: &str| ["close", "keep-alive"].contains(&word.trim());
        let value = value.to_str().unwrap_or("?").to_ascii_lowercase();
        if !value.split(',').all(ours) {
            return Err("Connection names a field".into());
        }
    }
    for name in headers.keys().map(http::HeaderName::as_str) {
        let plain = name.replace('_', "-");
        if HOP_BY_HOP.contains(&plain.as_str())
            || name != plain && LOOKALIKE_TARGETS.contains(&plain.as_str())
        {
            return Err(format!("{name} must not reach a node"));
        }
    }
    Ok(())
}

/// Hop-by-hop fields of RFC 9110, section 7.6.1, and of older software.
const HOP_BY_HOP: [&str; 8] = [
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Fields whose look-alikes (`_` for `-`) some servers treat as the field itself.
const LOOKALIKE_TARGETS: [&str; 6] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(fields: &[(&str, &str)]) -> Result<(), String> {
        let mut request = Request::post("/a")
            .header("host", "a")
            .header("content-length", "0");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        validate(&request.body(()).unwrap())
    }

    #[test]
    fn headers_that_a_proxy_must_remove_are_rejected() {
        assert_eq!(
            judged(&[("connection", "keep-alive"), ("x-a_b", "1")]),
            Ok(())
        );
        for field in [
            ("connection", "close, x-secret"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("host", "b"),
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
            ("transfer_encoding", "chunked"),
            ("proxy_connection", "close"),
        ] {
            assert!(judged(&[field]).is_err(), "{field:?}");
        }
    }

    #[test]
    fn a_request_needs_a_host_and_a_length() {
        assert!(validate(&Request::get("/").header("host", "a").body(()).unwrap()).is_ok());
        assert!(validate(&Request::get("/").body(()).unwrap()).is_err());
        assert!(validate(&Request::post("/").header("host", "a").body(()).unwrap()).is_err());
        let absolute = Request::get("https://a/")
            .header("host", "a")
            .body(())
            .unwrap();
        assert!(validate(&absolute).is_err());
    }
}
