//! The one place that makes responses: a node's answer, a cached one, or a rejection becomes what the
//! client sees, with the fields that every answer carries.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;

use super::{Exchange, Guards, Rejection};
use crate::ccfs;
use crate::drain::{GivenUp, LastAnswer};
use crate::limit::Exceeded;
use crate::message::{BodyError, StreamReply, WholeReply};
use crate::metrics::{Answered, Decision, ValidationReject};
use crate::telemetry::Record;

/// What the stages came to.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) outcome: Answered,
    content: Content,
}

impl Reply {
    /// A node's answer, whole.
    pub(super) fn whole(reply: WholeReply) -> Self {
        Self {
            status: reply.status,
            headers: from_node(reply.headers),
            outcome: Answered::Node,
            content: Content::Whole(Some(reply.body)),
        }
    }

    /// A node's answer, as it comes.
    pub(super) fn stream(reply: StreamReply) -> Self {
        Self {
            status: reply.status,
            headers: from_node(reply.headers),
            outcome: Answered::Node,
            content: Content::Stream(reply.body),
        }
    }

    /// A node's bytes under fields of our own.
    pub(super) fn held(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        Self {
            status,
            headers,
            outcome: Answered::Cached,
            content: Content::Whole(Some(body)),
        }
    }
}

/// Turns either side into the response, and hands record and guards to its body.
pub(super) fn finish(
    answered: Result<Reply, Rejection>,
    mut exchange: Exchange,
) -> Response<ReplyBody> {
    let record = &mut exchange.record;
    let (mut response, content) = match answered {
        Ok(reply) => {
            record.outcome = reply.outcome;
            let mut response = Response::new(());
            *response.status_mut() = reply.status;
            *response.headers_mut() = reply.headers;
            (response, reply.content)
        }
        Err(rejection) => {
            let (head, body) = reject(&rejection, record).into_parts();
            (Response::from_parts(head, ()), Content::Whole(Some(body)))
        }
    };
    dress(response.headers_mut(), record);
    record.status = response.status().as_u16();
    let Exchange { record, guards, .. } = exchange;
    // Made whole, an answer holds nothing of the gateway's: a client may read it as slowly as the
    // listener lets him.
    let guards = matches!(content, Content::Stream(_)).then_some(guards);
    response.map(|()| ReplyBody {
        content,
        record,
        _guards: guards,
    })
}

/// The answer to a head that never became a request.
pub(super) fn refusal(rejection: &Rejection, record: &mut Record) -> Response<Bytes> {
    let mut response = reject(rejection, record);
    dress(response.headers_mut(), record);
    record.status = response.status().as_u16();
    record.body_out = response.body().len() as u64;
    response
}

/// The client's id if it is sane, else a new one.
pub(super) fn request_id(headers: Option<&HeaderMap>) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=64).contains(&value.len())
            && value
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    };
    let sent = headers
        .and_then(|fields| fields.get(&X_REQUEST_ID))
        .filter(sane);
    sent.cloned().unwrap_or_else(|| {
        let random = rand::random::<u64>();
        // Hex digits, which are always a legal value.
        let id: [u8; 16] =
            std::array::from_fn(|at| b"0123456789abcdef"[(random >> (4 * at)) as usize & 15]);
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0"))
    })
}

/// The body of an answer. One that streams holds what its request held until it is dropped.
#[derive(Debug)]
pub struct ReplyBody {
    content: Content,
    record: Box<Record>,
    _guards: Option<Guards>,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Stream(BoxBody<Bytes, BodyError>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Whole(body) => body.take().map(|body| Ok(Frame::data(body))),
            Content::Stream(body) => std::task::ready!(Pin::new(body).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                this.record.body_out += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Some(Err(error)) => {
                this.record.outcome = Answered::NodeFailed;
                this.record.reason = Some(error.to_string().into());
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Content::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Stream(body) => body.size_hint(),
        }
    }
}

fn reject(rejection: &Rejection, record: &mut Record) -> Response<Bytes> {
    let answer = rejection.answer();
    record.outcome = answer.outcome;
    record.reason = Some(rejection.reason().into());
    record.result_code = Some(answer.code.into());
    let mut response = Response::new(ccfs::envelope(answer.code, &rejection.text()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    headers.insert(X_GATEWAY_ERROR, HeaderValue::from_static(answer.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = rejection.retry_after() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    match rejection {
        Rejection::MethodNeverAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        }
        Rejection::MethodNotAllowed(method) => {
            if let Ok(allow) = HeaderValue::from_str(method.as_str()) {
                headers.insert(header::ALLOW, allow);
            }
        }
        Rejection::RateLimited {
            limiter, exceeded, ..
        } => {
            record.metrics().count(Decision::of(*limiter, false));
            if let Some(exceeded) = exceeded {
                rate_limit_fields(headers, limiter.as_str(), exceeded);
            }
        }
        Rejection::Overloaded(reason) => record.metrics().count(*reason),
        Rejection::Invalid(invalid) => {
            let mut reasons = ValidationReject::ALL.iter();
            if let Some(&reason) = reasons.find(|label| label.as_str() == invalid.reason) {
                record.metrics().count(reason);
            }
        }
        _ => {}
    }
    if answer.closes {
        let extensions = response.extensions_mut();
        if record.version >= Version::HTTP_2 && matches!(rejection, Rejection::ClientGone) {
            extensions.insert(GivenUp);
        } else {
            extensions.insert(LastAnswer);
        }
        if record.version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
    response
}

/// draft-ietf-httpapi-ratelimit-headers: the budget is empty, and full again after its window.
fn rate_limit_fields(headers: &mut HeaderMap, name: &str, exceeded: &Exceeded) {
    let (burst, window) = (exceeded.rate.burst, exceeded.window());
    let policy = format!("\"{name}\";q={burst};w={window}");
    let state = format!("\"{name}\";r=0;t={}", exceeded.retry_after());
    for (field, text) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(field), value);
        }
    }
}

/// A node cannot speak in the gateway's name.
fn from_node(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(X_GATEWAY_ERROR);
    headers
}

/// What every answer carries.
fn dress(headers: &mut HeaderMap, record: &Record) {
    headers.insert(X_REQUEST_ID, record.request_id.clone());
    headers.append(header::VIA, HeaderValue::from_static("1.1 ccfs-gateway"));
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_GATEWAY_ERROR: HeaderName = HeaderName::from_static("x-gateway-error");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let with = |id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
            request_id(Some(&headers))
        };
        assert_eq!(with(b"a.B-c_9"), "a.B-c_9");
        let long = [b'x'; 65];
        for strange in [&b""[..], b"a b", b"a\"b", "ä".as_bytes(), &long] {
            let id = with(strange);
            assert_eq!(id.len(), 16, "{strange:?} became {id:?}");
        }
    }
}
