//! Encodes the request as a node receives it: the client's end-to-end fields byte for byte, without its
//! framing and without the fields in which proxies describe the client, which the gateway writes itself. A
//! field that the client signed reaches the node as it was signed, or the request is signed again.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderName, HeaderValue, VIA,
};
use http::{HeaderMap, Method};
use jiff::Timestamp;

use super::exchange::EncodedRequest;
use super::progress::AttemptProgress;
use crate::auth::{self, AuthError, Signable, Signer};
use crate::ccfs::{BodyKind, ResponseKind};
use crate::cluster::{HostPolicy, Node};
use crate::http_fields::{
    JSON_UTF_8, PREFER, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REQUEST_ID,
    accepts_codings, connection_listed, is_conditional, is_hop_by_hop, is_identity,
    is_rewritten_unless_signed,
};
use crate::message::{Authorization, UpstreamRequest};
use crate::telemetry::TraceContext;

/// Encodes `request` for `node`, as a part of the attempt's span. It is signed at `now()` if it has to be
/// signed again.
pub(super) fn encode(
    request: &UpstreamRequest,
    node: &Node,
    attempt: &AttemptProgress,
    now: impl FnOnce() -> Timestamp,
) -> Result<EncodedRequest, AuthError> {
    let names = signed_names(request);
    let mut fields = Fields::end_to_end(request, names);
    let replaced = fields.set_host(request, node, attempt.is_fallback);
    fields.set_content_length(request, names);
    fields.add_forwarding_fields(request, names, attempt.trace);
    let is_changed = replaced || attempt.is_signed_anew;
    if let Some(signer) = signer(request, names, is_changed) {
        fields.sign(request, signer, names, now())?;
        attempt.has_own_signature.store(true, Ordering::Relaxed);
    }
    Ok(EncodedRequest {
        head: fields.into_head(request),
        body: request.body.clone(),
        is_head: request.method == Method::HEAD,
    })
}

/// Returns the header names that the client signed, verbatim.
fn signed_names(request: &UpstreamRequest) -> &str {
    match &request.authorization {
        Authorization::PassThrough(Some(signer)) | Authorization::Resign(signer) => {
            signer.signed_names()
        }
        Authorization::PassThrough(None) => auth::signed_names(&request.headers),
    }
}

/// Returns an address as text. IPv4 is made without `fmt`, which took ten times as long.
fn address_value(address: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(address) = address else {
        return HeaderValue::try_from(address.to_string()).ok();
    };
    let mut text = String::with_capacity("255.255.255.255".len());
    for octet in address.octets() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    HeaderValue::try_from(text).ok()
}

/// Whether the node may encode its response: only an `Accept-Encoding` that the client signed reaches the
/// nodes of a JSON interface.
pub(super) fn requests_codings(request: &UpstreamRequest, response: &HeaderMap) -> bool {
    is_signed(signed_names(request), &ACCEPT_ENCODING)
        && accepts_codings(&request.headers, response)
}

fn is_signed(names: &str, field: &HeaderName) -> bool {
    // Compares bytes, because it is called a dozen times a request with a few bytes.
    names
        .as_bytes()
        .split(|&byte| byte == b';')
        .any(|name| name.eq_ignore_ascii_case(field.as_str().as_bytes()))
}

/// Returns the signer that signs the request again, if that is necessary.
fn signer<'a>(request: &'a UpstreamRequest, names: &str, is_changed: bool) -> Option<&'a Signer> {
    match &request.authorization {
        Authorization::Resign(signer) => Some(signer),
        Authorization::PassThrough(Some(signer)) => {
            let lost = || {
                names
                    .split(';')
                    .any(|name| is_hop_by_hop(name) || is_identity(name))
            };
            (is_changed || lost()).then_some(signer)
        }
        Authorization::PassThrough(None) => None,
    }
}

/// The fields of the outgoing request. A list, not a map: it is written once, in order, and most of it
/// is borrowed from the client's request.
struct Fields<'a>(Vec<(Cow<'a, HeaderName>, Cow<'a, HeaderValue>)>);

impl<'a> Fields<'a> {
    /// The fields of the client that reach the node.
    fn end_to_end(request: &'a UpstreamRequest, names: &str) -> Self {
        let headers = &*request.headers;
        let is_json = request.endpoint.response != ResponseKind::File;
        let is_shared = request.endpoint.response == ResponseKind::SignedUrl;
        let has_connection = headers.contains_key(CONNECTION);
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
                || (is_shared && (is_conditional(name.as_str()) || *name == PREFER))
                || (is_json && *name == ACCEPT_ENCODING)
                || (has_connection
                    && connection_listed(headers)
                        .any(|listed| listed.eq_ignore_ascii_case(name.as_str()))))
        };
        let mut fields = Vec::with_capacity(headers.len() + MAX_ADDED_FIELDS);
        let passing = headers.iter().filter(|(name, _)| passes(name));
        fields.extend(passing.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))));
        Self(fields)
    }

    fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut fields = self.0.iter();
        fields
            .find(|(known, _)| **known == *name)
            .map(|(_, value)| &**value)
    }

    /// Sets a field, instead of all others of its name.
    fn set(&mut self, name: HeaderName, value: impl Into<Cow<'a, HeaderValue>>) {
        self.0.retain(|(known, _)| **known != name);
        self.0.push((Cow::Owned(name), value.into()));
    }

    /// Sets the Host that the cluster is configured with, in a fallback cluster the node's own; returns whether it differs from the client's. The
    /// Host of an unverified request stays, except that one without Host (HTTP/1.0) gets the node's: HTTP/1.1
    /// requires one (RFC 9112, 3.2).
    fn set_host(&mut self, request: &UpstreamRequest, node: &Node, is_fallback: bool) -> bool {
        let is_unverified = matches!(request.authorization, Authorization::PassThrough(None))
            && request.headers.contains_key(AUTHORIZATION);
        let preserves = request.cluster.settings().host == HostPolicy::Preserve && !is_fallback;
        let keeps = preserves || is_unverified;
        if keeps && self.get(&HOST).is_some() {
            return false;
        }
        // `host:port` of a configured URL has only characters that a field value may have.
        let Ok(host) = HeaderValue::try_from(&**node.name()) else {
            return false;
        };
        let differs = self.get(&HOST) != Some(&host);
        self.set(HOST, Cow::Owned(host));
        differs
    }

    /// Sets one Content-Length of the body that is sent; none for a request that never had a body.
    fn set_content_length(&mut self, request: &UpstreamRequest, names: &str) {
        let length = request.body.len();
        let claimed = self.get(&CONTENT_LENGTH);
        let is_claimed =
            claimed.and_then(|value| value.to_str().ok()?.parse().ok()) == Some(length);
        if is_claimed && is_signed(names, &CONTENT_LENGTH) {
            // Signed as text: `007` must stay `007`.
            return;
        }
        let has_body = matches!(request.method, Method::PATCH | Method::POST | Method::PUT);
        if length == 0 && claimed.is_none() && !has_body {
            return;
        }
        self.set(CONTENT_LENGTH, Cow::Owned(HeaderValue::from(length)));
    }

    /// Adds the forwarding fields, unless the client signed another value: the only ones that
    /// [`Fields::end_to_end`] has left of these names.
    fn add_forwarding_fields(
        &mut self,
        request: &'a UpstreamRequest,
        names: &str,
        trace: TraceContext,
    ) {
        let metadata = &request.metadata;
        let mut add = |name: HeaderName, value: Option<Cow<'a, HeaderValue>>| {
            let is_kept = is_signed(names, &name) && !is_identity(name.as_str());
            if let Some(value) = value.filter(|_| !is_kept) {
                self.0.push((Cow::Owned(name), value));
            }
        };
        let client = address_value(metadata.client_ip);
        add(X_FORWARDED_FOR, client.map(Cow::Owned));
        let https = HeaderValue::from_static("https");
        add(X_FORWARDED_PROTO, Some(Cow::Owned(https)));
        add(
            X_FORWARDED_HOST,
            request.headers.get(HOST).map(Cow::Borrowed),
        );
        add(X_REQUEST_ID, Some(Cow::Borrowed(&metadata.request_id)));
        let parent = HeaderValue::from_bytes(&trace.traceparent());
        add(TraceContext::HEADER, parent.ok().map(Cow::Owned));
        if !is_signed(names, &VIA) {
            self.0.push((Cow::Owned(VIA), Cow::Borrowed(&metadata.via)));
        }
    }

    fn sign(
        &mut self,
        request: &UpstreamRequest,
        signer: &Signer,
        names: &str,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let is_json = request.endpoint.body != BodyKind::Opaque;
        if is_json && self.get(&CONTENT_TYPE).is_none() {
            self.set(CONTENT_TYPE, Cow::Owned(JSON_UTF_8));
        }
        // A hop-by-hop field cannot stay signed. A field about the client can, with the gateway's value.
        let is_sent = |name: &str| {
            let mut fields = self.0.iter();
            fields.any(|(known, _)| known.as_str().eq_ignore_ascii_case(name))
        };
        let remaining: Vec<&str> = names
            .split(';')
            .filter(|name| !is_hop_by_hop(name))
            .filter(|name| !is_identity(name) || is_sent(name))
            .collect();
        let remaining = remaining.join(";");
        let mut headers = HeaderMap::new();
        for (name, value) in &self.0 {
            if is_signed(&remaining, name) {
                headers.append(&**name, (**value).clone());
            }
        }
        let signable = Signable {
            method: request.method.as_str(),
            path: request.target.path(),
            query: request.target.query(),
            headers: &headers,
            body: &request.body,
        };
        let value = auth::sign(signer.credential(), &remaining, now, &signable)?;
        self.set(AUTHORIZATION, Cow::Owned(value));
        Ok(())
    }

    /// Writes request line and fields. Their types guarantee that no part has a line end.
    fn into_head(self, request: &UpstreamRequest) -> Vec<u8> {
        let field_bytes = |(name, value): &(Cow<'_, HeaderName>, Cow<'_, HeaderValue>)| {
            name.as_str().len() + value.len() + 4
        };
        let fields: usize = self.0.iter().map(field_bytes).sum();
        let (method, target) = (request.method.as_str(), request.target.as_str());
        let mut head = Vec::with_capacity(method.len() + target.len() + fields + 16);
        for part in [method, " ", target, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        for (name, value) in &self.0 {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Fields that `Connection` cannot turn into hop-by-hop ones. They are neither hop-by-hop nor about the
/// client, so they are checked first.
const NEVER_NOMINATED: [HeaderName; 3] = [AUTHORIZATION, CONTENT_LENGTH, HOST];

/// The most fields that the gateway adds.
const MAX_ADDED_FIELDS: usize = 9;

#[cfg(test)]
mod tests;
