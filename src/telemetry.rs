//! Diagnostics, access log and traces.
//!
//! Each request has one [`RequestRecord`], which writes its access-log line, its span and its counters
//! when it is dropped: exactly once, on every path, also when the client disconnects. No query string,
//! `Authorization` or body enters a record, so nothing has to be redacted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use http::{HeaderValue, Method, Uri, Version};
use jiff::Timestamp;
use jiff::civil::DateTime;

mod access_log;
mod audit;
mod diagnostics;
mod exporter;
mod loss_report;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "telemetry/no_otlp.rs"]
mod otlp;
mod output;
mod request_span;
mod shown_path;
mod span;
mod tail;
mod trace;
mod writer_thread;

pub use access_log::{AccessLog, Destination, LogBuffer};
pub use audit::{
    AuditKey, AuditLog, AuditQueue, AuditSettings, AuditVerifier, BadLine, OrderEntry, Verified,
};
pub use diagnostics::{Diagnostics, LogFormat, diagnostics_lines, init_diagnostics};
pub use exporter::TraceExporter;
pub use otlp::CollectorError;
pub use output::write_stderr;
pub use shown_path::shown_path;
pub use span::{Attributes, Kind, Span, SpanQueue, Value, method_name};
pub use tail::{CannotFollow, MAX_FOLLOWERS, Tail, TailFilter, TailStream};
pub use trace::{SampleRatio, TraceContext};

use crate::metrics::{
    AccessLogLines, CacheStatus, CompletedRequest, FailedRequest, RequestFailure, RequestOutcome,
    RouteLabel, Shard,
};

/// The destinations of one worker's records.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The worker's access-log buffer; `None` if the access log is off.
    pub access_log: Option<Arc<LogBuffer>>,
    /// The audit log; `None` if it is off.
    pub audit: Option<Arc<AuditQueue>>,
    /// The worker's span queue; `None` if no collector is configured.
    pub spans: Option<Arc<SpanQueue>>,
    /// The worker's counters.
    pub metrics: Arc<Shard>,
    /// The followers of requests, of all workers.
    pub tail: Arc<Tail>,
}

/// The telemetry of one request; each stage of the request path fills in its fields.
#[derive(Debug)]
pub struct RequestRecord {
    sink: Arc<Sink>,
    started: Instant,
    /// When the request's head had been read.
    pub started_at: Timestamp,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Listener and cluster, as metric labels.
    pub route: RouteLabel,
    /// The local port.
    pub port: u16,
    /// The client's address.
    pub client: IpAddr,
    /// TLS version.
    pub tls: Option<&'static str>,
    /// The CC-FS interface, by the last segment of its path; `None` for unknown paths.
    pub interface: Option<&'static str>,
    /// The request's method; `None` if the head was malformed.
    pub method: Option<Method>,
    /// The request's target; only its path is written.
    pub uri: Option<Uri>,
    /// HTTP version.
    pub version: Version,
    /// The client's `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// The `X-Request-Id` of the response.
    pub request_id: HeaderValue,
    /// Trace and span ids.
    pub trace: TraceContext,
    /// The access key, once verified.
    pub access_key: Option<Arc<str>>,
    /// The callId of a verified request.
    pub call_id: Option<CompactString>,
    /// `beginTime` as it is sent to a node, by the tenant's wall clock.
    pub begin_sent: Option<DateTime>,
    /// `endTime` as it is sent to a node.
    pub end_sent: Option<DateTime>,
    /// Whether the answer to a verified request is a recording, its URL or its token. Set only where there is
    /// an audit log.
    pub gives_recording: bool,
    /// The values that few requests have.
    pub details: Option<Box<RequestDetails>>,
    /// The cluster.
    pub cluster: Option<Arc<str>>,
    /// Whether `cluster` is the fallback of the one that the route names.
    pub is_fallback: bool,
    /// `host:port` of the node that was tried last.
    pub node: Option<Arc<str>>,
    /// Upstream attempts made.
    pub attempts: u32,
    /// The status of the response; 0 if none was sent.
    pub status: u16,
    /// resultCode of the response, if it was parsed.
    pub result_code: Option<CompactString>,
    /// The outcome, as a metric label.
    pub outcome: RequestOutcome,
    /// The cache status; `None` for requests that do not use it.
    pub cache: Option<CacheStatus>,
    /// Why the request was rejected, for the operator.
    pub reason: Option<Box<str>>,
    /// The key of the first limit that would have refused the request, where limits are on trial.
    pub would_refuse: Option<&'static str>,
    /// Bytes of the request body.
    pub body_in: u64,
    /// Bytes of the response body that were passed to the connection.
    pub body_out: u64,
    /// Time spent in upstream attempts.
    pub upstream_time: Option<Duration>,
    /// How long it waited while every node was at its flow-control bound.
    pub queue_time: Option<Duration>,
    /// Time spent waiting for a coalesced fetch of another request.
    pub wait_time: Option<Duration>,
}

/// The values of a record that few requests have. Behind one pointer, so that the others do not pay for
/// them.
#[derive(Debug, Default)]
pub struct RequestDetails {
    /// The caller without a secret key on whose behalf the gateway signs.
    pub caller: Option<Arc<str>>,
    /// The access key that an unverified request names; only with `[telemetry] log_claimed_ak`.
    pub claimed_access_key: Option<Box<str>>,
    /// Why the recording may not have been found.
    pub hint: Option<Box<str>>,
    /// The name of the file that a verified request asks for.
    pub file_name: Option<Box<str>>,
    /// The zone in which the gateway rewrote the body; `None` if it went out as it came.
    pub normalized_zone: Option<Box<str>>,
}

/// The properties of a connection that each of its records contains.
#[derive(Debug)]
pub struct RequestOrigin {
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The local port.
    pub port: u16,
    /// The client's address.
    pub client: IpAddr,
    /// TLS version.
    pub tls: Option<&'static str>,
}

impl RequestRecord {
    /// Starts a record. Its outcome is [`RequestOutcome::ClientDisconnected`] until it is set.
    #[expect(clippy::disallowed_methods, reason = "the stopwatch of a request")]
    pub fn begin(
        sink: Arc<Sink>,
        origin: RequestOrigin,
        started_at: Timestamp,
        request_id: HeaderValue,
    ) -> Self {
        let ratio = sink
            .spans
            .as_ref()
            .map_or(SampleRatio::NONE, |it| it.sample_ratio());
        Self {
            sink,
            started: Instant::now(),
            started_at,
            listener: origin.listener,
            route: RouteLabel::default(),
            port: origin.port,
            client: origin.client,
            tls: origin.tls,
            interface: None,
            method: None,
            uri: None,
            version: Version::HTTP_11,
            user_agent: None,
            request_id,
            trace: TraceContext::new_root(ratio),
            access_key: None,
            call_id: None,
            begin_sent: None,
            end_sent: None,
            gives_recording: false,
            details: None,
            cluster: None,
            is_fallback: false,
            node: None,
            attempts: 0,
            status: 0,
            result_code: None,
            outcome: RequestOutcome::ClientDisconnected,
            cache: None,
            reason: None,
            would_refuse: None,
            body_in: 0,
            body_out: 0,
            upstream_time: None,
            queue_time: None,
            wait_time: None,
        }
    }

    /// The worker's counters.
    pub fn metrics(&self) -> &Arc<Shard> {
        &self.sink.metrics
    }

    /// Whether there is an audit log.
    pub fn is_audited(&self) -> bool {
        self.sink.audit.is_some()
    }

    /// Returns the values that few requests have, to fill one in.
    pub fn details_mut(&mut self) -> &mut RequestDetails {
        self.details.get_or_insert_default()
    }

    /// Returns the caller without a secret key, once it is identified.
    pub fn caller(&self) -> Option<&Arc<str>> {
        self.details.as_ref()?.caller.as_ref()
    }

    /// Returns the path, without a query that is escaped into it.
    fn shown_path(&self) -> Option<&str> {
        self.uri.as_ref().map(|uri| shown_path(uri.path()))
    }

    /// Returns the time since the record was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl RequestRecord {
    /// Returns what people are shown of a request that failed.
    fn to_failed(&self, duration: Duration) -> FailedRequest {
        FailedRequest {
            at: self.started_at,
            request_id: self.request_id.to_str().unwrap_or_default().into(),
            listener: self.listener.clone(),
            client: self.client,
            access_key: self.access_key.clone(),
            call_id: self.call_id.clone(),
            method: self
                .method
                .as_ref()
                .map(|method| shortened(method.as_str())),
            interface: self.interface,
            path: self.shown_path().map(shortened),
            status: self.status,
            result_code: self.result_code.clone(),
            outcome: self.outcome,
            node: self.node.clone(),
            attempts: self.attempts,
            duration,
            reason: self.reason.as_deref().map(shortened),
        }
    }

    /// Adds the request to the audit log; takes out of the record what the log needs.
    fn audit(&mut self) {
        let (Some(audit), Some(access_key)) = (&self.sink.audit, self.access_key.take()) else {
            return;
        };
        let details = self.details.take().unwrap_or_default();
        audit.request(audit::RequestEntry {
            access_key,
            caller: details.caller,
            client: self.client,
            interface: self.interface,
            call_id: self.call_id.take(),
            file_name: details.file_name,
            begin: self.begin_sent,
            end: self.end_sent,
            outcome: self.outcome.as_str(),
            result_code: self.result_code.take(),
            status: self.status,
        });
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let elapsed = self.elapsed();
        self.sink.metrics.count_request(&CompletedRequest {
            route: self.route,
            outcome: self.outcome,
            status: self.status,
            cache: self.cache,
            duration: elapsed,
        });
        if let Some(failure) = RequestFailure::of(self.status, self.outcome) {
            let metrics = &self.sink.metrics;
            metrics.note_failed(failure, || self.to_failed(elapsed));
        }
        if let Some(lines) = &self.sink.access_log {
            let is_buffered = lines
                .write(|buffer, timestamp| access_log::write(buffer, timestamp, self, elapsed));
            // The writer thread counts the lines that it receives.
            if !is_buffered {
                self.sink.metrics.count(AccessLogLines::Dropped);
            }
        }
        if self.sink.tail.is_followed() {
            self.sink.tail.write(self, elapsed);
        }
        if let Some(spans) = &self.sink.spans
            && self.trace.is_sampled()
        {
            spans.push(request_span::request_span(self, elapsed));
        }
        if self.gives_recording {
            self.audit();
        }
    }
}

/// Returns at most [`SHOWN_CHARACTERS`] of a text.
fn shortened(text: &str) -> CompactString {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        None => text.into(),
        Some((end, _)) => text.get(..end).unwrap_or_default().into(),
    }
}

/// Characters that people are shown of a path and of a reason.
const SHOWN_CHARACTERS: usize = 200;
