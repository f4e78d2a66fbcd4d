//! Deliveries to toy nodes over real TLS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::ccfs::{self, Endpoint};
use crate::message::{Authorization, Context, Delivery};
use crate::metrics::{Metrics, Totals, Try};
use crate::telemetry::TraceContext;

mod causes;
mod failover;
mod reload;
mod stream;
pub(super) mod toy;
mod watch;
mod whole;

/// An upstream with counters that can be read.
pub(super) struct Sender {
    upstream: Upstream,
    metrics: Metrics,
}

impl Sender {
    pub(super) fn new() -> Self {
        let metrics = Metrics::default();
        let settings = UpstreamSettings {
            max_answer: 64 * 1024,
            min_receive_rate: 4096,
        };
        let upstream = Upstream::new(settings, metrics.shard(), None);
        Self { upstream, metrics }
    }

    async fn whole(&self, delivery: &Delivery) -> Result<WholeReply, Failure> {
        self.upstream.whole(delivery, LAST_TRY).await
    }

    pub(super) async fn stream(&self, delivery: &Delivery) -> Result<StreamReply, Failure> {
        self.upstream.stream(delivery, LAST_TRY).await
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

pub(super) fn delivery(name: &str, cluster: &Arc<Cluster>) -> Delivery {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("gw.example:28443"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let endpoint: &'static Endpoint = ccfs::TABLE
        .iter()
        .find(|row| row.name == name)
        .expect("a row of the table");
    Delivery {
        endpoint,
        cluster: cluster.clone(),
        method: Method::POST,
        target: PathAndQuery::try_from(format!("/CCFS/resource/ccfs/{name}")).unwrap(),
        headers: Arc::new(headers),
        body: Bytes::from_static(br#"{"callId":"1"}"#),
        authorization: Authorization::Kept(None),
        affinity: 7,
        context: Context {
            client: "192.0.2.7".parse().unwrap(),
            request_id: HeaderValue::from_static("req-1"),
            trace: TraceContext::FOR_TEST,
        },
    }
}

/// Waits until a condition holds, at most a few seconds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

const LAST_TRY: Duration = Duration::from_secs(10);
