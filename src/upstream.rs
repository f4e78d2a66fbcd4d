//! Sends requests to the nodes of a cluster: load balancing, signing, connection pool, retries within
//! deadline and budget, and the health checks.
//!
//! | file | does |
//! |---|---|
//! | `retry` | the retry loop: which attempt is followed by another one |
//! | `attempt`, `attempt_telemetry` | one attempt at one node, its metrics and its span |
//! | `attempt_report` | what an attempt tells about its node |
//! | `connect`, `happy_eyeballs`, `pool` | connections |
//! | `reactor` | whether an idle connection is known to be quiet |
//! | `exchange`, `read_ahead` | HTTP/1.1 on one connection |
//! | `request` | the request as a node receives it |
//! | `response`, `response_body` | the response, and what it means for the retry loop |
//! | `health_report`, `failure_reason` | the outcome of an attempt or a probe for its node |
//! | `signature_report` | refused signatures, and the clocks of nodes |
//! | `flow_control` | the wait while every node is at its flow-control bound |
//! | `health_check`, `probe`, `dns` | background tasks of a cluster |
//! | `node_probe` | one connection to each node, for `check --connect` |

mod attempt;
mod attempt_report;
mod attempt_telemetry;
mod connect;
mod dns;
mod exchange;
mod failure_reason;
mod flow_control;
pub mod fuzzing;
mod happy_eyeballs;
mod health_check;
mod health_report;
mod node_probe;
mod pool;
mod probe;
mod progress;
mod reactor;
mod read_ahead;
mod request;
mod response;
mod response_body;
mod retry;
mod signature_report;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};

use crate::message::{
    AttemptSummary, BufferedResponse, StreamingResponse, UpstreamError, UpstreamErrorKind,
    UpstreamRequest,
};
use crate::metrics::Shard;
use crate::telemetry::SpanQueue;
use attempt::ResponseMode;
use pool::Pool;
use response::{NodeResponse, NodeResponseBody};
use retry::RetryState;

pub use health_check::watch_cluster;
pub use node_probe::{NodeReport, probe_nodes};
pub use reactor::count_reactor_turn;

/// Sends the requests of one worker. Its connections are its own: no lock on the way of a request is
/// shared with other workers.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    metrics: Arc<Shard>,
    spans: Option<Arc<SpanQueue>>,
    pool: Arc<Pool>,
}

/// Limits that are the same for all clusters.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamSettings {
    /// The largest JSON response, in bytes.
    pub max_answer: usize,
    /// The minimum rate of a streaming response, in bytes a second; 0 is off.
    pub min_receive_rate: u64,
}

impl Upstream {
    /// Returns an upstream without connections. `spans` receives one span for each attempt of a
    /// sampled trace.
    pub fn new(
        settings: UpstreamSettings,
        metrics: Arc<Shard>,
        spans: Option<Arc<SpanQueue>>,
    ) -> Self {
        Self {
            settings,
            metrics,
            spans,
            pool: Arc::default(),
        }
    }

    /// Sends a request and reads its JSON response completely. `overall_timeout` bounds all attempts
    /// together: the timeout of one attempt ends it only while another node is left.
    ///
    /// Cancel safe: when the future is dropped, its connection is closed and no node is blamed.
    ///
    /// # Errors
    /// The last failure, if no attempt brought a response that can be passed on.
    pub async fn send_buffered(
        &self,
        request: &UpstreamRequest,
        overall_timeout: Duration,
    ) -> Result<BufferedResponse, UpstreamError> {
        let (response, attempts) = self
            .send(request, overall_timeout, ResponseMode::Buffered)
            .await?;
        match response.body {
            NodeResponseBody::Buffered(body) => Ok(BufferedResponse {
                status: response.status,
                headers: response.headers,
                body,
                parsed: response.json,
                attempts,
            }),
            // `ResponseMode::Buffered` never leads here.
            NodeResponseBody::Streaming(_) => Err(UpstreamError {
                kind: UpstreamErrorKind::InvalidResponse,
                request_sent: true,
                attempts,
            }),
        }
    }

    /// Sends a request and returns its response as soon as the first byte of the body is there, which
    /// is also where `overall_timeout` ends.
    ///
    /// Cancel safe, as [`Upstream::send_buffered`]; so is the body of the response.
    ///
    /// # Errors
    /// The last failure, if no attempt brought a response that can be passed on.
    pub async fn send_streaming(
        &self,
        request: &UpstreamRequest,
        overall_timeout: Duration,
    ) -> Result<StreamingResponse, UpstreamError> {
        let (response, attempts) = self
            .send(request, overall_timeout, ResponseMode::Streaming)
            .await?;
        let body = match response.body {
            NodeResponseBody::Buffered(bytes) => {
                Full::new(bytes).map_err(|never| match never {}).boxed()
            }
            NodeResponseBody::Streaming(body) => body.boxed(),
        };
        Ok(StreamingResponse {
            status: response.status,
            headers: response.headers,
            body,
            attempts,
        })
    }

    /// Runs the attempts of a request; in the fallback cluster, if its own has no usable node.
    async fn send(
        &self,
        request: &UpstreamRequest,
        overall_timeout: Duration,
        mode: ResponseMode,
    ) -> Result<(NodeResponse, AttemptSummary), UpstreamError> {
        let mut state = RetryState::new(request, overall_timeout);
        let result = self.send_with_retries(&mut state, mode).await;
        let Some(cluster) = state.take_hand_over() else {
            return result.map(|response| (response, state.summary()));
        };
        let request = UpstreamRequest {
            cluster,
            ..request.clone()
        };
        // Boxed, because few requests come here and the futures of all stay small.
        Box::pin(async {
            let mut state = state.handed_over(&request);
            let response = self.send_with_retries(&mut state, mode).await?;
            Ok((response, state.summary()))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
