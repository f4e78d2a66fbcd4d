//! Knowledge about HTTP fields by name: which end at one hop, which identify a client, which look like
//! another one, and the names that the gateway itself writes. No dependencies inside the crate.

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, HeaderValue};

/// `X-Request-Id`: the client's value if it is sane, else a generated one.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `X-Gateway-Error`: the kind of error of a response that the gateway made itself.
pub const X_GATEWAY_ERROR: HeaderName = HeaderName::from_static("x-gateway-error");

/// `X-Forwarded-For`: the client's address.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `X-Forwarded-Host`: the client's Host.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `X-Forwarded-Proto`: always `https`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The Content-Type of CC-FS's JSON bodies.
pub const JSON_UTF_8: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");

/// The gateway's element of `Via` (RFC 9110, 7.6.3).
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

/// Whether a request field says who the client is. Only the gateway writes such a field toward nodes,
/// even if the client signed another value.
pub fn is_identity(name: &str) -> bool {
    let name = name.as_bytes();
    starts_as(name, "x-forwarded-")
        || starts_as(name, "proxy-")
        || IDENTITY.iter().any(|field| reads_as(name, field))
}

/// Whether the gateway writes this request field toward nodes unless the client signed its own value.
pub fn is_rewritten_unless_signed(name: &str) -> bool {
    REWRITTEN_UNLESS_SIGNED
        .iter()
        .any(|field| reads_as(name.as_bytes(), field))
}

/// Whether only the gateway may send this response field, so that a node's is dropped.
pub fn is_reserved_in_responses(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-gateway-")
        || name.starts_with("ratelimit")
        || matches!(name, "preference-applied" | "x-request-id")
}

/// Whether a name becomes one that the gateway acts on when `_` is read as `-`, as CGI-like servers do.
pub fn is_look_alike(name: &[u8]) -> bool {
    name.contains(&b'_') && is_acted_on(name)
}

/// Whether a trailer section may hold this field. RFC 9110, 6.5.1, excludes what decides about
/// framing, routing, authentication or the form of the content.
pub fn is_allowed_in_trailers(name: &[u8]) -> bool {
    !is_acted_on(name)
}

/// Whether the gateway, or a node that reads `_` as `-`, acts on a field of this name.
fn is_acted_on(name: &[u8]) -> bool {
    ACTED_ON.iter().any(|field| reads_as(name, field))
        || ACTED_ON_PREFIXES
            .iter()
            .any(|prefix| starts_as(name, prefix))
}

/// Whether `name` equals `field` without case and with `_` for `-`.
fn reads_as(name: &[u8], field: &str) -> bool {
    name.len() == field.len() && starts_as(name, field)
}

/// Whether `name` starts with `prefix` without case and with `_` for `-`.
fn starts_as(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix.as_bytes()).all(|(byte, wanted)| {
            byte.eq_ignore_ascii_case(wanted) || (*byte == b'_' && *wanted == b'-')
        })
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

/// Besides `x-forwarded-*` and `proxy-*`: the fields from which CDNs, load balancers and frameworks take
/// the client's address.
const IDENTITY: [&str; 8] = [
    "cf-connecting-ip",
    "client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-real-ip",
];

const REWRITTEN_UNLESS_SIGNED: [&str; 2] = ["traceparent", "x-request-id"];

/// The fields that decide about framing, routing, authentication, caching or the form of the content.
const ACTED_ON: [&str; 23] = [
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "te",
    "trailer",
    "transfer-encoding",
    "traceparent",
    "tracestate",
    "upgrade",
    "via",
    "x-real-ip",
    "x-request-id",
];

const ACTED_ON_PREFIXES: [&str; 3] = ["proxy-", "x-forwarded-", "x-gateway-"];
