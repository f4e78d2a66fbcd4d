//! Reading a node's answer and judging it: is it one, may another node do better, what does it say
//! of the node?

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::pool::PooledConnection;
use super::request::requests_codings;
use super::response_body::{ResponseGuard, StreamingBody};
use crate::ccfs::{ParsedResponse, ResultKind};
use crate::cluster::{FailureKind, NodeGuard, NodeOutcome};
use crate::http_fields::{connection_listed, is_encoded, is_hop_by_hop, is_reserved_in_responses};
use crate::message::{UpstreamErrorKind, UpstreamRequest};

/// A node's answer, as far as it has to be read.
#[derive(Debug)]
pub(super) struct NodeResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: NodeResponseBody,
    pub(super) json: Option<Arc<ParsedResponse>>,
    pub(super) decision: RetryDecision,
}

/// How much of the body is there.
#[derive(Debug)]
pub(super) enum NodeResponseBody {
    /// Still coming.
    Streaming(Box<StreamingBody>),
    /// All of it.
    Buffered(Bytes),
}

/// What an answer means for the delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RetryDecision {
    /// Flow control: nothing was done, any request may go to another node.
    RetryAlways,
    /// To be passed on.
    PassOn,
    /// The node is unable: a repeatable request may go to another.
    RetryIfIdempotent,
}

/// Reads an answer whole, at most `limit` bytes. A 200 that is no JSON object is none.
pub(super) async fn read_buffered(
    response: Response<Incoming>,
    lease: PooledConnection,
    delivery: &UpstreamRequest,
    limit: usize,
) -> Result<NodeResponse, UpstreamErrorKind> {
    let (head, mut body) = response.into_parts();
    let head = ResponseHead::from_parts(head)?;
    if body.size_hint().lower() > limit as u64 {
        return Err(UpstreamErrorKind::InvalidResponse);
    }
    let BodyRead::Complete(bytes) = read_up_to(&mut body, limit).await? else {
        return Err(UpstreamErrorKind::InvalidResponse);
    };
    lease.release();
    let json = head.json(&bytes);
    let may_be_encoded = head.has_content_encoding && requests_codings(delivery, &head.headers);
    if head.status == StatusCode::OK && json.is_none() && !may_be_encoded {
        return Err(UpstreamErrorKind::InvalidResponse);
    }
    let judgement = decide(head.status, json.as_deref(), delivery);
    let mut headers = head.headers;
    headers.remove(CONTENT_LENGTH);
    Ok(NodeResponse {
        status: head.status,
        headers,
        body: NodeResponseBody::Buffered(bytes),
        json,
        decision: judgement,
    })
}

/// Reads an answer up to its first bytes; or whole, if it may be one that another node answers
/// better, and is small.
pub(super) async fn read_streaming(
    response: Response<Incoming>,
    lease: PooledConnection,
    pick: NodeGuard,
    delivery: &UpstreamRequest,
    min_receive_rate: u64,
) -> Result<NodeResponse, UpstreamErrorKind> {
    let (head, mut body) = response.into_parts();
    let head = ResponseHead::from_parts(head)?;
    let status = head.status;
    let peeks =
        is_retriable_status(status) || (status == StatusCode::OK && head.has_json_content_type());
    let limit = if peeks && body.size_hint().lower() <= MAX_PEEK as u64 {
        MAX_PEEK
    } else {
        // The first bytes only: with them the deadlines of the delivery end.
        0
    };
    let first = match read_up_to(&mut body, limit).await? {
        BodyRead::Complete(bytes) => {
            lease.release();
            let json = if peeks { head.json(&bytes) } else { None };
            return Ok(NodeResponse {
                status,
                decision: decide(status, json.as_deref(), delivery),
                headers: head.headers,
                body: NodeResponseBody::Buffered(bytes),
                json,
            });
        }
        BodyRead::Partial(first) => first,
    };
    let judge = (!is_failure_status(status)).then(|| delivery.cluster.clone());
    let held = ResponseGuard {
        connection: lease,
        node: pick,
        report_to: judge,
    };
    let flow = StreamingBody::new(first, body, min_receive_rate, held);
    Ok(NodeResponse {
        status,
        headers: head.headers,
        body: NodeResponseBody::Streaming(Box::new(flow)),
        json: None,
        decision: RetryDecision::PassOn,
    })
}

impl NodeResponse {
    /// What it says of the node; `None` if the body is still to tell.
    pub(super) fn health_outcome(&self) -> Option<NodeOutcome> {
        match (self.decision, &self.body) {
            (RetryDecision::RetryAlways, _) => Some(NodeOutcome::FlowControlled),
            (RetryDecision::RetryIfIdempotent, _) => {
                Some(NodeOutcome::Failure(FailureKind::ServerError))
            }
            (RetryDecision::PassOn, _) if is_failure_status(self.status) => {
                Some(NodeOutcome::Failure(FailureKind::ServerError))
            }
            (RetryDecision::PassOn, NodeResponseBody::Buffered(_)) => Some(NodeOutcome::Success),
            (RetryDecision::PassOn, NodeResponseBody::Streaming(_)) => None,
        }
    }
}

/// The end-to-end part of a node's head.
struct ResponseHead {
    status: StatusCode,
    headers: HeaderMap,
    has_content_encoding: bool,
}

impl ResponseHead {
    /// Refuses a head whose framing can be read in two ways.
    fn from_parts(parts: Parts) -> Result<Self, UpstreamErrorKind> {
        let Parts {
            status,
            mut headers,
            ..
        } = parts;
        let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(encoding) = encodings.next() {
            let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !chunked || encodings.next().is_some() || headers.contains_key(CONTENT_LENGTH) {
                return Err(UpstreamErrorKind::InvalidResponse);
            }
        }
        // We never ask for another protocol.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamErrorKind::InvalidResponse);
        }
        if let Some(length) = headers.get(CONTENT_LENGTH).cloned() {
            // Equal ones only: hyper refused others.
            headers.insert(CONTENT_LENGTH, length);
        }
        strip_hop_by_hop(&mut headers);
        let has_content_encoding = is_encoded(&headers);
        Ok(Self {
            status,
            headers,
            has_content_encoding,
        })
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

/// Takes out what ends at this hop, and what only the gateway may say.
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
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || is_reserved_in_responses(name))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

enum BodyRead {
    Complete(Bytes),
    /// More is to come.
    Partial(Bytes),
}

/// Reads until the end, or until there are more than `limit` bytes.
async fn read_up_to(body: &mut Incoming, limit: usize) -> Result<BodyRead, UpstreamErrorKind> {
    // Most answers are one piece, which needs no copy.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(data) = next_data(body).await? {
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

fn join(first: Bytes, all: BytesMut) -> Bytes {
    if all.is_empty() { first } else { all.freeze() }
}

/// The next bytes that are not none; `None` at the end. Trailers end at this hop.
async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, UpstreamErrorKind> {
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a node broke off inside an answer");
            UpstreamErrorKind::ConnectionClosed
        })?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn decide(
    status: StatusCode,
    json: Option<&ParsedResponse>,
    delivery: &UpstreamRequest,
) -> RetryDecision {
    if is_retriable_status(status) {
        return RetryDecision::RetryIfIdempotent;
    }
    let Some(json) = json.filter(|_| status == StatusCode::OK) else {
        return RetryDecision::PassOn;
    };
    if json.result_kind() == ResultKind::FlowControlled {
        return RetryDecision::RetryAlways;
    }
    let broken = &delivery.cluster.settings().ejection.result_codes;
    if json
        .result_code
        .as_ref()
        .is_some_and(|code| broken.iter().any(|one| code == one))
    {
        return RetryDecision::RetryIfIdempotent;
    }
    RetryDecision::PassOn
}

/// Statuses that another node may answer better.
fn is_retriable_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// Statuses that speak against the node; 501 and 505 speak of the request.
fn is_failure_status(status: StatusCode) -> bool {
    status.as_u16() >= 500 && !matches!(status.as_u16(), 501 | 505)
}

/// How much of an answer that streams is read to see what it is; flow-control and error answers
/// have a few hundred bytes.
const MAX_PEEK: usize = 64 * 1024;

const JSON_MEDIA_TYPE: &[u8] = b"application/json";
