//! What is told of a try: a count in the metrics and, where the trace is recorded, a span.

use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::attempt::AttemptError;
use super::response::{NodeResponse, RetryDecision};
use super::retry::RetryState;
use crate::ccfs::ResultKind;
use crate::cluster::Node;
use crate::message::{UpstreamErrorKind, UpstreamRequest};
use crate::metrics::{Attempt, ResultClass};
use crate::telemetry::{Attributes, Kind, Span, TraceContext, method_name};

/// Tells of a try once: as it ended, or as cancelled when it is dropped before.
pub(super) struct AttemptTelemetry<'a> {
    upstream: &'a Upstream,
    request: &'a UpstreamRequest,
    node: &'a Node,
    started: Instant,
    trace: TraceContext,
    /// Tries of the delivery before this one.
    previous_attempts: u32,
    recorded: bool,
}

impl<'a> AttemptTelemetry<'a> {
    /// A try that begins; the course knows of it already.
    pub(super) fn start(
        upstream: &'a Upstream,
        course: &RetryState<'a>,
        node: &'a Node,
        began: Instant,
    ) -> Self {
        let delivery = course.request;
        let trace = delivery.metadata.trace;
        // A span that nobody exports must not be named to a node.
        let exported = upstream.spans.is_some() && trace.is_sampled();
        Self {
            upstream,
            request: delivery,
            node,
            started: began,
            trace: if exported { trace.child() } else { trace },
            previous_attempts: course.attempts.saturating_sub(1),
            recorded: false,
        }
    }

    /// The span that the node sees itself called from.
    pub(super) fn trace(&self) -> TraceContext {
        self.trace
    }

    /// Tells how it ended.
    pub(super) fn record_result(
        &mut self,
        result: &Result<NodeResponse, AttemptError>,
        elapsed: Duration,
    ) {
        self.record(result_label(result), result.as_ref().ok(), elapsed);
    }

    fn record(&mut self, label: Attempt, answer: Option<&NodeResponse>, elapsed: Duration) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let metrics = &*self.upstream.metrics;
        metrics.count(label);
        let said = answer.and_then(result_class);
        self.node.attempts().count(metrics, label, said, elapsed);
        if let Some(spans) = &self.upstream.spans
            && self.trace.is_sampled()
        {
            spans.push(self.span(label, answer, elapsed));
        }
    }

    fn span(&self, label: Attempt, answer: Option<&NodeResponse>, elapsed: Duration) -> Span {
        let delivery = self.request;
        let method = method_name(&delivery.method);
        let (host, port) = host_and_port(self.node.name());
        let mut attributes = Attributes::default();
        attributes.fixed("http.request.method", method);
        attributes.fixed("url.scheme", "https");
        attributes.text("url.path", delivery.target.path());
        attributes.text("server.address", host);
        attributes.number("server.port", port);
        let repeated = (self.previous_attempts > 0).then_some(self.previous_attempts.into());
        attributes.number("http.request.resend_count", repeated);
        attributes.shared("gw.cluster", &delivery.cluster.settings().name);
        attributes.shared("gw.node", self.node.name());
        attributes.fixed("gw.result", label.as_str());
        let status = answer.map(|answer| answer.status);
        attributes.number(
            "http.response.status_code",
            status.map(|it| it.as_u16().into()),
        );
        let json = answer.and_then(|answer| answer.json.as_ref());
        attributes.text(
            "gw.result_code",
            json.and_then(|json| json.result_code.as_deref()),
        );
        let failed = !matches!(label, Attempt::FlowControl | Attempt::Ok);
        match status {
            Some(status) if status.is_server_error() => {
                attributes.text("error.type", status.as_str())
            }
            _ => attributes.fixed("error.type", failed.then_some(label.as_str())),
        }
        Span::ended_now(self.trace, elapsed, Kind::Client, method)
            .with(attributes)
            .failed(failed)
    }
}

impl Drop for AttemptTelemetry<'_> {
    fn drop(&mut self) {
        if !self.recorded {
            self.record(Attempt::Cancelled, None, self.started.elapsed());
        }
    }
}

/// What the node said, where it is JSON and was read.
fn result_class(answer: &NodeResponse) -> Option<ResultClass> {
    let json = answer.json.as_ref()?;
    Some(match json.result_kind() {
        ResultKind::FlowControlled => ResultClass::FlowControl,
        ResultKind::NoData => ResultClass::NoData,
        ResultKind::Other if json.result_code.as_deref() == Some("0") => ResultClass::Success,
        ResultKind::Other => ResultClass::Other,
    })
}

fn result_label(result: &Result<NodeResponse, AttemptError>) -> Attempt {
    match result {
        Ok(answer) => match answer.decision {
            RetryDecision::RetryAlways => Attempt::FlowControl,
            _ if answer.status.is_server_error() => Attempt::ServerError,
            RetryDecision::RetryIfIdempotent => Attempt::ServerError,
            RetryDecision::PassOn => Attempt::Ok,
        },
        Err(trouble) => match trouble.kind {
            UpstreamErrorKind::ConnectionClosed => Attempt::ConnectionClosed,
            UpstreamErrorKind::InvalidResponse => Attempt::InvalidResponse,
            UpstreamErrorKind::NoNodeAvailable | UpstreamErrorKind::ConnectFailed => {
                Attempt::ConnectFailed
            }
            UpstreamErrorKind::Timeout => Attempt::Timeout,
        },
    }
}

/// The parts of a node's name.
fn host_and_port(name: &str) -> (&str, Option<i64>) {
    match name.rsplit_once(':') {
        Some((host, port)) => (host.trim_matches(['[', ']']), port.parse().ok()),
        None => (name, None),
    }
}
