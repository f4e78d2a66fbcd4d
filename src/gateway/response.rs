//! Makes every response: from a node's response, from a cached one or from a rejection, with the headers
//! that every response carries.

mod browser;
mod link;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;

use super::caller::Charged;
use super::{Guards, Rejection, RequestContext};
use crate::ccfs;
use crate::config::{Rate, RateLimitFields};
use crate::drain::{ClientAborted, CloseAfterResponse};
use crate::hex;
use crate::http_fields::{
    JSON_UTF_8, RATELIMIT, RATELIMIT_POLICY, SHARED_BY_FOLLOWERS, VIA_GATEWAY, X_GATEWAY_ERROR,
    X_REQUEST_ID,
};
use crate::limit;
use crate::message::{BodyError, BufferedResponse, StreamingResponse};
use crate::metrics::{CallerWay, Decision, Incident, Limiter, RequestOutcome, ValidationReject};
use crate::telemetry::RequestRecord;

/// A response before the common headers are added.
#[derive(Debug)]
pub(super) struct GatewayResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) outcome: RequestOutcome,
    content: Content,
}

impl GatewayResponse {
    /// Passes a node's buffered response through.
    pub(super) fn buffered(response: BufferedResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            outcome: RequestOutcome::Node,
            content: Content::Buffered(Some(response.body)),
        }
    }

    /// Passes a node's response through while it arrives.
    pub(super) fn streaming(response: StreamingResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            outcome: RequestOutcome::Node,
            content: Content::Streaming(response.body),
        }
    }

    /// Passes a node's buffered response to a request that did not cause it.
    pub(super) fn shared(response: BufferedResponse) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        for name in SHARED_BY_FOLLOWERS {
            for value in response.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self::buffered(BufferedResponse {
            headers,
            ..response
        })
    }

    /// Returns a stored body, under the gateway's own headers.
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

/// Makes the HTTP response of either result; its body owns the record and, if it streams, the permits.
pub(super) fn into_response(
    result: Result<GatewayResponse, Rejection>,
    mut context: RequestContext,
) -> Response<ResponseBody> {
    let rate_limit = RateLimitState::of(&result, &context);
    let by_certificate = context.caller_way == Some(CallerWay::Certificate);
    let record = &mut context.record;
    let (mut response, content) = match result {
        Ok(mut passed) => {
            record.outcome = passed.outcome;
            if by_certificate && !context.is_link {
                browser::drop_node_fields(&mut passed.headers);
            }
            let mut response = Response::new(());
            *response.status_mut() = passed.status;
            *response.headers_mut() = passed.headers;
            (response, passed.content)
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
    if let Some(rate_limit) = rate_limit {
        rate_limit.add_to(response.headers_mut());
    }
    if by_certificate {
        browser::forbid_embedding(response.headers_mut());
    }
    if by_certificate || context.is_link {
        browser::forbid_execution(response.headers_mut());
    } else if context.is_sandboxed {
        browser::sandbox(response.headers_mut());
    }
    record.status = response.status().as_u16();
    context.count_setback();
    let RequestContext { record, guards, .. } = context;
    // A buffered response holds no permit: the listener alone bounds how slowly a client may read it.
    let guards = matches!(content, Content::Streaming(_)).then_some(guards);
    response.map(|()| ResponseBody {
        content,
        record,
        _guards: guards,
    })
}

/// Makes the response to a head that never became a request.
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

/// Returns the client's request id if it matches `[A-Za-z0-9._-]{1,64}`, else a random one.
pub(super) fn request_id(headers: Option<&HeaderMap>) -> HeaderValue {
    let is_sane = |value: &&HeaderValue| {
        (1..=64).contains(&value.len())
            && value
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    };
    let received = headers
        .and_then(|fields| fields.get(&X_REQUEST_ID))
        .filter(is_sane);
    received.cloned().unwrap_or_else(|| {
        let mut id = [b'0'; 16];
        hex::write(&rand::random::<[u8; 8]>(), &mut id);
        // Hex digits are always a legal value.
        HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0"))
    })
}

/// The body of a response. Dropping it writes the record; a streaming one holds the request's permits
/// until then.
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
    let row = rejection.error_response();
    record.outcome = row.outcome;
    record.reason = Some(rejection.reason().into());
    count_rejection(rejection, record);
    let mut response = Response::new(ccfs::envelope(&row.code, &rejection.public_message()));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON_UTF_8);
    headers.insert(X_GATEWAY_ERROR, HeaderValue::from_static(row.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let proxy_status = format!("ccfs-gateway; error={}", rejection.proxy_error());
    if let Ok(proxy_status) = HeaderValue::try_from(proxy_status) {
        headers.insert(PROXY_STATUS, proxy_status);
    }
    if let Some(seconds) = row.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    match rejection {
        Rejection::MethodNeverAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        }
        Rejection::LinkMethodNotAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        Rejection::MethodNotAllowed(method) => {
            if let Ok(allow) = HeaderValue::from_str(method.as_str()) {
                headers.insert(header::ALLOW, allow);
            }
        }
        _ => {}
    }
    if row.closes_connection {
        // Over HTTP/2 a client that is gone has only reset its stream.
        let is_http2 = record.version >= Version::HTTP_2;
        if is_http2 && matches!(rejection, Rejection::ClientGone) {
            response.extensions_mut().insert(ClientAborted);
        } else {
            response.extensions_mut().insert(CloseAfterResponse);
        }
        if !is_http2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
    record.result_code = Some(row.code);
    response
}

/// Counts what the limiters, the load shedding and the validation rejected.
fn count_rejection(rejection: &Rejection, record: &RequestRecord) {
    match rejection {
        Rejection::RateLimited { limiter, .. } => {
            record.metrics().count(Decision::refused(*limiter));
            let name = if limiter.is_of_caller() {
                record.caller()
            } else {
                record.access_key.as_ref()
            };
            if let Some(name) = name {
                let incident = Incident::Limited(name.clone(), *limiter);
                record.metrics().note(incident);
            }
        }
        Rejection::Overloaded(reason) => record.metrics().count(*reason),
        Rejection::InvalidLink(invalid) | Rejection::InvalidRequest(invalid) => {
            let mut reasons = ValidationReject::ALL.iter();
            if let Some(&reason) = reasons.find(|label| label.as_str() == invalid.reason) {
                record.metrics().count(reason);
            }
        }
        _ => {}
    }
}

/// What the fields of draft-ietf-httpapi-ratelimit-headers tell: of a charged request what is left, of a
/// refused one when the next will pass.
struct RateLimitState {
    limiter: Limiter,
    rate: Rate,
    left: u32,
    /// The time until one more passes.
    grows_in: Duration,
}

impl RateLimitState {
    /// Returns what the response tells; `None` if it carries no such fields.
    fn of(result: &Result<GatewayResponse, Rejection>, context: &RequestContext) -> Option<Self> {
        let fields = context.snapshot.limits.ratelimit_fields;
        match (result, context.remaining) {
            _ if fields == RateLimitFields::Off => None,
            (
                Err(Rejection::RateLimited {
                    limiter,
                    exceeded: Some(exceeded),
                    ..
                }),
                _,
            ) => Some(Self {
                limiter: *limiter,
                rate: exceeded.rate,
                left: 0,
                grows_in: exceeded.wait,
            }),
            (_, Some(Charged { limiter, remaining })) if fields == RateLimitFields::Charged => {
                Some(Self {
                    limiter,
                    rate: remaining.rate,
                    left: remaining.tokens,
                    grows_in: remaining.next_in,
                })
            }
            _ => None,
        }
    }

    fn add_to(&self, headers: &mut HeaderMap) {
        let (name, rate, left) = (self.limiter.policy(), self.rate, self.left);
        let (window, seconds) = (rate.window_seconds(), limit::whole_seconds(self.grows_in));
        let policy = item(name, [("q", rate.burst.into()), ("w", window)]);
        let state = item(name, [("r", left.into()), ("t", seconds)]);
        for (field, item) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(item) {
                headers.insert(field, value);
            }
        }
    }
}

/// Returns an item of a structured field (RFC 9651): a string with parameters. Made without `fmt`, which took ten
/// times as long.
fn item(name: &str, parameters: [(&str, u64); 2]) -> String {
    let mut item = String::with_capacity(48);
    for part in ["\"", name, "\""] {
        item.push_str(part);
    }
    for (key, number) in parameters {
        for part in [";", key, "=", itoa::Buffer::new().format(number)] {
            item.push_str(part);
        }
    }
    item
}

/// Adds the headers that every response carries.
fn add_common_headers(headers: &mut HeaderMap, record: &RequestRecord) {
    headers.insert(X_REQUEST_ID, record.request_id.clone());
    headers.append(header::VIA, VIA_GATEWAY);
}

/// RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

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
