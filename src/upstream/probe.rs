//! One health check of a node: a request over a connection that is kept from check to check, or over a new
//! one.
//!
//! | the connection is | when |
//! |---|---|
//! | new | for the first check, after a failed one, while the node is down, and for every fifth; not if requests opened a new one since the last |
//! | new, without resumption | once an hour: a resumed session verifies no certificate |
//! | kept | else |
//!
//! So a check costs a fraction of a handshake, and a node that takes no new connections is found by the
//! fifth check, or by the first request.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::connect::connect_for_check;
use super::exchange::{Connection, EncodedRequest, ExchangeError, Head};
use super::failure_reason::{self, FailureReason};
use super::signature_report::read_clock;
use crate::auth::{self, Credential, Signable};
use crate::ccfs::ParsedResponse;
use crate::cluster::{Cluster, FailureKind, Node, SignedCheck};
use crate::http_fields::JSON_UTF_8;

/// What a check asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProbeRequest<'a> {
    /// A GET of this path: any status below 500 is healthy.
    Get(&'a str),
    /// A signed request, judged by its result code.
    Signed(&'a SignedCheck, &'a Credential),
}

/// Why a node is not healthy.
pub(super) type ProbeFailure = (FailureKind, FailureReason);

/// Checks one node.
pub(super) struct Prober {
    cluster: Arc<Cluster>,
    node: Arc<Node>,
    kept: Option<Kept>,
    /// Whether the last check failed, or was given up.
    must_be_new: bool,
    /// Checks since the last new connection.
    on_kept: u32,
    /// The connections that the requests had opened then.
    opened_by_requests: u64,
    /// The longest time between two handshakes that verify the certificate.
    pub(super) full_handshake_interval: Duration,
}

/// A connection between two checks.
struct Kept {
    connection: Connection,
    opened: Instant,
}

impl Prober {
    pub(super) fn new(cluster: Arc<Cluster>, node: Arc<Node>) -> Self {
        Self {
            cluster,
            node,
            kept: None,
            must_be_new: true,
            on_kept: 0,
            opened_by_requests: 0,
            full_handshake_interval: Duration::from_secs(3600),
        }
    }

    /// Runs one check. If it is dropped before its end, the next one uses a new connection.
    ///
    /// # Errors
    /// The node is not healthy.
    pub(super) async fn probe(&mut self, request: ProbeRequest<'_>) -> Result<(), ProbeFailure> {
        let kept = self.take_kept();
        self.must_be_new = true;
        let mut kept_works = None;
        if let Some(mut kept) = kept {
            self.on_kept += 1;
            match self.ask(&mut kept.connection, request).await {
                // The node has closed it meanwhile: that says nothing.
                Err((FailureKind::ConnectionClosed, _))
                    if !kept.connection.has_response_started() => {}
                result => kept_works = Some((kept, result)),
            }
        }
        let (kept, result) = match kept_works {
            Some(done) => done,
            // Boxed, so that a check over the kept connection does not move the memory of a handshake.
            None => Box::pin(self.ask_over_new(request)).await?,
        };
        self.keep(kept);
        self.must_be_new = result.is_err();
        result
    }

    /// Returns the kept connection if this check may use it.
    fn take_kept(&mut self) -> Option<Kept> {
        let opened = self.node.opened_by_requests();
        if opened != self.opened_by_requests {
            self.opened_by_requests = opened;
            self.on_kept = 0;
        }
        let mut kept = self.kept.take()?;
        let max_age = self.cluster.settings().pool.max_age;
        let is_fit = !self.must_be_new
            && !self.node.is_down()
            && self.on_kept < CHECKS_PER_CONNECTION - 1
            && kept.opened.elapsed() < max_age
            && kept.connection.is_quiet();
        if !is_fit {
            kept.connection.close();
            return None;
        }
        Some(kept)
    }

    async fn ask_over_new(
        &mut self,
        request: ProbeRequest<'_>,
    ) -> Result<(Kept, Result<(), ProbeFailure>), ProbeFailure> {
        let (node, settings) = (&self.node, self.cluster.settings());
        let now = Instant::now();
        if node.is_full_handshake_due(now.into_std(), self.full_handshake_interval) {
            node.forget_sessions();
        }
        let connected = connect_for_check(node, settings).await;
        let mut connection =
            connected.map_err(|(_, reason)| (FailureKind::ConnectFailed, reason))?;
        self.on_kept = 0;
        let result = self.ask(&mut connection, request).await;
        let opened = now;
        Ok((Kept { connection, opened }, result))
    }

    fn keep(&mut self, mut kept: Kept) {
        if kept.connection.finish() {
            self.kept = Some(kept);
        } else {
            kept.connection.close();
        }
    }

    /// Sends the request and judges the response.
    async fn ask(
        &self,
        connection: &mut Connection,
        request: ProbeRequest<'_>,
    ) -> Result<(), ProbeFailure> {
        let node = &self.node;
        let invalid = |reason: &'static str| (FailureKind::InvalidResponse, reason.into());
        let encoded = match request {
            ProbeRequest::Get(path) => Some(plain_request(node, path)),
            ProbeRequest::Signed(check, credential) => {
                signed_request(node, check, credential, now())
            }
        };
        let encoded = encoded.ok_or_else(|| invalid("the request cannot be signed"))?;
        let sent = AtomicBool::new(false);
        let head = connection.send(encoded, &sent).await.map_err(failure)?;
        read_clock(node, &head.headers);
        match request {
            ProbeRequest::Get(_) => {
                let is_healthy = head.status.as_u16() < 500;
                is_healthy.then_some(()).ok_or_else(|| error(&head, None))?;
                // Read only to keep the connection; what is large is not worth it.
                let _ = read_body(connection).await;
                Ok(())
            }
            ProbeRequest::Signed(check, _) => {
                if head.status != StatusCode::OK {
                    return Err(error(&head, None));
                }
                let body = read_body(connection).await.map_err(failure)?;
                let body = body.ok_or_else(|| invalid("the response is too large"))?;
                let json = ParsedResponse::parse(&body);
                let json = json.ok_or_else(|| invalid("the response is no JSON object"))?;
                let is_healthy = json.is_success(&check.result_codes);
                is_healthy
                    .then_some(())
                    .ok_or_else(|| error(&head, Some(&json)))
            }
        }
    }
}

/// Reads the rest of a response; `None` if it is too large.
async fn read_body(connection: &mut Connection) -> Result<Option<Vec<u8>>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(data) = connection.data().await? {
        body.extend_from_slice(&data);
        if body.len() > MAX_RESPONSE_SIZE {
            return Ok(None);
        }
    }
    Ok(Some(body))
}

fn error(head: &Head, json: Option<&ParsedResponse>) -> ProbeFailure {
    let reason = failure_reason::from_response(head.status, json);
    (FailureKind::ServerError, reason)
}

fn failure(error: ExchangeError) -> (FailureKind, FailureReason) {
    let kind = match error {
        ExchangeError::Invalid(_) => FailureKind::InvalidResponse,
        ExchangeError::Closed | ExchangeError::Io(_) => FailureKind::ConnectionClosed,
    };
    (kind, error.into_reason())
}

fn plain_request(node: &Node, path: &str) -> EncodedRequest {
    let name = node.name();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {name}\r\n\r\n");
    EncodedRequest {
        head: head.into_bytes(),
        body: Bytes::new(),
        is_head: false,
    }
}

/// A signed query for a recording of the last day.
fn signed_request(
    node: &Node,
    check: &SignedCheck,
    credential: &Credential,
    now: Timestamp,
) -> Option<EncodedRequest> {
    let text = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    let day = SignedDuration::from_hours(24);
    let body = serde_json::json!({
        "callId": check.call_id,
        "beginTime": text(now.checked_sub(day).ok()?),
        "endTime": text(now),
        "version": "2.0",
    });
    let body = Bytes::from(body.to_string());
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::try_from(&**node.name()).ok()?);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CONTENT_TYPE, JSON_UTF_8);
    let signable = Signable {
        method: "POST",
        path: SIGNED_PATH,
        query: None,
        headers: &headers,
        body: &body,
    };
    let names = "content-length;content-type;host";
    let value = auth::sign(credential, names, now, &signable).ok()?;
    headers.insert(AUTHORIZATION, value);
    let mut head = format!("POST {SIGNED_PATH} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Some(EncodedRequest {
        head,
        body,
        is_head: false,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a signature carries the time of the probe that it is made for"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

const SIGNED_PATH: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";

/// The largest response that is read, in bytes; an envelope has a few hundred.
const MAX_RESPONSE_SIZE: usize = 1 << 20;

/// Of so many checks one uses a new connection.
const CHECKS_PER_CONNECTION: u32 = 5;
