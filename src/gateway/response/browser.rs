//! What a response says to a browser, which takes it for the word of the gateway's own site: links are opened by
//! browsers, and client certificates are presented by them.

use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Drops the fields of a node's response that do not describe its body: no cookie, no other place to go, no
/// permission for pages of other sites, no rule for this one.
pub(super) fn drop_node_fields(headers: &mut HeaderMap) {
    retain(headers, |name| {
        is_of_the_gateway(name) || OF_A_BODY.contains(&name.as_str())
    });
}

/// Forbids a browser to read the body as another type than the declared one, and to run what is in it.
pub(super) fn forbid_execution(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
}

/// Has a browser take the body for one of a site of its own, without scripts, if it is opened as a page. Players are not
/// concerned, and may still find out what it holds.
pub(super) fn sandbox(headers: &mut HeaderMap) {
    let policy = HeaderValue::from_static("sandbox");
    headers.append(CONTENT_SECURITY_POLICY, policy);
}

/// Forbids pages of other sites to embed the response.
pub(super) fn forbid_embedding(headers: &mut HeaderMap) {
    let own_site = HeaderValue::from_static("same-origin");
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, own_site);
}

/// Whether a field of a response from cache or node is the gateway's own, or says when to come back.
pub(super) fn is_of_the_gateway(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "age" | "cache-control" | "cache-status" | "preference-applied" | "retry-after"
    ) || name.starts_with("x-gateway-")
}

/// Keeps the fields of these names.
pub(super) fn retain(headers: &mut HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) {
    let dropped: Vec<_> = headers
        .keys()
        .filter(|name| !is_kept(name))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// They describe a body, or when it was made (RFC 9110, 8 and 14; RFC 6266; RFC 9530).
const OF_A_BODY: [&str; 15] = [
    "accept-ranges",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "repr-digest",
    "vary",
];

/// Fetch standard, 3.7.
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
