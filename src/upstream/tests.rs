//! Deliveries to toy nodes over real TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::ccfs::{self, Endpoint};
use crate::message::{Authorization, RequestMetadata, UpstreamRequest};
use crate::metrics::{Attempt, Metrics, Totals};
use crate::telemetry::TraceContext;

mod causes;
mod failover;
mod reload;
mod stream;
pub(super) mod toy;
mod watch;
mod whole;

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
        delivery: &UpstreamRequest,
    ) -> Result<BufferedResponse, UpstreamError> {
        self.upstream.send_buffered(delivery, OVERALL_TIMEOUT).await
    }

    pub(super) async fn send_streaming(
        &self,
        delivery: &UpstreamRequest,
    ) -> Result<StreamingResponse, UpstreamError> {
        self.upstream
            .send_streaming(delivery, OVERALL_TIMEOUT)
            .await
    }

    fn totals(&self) -> Totals {
        self.metrics.sum()
    }
}

/// Reads only: may be repeated.
pub(super) const QUERY: &str = "getRecordFileUrlFromObs";
/// Starts a job: may not.
const JOB: &str = "requestRecordAnalysis";
/// Streams.
pub(super) const DOWNLOAD: &str = "downloadRecord";

pub(super) fn request_to(name: &str, cluster: &Arc<Cluster>) -> UpstreamRequest {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gw.example:28443"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let endpoint: &'static Endpoint = ccfs::ENDPOINTS
        .iter()
        .find(|row| row.name == name)
        .expect("a row of the table");
    UpstreamRequest {
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
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

const OVERALL_TIMEOUT: Duration = Duration::from_secs(10);
