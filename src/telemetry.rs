//! What is told about requests: one [`Record`] each, written once by its own drop, whichever way the
//! request went, also when the client vanished. Knows nothing that it would have to hide: no query,
//! no `Authorization`, no body ever enters a record.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use http::{HeaderValue, Method, Uri, Version};
use jiff::Timestamp;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

mod access_log;
mod exporter;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "telemetry/no_otlp.rs"]
mod otlp;
mod request_span;
mod span;
mod trace;

pub use access_log::{AccessLog, Destination, LogBuffer};
pub use exporter::TraceExporter;
pub use otlp::CollectorError;
pub use span::{Attributes, Kind, Span, SpanQueue, Value, method_name};
pub use trace::{SampleRatio, TraceContext};

use crate::metrics::{CacheStatus, CompletedRequest, RequestOutcome, RouteLabel, Shard};

/// Sets up the diagnostics on standard error, once per process. Later calls change nothing.
pub fn init_diagnostics(level: tracing::Level) {
    // Libraries speak in the operator's log only when something is wrong; h2 warns of each attacker.
    let filter = Targets::new()
        .with_default(level)
        .with_target("h2", tracing::Level::ERROR)
        // It warns of every client that puts an address into SNI.
        .with_target("rustls", tracing::Level::ERROR)
        .with_target("hickory_resolver", tracing::Level::WARN.min(level))
        .with_target("hickory_net", tracing::Level::WARN.min(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}

/// Where the records of one worker go.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Lines of the access log; `None` if it is off.
    pub access_log: Option<Arc<LogBuffer>>,
    /// Spans of recorded traces; `None` if they go nowhere.
    pub spans: Option<Arc<SpanQueue>>,
    /// The worker's counters.
    pub metrics: Arc<Shard>,
}

/// One request: what is known of it grows along the path.
#[derive(Debug)]
pub struct RequestRecord {
    sink: Sink,
    started: Instant,
    /// When the request came.
    pub started_at: Timestamp,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Listener and cluster, as they are counted.
    pub route: RouteLabel,
    /// The port it came to.
    pub port: u16,
    /// The client.
    pub client: IpAddr,
    /// TLS version.
    pub tls: Option<&'static str>,
    /// The CC-FS interface, by the tail of its path; nothing for a path that is none's.
    pub interface: Option<&'static str>,
    /// As asked; nothing when the head was not legal.
    pub method: Option<Method>,
    /// Only its path is ever written.
    pub uri: Option<Uri>,
    /// HTTP version.
    pub version: Version,
    /// The client's `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// The id that the answer carries.
    pub request_id: HeaderValue,
    /// Trace and span.
    pub trace: TraceContext,
    /// The ak, once verified.
    pub access_key: Option<Arc<str>>,
    /// The callId of a verified request.
    pub call_id: Option<CompactString>,
    /// The cluster.
    pub cluster: Option<Arc<str>>,
    /// `host:port` that answered.
    pub node: Option<Arc<str>>,
    /// Tries made.
    pub attempts: u32,
    /// The status of the answer; 0 if none was given.
    pub status: u16,
    /// resultCode of the answer, where it was read.
    pub result_code: Option<CompactString>,
    /// What became of it.
    pub outcome: RequestOutcome,
    /// What the cache did.
    pub cache: Option<CacheStatus>,
    /// Why it was refused, for the operator.
    pub reason: Option<Box<str>>,
    /// Bytes of the request body.
    pub body_in: u64,
    /// Bytes of the answer's body that were handed over.
    pub body_out: u64,
    /// Time at nodes.
    pub upstream_time: Option<Duration>,
    /// Waiting for a fetch that somebody else had begun.
    pub wait_time: Option<Duration>,
}

/// Facts of a connection that every record carries.
#[derive(Debug)]
pub struct RequestOrigin {
    /// Name of the listener.
    pub listener: Arc<str>,
    /// The port it came to.
    pub port: u16,
    /// The client.
    pub client: IpAddr,
    /// TLS version.
    pub tls: Option<&'static str>,
}

impl RequestRecord {
    /// Begins a record. Until something else is known, the client is taken to have left.
    #[expect(clippy::disallowed_methods, reason = "the stopwatch of a request")]
    pub fn begin(
        sink: Sink,
        origin: RequestOrigin,
        started_at: Timestamp,
        request_id: HeaderValue,
    ) -> Self {
        let share = sink
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
            trace: TraceContext::new_root(share),
            access_key: None,
            call_id: None,
            cluster: None,
            node: None,
            attempts: 0,
            status: 0,
            result_code: None,
            outcome: RequestOutcome::ClientDisconnected,
            cache: None,
            reason: None,
            body_in: 0,
            body_out: 0,
            upstream_time: None,
            wait_time: None,
        }
    }

    /// The worker's counters.
    pub fn metrics(&self) -> &Arc<Shard> {
        &self.sink.metrics
    }

    /// Since the request came.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
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
        if let Some(lines) = &self.sink.access_log {
            let written =
                lines.write(|buffer, second| access_log::write(buffer, second, self, elapsed));
            self.sink.metrics.count(written);
        }
        if let Some(spans) = &self.sink.spans
            && self.trace.is_sampled()
        {
            spans.push(request_span::request_span(self, elapsed));
        }
    }
}
