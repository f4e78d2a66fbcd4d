//! One node: judges a request, records it, answers it, and lets the faults have their way.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE, SERVER,
};
use http::{Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::faults::{ActiveFaults, Fault, Faults};
use super::head;
use super::interfaces::{Interface, Responder, result_code_response};
use super::presign::{Presigner, UrlStyle};
use super::record::{RecordedRequest, Recorder};
use super::response::{BodyPacing, Content, PacedBody, StandInResponse};
use super::wire::{self, WireScript};
use crate::auth::{AuthError, Claim, Credential, Signable};

/// What a node knows; lives through restarts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) keys: HashMap<String, Arc<Credential>>,
    pub(super) clock_window: Option<SignedDuration>,
    pub(super) urls: UrlStyle,
    pub(super) presigner: Presigner,
    pub(super) recorder: Recorder,
    pub(super) faults: Faults,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum NodeAction {
    Respond(Response<PacedBody>),
    /// Something that ends the connection.
    RunScript(WireScript),
}

impl Node {
    pub(super) async fn handle(&self, connection: u64, request: Request<Incoming>) -> NodeAction {
        let judged = head::validate(&request);
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST_BODY).collect().await;
        let Ok(body) = body.map(|body| body.to_bytes()) else {
            let text = "the request body is cut or too large";
            let answer = StandInResponse::failure(StatusCode::BAD_REQUEST, "400", text);
            return NodeAction::Respond(http_response(answer, BodyPacing::default(), false));
        };
        let asked = ReceivedRequest {
            connection,
            interface: Interface::find(head.uri.path()),
            head,
            body,
            now: now(),
        };
        let caller = match judged {
            Ok(()) => self
                .authenticate(&asked)
                .map_err(|error| (StatusCode::UNAUTHORIZED, error.to_string())),
            Err(text) => Err((StatusCode::BAD_REQUEST, text)),
        };
        // Drawn before it is recorded: who saw the record may rely on the faults being drawn.
        let drawn = self.faults.activate(asked.interface.map(|it| it.name));
        self.record(&asked, &caller);
        let answer = match caller {
            Err((status, text)) => StandInResponse::failure(status, status.as_str(), &text),
            Ok(access_key) => self.respond(&asked, access_key.is_some()),
        };
        apply_faults(drawn, asked.interface, answer).await
    }

    /// Who signed; `None` where nobody has to.
    fn authenticate(&self, asked: &ReceivedRequest) -> Result<Option<String>, AuthError> {
        let (head, signed) = (
            &asked.head,
            asked.interface.is_some_and(Interface::is_signed),
        );
        if !signed && !head.headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        let claim = Claim::parse(&head.headers, asked.now, self.clock_window)?;
        let signable = Signable {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
            body: &asked.body,
        };
        let caller = claim.verify(self.keys.get(claim.access_key()), &signable)?;
        Ok(Some(caller.access_key().as_str().to_owned()))
    }

    fn respond(&self, asked: &ReceivedRequest, signed: bool) -> StandInResponse {
        let (ReceivedRequest { head, body, .. }, Some(interface)) = (asked, asked.interface) else {
            return unlisted_response(asked.head.uri.path(), signed);
        };
        if head.method != interface.method() {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return StandInResponse::failure(status, status.as_str(), "another method, please");
        }
        let desk = Responder {
            presigner: &self.presigner,
            style: &self.urls,
            faults: &self.faults,
            now: asked.now,
        };
        desk.respond(interface, head.uri.query(), body)
    }

    fn record(
        &self,
        asked: &ReceivedRequest,
        caller: &Result<Option<String>, (StatusCode, String)>,
    ) {
        let ReceivedRequest { head, body, .. } = asked;
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            let mut value = value.clone();
            value.set_sensitive(name == AUTHORIZATION);
            (name.clone(), value)
        };
        let received = || RecordedRequest {
            connection: asked.connection,
            method: head.method.clone(),
            target: head.uri.to_string(),
            headers: head.headers.iter().map(field).collect(),
            body: body.slice(..body.len().min(MAX_RECORDED_BODY)),
            body_length: body.len() as u64,
            access_key: caller.as_ref().ok().cloned().flatten(),
            rejection: caller.as_ref().err().map(|(_, text)| text.clone()),
        };
        let name = asked.interface.map_or(UNLISTED, |interface| interface.name);
        self.recorder.record(name, caller.is_err(), received);
    }
}

/// A request, read whole.
struct ReceivedRequest {
    connection: u64,
    interface: Option<&'static Interface>,
    head: request::Parts,
    body: Bytes,
    now: Timestamp,
}

/// The name under which requests to no interface of CC-FS are counted.
pub const UNLISTED: &str = "(unlisted)";

/// Lets the faults have their way with a right answer.
async fn apply_faults(
    mut drawn: ActiveFaults,
    interface: Option<&Interface>,
    mut answer: StandInResponse,
) -> NodeAction {
    let mut pace = BodyPacing::default();
    let mut hop_by_hop = false;
    for fault in &drawn.faults {
        match fault {
            Fault::BigResponse(size) => answer = big_response(*size),
            Fault::GarbageJson => {
                answer.content = Content::Full(r#"{"resultCode":"0","resultData":{"#.into());
            }
            Fault::FlowControl => {
                let code = interface.map_or("0300009", Interface::flow_control_code);
                answer = result_code_response(code);
            }
            Fault::ResultCode(code) => answer = result_code_response(code),
            Fault::Status(code) => answer = wire::status_response(*code),
            Fault::Chunked => {
                pace.has_content_length = false;
                pace.chunk_size = pace.chunk_size.min(MAX_CHUNK_SIZE);
            }
            Fault::DelayBody(delay) => pace.initial_delay = *delay,
            Fault::Drip(piece, pause) => {
                (pace.chunk_size, pace.chunk_interval) = ((*piece).max(1), *pause)
            }
            Fault::HopByHopHeaders => hop_by_hop = true,
            _ => {}
        }
    }
    drawn.delay_head().await;
    let script = drawn
        .faults
        .iter()
        .find_map(|fault| WireScript::for_fault(fault, &answer));
    match script {
        Some(script) => NodeAction::RunScript(script),
        None => NodeAction::Respond(http_response(answer, pace, hop_by_hop)),
    }
}

fn http_response(
    answer: StandInResponse,
    pace: BodyPacing,
    hop_by_hop: bool,
) -> Response<PacedBody> {
    let mut response = Response::new(PacedBody::new(answer.content, pace));
    *response.status_mut() = answer.status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    fields.insert(SERVER, HeaderValue::from_static("ccfs-stand-in"));
    if hop_by_hop {
        let of = HeaderValue::from_static;
        fields.insert(CONNECTION, of("x-node-secret, keep-alive"));
        fields.insert("x-node-secret", of("1"));
        fields.insert("keep-alive", of("timeout=5"));
        fields.insert(PROXY_AUTHENTICATE, of("Basic"));
        fields.insert("proxy-connection", of("keep-alive"));
    }
    response
}

fn big_response(size: usize) -> StandInResponse {
    let filling = "x".repeat(size);
    StandInResponse::json(&json!({
        "resultData": {"url": "https://big.example.com/a", "filling": filling},
        "resultCode": "0",
        "resultDesc": "success",
    }))
}

/// Other services live at the same address; whoever signs rightly is let in.
fn unlisted_response(path: &str, signed: bool) -> StandInResponse {
    if signed {
        return StandInResponse::json(&json!({
            "resultData": {"path": path}, "resultCode": "0", "resultDesc": "success",
        }));
    }
    let status = StatusCode::NOT_FOUND;
    StandInResponse::failure(status, status.as_str(), "no such interface")
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the node's clock is read once per request"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// An upload of 5 MB is 7 MB as base64; twice that.
const MAX_REQUEST_BODY: usize = 16 * 1024 * 1024;

const MAX_RECORDED_BODY: usize = 64 * 1024;

/// Small enough that every answer has several.
const MAX_CHUNK_SIZE: usize = 32;
