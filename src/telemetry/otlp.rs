//! The connection to a collector: OTLP over gRPC.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use super::span::{Kind, Span, Value};

/// A collector; connected to on first use.
#[derive(Debug)]
pub(super) struct Collector {
    exporter: SpanExporter,
    scope: InstrumentationScope,
}

/// Why no collector client could be built.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CollectorError(ExporterBuildError);

impl Collector {
    /// Builds a client of the collector at `endpoint`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`super::TraceExporter::start`].
    pub(super) fn new(endpoint: &str) -> Result<Self, CollectorError> {
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT);
        if endpoint.starts_with("https://") {
            builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
        }
        let mut exporter = builder.build().map_err(CollectorError)?;
        exporter.set_resource(&resource());
        Ok(Self {
            exporter,
            scope: InstrumentationScope::builder(NAME)
                .with_version(VERSION)
                .build(),
        })
    }

    /// Exports spans, with the SDK's retries.
    ///
    /// # Errors
    /// The cause, for the log.
    pub(super) async fn export(&self, spans: Vec<Span>) -> Result<(), String> {
        let spans = spans.into_iter().map(|span| self.span_data(span)).collect();
        let exported = self.exporter.export(spans).await;
        exported.map_err(|error| error.to_string())
    }

    fn span_data(&self, span: Span) -> SpanData {
        let (trace, id, parent) = span.context.ids();
        SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(trace.to_be_bytes()),
                SpanId::from_bytes(id.to_be_bytes()),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from_bytes(parent.to_be_bytes()),
            // The parent of an attempt is our request span; the parent of a request span is the client's.
            parent_span_is_remote: parent != 0 && span.kind == Kind::Server,
            span_kind: match span.kind {
                Kind::Client => SpanKind::Client,
                Kind::Server => SpanKind::Server,
            },
            name: span.name,
            start_time: SystemTime::from(span.started_at),
            end_time: SystemTime::from(span.ended_at),
            attributes: span.attributes.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if span.failed {
                Status::error("")
            } else {
                Status::Unset
            },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn attribute((name, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Static(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
        Value::Shared(text) => KeyValue::new(name, text),
        Value::Text(text) => KeyValue::new(name, text),
    }
}

/// Describes this process, with a random instance id.
fn resource() -> Resource {
    let instance = format!("{:032x}", rand::random::<u128>());
    Resource::builder_empty()
        .with_service_name(NAME)
        .with_attribute(KeyValue::new("service.version", VERSION))
        .with_attribute(KeyValue::new("service.instance.id", instance))
        .build()
}

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Deadline of one gRPC call, half of `EXPORT_TIMEOUT`, so that one retry fits.
const TIMEOUT: Duration = Duration::from_secs(5);
