//! The one place that builds a head toward a node. What goes on are the client's end-to-end fields,
//! byte for byte, without framing and without what proxies say of each other; those the gateway
//! writes itself. A field that the client signed reaches the node as it was signed, or the request
//! is signed again.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderName, HeaderValue, VIA,
};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use jiff::Timestamp;

use crate::auth::{self, AuthError, Caller, Signable};
use crate::ccfs::{BodyKind, ResponseKind};
use crate::cluster::{HostPolicy, Node};
use crate::http_fields::{
    JSON_UTF_8, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REQUEST_ID,
    accepts_codings, connection_listed, is_conditional, is_hop_by_hop, is_identity,
    is_rewritten_unless_signed,
};
use crate::message::{Authorization, UpstreamRequest};
use crate::telemetry::TraceContext;

/// The request as `node` gets it, as a part of the span `trace`, signed at `now()` if it has to be
/// signed again.
pub(super) fn request(
    delivery: &UpstreamRequest,
    node: &Node,
    trace: TraceContext,
    now: impl FnOnce() -> Timestamp,
) -> Result<Request<Full<Bytes>>, AuthError> {
    let names = signed_names(delivery);
    let mut headers = end_to_end(delivery, names);
    let replaced = set_host(delivery, node, &mut headers);
    set_content_length(delivery, names, &mut headers);
    set_forwarding_fields(delivery, names, trace, &mut headers);
    if let Some(caller) = signer(delivery, names, replaced) {
        sign(delivery, caller, names, now(), &mut headers)?;
    }

    let mut request = Request::new(Full::new(delivery.body.clone()));
    *request.method_mut() = delivery.method.clone();
    *request.uri_mut() = Uri::from(delivery.target.clone());
    *request.headers_mut() = headers;
    Ok(request)
}

/// Returns the header names that the client signed, verbatim.
fn signed_names(request: &UpstreamRequest) -> &str {
    match &request.authorization {
        Authorization::PassThrough(Some(caller)) | Authorization::Resign(caller) => {
            caller.signed_names()
        }
        Authorization::PassThrough(None) => auth::signed_names(&request.headers),
    }
}

/// Whether the node may encode its response: only an `Accept-Encoding` that the client signed reaches the
/// nodes of a JSON interface.
pub(super) fn requests_codings(request: &UpstreamRequest, response: &HeaderMap) -> bool {
    is_signed(signed_names(request), &ACCEPT_ENCODING)
        && accepts_codings(&request.headers, response)
}

fn is_signed(names: &str, field: &HeaderName) -> bool {
    // By bytes: asked a dozen times for each request, of a text of a few bytes.
    names
        .as_bytes()
        .split(|&byte| byte == b';')
        .any(|name| name.eq_ignore_ascii_case(field.as_str().as_bytes()))
}

/// The client's fields that reach the node.
fn end_to_end(delivery: &UpstreamRequest, names: &str) -> HeaderMap {
    let headers = &*delivery.headers;
    let readable = delivery.endpoint.response != ResponseKind::File;
    let shared = delivery.endpoint.response == ResponseKind::SignedUrl;
    let nominates = headers.contains_key(CONNECTION);
    let passes = |name: &HeaderName| {
        if NEVER_NOMINATED.contains(name) {
            return true;
        }
        if is_hop_by_hop(name.as_str()) || is_identity(name.as_str()) {
            return false;
        }
        if is_signed(names, name) {
            return true;
        }
        !(is_rewritten_unless_signed(name.as_str())
            || *name == EXPECT
            || (shared && is_conditional(name.as_str()))
            || (readable && *name == ACCEPT_ENCODING)
            || (nominates
                && connection_listed(headers)
                    .any(|nominated| nominated.eq_ignore_ascii_case(name.as_str()))))
    };
    let mut out = HeaderMap::with_capacity(headers.len() + MAX_ADDED_FIELDS);
    for name in headers.keys().filter(|name| passes(name)) {
        for value in headers.get_all(name) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// Writes the Host that the cluster wants; true if it differs from the client's. The Host of an unverified
/// request stays, except that one without Host (HTTP/1.0) gets the node's: HTTP/1.1 requires one (RFC 9112,
/// 3.2).
fn set_host(delivery: &UpstreamRequest, node: &Node, headers: &mut HeaderMap) -> bool {
    let is_unverified = matches!(delivery.authorization, Authorization::PassThrough(None))
        && delivery.headers.contains_key(AUTHORIZATION);
    let keeps = delivery.cluster.settings().host == HostPolicy::Preserve || is_unverified;
    if keeps && headers.contains_key(HOST) {
        return false;
    }
    // `host:port` of a configured URL is made of characters that a field value may have.
    let Ok(host) = HeaderValue::try_from(&**node.name()) else {
        return false;
    };
    headers.insert(HOST, host.clone()) != Some(host)
}

/// One Content-Length, true and never chunked; none for a request that never had a body.
fn set_content_length(delivery: &UpstreamRequest, names: &str, headers: &mut HeaderMap) {
    let length = delivery.body.len();
    let claimed = headers.get(CONTENT_LENGTH).cloned();
    let as_claimed = claimed
        .as_ref()
        .and_then(|value| value.to_str().ok()?.parse().ok())
        == Some(length);
    if as_claimed && is_signed(names, &CONTENT_LENGTH) {
        // Signed as text: `007` must stay `007`.
        return;
    }
    let has_body = matches!(delivery.method, Method::PATCH | Method::POST | Method::PUT);
    if length == 0 && claimed.is_none() && !has_body {
        return;
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

/// Who signs again, if somebody has to.
fn signer<'a>(delivery: &'a UpstreamRequest, names: &str, replaced: bool) -> Option<&'a Caller> {
    match &delivery.authorization {
        Authorization::Resign(caller) => Some(caller),
        Authorization::PassThrough(Some(caller)) => {
            let lost = || {
                names
                    .split(';')
                    .any(|name| is_hop_by_hop(name) || is_identity(name))
            };
            (replaced || lost()).then_some(caller)
        }
        Authorization::PassThrough(None) => None,
    }
}

fn sign(
    delivery: &UpstreamRequest,
    caller: &Caller,
    names: &str,
    now: Timestamp,
    headers: &mut HeaderMap,
) -> Result<(), AuthError> {
    let json = delivery.endpoint.body != BodyKind::Opaque;
    if json && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, JSON_UTF_8);
    }
    // What ends at this hop cannot stay signed; what the gateway says of the client can.
    let remaining: Vec<&str> = names
        .split(';')
        .filter(|name| !is_hop_by_hop(name))
        .filter(|name| !is_identity(name) || headers.contains_key(*name))
        .collect();
    let value = auth::sign(
        caller.credential(),
        &remaining.join(";"),
        now,
        &Signable {
            method: delivery.method.as_str(),
            path: delivery.target.path(),
            query: delivery.target.query(),
            headers,
            body: &delivery.body,
        },
    )?;
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// What the gateway says of the request, except where the client signed something else.
fn set_forwarding_fields(
    delivery: &UpstreamRequest,
    names: &str,
    trace: TraceContext,
    headers: &mut HeaderMap,
) {
    let context = &delivery.metadata;
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        let kept = is_signed(names, &name) && !is_identity(name.as_str());
        if let Some(value) = value.filter(|_| !kept) {
            headers.insert(name, value);
        }
    };
    let client = context.client_ip.to_string();
    set(X_FORWARDED_FOR, HeaderValue::try_from(client).ok());
    set(X_FORWARDED_PROTO, Some(HeaderValue::from_static("https")));
    set(X_FORWARDED_HOST, delivery.headers.get(HOST).cloned());
    set(X_REQUEST_ID, Some(context.request_id.clone()));
    set(
        TraceContext::HEADER,
        HeaderValue::from_bytes(&trace.traceparent()).ok(),
    );
    if !is_signed(names, &VIA) {
        headers.append(VIA, context.via.clone());
    }
}

/// What a client cannot name away in Connection. None of them ends at a hop or says who a client is,
/// so these are asked for first.
const NEVER_NOMINATED: [HeaderName; 3] = [AUTHORIZATION, CONTENT_LENGTH, HOST];

/// Fields the gateway writes.
const MAX_ADDED_FIELDS: usize = 9;

#[cfg(test)]
mod tests;
