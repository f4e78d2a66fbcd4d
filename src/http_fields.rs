//! Rules about HTTP fields by name: which end at one hop, which identify a client, which look like
//! another one, and the names that the gateway itself writes. No dependencies inside the crate.

use http::HeaderMap;
use http::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName, HeaderValue,
    LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};

mod coding;
mod look_alike;
mod via;

pub use coding::{accepts_codings, is_encoded};
pub use look_alike::{
    is_allowed_in_trailers, is_identity, is_look_alike, is_rewritten_unless_signed,
};
pub use via::ViaPseudonym;

/// `X-Request-Id`: the client's value if it is sane, else a generated one.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `Prefer` (RFC 7240, 2).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// `Preference-Applied` (RFC 7240, 3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `X-Gateway-Hint`: what the gateway noticed about a verified request; a list (RFC 9651).
pub const X_GATEWAY_HINT: HeaderName = HeaderName::from_static("x-gateway-hint");

/// `X-Gateway-Error`: the kind of error of a response that the gateway made itself.
pub const X_GATEWAY_ERROR: HeaderName = HeaderName::from_static("x-gateway-error");

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// `RateLimit` (draft-ietf-httpapi-ratelimit-headers): what is left of a rate limit.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// `RateLimit-Policy` of the same draft: the rate limit.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// `X-Forwarded-For`: the client's address.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `X-Forwarded-Host`: the client's Host.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `X-Forwarded-Proto`: always `https`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The Content-Type of CC-FS's JSON bodies.
pub const JSON_UTF_8: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

/// The gateway's element of `Via` in responses (RFC 9110, 7.6.3).
pub const VIA_GATEWAY: HeaderValue = HeaderValue::from_static("1.1 ccfs-gateway");

/// Whether a field belongs to one hop only (RFC 9110, 7.6.1) or to its framing, which each hop makes
/// anew.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP
        .iter()
        .any(|field| field.eq_ignore_ascii_case(name))
}

/// The field names that `Connection` lists as hop-by-hop, in the sender's spelling.
pub fn connection_listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether a request field makes the response partial or conditional (RFC 9110, 13 and 14). A response
/// that several requests share must be complete.
pub fn is_conditional(name: &str) -> bool {
    name.eq_ignore_ascii_case("range")
        || name
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case("if-"))
}

/// The response fields that a request gets although another one caused the response: those that describe the
/// response. Others, such as `Set-Cookie`, may be meant for that client alone.
pub const SHARED_BY_FOLLOWERS: [HeaderName; 7] = [
    ALLOW,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    LOCATION,
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// Whether only the gateway may send this response field, so that a node's is dropped.
pub fn is_reserved_in_responses(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-gateway-")
        || name.starts_with("ratelimit")
        || matches!(name, "preference-applied" | "x-request-id")
}

/// RFC 9110, 7.6.1, and the fields that older proxies treat so; HTTP/1.1 and HTTP/2 framing.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];
