//! Opens the logs and starts the export of traces, as the configuration says.

use std::io;
use std::sync::Arc;

use super::StartError;
use crate::config::{self, AccessLog, Config};
use crate::metrics::Shard;
use crate::telemetry;

/// The access log, the audit log and the export of traces, each if it is configured.
type Telemetry = (
    Option<telemetry::AccessLog>,
    Option<telemetry::AuditLog>,
    Option<telemetry::TraceExporter>,
);

/// Opens all of them; `metrics` counts their lines and spans.
///
/// # Errors
/// A file could not be opened, or a thread or the exporter not started.
pub(super) fn open(config: &Config, metrics: &Arc<Shard>) -> Result<Telemetry, StartError> {
    let access_log = open_access_log(&config.telemetry, metrics.clone());
    let traces = start_trace_exporter(&config.telemetry, metrics);
    let audit_log = open_audit_log(config, metrics.clone());
    Ok((
        access_log.map_err(StartError::AccessLog)?,
        audit_log.map_err(StartError::AuditLog)?,
        traces.map_err(StartError::Traces)?,
    ))
}

fn open_access_log(
    settings: &config::Telemetry,
    metrics: Arc<Shard>,
) -> io::Result<Option<telemetry::AccessLog>> {
    let destination = match &settings.access_log {
        AccessLog::File(path) => telemetry::Destination::File(path.clone()),
        AccessLog::Off => return Ok(None),
        AccessLog::Stderr => telemetry::Destination::Stderr,
    };
    telemetry::AccessLog::open(destination, metrics).map(Some)
}

pub(super) fn start_trace_exporter(
    settings: &config::Telemetry,
    metrics: &Arc<Shard>,
) -> Result<Option<telemetry::TraceExporter>, telemetry::CollectorError> {
    let endpoint = settings.otlp_endpoint.as_deref();
    let share = telemetry::SampleRatio::new(settings.sample);
    endpoint
        .map(|endpoint| telemetry::TraceExporter::start(endpoint, share, metrics.clone()))
        .transpose()
}

fn open_audit_log(config: &Config, metrics: Arc<Shard>) -> io::Result<Option<telemetry::AuditLog>> {
    let Some(path) = &config.telemetry.audit_log else {
        return Ok(None);
    };
    let settings = telemetry::AuditSettings {
        path: path.clone(),
        key: config.telemetry.audit_key.clone(),
        instance: config.server.name.clone(),
    };
    telemetry::AuditLog::open(settings, metrics).map(Some)
}
