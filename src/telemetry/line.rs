//! The form of an access-log line: one JSON object, OpenTelemetry names where they exist.

use std::io::Write;
use std::time::Duration;

use http::Version;

use super::Record;
use crate::metrics::CacheVerdict;

/// Appends the line of `record`, with its line feed.
pub(super) fn write(buffer: &mut Vec<u8>, record: &Record, elapsed: Duration) {
    let mut line = Line::begin(buffer);
    line.display("timestamp", format_args!("{:.3}", record.started_at));
    line.text("request_id", record.request_id.to_str().unwrap_or_default());
    line.display("trace_id", format_args!("{}", record.trace.trace_id()));
    line.display("span_id", format_args!("{}", record.trace.span_id()));
    line.text("gw.listener", &record.listener);
    line.number("server.port", record.port.into());
    line.display("client.address", format_args!("{}", record.client));
    line.text("network.protocol.version", version(record.version));
    line.optional("tls.protocol.version", record.tls);
    line.optional(
        "http.request.method",
        record.method.as_ref().map(http::Method::as_str),
    );
    line.optional("url.path", record.uri.as_ref().map(http::Uri::path));
    let agent = record
        .user_agent
        .as_ref()
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    line.optional("user_agent.original", agent.as_deref());
    line.number("http.response.status_code", record.status.into());
    line.text("gw.outcome", record.outcome.as_str());
    line.optional("gw.ak", record.access_key.as_deref());
    line.optional("gw.call_id", record.call_id.as_deref());
    line.optional("gw.result_code", record.result_code.as_deref());
    line.optional("gw.cache", record.cache.map(CacheVerdict::as_str));
    line.optional("gw.cluster", record.cluster.as_deref());
    line.optional("gw.node", record.node.as_deref());
    line.number("gw.attempts", record.tries.into());
    line.optional("gw.reject_reason", record.reason.as_deref());
    line.number("gw.body_in", record.body_in);
    line.number("gw.body_out", record.body_out);
    line.milliseconds("gw.duration_ms", Some(elapsed));
    line.milliseconds("gw.upstream_ms", record.upstream);
    line.milliseconds("gw.wait_ms", record.wait);
    line.end();
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

// Writing to a `Vec` cannot fail, so the results of `write!` are dropped throughout.
impl<'a> Line<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        let _ = write!(self.out, "\"{name}\":");
    }

    /// Text from outside: escaped, so that a line stays a line and a string stays a string.
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let _ = serde_json::to_writer(&mut *self.out, value);
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// Our own values, which need no escaping.
    fn display(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        self.name(name);
        let _ = write!(self.out, "\"{value}\"");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    fn milliseconds(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.name(name);
            let micros = value.as_micros();
            let _ = write!(self.out, "{}.{:03}", micros / 1000, micros % 1000);
        }
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

/// The version of HTTP, as OpenTelemetry writes it.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
