//! Reading a node's answer and judging it: is it one, may another node do better, what does it say
//! of the node?

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING,
};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::pool::Lease;
use super::request::{is_hop_by_hop, nominated};
use super::response_body::{Held, NodeBody};
use crate::ccfs::{Json, Verdict};
use crate::cluster::{Fault, Outcome, Pick};
use crate::message::{Cause, Delivery};

/// A node's answer, as far as it has to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: AnswerBody,
    pub(super) json: Option<Arc<Json>>,
    pub(super) judgement: Judgement,
}

/// How much of the body is there.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// Still coming.
    Flowing(Box<NodeBody>),
    /// All of it.
    Whole(Bytes),
}

/// What an answer means for the delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Judgement {
    /// Flow control: nothing was done, any request may go to another node.
    Busy,
    /// To be passed on.
    Final,
    /// The node is unable: a repeatable request may go to another.
    Unable,
}

/// Reads an answer whole, at most `limit` bytes. A 200 that is no JSON object is none.
pub(super) async fn read_whole(
    response: Response<Incoming>,
    lease: Lease,
    delivery: &Delivery,
    limit: usize,
) -> Result<Answer, Cause> {
    let (head, mut body) = response.into_parts();
    let head = Head::read(head)?;
    if body.size_hint().lower() > limit as u64 {
        return Err(Cause::Garbage);
    }
    let Read::All(bytes) = read_up_to(&mut body, limit).await? else {
        return Err(Cause::Garbage);
    };
    lease.give_back();
    let json = head.json(&bytes);
    if head.status == StatusCode::OK && json.is_none() && !head.encoded {
        return Err(Cause::Garbage);
    }
    let judgement = judge(head.status, json.as_deref(), delivery);
    let mut headers = head.headers;
    headers.remove(CONTENT_LENGTH);
    Ok(Answer {
        status: head.status,
        headers,
        body: AnswerBody::Whole(bytes),
        json,
        judgement,
    })
}

/// Reads an answer up to its first bytes; or whole, if it may be one that another node answers
/// better, and is small.
pub(super) async fn read_start(
    response: Response<Incoming>,
    lease: Lease,
    pick: Pick,
    delivery: &Delivery,
    min_receive_rate: u64,
) -> Result<Answer, Cause> {
    let (head, mut body) = response.into_parts();
    let head = Head::read(head)?;
    let status = head.status;
    let peeks = is_unable(status) || (status == StatusCode::OK && head.is_json());
    let limit = if peeks && body.size_hint().lower() <= PEEK as u64 {
        PEEK
    } else {
        // The first bytes only: with them the deadlines of the delivery end.
        0
    };
    let first = match read_up_to(&mut body, limit).await? {
        Read::All(bytes) => {
            lease.give_back();
            let json = if peeks { head.json(&bytes) } else { None };
            return Ok(Answer {
                status,
                judgement: judge(status, json.as_deref(), delivery),
                headers: head.headers,
                body: AnswerBody::Whole(bytes),
                json,
            });
        }
        Read::Part(first) => first,
    };
    let judge = (!is_fault(status)).then(|| delivery.cluster.clone());
    let held = Held { lease, pick, judge };
    let flow = NodeBody::new(first, body, min_receive_rate, held);
    Ok(Answer {
        status,
        headers: head.headers,
        body: AnswerBody::Flowing(Box::new(flow)),
        json: None,
        judgement: Judgement::Final,
    })
}

impl Answer {
    /// What it says of the node; `None` if the body is still to tell.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match (self.judgement, &self.body) {
            (Judgement::Busy, _) => Some(Outcome::Busy),
            (Judgement::Unable, _) => Some(Outcome::Failure(Fault::ServerError)),
            (Judgement::Final, _) if is_fault(self.status) => {
                Some(Outcome::Failure(Fault::ServerError))
            }
            (Judgement::Final, AnswerBody::Whole(_)) => Some(Outcome::Success),
            (Judgement::Final, AnswerBody::Flowing(_)) => None,
        }
    }
}

/// The end-to-end part of a node's head.
struct Head {
    status: StatusCode,
    headers: HeaderMap,
    encoded: bool,
}

impl Head {
    /// Refuses a head whose framing can be read in two ways.
    fn read(parts: Parts) -> Result<Self, Cause> {
        let Parts {
            status,
            mut headers,
            ..
        } = parts;
        let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(encoding) = encodings.next() {
            let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !chunked || encodings.next().is_some() || headers.contains_key(CONTENT_LENGTH) {
                return Err(Cause::Garbage);
            }
        }
        // We never ask for another protocol.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Cause::Garbage);
        }
        if let Some(length) = headers.get(CONTENT_LENGTH).cloned() {
            // Equal ones only: hyper refused others.
            headers.insert(CONTENT_LENGTH, length);
        }
        strip(&mut headers);
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        Ok(Self {
            status,
            headers,
            encoded,
        })
    }

    fn is_json(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        kind.and_then(|kind| kind.get(..JSON.len()))
            .is_some_and(|kind| kind.eq_ignore_ascii_case(JSON))
    }

    fn json(&self, body: &[u8]) -> Option<Arc<Json>> {
        if self.encoded {
            return None;
        }
        Json::read(body).map(Arc::new)
    }
}

/// Takes out what ends at this hop, and what only the gateway may say.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = nominated(headers)
            .filter_map(|name| name.parse().ok())
            .filter(|name| *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name) || name.as_str() == "x-gateway-error")
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

enum Read {
    All(Bytes),
    /// More is to come.
    Part(Bytes),
}

/// Reads until the end, or until there are more than `limit` bytes.
async fn read_up_to(body: &mut Incoming, limit: usize) -> Result<Read, Cause> {
    // Most answers are one piece, which needs no copy.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(data) = next_piece(body).await? {
        if all.is_empty() && first.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
        if first.len() + all.len() > limit {
            return Ok(Read::Part(one(first, all)));
        }
    }
    Ok(Read::All(one(first, all)))
}

fn one(first: Bytes, all: BytesMut) -> Bytes {
    if all.is_empty() { first } else { all.freeze() }
}

/// The next bytes that are not none; `None` at the end. Trailers end at this hop.
async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, Cause> {
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a node broke off inside an answer");
            Cause::Broken
        })?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn judge(status: StatusCode, json: Option<&Json>, delivery: &Delivery) -> Judgement {
    if is_unable(status) {
        return Judgement::Unable;
    }
    let Some(json) = json.filter(|_| status == StatusCode::OK) else {
        return Judgement::Final;
    };
    if json.verdict() == Verdict::Busy {
        return Judgement::Busy;
    }
    let broken = &delivery.cluster.settings().ejection.result_codes;
    if json
        .result_code
        .as_ref()
        .is_some_and(|code| broken.iter().any(|one| code == one))
    {
        return Judgement::Unable;
    }
    Judgement::Final
}

/// Statuses that another node may answer better.
fn is_unable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// Statuses that speak against the node; 501 and 505 speak of the request.
fn is_fault(status: StatusCode) -> bool {
    status.as_u16() >= 500 && !matches!(status.as_u16(), 501 | 505)
}

/// How much of an answer that streams is read to see what it is; flow-control and error answers
/// have a few hundred bytes.
const PEEK: usize = 64 * 1024;

const JSON: &[u8] = b"application/json";
