//! Types exchanged between `gateway` and `upstream`. `gateway` never sees a node, `upstream` never sees an
//! unverified client request except one that is forwarded as it came.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::combinators::BoxBody;
use jiff::Timestamp;

use crate::auth::{AccessKey, Signer};
use crate::ccfs::{Endpoint, ParsedResponse, Payload};
use crate::cluster::Cluster;
use crate::telemetry::TraceContext;

/// A verified and normalized request. It may be delivered, and its response may be cached for its signer.
#[derive(Debug)]
pub struct VerifiedRequest {
    /// The verified signer.
    pub signer: Signer,
    /// The interface.
    pub endpoint: &'static Endpoint,
    /// The normalized body.
    pub payload: Payload,
    /// The cluster that serves it.
    pub cluster: Arc<Cluster>,
    /// The end of the validity of the access key or of the caller, after which the request no longer waits for a node.
    pub not_after: Option<Timestamp>,
}

impl VerifiedRequest {
    /// Returns the key under which the response may be cached: for this access key and this cluster only.
    /// `None` if the payload has no canonical form.
    pub fn cache_key(&self) -> Option<CacheKey> {
        Some(CacheKey {
            cluster: self.cluster.settings().name.clone(),
            access_key: self.signer.access_key().clone(),
            payload: self.payload.cache_key()?.clone(),
        })
    }
}

/// Cluster, access key and the whole outgoing object in canonical form. Bodies are small, so the key holds
/// them instead of a hash, and equality is exact. Made only by [`VerifiedRequest::cache_key`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CacheKey {
    cluster: Arc<str>,
    access_key: AccessKey,
    payload: Bytes,
}

impl CacheKey {
    /// Creates a key for tests that only compare keys.
    #[cfg(test)]
    pub(crate) fn for_test(access_key: &str, payload: impl Into<Bytes>) -> Self {
        Self {
            cluster: "c".into(),
            access_key: access_key.into(),
            payload: payload.into(),
        }
    }

    /// Returns the access key of the signer.
    pub fn access_key(&self) -> &AccessKey {
        &self.access_key
    }

    /// Returns an injective encoding of the key.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = [
            self.cluster.as_bytes(),
            self.access_key.as_str().as_bytes(),
            &self.payload,
        ];
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Returns a copy whose payload has a buffer of its own length. The payload of a request has the
    /// capacity of the whole body, most of which may be whitespace.
    pub fn compacted(&self) -> Self {
        Self {
            payload: Bytes::copy_from_slice(&self.payload),
            ..self.clone()
        }
    }

    /// Returns the memory that a compacted key takes, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.payload.len()
    }
}

/// Selects the cached responses to remove: those that match every given field.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Purge {
    /// The access key.
    pub access_key: Option<AccessKey>,
    /// The callId.
    pub call_id: Option<Box<str>>,
}

impl Purge {
    /// Whether it selects a response for this access key and callId.
    pub fn matches(&self, access_key: &AccessKey, call_id: Option<&str>) -> bool {
        self.access_key.as_ref().is_none_or(|ak| ak == access_key)
            && self.call_id.as_deref().is_none_or(|id| call_id == Some(id))
    }

    /// Whether it selects every response.
    pub fn is_everything(&self) -> bool {
        self.access_key.is_none() && self.call_id.is_none()
    }
}

/// A request that may be sent to a node.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// The interface; decides about retries and about how the response is read.
    pub endpoint: &'static Endpoint,
    /// The cluster whose nodes serve it.
    pub cluster: Arc<Cluster>,
    /// The client's method.
    pub method: Method,
    /// The client's raw target.
    pub target: PathAndQuery,
    /// The client's headers as received, with Host (over HTTP/2 made from `:authority`) and
    /// Authorization. `upstream` decides which of them reach the node.
    pub headers: Arc<HeaderMap>,
    /// The outgoing body.
    pub body: Bytes,
    /// How the outgoing request is authorized.
    pub authorization: Authorization,
    /// The key of `balance = "consistent-hash"`, made from access key and callId.
    pub hash_key: u64,
    /// What the gateway forwards to the node about the client.
    pub metadata: RequestMetadata,
    /// Whether it renews a cached response for which no client waits: it never waits for a node.
    pub is_refresh: bool,
    /// The end of the validity of the access key or of the caller, after which it no longer waits for a node.
    pub not_after: Option<Timestamp>,
}

impl UpstreamRequest {
    /// Returns the verified signer; `None` for an unverified request.
    pub fn signer(&self) -> Option<&Signer> {
        match &self.authorization {
            Authorization::PassThrough(signer) => signer.as_ref(),
            Authorization::Resign(signer) => Some(signer),
        }
    }
}

/// How the outgoing request is authorized.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// The client's own value is sent, if there is one, since no signed part was changed. For a verified
    /// signer the request is signed again where the gateway must change a signed part, e.g. for
    /// `host = "node"`; without a signer (unverified) it never is.
    PassThrough(Option<Signer>),
    /// The body was changed: each attempt signs again, over the header names that the client signed.
    Resign(Signer),
}

impl Authorization {
    /// Returns the verified signer; `None` for an unverified client.
    pub fn signer(&self) -> Option<&Signer> {
        match self {
            Self::PassThrough(signer) => signer.as_ref(),
            Self::Resign(signer) => Some(signer),
        }
    }
}

/// What the gateway forwards to the node about the client.
#[derive(Clone, Debug)]
pub struct RequestMetadata {
    /// The client's address, for `X-Forwarded-For`.
    pub client_ip: IpAddr,
    /// `X-Request-Id`, the same as in the response to the client.
    pub request_id: HeaderValue,
    /// The gateway's span.
    pub trace: TraceContext,
    /// The element that the gateway appends to `Via`.
    pub via: HeaderValue,
}

/// A JSON response, read completely.
#[derive(Clone, Debug)]
pub struct BufferedResponse {
    /// The status that the node sent.
    pub status: StatusCode,
    /// End-to-end headers only, without framing.
    pub headers: HeaderMap,
    /// The body that the node sent, byte for byte.
    pub body: Bytes,
    /// The parsed body; `None` for a status other than 200 whose body is not a JSON object.
    pub parsed: Option<Arc<ParsedResponse>>,
    /// The attempts that led to it.
    pub attempts: AttemptSummary,
}

/// A response that is passed on while it arrives.
#[derive(Debug)]
pub struct StreamingResponse {
    /// The status that the node sent.
    pub status: StatusCode,
    /// End-to-end headers only, with `Content-Length` if the node sent it.
    pub headers: HeaderMap,
    /// Holds the node's in-flight slot until it ends or is dropped. An error of it aborts the client's
    /// connection, so that the client cannot take the response for complete.
    pub body: BoxBody<Bytes, BodyError>,
    /// The attempts that led to it.
    pub attempts: AttemptSummary,
}

/// Why the body of a streaming response ended early.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the body did, or the framing was invalid.
    #[error("the connection to the node closed inside the response body")]
    ConnectionClosed,
    /// The node sent less than the minimum rate.
    #[error("the node sent less than the minimum rate")]
    TooSlow,
}

/// The attempts of one upstream request.
#[derive(Clone, Debug, Default)]
pub struct AttemptSummary {
    /// `host:port` of the node of the last attempt.
    pub node: Option<Arc<str>>,
    /// Number of attempts.
    pub count: u32,
    /// The fallback cluster, if the request was handed over to it.
    pub fallback: Option<Arc<str>>,
    /// From the first attempt to the response's head; to its end if it is buffered.
    pub elapsed: Duration,
    /// How long the request waited, of that, while every node was at its flow-control bound.
    pub queued: Duration,
}

/// Why an upstream request failed after all attempts.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct UpstreamError {
    /// The error of the last attempt.
    pub kind: UpstreamErrorKind,
    /// Whether a node may have acted on the request.
    pub request_sent: bool,
    /// The attempts that led to it.
    pub attempts: AttemptSummary,
}

/// The error of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpstreamErrorKind {
    /// The response is not what the interface returns: not a JSON object, truncated, too large.
    #[error("the node's response is not what the interface returns")]
    InvalidResponse,
    /// The connection ended before the first byte of a response.
    #[error("the connection to the node closed before a response")]
    ConnectionClosed,
    /// The connection ended inside the response.
    #[error("the connection to the node closed before the response was complete")]
    ResponseIncomplete,
    /// No node is usable, or each is at its connection limit.
    #[error("no node is available")]
    NoNodeAvailable,
    /// No response in time.
    #[error("no node responded in time")]
    Timeout,
    /// No connection could be established.
    #[error("no connection to the node could be established")]
    ConnectFailed(ConnectError),
}

/// Why no connection to a node was established.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectError {
    /// The node refuses connections, or no route leads to it.
    Refused,
    /// TCP or TLS took longer than the connect timeout.
    Timeout,
    /// The names of the cluster's nodes have no address in DNS.
    NoAddress,
    /// The node's certificate is not trusted.
    Certificate,
    /// The TLS handshake failed for another reason.
    Tls,
    /// The node closed the connection before a byte of the request was written.
    Closed,
}
