//! The waist of the hourglass: what goes down to the nodes, and what comes back up. Above it is
//! trust, below it delivery; nothing below sees a raw request, nothing above sees a node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::combinators::BoxBody;

use crate::auth::{AccessKey, Caller};
use crate::ccfs::{Endpoint, ParsedResponse, Payload};
use crate::cluster::Cluster;
use crate::telemetry::TraceContext;

/// A verified, normalized request: it may be delivered, and its answer may be cached for its caller.
#[derive(Debug)]
pub struct VerifiedRequest {
    /// Who asks, proved.
    pub caller: Caller,
    /// What to.
    pub endpoint: &'static Endpoint,
    /// What for.
    pub payload: Payload,
    /// Who answers.
    pub cluster: Arc<Cluster>,
}

impl VerifiedRequest {
    /// The key under which the answer may be shared: with this caller only, from this cluster only.
    /// `None` if the payload has no canonical form.
    pub fn cache_key(&self) -> Option<CacheKey> {
        Some(CacheKey {
            cluster: self.cluster.settings().name.clone(),
            access_key: self.caller.access_key().clone(),
            payload: self.payload.cache_key()?.clone(),
        })
    }
}

/// Cluster, ak and the whole outgoing object in canonical form: bodies are small, equality is exact,
/// nobody has to think about collisions. Made only by [`Call::cache_key`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CacheKey {
    cluster: Arc<str>,
    access_key: AccessKey,
    payload: Bytes,
}

impl CacheKey {
    /// A key out of nothing, for tests of what only compares keys.
    #[cfg(test)]
    pub(crate) fn for_test(access_key: &str, payload: &'static str) -> Self {
        Self {
            cluster: "c".into(),
            access_key: access_key.into(),
            payload: payload.into(),
        }
    }

    /// Whose answer it is.
    pub fn access_key(&self) -> &AccessKey {
        &self.access_key
    }

    /// All of it as bytes, from which nothing but this very key can be read.
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

    /// What it weighs in memory, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.payload.len()
    }
}

/// What to forget: answers that match all that is given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purge {
    /// Of this ak.
    pub access_key: Option<AccessKey>,
    /// Of this call.
    pub call_id: Option<Box<str>>,
}

impl Purge {
    /// Is an answer of this ak, to a request for this call, among what is to be forgotten?
    pub fn matches(&self, access_key: &AccessKey, call_id: Option<&str>) -> bool {
        self.access_key.as_ref().is_none_or(|ak| ak == access_key)
            && self.call_id.as_deref().is_none_or(|id| call_id == Some(id))
    }

    /// Is it everything?
    pub fn is_everything(&self) -> bool {
        self.access_key.is_none() && self.call_id.is_none()
    }
}

/// What `upstream` delivers: a request that is allowed to reach a node.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// The interface; says what may be repeated and how the answer is read.
    pub endpoint: &'static Endpoint,
    /// Who answers.
    pub cluster: Arc<Cluster>,
    /// The client's method.
    pub method: Method,
    /// The client's raw target.
    pub target: PathAndQuery,
    /// The client's fields as they came, Host among them (over HTTP/2 made from `:authority`),
    /// `Authorization` too. `upstream::request` decides what goes on.
    pub headers: Arc<HeaderMap>,
    /// The outgoing body.
    pub body: Bytes,
    /// How the outgoing request is authorized.
    pub authorization: Authorization,
    /// For `consistent-hash`: from ak and callId.
    pub hash_key: u64,
    /// What the gateway tells the node about the request.
    pub metadata: RequestMetadata,
}

/// How the outgoing request is authorized.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// The client's own value goes on, if there is one: nothing that it signed was changed. With a
    /// caller (verified), the request can be signed again where the gateway must change a signed
    /// part, e.g. for `host = "node"`; a stranger's is never touched.
    PassThrough(Option<Caller>),
    /// The body was changed: sign inside the attempt, over the names the client signed.
    Resign(Caller),
}

/// What the gateway tells the node about the request.
#[derive(Clone, Debug)]
pub struct RequestMetadata {
    /// The client's address, for `X-Forwarded-For`.
    pub client_ip: IpAddr,
    /// `X-Request-Id`, as answered to the client.
    pub request_id: HeaderValue,
    /// The gateway's own span.
    pub trace: TraceContext,
}

/// A JSON answer, read whole.
#[derive(Clone, Debug)]
pub struct BufferedResponse {
    /// As the node said.
    pub status: StatusCode,
    /// End-to-end fields only; framing is not among them.
    pub headers: HeaderMap,
    /// The node's own bytes.
    pub body: Bytes,
    /// What was read in it; `None` for a status other than 200 whose body is no JSON object.
    pub parsed: Option<Arc<ParsedResponse>>,
    /// Which way it took.
    pub attempts: AttemptSummary,
}

/// An answer that streams through.
#[derive(Debug)]
pub struct StreamingResponse {
    /// As the node said.
    pub status: StatusCode,
    /// End-to-end fields only. `Content-Length` is among them if the node sent one.
    pub headers: HeaderMap,
    /// The node counts as busy until this ended or was dropped. Its error ends the client's
    /// connection visibly.
    pub body: BoxBody<Bytes, BodyError>,
    /// Which way it took.
    pub attempts: AttemptSummary,
}

/// The node broke off in the middle of a body, or fell below the minimum rate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the body did, or the framing was wrong.
    #[error("the node broke off inside the answer")]
    ConnectionClosed,
    /// Too few bytes for too long.
    #[error("the node fell below the minimum rate")]
    TooSlow,
}

/// Which way a delivery took.
#[derive(Clone, Debug, Default)]
pub struct AttemptSummary {
    /// `host:port` of the node that answered, or was tried last.
    pub node: Option<Arc<str>>,
    /// Tries made.
    pub count: u32,
    /// From the first try to the answer's head (whole replies: to its end).
    pub elapsed: Duration,
}

/// A delivery that came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct UpstreamError {
    /// What happened last.
    pub kind: UpstreamErrorKind,
    /// May a node have acted on the request?
    pub request_sent: bool,
    /// Which way it took.
    pub attempts: AttemptSummary,
}

/// What happened last.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpstreamErrorKind {
    /// Answered, but not with what the interface answers: no JSON object, cut, too large.
    #[error("the node answered garbage")]
    InvalidResponse,
    /// The connection ended before the answer did.
    #[error("the node broke off")]
    ConnectionClosed,
    /// No node may be tried, or every one is at its cap.
    #[error("no node can take the request")]
    NoNodeAvailable,
    /// No answer in time.
    #[error("no node answered in time")]
    Timeout,
    /// No connection.
    #[error("the node cannot be reached")]
    ConnectFailed,
}
