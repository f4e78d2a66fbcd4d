//! What is told of a try: a count in the metrics and, where the trace is recorded, a span.

use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::attempt::Trouble;
use super::response::{Answer, Judgement};
use super::retry::Course;
use crate::ccfs::Verdict;
use crate::cluster::Node;
use crate::message::{Cause, Delivery};
use crate::metrics::{ResultClass, Try};
use crate::telemetry::{Attributes, Kind, Span, TraceContext, method_name};

/// Tells of a try once: as it ended, or as cancelled when it is dropped before.
pub(super) struct Counted<'a> {
    upstream: &'a Upstream,
    delivery: &'a Delivery,
    node: &'a Node,
    began: Instant,
    trace: TraceContext,
    /// Tries of the delivery before this one.
    before: u32,
    done: bool,
}

impl<'a> Counted<'a> {
    /// A try that begins; the course knows of it already.
    pub(super) fn begin(
        upstream: &'a Upstream,
        course: &Course<'a>,
        node: &'a Node,
        began: Instant,
    ) -> Self {
        let delivery = course.delivery;
        let trace = delivery.context.trace;
        // A span that nobody exports must not be named to a node.
        let exported = upstream.spans.is_some() && trace.is_sampled();
        Self {
            upstream,
            delivery,
            node,
            began,
            trace: if exported { trace.child() } else { trace },
            before: course.tries.saturating_sub(1),
            done: false,
        }
    }

    /// The span that the node sees itself called from.
    pub(super) fn trace(&self) -> TraceContext {
        self.trace
    }

    /// Tells how it ended.
    pub(super) fn end(&mut self, result: &Result<Answer, Trouble>, elapsed: Duration) {
        self.tell(label(result), result.as_ref().ok(), elapsed);
    }

    fn tell(&mut self, label: Try, answer: Option<&Answer>, elapsed: Duration) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let metrics = &*self.upstream.metrics;
        metrics.count(label);
        let said = answer.and_then(said);
        self.node.tries().count(metrics, label, said, elapsed);
        if let Some(spans) = &self.upstream.spans
            && self.trace.is_sampled()
        {
            spans.push(self.span(label, answer, elapsed));
        }
    }

    fn span(&self, label: Try, answer: Option<&Answer>, elapsed: Duration) -> Span {
        let delivery = self.delivery;
        let method = method_name(&delivery.method);
        let (host, port) = host_and_port(self.node.name());
        let mut attributes = Attributes::default();
        attributes.fixed("http.request.method", method);
        attributes.fixed("url.scheme", "https");
        attributes.text("url.path", delivery.target.path());
        attributes.text("server.address", host);
        attributes.number("server.port", port);
        let repeated = (self.before > 0).then_some(self.before.into());
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
        let failed = !matches!(label, Try::Busy | Try::Ok);
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

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.tell(Try::Cancelled, None, self.began.elapsed());
        }
    }
}

/// What the node said, where it is JSON and was read.
fn said(answer: &Answer) -> Option<ResultClass> {
    let json = answer.json.as_ref()?;
    Some(match json.verdict() {
        Verdict::Busy => ResultClass::FlowControl,
        Verdict::NoData => ResultClass::NoData,
        Verdict::Other if json.result_code.as_deref() == Some("0") => ResultClass::Success,
        Verdict::Other => ResultClass::Other,
    })
}

fn label(result: &Result<Answer, Trouble>) -> Try {
    match result {
        Ok(answer) => match answer.judgement {
            Judgement::Busy => Try::Busy,
            _ if answer.status.is_server_error() => Try::ServerError,
            Judgement::Unable => Try::ServerError,
            Judgement::Final => Try::Ok,
        },
        Err(trouble) => match trouble.cause {
            Cause::Broken => Try::Broken,
            Cause::Garbage => Try::Garbage,
            Cause::NoNode | Cause::Unreachable => Try::Unreachable,
            Cause::Timeout => Try::Timeout,
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
