//! Reads the response of a node and judges it: whether it is valid, whether another node may give a better
//! one, and what it says about the node.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, StatusCode};

use super::exchange::{ExchangeError, Head};
use super::flow_control::record_response;
use super::pool::PooledConnection;
use super::request::requests_codings;
use super::response_body::{ResponseGuard, StreamingBody};
use crate::ccfs::{ParsedResponse, ResponseKind, ResultKind};
use crate::cluster::{FailureKind, NodeGuard, NodeOutcome};
use crate::http_fields::{
    connection_listed, is_conditional, is_encoded, is_hop_by_hop, is_reserved_in_responses,
};
use crate::message::{Authorization, UpstreamErrorKind, UpstreamRequest};

/// A response, as far as it had to be read.
#[derive(Debug)]
pub(super) struct NodeResponse {
    pub(super) status: StatusCode,
    /// End-to-end fields only.
    pub(super) headers: HeaderMap,
    pub(super) body: NodeResponseBody,
    /// The JSON object of the body, if it was read and is one.
    pub(super) json: Option<Arc<ParsedResponse>>,
    pub(super) decision: RetryDecision,
}

/// How much of the body was read.
#[derive(Debug)]
pub(super) enum NodeResponseBody {
    /// A part of it.
    Streaming(Box<StreamingBody>),
    /// All of it.
    Buffered(Bytes),
}

/// What a response means for the retry loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RetryDecision {
    /// Flow control: nothing was done, so any request may be sent to another node.
    RetryAlways,
    /// Passed on.
    PassOn,
    /// The node failed: an idempotent request may be sent to another one.
    RetryIfIdempotent,
    /// 401 to a request that the gateway has verified: an idempotent request may be sent to one other
    /// node, signed anew.
    RetrySignedAnew,
}

/// Reads a response completely, at most `limit` bytes. A 200 whose body is no JSON object is invalid.
pub(super) async fn read_buffered(
    head: Head,
    mut connection: PooledConnection,
    request: &UpstreamRequest,
    limit: usize,
) -> Result<NodeResponse, UpstreamErrorKind> {
    let mut head = ResponseHead::new(head);
    if connection.remaining().unwrap_or(0) > limit as u64 {
        return Err(UpstreamErrorKind::InvalidResponse);
    }
    let BodyRead::Complete(bytes) = read_up_to(&mut connection, Bytes::new(), limit).await? else {
        return Err(UpstreamErrorKind::InvalidResponse);
    };
    connection.release();
    let json = head.json(&bytes);
    let may_be_encoded = head.has_content_encoding && requests_codings(request, &head.headers);
    if head.status == StatusCode::OK && json.is_none() && !may_be_encoded {
        return Err(UpstreamErrorKind::InvalidResponse);
    }
    head.headers.remove(CONTENT_LENGTH);
    Ok(NodeResponse {
        status: head.status,
        decision: decide(head.status, json.as_deref(), request),
        headers: head.headers,
        body: NodeResponseBody::Buffered(bytes),
        json,
    })
}

/// Reads a response up to the first data of its body; or completely, if another node may give a better
/// one and the body is small.
pub(super) async fn read_streaming(
    head: Head,
    mut connection: PooledConnection,
    guard: NodeGuard,
    request: &UpstreamRequest,
    min_receive_rate: u64,
) -> Result<NodeResponse, UpstreamErrorKind> {
    let head = ResponseHead::new(head);
    let status = head.status;
    let peeks = match status {
        StatusCode::OK => head.has_json_content_type(),
        _ => decide(status, None, request) != RetryDecision::PassOn,
    };
    let limit = if peeks && connection.remaining().unwrap_or(0) <= MAX_PEEK as u64 {
        MAX_PEEK
    } else {
        // The first data only: there the timeouts of the request end.
        0
    };
    let mut read = read_up_to(&mut connection, Bytes::new(), limit).await?;
    // Flow control may have any Content-Type; its first byte distinguishes it from a file.
    let may_be_envelope = status == StatusCode::OK && begins_as_object(read.bytes());
    if let BodyRead::Partial(prefix) = &read
        && may_be_envelope
        && connection.remaining().unwrap_or(0) <= MAX_PEEK as u64
    {
        read = read_up_to(&mut connection, prefix.clone(), MAX_PEEK).await?;
    }
    let prefix = match read {
        BodyRead::Complete(bytes) => {
            connection.release();
            let json = (peeks || may_be_envelope)
                .then(|| head.json(&bytes))
                .flatten();
            let decision = decide(status, json.as_deref(), request);
            record_response(&guard, request, status, decision);
            return Ok(NodeResponse {
                status,
                decision,
                headers: head.headers,
                body: NodeResponseBody::Buffered(bytes),
                json,
            });
        }
        BodyRead::Partial(prefix) => prefix,
    };
    // Where the node has closed the connection by now, the attempt has failed: its response need not be begun.
    let second = poll_fn(|cx| match connection.poll_data(cx) {
        Poll::Ready(data) => Poll::Ready(data),
        Poll::Pending => Poll::Ready(Ok(None)),
    });
    let second = second.await.map_err(|error| cut_off(&error))?;
    record_response(&guard, request, status, RetryDecision::PassOn);
    let guard = ResponseGuard {
        connection,
        node: guard,
        report_to: (!is_failure_status(status) && is_verified(request))
            .then(|| request.cluster.clone()),
    };
    let body = StreamingBody::new([Some(prefix), second], min_receive_rate, guard);
    Ok(NodeResponse {
        status,
        headers: head.headers,
        body: NodeResponseBody::Streaming(Box::new(body)),
        json: None,
        decision: RetryDecision::PassOn,
    })
}

impl NodeResponse {
    /// Whether the node refuses a request whose signature the gateway has verified or made.
    pub(super) fn is_refusal_of(&self, request: &UpstreamRequest) -> bool {
        matches!(
            self.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) && is_verified(request)
    }

    /// Returns the outcome for the health of the node; `None` if it depends on the remaining body, and for a
    /// refused signature, which [`super::signature_report`] reports.
    pub(super) fn health_outcome(&self) -> Option<NodeOutcome> {
        match (self.decision, &self.body) {
            (RetryDecision::RetryAlways, _) => Some(NodeOutcome::FlowControlled),
            (RetryDecision::RetryIfIdempotent, _) => {
                Some(NodeOutcome::Failure(FailureKind::ServerError))
            }
            (_, _) if is_failure_status(self.status) => {
                Some(NodeOutcome::Failure(FailureKind::ServerError))
            }
            (RetryDecision::PassOn, NodeResponseBody::Buffered(_)) => Some(NodeOutcome::Success),
            (RetryDecision::PassOn, NodeResponseBody::Streaming(_))
            | (RetryDecision::RetrySignedAnew, _) => None,
        }
    }
}

/// The end-to-end part of a head.
struct ResponseHead {
    status: StatusCode,
    headers: HeaderMap,
    has_content_encoding: bool,
}

impl ResponseHead {
    fn new(head: Head) -> Self {
        let Head {
            status,
            mut headers,
            ..
        } = head;
        strip_hop_by_hop(&mut headers);
        // RFC 9110, section 8.6: not in a 204. HTTP/2 clients end the stream with PROTOCOL_ERROR.
        if status == StatusCode::NO_CONTENT {
            headers.remove(CONTENT_LENGTH);
        }
        Self {
            status,
            has_content_encoding: is_encoded(&headers),
            headers,
        }
    }

    fn has_json_content_type(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        kind.and_then(|kind| kind.get(..JSON_MEDIA_TYPE.len()))
            .is_some_and(|kind| kind.eq_ignore_ascii_case(JSON_MEDIA_TYPE))
    }

    fn json(&self, body: &[u8]) -> Option<Arc<ParsedResponse>> {
        if self.has_content_encoding {
            return None;
        }
        ParsedResponse::parse(body).map(Arc::new)
    }
}

/// Removes the fields that end at this hop, and those that only the gateway may send.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_listed(headers)
            .filter_map(|name| name.parse().ok())
            .filter(|name| *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || is_reserved_in_responses(name))
        .cloned()
        .collect();
    for name in removed {
        headers.remove(name);
    }
}

enum BodyRead {
    Complete(Bytes),
    /// More follows.
    Partial(Bytes),
}

impl BodyRead {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Complete(bytes) | Self::Partial(bytes) => bytes,
        }
    }
}

/// Whether a body is a JSON object, by its first byte that is no whitespace.
fn begins_as_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// Reads on after `first` until the end of the body, or until there are more than `limit` bytes.
async fn read_up_to(
    connection: &mut PooledConnection,
    mut first: Bytes,
    limit: usize,
) -> Result<BodyRead, UpstreamErrorKind> {
    // Most bodies come in one piece, which is not copied.
    let mut all = BytesMut::new();
    while !connection.is_complete() {
        let data = connection.data().await.map_err(|error| cut_off(&error))?;
        let Some(data) = data else { break };
        if all.is_empty() && first.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
        if first.len() + all.len() > limit {
            return Ok(BodyRead::Partial(join(first, all)));
        }
    }
    Ok(BodyRead::Complete(join(first, all)))
}

fn cut_off(error: &ExchangeError) -> UpstreamErrorKind {
    tracing::debug!(?error, "a response was cut off");
    error.kind(true)
}

fn join(first: Bytes, all: BytesMut) -> Bytes {
    if all.is_empty() { first } else { all.freeze() }
}

fn decide(
    status: StatusCode,
    json: Option<&ParsedResponse>,
    request: &UpstreamRequest,
) -> RetryDecision {
    if is_failure_status(status) || is_unexpected_redirect(status, request) {
        return RetryDecision::RetryIfIdempotent;
    }
    if status == StatusCode::UNAUTHORIZED && is_verified(request) {
        return RetryDecision::RetrySignedAnew;
    }
    let Some(json) = json.filter(|_| status == StatusCode::OK) else {
        return RetryDecision::PassOn;
    };
    if json.result_kind() == ResultKind::FlowControlled {
        return RetryDecision::RetryAlways;
    }
    let failures = &request.cluster.settings().ejection.result_codes;
    let code = json.result_code.as_ref();
    if code.is_some_and(|code| failures.iter().any(|failure| code == failure)) {
        return RetryDecision::RetryIfIdempotent;
    }
    RetryDecision::PassOn
}

/// Statuses that count as a failure of the node, and after which another node may do better. Others, such
/// as 501 and 505, depend on the request.
fn is_failure_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502..=504)
}

/// Whether the status is a redirect that no JSON interface has. A 304 is one only if the request had no
/// condition.
fn is_unexpected_redirect(status: StatusCode, request: &UpstreamRequest) -> bool {
    let is_conditional = || {
        request
            .headers
            .keys()
            .any(|name| is_conditional(name.as_str()))
    };
    request.endpoint.response != ResponseKind::File
        && status.is_redirection()
        && !(status == StatusCode::NOT_MODIFIED && is_conditional())
}

/// Whether the gateway has verified the signature of the request, or made it.
fn is_verified(request: &UpstreamRequest) -> bool {
    !matches!(request.authorization, Authorization::PassThrough(None))
}

/// How much of a streaming response is read to classify it, in bytes. Envelopes have a few hundred.
const MAX_PEEK: usize = 64 * 1024;

const JSON_MEDIA_TYPE: &[u8] = b"application/json";
