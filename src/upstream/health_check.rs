//! The background tasks of a cluster: DNS resolution of its names, and active health checks of its
//! nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::connect::connect;
use super::dns::{self, NameServers};
use super::failure_reason::{self, FailureReason};
use super::health_report::report;
use crate::auth::{self, Credential, Signable};
use crate::ccfs::ParsedResponse;
use crate::cluster::{
    Cluster, ConnectionSlot, FailureKind, HealthCheck, Node, NodeId, NodeOutcome, SignedCheck,
};
use crate::http_fields::JSON_UTF_8;

/// Runs the background tasks of `cluster`; never completes, and dropping it ends all of them.
/// `credential` belongs to the ak of a signed health check, and is not needed without one.
pub async fn watch_cluster(cluster: Arc<Cluster>, credential: Option<Arc<Credential>>) {
    watch_with(cluster, credential, NameServers::System).await;
}

/// As [`watch_cluster`], with other name servers.
pub(super) async fn watch_with(
    cluster: Arc<Cluster>,
    credential: Option<Arc<Credential>>,
    servers: NameServers,
) {
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for address in cluster.dns_names().cloned() {
        let (servers, changed) = (servers.clone(), changed.clone());
        tasks.spawn(dns::track_name(cluster.clone(), address, servers, changed));
    }
    let mut checks: HashMap<NodeId, AbortHandle> = HashMap::new();
    loop {
        if let Some(check) = &cluster.settings().health_check {
            let nodes = cluster.nodes();
            checks.retain(|id, task| {
                let stays = nodes.iter().any(|node| node.id() == *id);
                if !stays {
                    task.abort();
                }
                stays
            });
            for node in nodes {
                checks.entry(node.id()).or_insert_with(|| {
                    let (cluster, credential) = (cluster.clone(), credential.clone());
                    tasks.spawn(check_node(cluster, check.clone(), node, credential))
                });
            }
        }
        while tasks.try_join_next().is_some() {}
        // Never completes if all nodes are configured by address.
        changed.notified().await;
    }
}

/// Checks one node periodically. The first check comes within a tenth of the interval, so that a node
/// that is down at the start is found early.
async fn check_node(
    cluster: Arc<Cluster>,
    check: HealthCheck,
    node: Arc<Node>,
    credential: Option<Arc<Credential>>,
) {
    sleep(check.interval.mul_f64(0.1 * rand::random::<f64>())).await;
    loop {
        let result = timeout(check.timeout, probe(&cluster, &check, &node, &credential)).await;
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_elapsed) => {
                let reason = format!("no answer in {:?}", check.timeout);
                Some((FailureKind::Timeout, reason.into()))
            }
        };
        let now = Instant::now();
        match failure {
            None => report(
                &cluster,
                &node,
                NodeOutcome::ProbeSuccess,
                now,
                FailureReason::default,
            ),
            Some((kind, reason)) => {
                let reason = || format!("health check: {reason}").into();
                report(
                    &cluster,
                    &node,
                    NodeOutcome::ProbeFailure(kind),
                    now,
                    reason,
                );
            }
        }
        sleep(with_jitter(check.interval)).await;
    }
}

/// Runs one check over a new connection, so that a node that accepts no new ones is detected.
async fn probe(
    cluster: &Cluster,
    check: &HealthCheck,
    node: &Node,
    credential: &Option<Arc<Credential>>,
) -> Result<(), (FailureKind, FailureReason)> {
    let settings = cluster.settings();
    let slot = Arc::new(ConnectionSlot::default());
    let _close_on_drop = CloseOnDrop(&slot);
    let mut sender = connect(node, settings, slot.clone())
        .await
        .map_err(|reason| (FailureKind::ConnectFailed, reason))?;
    let signed = check.signed.as_ref().zip(credential.as_ref());
    let request = match signed {
        Some((signed, credential)) => signed_request(node, signed, credential, now()),
        None => plain_request(node, &check.path),
    };
    let request = request.ok_or((FailureKind::InvalidResponse, "it cannot be written".into()))?;
    let response = sender.send_request(request).await.map_err(|error| {
        let kind = if error.is_parse() {
            FailureKind::InvalidResponse
        } else {
            FailureKind::ConnectionClosed
        };
        (kind, failure_reason::from_hyper(&error))
    })?;
    let status = response.status();
    let Some((signed, _)) = signed else {
        let alive = status.as_u16() < 500;
        let wrong = || {
            (
                FailureKind::ServerError,
                failure_reason::from_response(status, None),
            )
        };
        return alive.then_some(()).ok_or_else(wrong);
    };
    if status != StatusCode::OK {
        return Err((
            FailureKind::ServerError,
            failure_reason::from_response(status, None),
        ));
    }
    let body = Limited::new(response.into_body(), MAX_RESPONSE_SIZE)
        .collect()
        .await;
    let broken = |_error| {
        (
            FailureKind::ConnectionClosed,
            "connection closed inside the answer".into(),
        )
    };
    let body = body.map_err(broken)?.to_bytes();
    let no_json = || {
        (
            FailureKind::InvalidResponse,
            "the answer is no JSON object".into(),
        )
    };
    let json = ParsedResponse::parse(&body).ok_or_else(no_json)?;
    let wrong = || {
        (
            FailureKind::ServerError,
            failure_reason::from_response(status, Some(&json)),
        )
    };
    let alive = json.is_success(&signed.result_codes);
    alive.then_some(()).ok_or_else(wrong)
}

fn plain_request(node: &Node, path: &str) -> Option<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = path.parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(&**node.name()).ok()?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Some(request)
}

/// A signed query for a recording of the last day.
fn signed_request(
    node: &Node,
    check: &SignedCheck,
    credential: &Credential,
    now: Timestamp,
) -> Option<Request<Full<Bytes>>> {
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
    let value = auth::sign(
        credential,
        "content-length;content-type;host",
        now,
        &signable,
    )
    .ok()?;
    headers.insert(AUTHORIZATION, value);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(SIGNED_PATH);
    *request.headers_mut() = headers;
    Some(request)
}

/// Closes the connection of a probe when the probe ends.
struct CloseOnDrop<'a>(&'a ConnectionSlot);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// `interval` within 10 %, so that replicas that were started together do not check together.
fn with_jitter(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a signature carries the time of the probe that it is made for"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

const SIGNED_PATH: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";

/// The largest response to a signed check, in bytes; an envelope has a few hundred.
const MAX_RESPONSE_SIZE: usize = 1 << 20;
