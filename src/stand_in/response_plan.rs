//! The response to one request while faults are applied to it.

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE, SERVER};
use http::{Response, StatusCode};
use serde_json::json;

use super::faults::Fault;
use super::flow_limits::FlowPermit;
use super::interfaces::{Interface, result_code_response};
use super::response::{BodyPacing, Content, PacedBody, StandInResponse};
use super::wire::WireScript;

/// How a request is handled.
#[derive(Debug)]
pub(super) enum NodeAction {
    Respond(Response<PacedBody>),
    /// Raw bytes are written instead of a response; the connection ends.
    RunScript(WireScript),
}

/// A valid response, changed by [`Fault::apply`] until it is sent.
#[derive(Debug)]
pub(super) struct ResponsePlan {
    interface: Option<&'static Interface>,
    response: StandInResponse,
    pacing: BodyPacing,
    /// Added by [`Fault::Header`].
    headers: Vec<(&'static str, &'static str)>,
    has_hop_by_hop_headers: bool,
    /// The first wire fault; it is applied to the final response.
    wire_fault: Option<Fault>,
    /// Held until the response is sent, or until a wire fault takes its place.
    permit: Option<FlowPermit>,
}

impl ResponsePlan {
    pub(super) fn new(interface: Option<&'static Interface>, response: StandInResponse) -> Self {
        Self {
            interface,
            response,
            pacing: BodyPacing::default(),
            headers: Vec::new(),
            has_hop_by_hop_headers: false,
            wire_fault: None,
            permit: None,
        }
    }

    /// Returns the plan with the permit that the request holds until its response is sent.
    pub(super) fn holding(mut self, permit: Option<FlowPermit>) -> Self {
        self.permit = permit;
        self
    }

    pub(super) fn into_action(self) -> NodeAction {
        let fault = self.wire_fault.as_ref();
        match fault.and_then(|fault| WireScript::for_fault(fault, &self.response)) {
            Some(script) => NodeAction::RunScript(script),
            None => NodeAction::Respond(self.into_response()),
        }
    }

    fn into_response(self) -> Response<PacedBody> {
        let mut response = Response::new(PacedBody::new(
            self.response.content,
            self.pacing,
            self.permit,
        ));
        *response.status_mut() = self.response.status;
        let headers = response.headers_mut();
        let value = HeaderValue::from_static;
        headers.insert(CONTENT_TYPE, value(self.response.content_type));
        headers.insert(SERVER, value("ccfs-stand-in"));
        for (name, added) in self.headers {
            headers.append(name, value(added));
        }
        if self.has_hop_by_hop_headers {
            headers.insert(CONNECTION, value("x-node-secret, keep-alive"));
            headers.insert("x-node-secret", value("1"));
            headers.insert("keep-alive", value("timeout=5"));
            headers.insert(PROXY_AUTHENTICATE, value("Basic"));
            headers.insert("proxy-connection", value("keep-alive"));
        }
        response
    }
}

impl Fault {
    /// Applies the fault to a response. Faults that delay the head are applied by
    /// [`ActiveFaults::delay_head`](super::faults::ActiveFaults::delay_head).
    pub(super) fn apply(&self, plan: &mut ResponsePlan) {
        match self {
            Self::BigResponse(size) => plan.response = big_response(*size),
            Self::Body(content_type, body) => {
                plan.response.content_type = content_type;
                plan.response.content = Content::Full(body.clone().into());
            }
            Self::GarbageJson => {
                plan.response.content = Content::Full(r#"{"resultCode":"0","resultData":{"#.into());
            }
            Self::FlowControl => {
                let code = plan
                    .interface
                    .map_or("0300009", Interface::flow_control_code);
                plan.response = result_code_response(code);
            }
            Self::ResultCode(code) => plan.response = result_code_response(code),
            Self::Status(code) => plan.response = status_response(*code),
            Self::Chunked => {
                plan.pacing.has_content_length = false;
                plan.pacing.chunk_size = plan.pacing.chunk_size.min(MAX_CHUNK_SIZE);
            }
            Self::DelayBody(delay) => plan.pacing.initial_delay = *delay,
            Self::Drip(size, interval) => {
                plan.pacing.chunk_size = (*size).max(1);
                plan.pacing.chunk_interval = *interval;
            }
            Self::Header(name, value) => plan.headers.push((name, value)),
            Self::HopByHopHeaders => plan.has_hop_by_hop_headers = true,
            Self::DelayHead(_) | Self::Hold => {}
            Self::CloseAfterResponse
            | Self::CloseBeforeResponse
            | Self::CloseInBody
            | Self::CloseInHead
            | Self::ConflictingContentLengths
            | Self::ContentLengthAndChunked
            | Self::ExtraResponse
            | Self::GarbageHttp
            | Self::Hang
            | Self::HangInBody
            | Self::Interim
            | Self::NulInHeaderValue
            | Self::Reset
            | Self::ResetInBody
            | Self::UntilClose => {
                plan.wire_fault.get_or_insert_with(|| self.clone());
            }
        }
    }
}

/// Returns the response of [`Fault::BigResponse`].
fn big_response(size: usize) -> StandInResponse {
    let filling = "x".repeat(size);
    StandInResponse::json(&json!({
        "resultData": {"url": "https://big.example.com/a", "filling": filling},
        "resultCode": "0",
        "resultDesc": "success",
    }))
}

/// Returns the response of [`Fault::Status`].
fn status_response(code: u16) -> StandInResponse {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::UNAUTHORIZED {
        StandInResponse::failure(status, "401", "signature verification failed")
    } else {
        StandInResponse::html_page(status)
    }
}

/// Largest chunk of [`Fault::Chunked`] in bytes: small enough that every response has several.
const MAX_CHUNK_SIZE: usize = 32;
