//! Telemetry of one attempt: a count in the metrics and, where the trace is sampled, a span.

use std::time::Duration;

use http::StatusCode;
use http::header::DATE;
use jiff::Timestamp;
use tokio::time::Instant;

use super::Upstream;
use super::attempt::AttemptError;
use super::response::{NodeResponse, RetryDecision};
use crate::auth::Signer;
use crate::ccfs::{FILE_NOT_FOUND, ResultKind};
use crate::cluster::Node;
use crate::message::{UpstreamErrorKind, UpstreamRequest};
use crate::metrics::{Attempt, Incident, NodeRefusal, Refused, ResultClass};
use crate::telemetry::{Attributes, Kind, Span, TraceContext, method_name, shown_path};

/// Records one attempt exactly once: with its result, or as cancelled if it is dropped before.
pub(super) struct AttemptTelemetry<'a> {
    upstream: &'a Upstream,
    request: &'a UpstreamRequest,
    node: &'a Node,
    started: Instant,
    trace: TraceContext,
    /// Attempts of the same request before this one.
    previous_attempts: u32,
    recorded: bool,
}

impl<'a> AttemptTelemetry<'a> {
    /// Starts the attempt with this number, which counts from 1.
    pub(super) fn start(
        upstream: &'a Upstream,
        request: &'a UpstreamRequest,
        node: &'a Node,
        number: u32,
        started: Instant,
    ) -> Self {
        let trace = request.metadata.trace;
        // A span that is not exported must not be named to a node.
        let exported = upstream.spans.is_some() && trace.is_sampled();
        Self {
            upstream,
            request,
            node,
            started,
            trace: if exported { trace.child() } else { trace },
            previous_attempts: number.saturating_sub(1),
            recorded: false,
        }
    }

    /// Returns the span that the node receives as its parent.
    pub(super) fn trace(&self) -> TraceContext {
        self.trace
    }

    /// Records how the attempt ended.
    pub(super) fn record_result(
        &mut self,
        result: &Result<NodeResponse, AttemptError>,
        elapsed: Duration,
    ) {
        let label = result_label(result, self.request);
        if let (Attempt::Refused, Ok(response)) = (label, result)
            && let Some(signer) = self.request.authorization.signer()
        {
            self.note_refusal(signer, response);
        }
        self.record(label, result.as_ref().ok(), elapsed);
    }

    /// Notes that the node refused what the gateway had verified.
    fn note_refusal(&self, signer: &Signer, response: &NodeResponse) {
        let refusal = NodeRefusal {
            cluster: self.request.cluster.settings().name.clone(),
            node: self.node.name().clone(),
            access_key: signer.access_key().shared(),
        };
        let date = response.headers.get(DATE).and_then(|it| it.to_str().ok());
        let date = date.and_then(|it| jiff::fmt::rfc2822::parse(it).ok());
        let refused = Refused {
            count: 1,
            status: response.status.as_u16(),
            seconds_ahead: date.map(|date| date.timestamp().duration_since(now()).as_secs()),
        };
        self.upstream
            .metrics
            .note(Incident::NodeRefused(refusal, refused));
    }

    fn record(&mut self, label: Attempt, response: Option<&NodeResponse>, elapsed: Duration) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let metrics = &*self.upstream.metrics;
        metrics.count(label);
        let class = response.and_then(result_class);
        self.node.attempts().count(metrics, label, class, elapsed);
        if let Some(spans) = &self.upstream.spans
            && self.trace.is_sampled()
        {
            spans.push(self.span(label, response, elapsed));
        }
    }

    fn span(&self, label: Attempt, response: Option<&NodeResponse>, elapsed: Duration) -> Span {
        let request = self.request;
        let method = method_name(&request.method);
        let (host, port) = host_and_port(self.node.name());
        let mut attributes = Attributes::default();
        attributes.fixed("http.request.method", method);
        attributes.fixed("url.scheme", "https");
        attributes.text("url.path", shown_path(request.target.path()));
        attributes.text("server.address", host);
        attributes.number("server.port", port);
        let resent = (self.previous_attempts > 0).then_some(self.previous_attempts.into());
        attributes.number("http.request.resend_count", resent);
        attributes.shared("gw.cluster", &request.cluster.settings().name);
        attributes.shared("gw.node", self.node.name());
        attributes.fixed("gw.result", label.as_str());
        let status = response.map(|response| response.status);
        attributes.number(
            "http.response.status_code",
            status.map(|it| it.as_u16().into()),
        );
        let json = response.and_then(|response| response.json.as_ref());
        attributes.text(
            "gw.result_code",
            json.and_then(|json| json.result_code.as_deref()),
        );
        let failed = !matches!(label, Attempt::FlowControl | Attempt::Ok);
        match status {
            Some(status) if failed && status != StatusCode::OK => {
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

/// The class of the result code, if the response is JSON and was read.
fn result_class(response: &NodeResponse) -> Option<ResultClass> {
    let json = response.json.as_ref()?;
    Some(match json.result_kind() {
        ResultKind::FlowControlled => ResultClass::FlowControl,
        ResultKind::NoData => ResultClass::NoData,
        ResultKind::Other => match json.result_code.as_deref() {
            Some("0") => ResultClass::Success,
            Some(FILE_NOT_FOUND) => ResultClass::NotFound,
            Some(
                "0300001" | "0300002" | "0300003" | "0300004" | "0300005" | "0300006" | "0300007"
                | "0300010" | "0300013",
            ) => ResultClass::Parameter,
            _ => ResultClass::Other,
        },
    })
}

/// The label of the attempt in metrics and spans.
fn result_label(result: &Result<NodeResponse, AttemptError>, request: &UpstreamRequest) -> Attempt {
    match result {
        Ok(response) => match response.decision {
            RetryDecision::RetryAlways => Attempt::FlowControl,
            _ if response.status.is_server_error() => Attempt::ServerError,
            RetryDecision::RetryIfIdempotent => Attempt::ServerError,
            RetryDecision::PassOn | RetryDecision::RetrySignedAnew
                if response.is_refusal_of(request) =>
            {
                Attempt::Refused
            }
            RetryDecision::PassOn | RetryDecision::RetrySignedAnew => Attempt::Ok,
        },
        Err(error) => match error.kind {
            UpstreamErrorKind::ConnectionClosed | UpstreamErrorKind::ResponseIncomplete => {
                Attempt::ConnectionClosed
            }
            UpstreamErrorKind::InvalidResponse => Attempt::InvalidResponse,
            UpstreamErrorKind::NoNodeAvailable | UpstreamErrorKind::ConnectFailed(_) => {
                Attempt::ConnectFailed
            }
            UpstreamErrorKind::Timeout => Attempt::Timeout,
        },
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with a node's clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Splits the name of a node, `host:port`.
fn host_and_port(name: &str) -> (&str, Option<i64>) {
    match name.rsplit_once(':') {
        Some((host, port)) => (host.trim_matches(['[', ']']), port.parse().ok()),
        None => (name, None),
    }
}
