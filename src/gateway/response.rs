//! The one place that makes responses: a node's answer, a cached one, or a rejection becomes what the
//! client sees, with the fields that every answer carries.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;

use super::{Guards, Rejection, RequestContext};
use crate::ccfs;
use crate::drain::{ClientAborted, CloseAfterResponse};
use crate::http_fields::{JSON_UTF_8, VIA_GATEWAY, X_GATEWAY_ERROR, X_REQUEST_ID};
use crate::limit::RateLimited;
use crate::message::{BodyError, BufferedResponse, StreamingResponse};
use crate::metrics::{Decision, RequestOutcome, ValidationReject};
use crate::telemetry::RequestRecord;

/// What the stages came to.
#[derive(Debug)]
pub(super) struct GatewayResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) outcome: RequestOutcome,
    content: Content,
}

impl GatewayResponse {
    /// A node's answer, whole.
    pub(super) fn buffered(reply: BufferedResponse) -> Self {
        Self {
            status: reply.status,
            headers: strip_reserved_headers(reply.headers),
            outcome: RequestOutcome::Node,
            content: Content::Buffered(Some(reply.body)),
        }
    }

    /// A node's answer, as it comes.
    pub(super) fn streaming(reply: StreamingResponse) -> Self {
        Self {
            status: reply.status,
            headers: strip_reserved_headers(reply.headers),
            outcome: RequestOutcome::Node,
            content: Content::Streaming(reply.body),
        }
    }

    /// A node's bytes under fields of our own.
    pub(super) fn from_cached(
        status: StatusCode,
        content_type: Option<HeaderValue>,
        body: Bytes,
    ) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        Self {
            status,
            headers,
            outcome: RequestOutcome::Cached,
            content: Content::Buffered(Some(body)),
        }
    }
}

/// Turns either side into the response, and hands record and guards to its body.
pub(super) fn into_response(
    answered: Result<GatewayResponse, Rejection>,
    mut exchange: RequestContext,
) -> Response<ResponseBody> {
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
            let (head, body) = rejection_response(&rejection, record).into_parts();
            (
                Response::from_parts(head, ()),
                Content::Buffered(Some(body)),
            )
        }
    };
    add_common_headers(response.headers_mut(), record);
    record.status = response.status().as_u16();
    let RequestContext { record, guards, .. } = exchange;
    // Made whole, an answer holds nothing of the gateway's: a client may read it as slowly as the
    // listener lets him.
    let guards = matches!(content, Content::Streaming(_)).then_some(guards);
    response.map(|()| ResponseBody {
        content,
        record,
        _guards: guards,
    })
}

/// The answer to a head that never became a request.
pub(super) fn rejected_head_response(
    rejection: &Rejection,
    record: &mut RequestRecord,
) -> Response<Bytes> {
    let mut response = rejection_response(rejection, record);
    add_common_headers(response.headers_mut(), record);
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
pub struct ResponseBody {
    content: Content,
    record: Box<RequestRecord>,
    _guards: Option<Guards>,
}

#[derive(Debug)]
enum Content {
    Buffered(Option<Bytes>),
    Streaming(BoxBody<Bytes, BodyError>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Buffered(body) => body.take().map(|body| Ok(Frame::data(body))),
            Content::Streaming(body) => std::task::ready!(Pin::new(body).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                this.record.body_out += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Some(Err(error)) => {
                this.record.outcome = RequestOutcome::NodeFailed;
                this.record.reason = Some(error.to_string().into());
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Buffered(body) => body.as_ref().is_none_or(Bytes::is_empty),
            Content::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Buffered(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64)
            }
            Content::Streaming(body) => body.size_hint(),
        }
    }
}

fn rejection_response(rejection: &Rejection, record: &mut RequestRecord) -> Response<Bytes> {
    let answer = rejection.error_response();
    record.outcome = answer.outcome;
    record.reason = Some(rejection.reason().into());
    record.result_code = Some(answer.code.into());
    let mut response = Response::new(ccfs::envelope(answer.code, &rejection.public_message()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON_UTF_8);
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
            record.metrics().count(Decision::refused(*limiter));
            if let Some(exceeded) = exceeded {
                rate_limit_headers(headers, limiter.as_str(), exceeded);
            }
        }
        Rejection::Overloaded(reason) => record.metrics().count(*reason),
        Rejection::InvalidRequest(invalid) => {
            let mut reasons = ValidationReject::ALL.iter();
            if let Some(&reason) = reasons.find(|label| label.as_str() == invalid.reason) {
                record.metrics().count(reason);
            }
        }
        _ => {}
    }
    if answer.closes_connection {
        let extensions = response.extensions_mut();
        if record.version >= Version::HTTP_2 && matches!(rejection, Rejection::ClientGone) {
            extensions.insert(ClientAborted);
        } else {
            extensions.insert(CloseAfterResponse);
        }
        if record.version < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
    response
}

/// draft-ietf-httpapi-ratelimit-headers: the budget is empty, and full again after its window.
fn rate_limit_headers(headers: &mut HeaderMap, name: &str, exceeded: &RateLimited) {
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
fn strip_reserved_headers(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(X_GATEWAY_ERROR);
    headers
}

/// What every answer carries.
fn add_common_headers(headers: &mut HeaderMap, record: &RequestRecord) {
    headers.insert(X_REQUEST_ID, record.request_id.clone());
    headers.append(header::VIA, VIA_GATEWAY);
}

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
