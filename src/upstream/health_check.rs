//! The background tasks of a cluster: DNS resolution of its names, and active health checks of its
//! nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::connect::connect;
use super::dns::{self, NameServers};
use super::exchange::{EncodedRequest, ExchangeError};
use super::failure_reason::{self, FailureReason};
use super::health_report::report;
use crate::auth::{self, Credential, Signable};
use crate::ccfs::ParsedResponse;
use crate::cluster::{Cluster, FailureKind, HealthCheck, Node, NodeId, NodeOutcome, SignedCheck};
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
                let reason = format!("no response in {:?}", check.timeout);
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
    let signed = check.signed.as_ref().zip(credential.as_ref());
    let request = match signed {
        Some((signed, credential)) => signed_request(node, signed, credential, now()),
        None => Some(plain_request(node, &check.path)),
    };
    let invalid = |reason: &'static str| (FailureKind::InvalidResponse, reason.into());
    let request = request.ok_or_else(|| invalid("the request cannot be signed"))?;
    let mut connection = connect(node, cluster.settings())
        .await
        .map_err(|(_, reason)| (FailureKind::ConnectFailed, reason))?;
    let sent = AtomicBool::new(false);
    let head = connection.send(request, &sent).await.map_err(failure)?;

    let error = |json: Option<&ParsedResponse>| {
        let reason = failure_reason::from_response(head.status, json);
        (FailureKind::ServerError, reason)
    };
    let Some((signed, _)) = signed else {
        let is_healthy = head.status.as_u16() < 500;
        return is_healthy.then_some(()).ok_or_else(|| error(None));
    };
    if head.status != StatusCode::OK {
        return Err(error(None));
    }
    let mut body = Vec::new();
    while let Some(data) = connection.data().await.map_err(failure)? {
        body.extend_from_slice(&data);
        if body.len() > MAX_RESPONSE_SIZE {
            return Err(invalid("the response is too large"));
        }
    }
    let json = ParsedResponse::parse(&body);
    let json = json.ok_or_else(|| invalid("the response is no JSON object"))?;
    let is_healthy = json.is_success(&signed.result_codes);
    is_healthy.then_some(()).ok_or_else(|| error(Some(&json)))
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
    let head = format!("GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
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
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
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
