//! Delivers: picks a node, signs for it, tries, judges, and tries another within deadline and budget.
//!
//! What may be tried again, and when:
//!
//! | what happened | another node |
//! |---|---|
//! | no connection, or nothing was sent | any request |
//! | sent, then no answer, a cut or a senseless one | a repeatable request |
//! | 502, 503, 504, or a result code that means a broken node | a repeatable request |
//! | flow control: nothing was done | any request |
//!
//! No node is tried twice. A node that is plainly gone costs no budget; all other repetitions do.
//! When no node is left the last answer is passed on, if there was one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cluster::{Cluster, FailureKind, HealthChange, Node, NodeGuard, NodeOutcome};
use crate::message::{
    BufferedResponse, StreamingResponse, UpstreamError, UpstreamErrorKind, UpstreamRequest,
};
use crate::metrics::{RetryOverflow, RetryReason, Shard};
use crate::telemetry::SpanQueue;

mod attempt;
mod attempt_telemetry;
mod connect;
mod dns;
mod request;
mod response;
mod response_body;
mod retry;

mod failure_reason;
mod health_check;
mod pool;

pub use health_check::watch_cluster;

use attempt::{AttemptError, AttemptProgress};
use attempt_telemetry::AttemptTelemetry;
use failure_reason::FailureReason;
use pool::Pool;
use response::{NodeResponse, NodeResponseBody, RetryDecision};
use retry::RetryState;

/// One worker's way to all nodes: its own connections, no lock shared with other workers on the way.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    metrics: Arc<Shard>,
    spans: Option<Arc<SpanQueue>>,
    pool: Arc<Pool>,
}

/// What holds for all deliveries.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamSettings {
    /// The largest JSON answer.
    pub max_answer: usize,
    /// Bytes a second, from a node that streams.
    pub min_receive_rate: u64,
}

impl Upstream {
    /// An upstream without connections yet. `spans` takes a span for each try of a recorded trace.
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

    /// Delivers and reads the JSON answer whole. `last_try` bounds everything: the per-try deadline
    /// ends a try only while another node is left.
    ///
    /// Dropped, it releases everything, and no node is blamed.
    pub async fn send_buffered(
        &self,
        delivery: &UpstreamRequest,
        last_try: Duration,
    ) -> Result<BufferedResponse, UpstreamError> {
        let mut course = RetryState::new(delivery, last_try);
        let answer = self
            .send_with_retries(&mut course, ResponseMode::Buffered)
            .await?;
        let trail = course.summary();
        match answer.body {
            NodeResponseBody::Buffered(body) => Ok(BufferedResponse {
                status: answer.status,
                headers: answer.headers,
                body,
                parsed: answer.json,
                attempts: trail,
            }),
            // Not made by `Reading::Whole`; were it, it would be too large.
            NodeResponseBody::Streaming(_) => Err(UpstreamError {
                kind: UpstreamErrorKind::InvalidResponse,
                request_sent: true,
                attempts: trail,
            }),
        }
    }

    /// Delivers and hands the answer on as it comes. `last_try` ends at the first body byte.
    ///
    /// Dropped, it releases everything, and no node is blamed; so does the answer's body.
    pub async fn send_streaming(
        &self,
        delivery: &UpstreamRequest,
        last_try: Duration,
    ) -> Result<StreamingResponse, UpstreamError> {
        let mut course = RetryState::new(delivery, last_try);
        let answer = self
            .send_with_retries(&mut course, ResponseMode::Streaming)
            .await?;
        let body = match answer.body {
            NodeResponseBody::Buffered(bytes) => {
                Full::new(bytes).map_err(|never| match never {}).boxed()
            }
            NodeResponseBody::Streaming(body) => body.boxed(),
        };
        Ok(StreamingResponse {
            status: answer.status,
            headers: answer.headers,
            body,
            attempts: course.summary(),
        })
    }

    async fn send_with_retries(
        &self,
        course: &mut RetryState<'_>,
        reading: ResponseMode,
    ) -> Result<NodeResponse, UpstreamError> {
        let cluster = &course.request.cluster;
        cluster
            .retry_budget()
            .record_request(course.started.into_std());
        let mut timer = std::pin::pin!(sleep_until(course.overall_deadline));
        while let Some(pick) = course.next_node() {
            match self
                .run_attempt(course, pick, reading, timer.as_mut())
                .await
            {
                Ok(answer) => {
                    let may_repeat = match answer.decision {
                        RetryDecision::RetryAlways => true,
                        RetryDecision::PassOn => false,
                        RetryDecision::RetryIfIdempotent => course.is_idempotent(),
                    };
                    if !may_repeat || !course.has_untried_node() || !self.withdraw_retry(cluster) {
                        return Ok(answer);
                    }
                    course.retry_reason = Some(match answer.decision {
                        RetryDecision::RetryAlways => RetryReason::FlowControl,
                        RetryDecision::PassOn | RetryDecision::RetryIfIdempotent => {
                            RetryReason::ServerError
                        }
                    });
                    course.last_response = Some(answer);
                }
                Err(trouble) => {
                    course.record_failure(trouble);
                    let may_repeat = course.is_idempotent() || !trouble.request_sent;
                    if !may_repeat
                        || course.is_past_deadline()
                        || !(trouble.outside_retry_budget || self.withdraw_retry(cluster))
                    {
                        break;
                    }
                }
            }
        }
        course.into_result()
    }

    /// One try under its deadline, counted, and told to the node's health.
    async fn run_attempt(
        &self,
        course: &mut RetryState<'_>,
        pick: NodeGuard,
        reading: ResponseMode,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<NodeResponse, AttemptError> {
        let delivery = course.request;
        let node = pick.node().clone();
        course.begin_attempt(&node);
        if let Some(reason) = course.retry_reason.take() {
            self.metrics.count(reason);
        }
        let began = course.now;
        let per_try = delivery.cluster.settings().timeouts.per_try;
        let mut counted = AttemptTelemetry::start(self, course, &node, began);
        let progress = AttemptProgress::start(counted.trace(), began);
        let mut attempt = std::pin::pin!(self.attempt(delivery, pick, reading, &progress));
        let waiting = AttemptDeadline {
            node: &node,
            progress: &progress,
            started: began,
            until: course.overall_deadline.min(began + per_try),
        };
        let result = self
            .await_attempt(course, &waiting, attempt.as_mut(), timer.as_mut())
            .await;
        course.now = Instant::now();
        let elapsed = course.now - began;
        let outcome = match &result {
            Ok(answer) => answer.health_outcome(),
            // A try that got less than its time says nothing of the node.
            Err(trouble) if trouble.kind == UpstreamErrorKind::Timeout && elapsed < per_try => None,
            Err(trouble) => failure_kind(trouble.kind).map(NodeOutcome::Failure),
        };
        counted.record_result(&result, elapsed);
        if let Some(outcome) = outcome {
            let why = || match &result {
                Ok(answer) => failure_reason::from_response(answer.status, answer.json.as_deref()),
                Err(trouble) => progress
                    .take_reason()
                    .unwrap_or_else(|| failure_reason::from_kind(trouble.kind, elapsed)),
            };
            report(&delivery.cluster, &node, outcome, course.now, why);
        }
        result
    }

    /// Waits for a try until its time is up, or it is better to be elsewhere.
    async fn await_attempt(
        &self,
        course: &RetryState<'_>,
        waiting: &AttemptDeadline<'_>,
        mut attempt: Pin<&mut impl Future<Output = Result<NodeResponse, AttemptError>>>,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<NodeResponse, AttemptError> {
        let patience = waiting.until;
        timer
            .as_mut()
            .reset(patience.min(waiting.started + PROGRESS_CHECK_INTERVAL));
        loop {
            tokio::select! {
                biased;
                result = attempt.as_mut() => return result,
                () = timer.as_mut() => {
                    let (sent, now) = (waiting.progress.is_request_sent(), Instant::now());
                    // Silent, and dead by its probes: plainly gone, while another one is well.
                    let gone = course.may_fail_over_from_dead(waiting.node, sent);
                    if !gone && now < patience {
                        timer.as_mut().reset(patience.min(now + PROGRESS_CHECK_INTERVAL));
                        continue;
                    }
                    // Only while another node is left, and may be asked, is this one too slow.
                    let leaves = gone
                        || (course.may_fail_over(sent) && self.withdraw_retry(&course.request.cluster));
                    if !leaves && !course.is_past_deadline() {
                        timer.as_mut().reset(course.overall_deadline.min(now + PROGRESS_CHECK_INTERVAL));
                        continue;
                    }
                    return Err(AttemptError { kind: UpstreamErrorKind::Timeout, request_sent: sent, outside_retry_budget: leaves });
                }
            }
        }
    }

    /// Takes a repetition out of the budget.
    fn withdraw_retry(&self, cluster: &Cluster) -> bool {
        let limits = &cluster.settings().retries;
        let allowed = cluster
            .retry_budget()
            .try_withdraw(Instant::now().into_std(), limits);
        if !allowed {
            self.metrics.count(RetryOverflow::BudgetExhausted);
        }
        allowed
    }
}

/// What a try is waited for with.
struct AttemptDeadline<'a> {
    node: &'a Node,
    progress: &'a AttemptProgress,
    started: Instant,
    /// So long, while another node is left.
    until: Instant,
}

/// How much of an answer is read before it is handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ResponseMode {
    /// As much as it takes to judge it.
    Streaming,
    /// All.
    Buffered,
}

/// Tells the cluster what a try or a probe showed, and the log what that changed. `why` is asked for
/// failures only.
fn report(
    cluster: &Cluster,
    node: &Node,
    outcome: NodeOutcome,
    now: Instant,
    why: impl FnOnce() -> FailureReason,
) {
    let now = now.into_std();
    let change = cluster.record_outcome(node, outcome, now);
    let (fault, cause) = match outcome {
        NodeOutcome::Failure(fault) | NodeOutcome::ProbeFailure(fault) => (fault.as_str(), why()),
        NodeOutcome::FlowControlled | NodeOutcome::ProbeSuccess | NodeOutcome::Success => {
            ("", FailureReason::default())
        }
    };
    let is_news = !fault.is_empty() && node.record_failure_reason(&cause, now);
    let (cluster, node, cause) = (&cluster.settings().name, node.name(), &*cause);
    match change {
        Some(HealthChange::Down) => tracing::warn!(%cluster, %node, fault, cause, "node is down"),
        Some(HealthChange::Ejected(time)) => {
            let seconds = time.as_secs();
            tracing::warn!(%cluster, %node, fault, cause, seconds, "node is put aside");
        }
        None if is_news => tracing::warn!(%cluster, %node, fault, cause, "node fails"),
        Some(HealthChange::Returned) => tracing::info!(%cluster, %node, "node answers again"),
        Some(HealthChange::Up) => tracing::info!(%cluster, %node, "node is up"),
        None => {}
    }
}

fn failure_kind(cause: UpstreamErrorKind) -> Option<FailureKind> {
    match cause {
        UpstreamErrorKind::ConnectionClosed => Some(FailureKind::ConnectionClosed),
        UpstreamErrorKind::InvalidResponse => Some(FailureKind::InvalidResponse),
        UpstreamErrorKind::NoNodeAvailable => None,
        UpstreamErrorKind::Timeout => Some(FailureKind::Timeout),
        UpstreamErrorKind::ConnectFailed => Some(FailureKind::ConnectFailed),
    }
}

/// How often a try that waits asks whether its node is known to be dead by now.
const PROGRESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
