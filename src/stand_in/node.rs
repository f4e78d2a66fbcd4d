//! One node: verifies a request, records it, builds the response and applies faults to it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::faults::Faults;
use super::flow_limits::FlowPermit;
use super::head;
use super::interfaces::{Interface, Responder, result_code_response};
use super::object_store;
use super::presign::{Presigner, UrlStyle};
use super::record::{RecordedRequest, Recorder};
use super::response::StandInResponse;
use super::response_plan::{NodeAction, ResponsePlan};
use crate::auth::{AuthError, Claim, Credential, Signable};

/// State of a node; kept over restarts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) keys: HashMap<String, Arc<Credential>>,
    pub(super) clock_window: Option<SignedDuration>,
    pub(super) urls: UrlStyle,
    pub(super) presigner: Presigner,
    pub(super) recorder: Recorder,
    pub(super) faults: Faults,
}

impl Node {
    /// Verifies and records a request, and returns the response with its faults applied.
    pub(super) async fn handle(&self, connection: u64, request: Request<Incoming>) -> NodeAction {
        let valid_head = head::validate(&request);
        let (head, body) = request.into_parts();
        if let Some(response) = object_store::answer(&head, now()) {
            return NodeAction::Respond(response);
        }
        let body = Limited::new(body, MAX_REQUEST_BODY).collect().await;
        let Ok(body) = body.map(|body| body.to_bytes()) else {
            let text = "the request body is incomplete or too large";
            let response = StandInResponse::failure(StatusCode::BAD_REQUEST, "400", text);
            return ResponsePlan::new(None, response).into_action();
        };
        let request = ReceivedRequest {
            connection,
            interface: Interface::find(head.uri.path()),
            head,
            body,
            now: now(),
        };
        let verified = match valid_head {
            Ok(()) => self
                .authenticate(&request)
                .map_err(|error| (StatusCode::UNAUTHORIZED, error.to_string())),
            Err(text) => Err((StatusCode::BAD_REQUEST, text)),
        };
        let permit = match self.admit(&request, &verified) {
            Ok(permit) => permit,
            Err(refused) => {
                self.record(&request, &verified);
                return refused.into_action();
            }
        };
        // Faults are chosen before the request is recorded: a test that has seen the record may rely
        // on their choice.
        let mut active = self.faults.activate(request.interface.map(|it| it.name));
        self.record(&request, &verified);
        let response = match verified {
            Err((status, text)) => StandInResponse::failure(status, status.as_str(), &text),
            Ok(access_key) => self.respond(&request, access_key.is_some()),
        };
        let mut plan = ResponsePlan::new(request.interface, response).holding(permit);
        for fault in &active.faults {
            fault.apply(&mut plan);
        }
        active.delay_head().await;
        plan.into_action()
    }

    /// Takes a valid request to an interface, as its flow limit allows; other requests have none.
    fn admit(
        &self,
        request: &ReceivedRequest,
        verified: &Result<Option<String>, (StatusCode, String)>,
    ) -> Result<Option<FlowPermit>, Box<ResponsePlan>> {
        let (Some(interface), Ok(access_key)) = (request.interface, verified) else {
            return Ok(None);
        };
        let admitted = self
            .faults
            .admit(interface.flow_class(), access_key.as_deref());
        admitted.map(Some).ok_or_else(|| {
            let response = result_code_response(interface.flow_control_code());
            Box::new(ResponsePlan::new(Some(interface), response))
        })
    }

    /// Returns the access key; `None` if the interface needs no signature and none was sent.
    fn authenticate(&self, request: &ReceivedRequest) -> Result<Option<String>, AuthError> {
        let head = &request.head;
        let is_signed = request.interface.is_some_and(Interface::is_signed);
        if !is_signed && !head.headers.contains_key(AUTHORIZATION) {
            return Ok(None);
        }
        let claim = Claim::parse(&head.headers, request.now, self.clock_window)?;
        let signable = Signable {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
            body: &request.body,
        };
        let caller = claim.verify(self.keys.get(claim.access_key()), &signable)?;
        Ok(Some(caller.access_key().as_str().to_owned()))
    }

    fn respond(&self, request: &ReceivedRequest, is_signed: bool) -> StandInResponse {
        let (ReceivedRequest { head, body, .. }, Some(interface)) = (request, request.interface)
        else {
            return unlisted_response(request.head.uri.path(), is_signed);
        };
        if head.method != interface.method() {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return StandInResponse::failure(status, status.as_str(), "the method is not allowed");
        }
        let responder = Responder {
            presigner: &self.presigner,
            style: &self.urls,
            faults: &self.faults,
            now: request.now,
        };
        responder.respond(interface, head.uri.query(), body)
    }

    fn record(
        &self,
        request: &ReceivedRequest,
        verified: &Result<Option<String>, (StatusCode, String)>,
    ) {
        let ReceivedRequest { head, body, .. } = request;
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            let mut value = value.clone();
            value.set_sensitive(name == AUTHORIZATION);
            (name.clone(), value)
        };
        let received = || RecordedRequest {
            connection: request.connection,
            method: head.method.clone(),
            target: head.uri.to_string(),
            headers: head.headers.iter().map(header).collect(),
            body: body.slice(..body.len().min(MAX_RECORDED_BODY)),
            body_length: body.len() as u64,
            access_key: verified.as_ref().ok().cloned().flatten(),
            rejection: verified.as_ref().err().map(|(_, text)| text.clone()),
        };
        let name = request
            .interface
            .map_or(UNLISTED, |interface| interface.name);
        self.recorder.record(name, verified.is_err(), received);
    }
}

/// A complete request.
struct ReceivedRequest {
    connection: u64,
    interface: Option<&'static Interface>,
    head: request::Parts,
    body: Bytes,
    now: Timestamp,
}

/// Counter name of requests to paths that are no CC-FS interface.
pub const UNLISTED: &str = "(unlisted)";

/// Responds for paths of other services at the same address: signed requests succeed, others are 404.
fn unlisted_response(path: &str, is_signed: bool) -> StandInResponse {
    if is_signed {
        return StandInResponse::json(&json!({
            "resultData": {"path": path}, "resultCode": "0", "resultDesc": "success",
        }));
    }
    let status = StatusCode::NOT_FOUND;
    StandInResponse::failure(status, status.as_str(), "no such interface")
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the clock is read once per request"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Limit of a request body: twice the largest documented upload (5 MB, which is 7 MB as base64).
const MAX_REQUEST_BODY: usize = 16 * 1024 * 1024;

const MAX_RECORDED_BODY: usize = 64 * 1024;
