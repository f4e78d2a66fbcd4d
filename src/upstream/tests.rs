//! Requests to test servers over real TLS.

mod buffered;
mod failover;
mod failure_reasons;
mod faults;
mod flow_control;
mod health_checks;
mod node_tls;
mod reload;
mod streaming;
pub(super) mod test_server;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use tokio::time::Instant;

use super::*;
use crate::auth::{self, Claim, Credential, Secret, Signable};
use crate::ccfs::{self, Endpoint};
use crate::cluster::{Cluster, FailureKind};
use crate::message::{Authorization, ConnectError, RequestMetadata, UpstreamRequest};
use crate::metrics::{Attempt, Metrics, RetryOverflow, RetryReason, Totals};
use crate::telemetry::TraceContext;

/// An upstream with counters that can be read.
pub(super) struct TestUpstream {
    upstream: Upstream,
    metrics: Metrics,
}

impl TestUpstream {
    pub(super) fn new() -> Self {
        let metrics = Metrics::default();
        let settings = UpstreamSettings {
            max_answer: 64 * 1024,
            min_receive_rate: 4096,
        };
        let upstream = Upstream::new(settings, metrics.add_shard(), None);
        Self { upstream, metrics }
    }

    async fn send_buffered(
        &self,
        request: &UpstreamRequest,
    ) -> Result<BufferedResponse, UpstreamError> {
        self.upstream.send_buffered(request, OVERALL_TIMEOUT).await
    }

    pub(super) async fn send_streaming(
        &self,
        request: &UpstreamRequest,
    ) -> Result<StreamingResponse, UpstreamError> {
        self.upstream.send_streaming(request, OVERALL_TIMEOUT).await
    }

    fn totals(&self) -> Totals {
        self.metrics.sum()
    }
}

/// An idempotent query.
pub(super) const QUERY: &str = "getRecordFileUrlFromObs";
/// Starts a job: not idempotent.
const JOB: &str = "requestRecordAnalysis";
/// Its response streams.
pub(super) const DOWNLOAD: &str = "downloadRecord";

/// A verified request, which goes out with the client's own signature.
pub(super) fn request_to(name: &str, cluster: &Arc<Cluster>) -> UpstreamRequest {
    let mut request = unverified_request_to(name, cluster);
    let credential = Credential::new("ak1".into(), vec![Secret::new(b"secret".to_vec())], true);
    let credential = Arc::new(credential);
    let mut headers = (*request.headers).clone();
    let (now, names) = (Timestamp::UNIX_EPOCH, "content-type;host");
    let signable = Signable {
        method: request.method.as_str(),
        path: request.target.path(),
        query: None,
        headers: &request.headers,
        body: &request.body,
    };
    let value = auth::sign(&credential, names, now, &signable).unwrap();
    headers.insert("authorization", value);
    let claim = Claim::parse(&headers, now, None).unwrap();
    let signer = claim.verify(Some(&credential), &signable).unwrap();
    request.authorization = Authorization::PassThrough(Some(signer));
    request.headers = Arc::new(headers);
    request
}

pub(super) fn unverified_request_to(name: &str, cluster: &Arc<Cluster>) -> UpstreamRequest {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gw.example:28443"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let endpoint: &'static Endpoint = ccfs::ENDPOINTS
        .iter()
        .find(|endpoint| endpoint.name == name)
        .expect("an interface of the table");
    UpstreamRequest {
        is_refresh: false,
        not_after: None,
        endpoint,
        cluster: cluster.clone(),
        method: Method::POST,
        target: PathAndQuery::try_from(format!("/CCFS/resource/ccfs/{name}")).unwrap(),
        headers: Arc::new(headers),
        body: Bytes::from_static(br#"{"callId":"1"}"#),
        authorization: Authorization::PassThrough(None),
        hash_key: 7,
        metadata: RequestMetadata {
            client_ip: "192.0.2.7".parse().unwrap(),
            request_id: HeaderValue::from_static("req-1"),
            trace: TraceContext::FOR_TEST,
            via: HeaderValue::from_static("1.1 ccfs-gateway-0123456789ab"),
        },
    }
}

/// Waits until a condition holds, at most a few seconds.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 5 s: {what}");
        tokio::task::yield_now().await;
    }
}

const OVERALL_TIMEOUT: Duration = Duration::from_secs(10);
