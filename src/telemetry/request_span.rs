//! Converts a request record into a span: HTTP attributes after OpenTelemetry's semantic conventions,
//! our own under their access-log names.

use std::borrow::Cow;
use std::time::Duration;

use super::RequestRecord;
use super::access_log::version;
use super::span::{Attributes, Kind, Span, method_name};
use crate::metrics::{CacheStatus, RequestOutcome};

/// Returns the span of a finished request.
pub(super) fn request_span(record: &RequestRecord, elapsed: Duration) -> Span {
    let method = record.method.as_ref().map(method_name);
    let name: Cow<'static, str> = match (method, record.interface) {
        (Some(method), Some(interface)) => format!("{method} {interface}").into(),
        (Some(method), None) if method != "_OTHER" => method.into(),
        _ => "HTTP".into(),
    };
    let failed = has_failed(record);
    let mut attributes = Attributes::default();
    attributes.fixed("http.request.method", method);
    attributes.fixed("url.scheme", "https");
    attributes.text("url.path", record.shown_path());
    let status = (record.status > 0).then_some(record.status.into());
    attributes.number("http.response.status_code", status);
    attributes.number("server.port", i64::from(record.port));
    attributes.text("client.address", &*record.client.to_string());
    attributes.fixed("network.protocol.name", "http");
    attributes.fixed("network.protocol.version", version(record.version));
    attributes.fixed("tls.protocol.version", record.tls);
    let agent = record.user_agent.as_ref();
    let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
    attributes.text("user_agent.original", agent.as_deref());
    if failed {
        match record.outcome {
            RequestOutcome::Node => attributes.text("error.type", &*record.status.to_string()),
            ours => attributes.fixed("error.type", ours.as_str()),
        }
    }
    attributes.text("request_id", record.request_id.to_str().ok());
    attributes.shared("gw.listener", &record.listener);
    attributes.fixed("gw.outcome", record.outcome.as_str());
    attributes.shared("gw.ak", record.access_key.as_ref());
    attributes.text("gw.call_id", record.call_id.as_deref());
    if let Some(details) = &record.details {
        attributes.text("gw.file_name", details.file_name.as_deref());
        attributes.text("gw.hint", details.hint.as_deref());
    }
    attributes.text("gw.result_code", record.result_code.as_deref());
    attributes.fixed("gw.cache", record.cache.map(CacheStatus::as_str));
    attributes.shared("gw.cluster", record.cluster.as_ref());
    attributes.shared("gw.node", record.node.as_ref());
    attributes.number("gw.attempts", i64::from(record.attempts));
    attributes.text("gw.reject_reason", record.reason.as_deref());
    attributes.fixed("gw.would_refuse", record.would_refuse);
    attributes.number("gw.body_in", bytes(record.body_in));
    attributes.number("gw.body_out", bytes(record.body_out));
    Span::new(record.trace, record.started_at, elapsed, Kind::Server, name)
        .with(attributes)
        .failed(failed)
}

/// Whether the gateway or a node failed, as opposed to the client.
fn has_failed(record: &RequestRecord) -> bool {
    let ours = matches!(
        record.outcome,
        RequestOutcome::Internal
            | RequestOutcome::LoopDetected
            | RequestOutcome::NoHealthyNode
            | RequestOutcome::NodeFailed
            | RequestOutcome::NodeTimeout
            | RequestOutcome::Overloaded
    );
    // A response may start with 200 and be cut off; its outcome says so.
    ours || record.status >= 500
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
