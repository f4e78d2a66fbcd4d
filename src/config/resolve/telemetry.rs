//! The table of what is told of requests: log, access log, traces.

use super::value_or;
use crate::config::file::{self, Setting};
use crate::config::report::Diagnostics;
use crate::config::{AccessLog, Telemetry};
use crate::telemetry::LogFormat;

pub(super) fn resolve(file: &file::Telemetry, report: &mut Diagnostics) -> Telemetry {
    if let Some(written) = &file.access_log
        && !matches!(written.as_str(), "stderr" | "off")
        && !report
            .resolve_path(written)
            .parent()
            .is_some_and(|directory| directory.as_os_str().is_empty() || directory.is_dir())
    {
        report.error(
            written.span(),
            "the access log has no directory",
            "must be \"stderr\", \"off\", or a file in a directory that is there",
        );
    }
    Telemetry {
        log_level: match file.log_level.as_ref().map(|key| key.value) {
            Some(file::LogLevel::Error) => tracing::Level::ERROR,
            Some(file::LogLevel::Warn) => tracing::Level::WARN,
            Some(file::LogLevel::Info) | None => tracing::Level::INFO,
            Some(file::LogLevel::Debug) => tracing::Level::DEBUG,
            Some(file::LogLevel::Trace) => tracing::Level::TRACE,
        },
        log_format: file.log_format.as_ref().map(|key| match key.value {
            file::LogFormat::Json => LogFormat::Json,
            file::LogFormat::Text => LogFormat::Text,
        }),
        access_log: match file.access_log.as_ref().map(|key| key.as_str()) {
            Some("stderr") | None => AccessLog::Stderr,
            Some("off") => AccessLog::Off,
            Some(path) => AccessLog::File(report.resolve_path(path)),
        },
        otlp_endpoint: otlp_endpoint(&file.otlp_endpoint, report),
        sample: value_or(&file.sample, 0.01),
    }
}

/// The collector, if this program can speak to one.
fn otlp_endpoint(file: &Setting<String>, report: &mut Diagnostics) -> Option<String> {
    let written = file.as_ref()?;
    if let Err(help) = check_endpoint(written) {
        report.error(written.span(), "not the URL of a collector", help);
    } else if !cfg!(feature = "otlp") {
        report.error(
            written.span(),
            "this program was built without the feature otlp",
            "leave otlp_endpoint out, or build the program with --features otlp",
        );
    }
    Some(written.value.clone())
}

/// What would be right, if it is not.
fn check_endpoint(url: &str) -> Result<(), &'static str> {
    const FORM: &str =
        "must be http://host:port or https://host:port, such as \"http://127.0.0.1:4317\"";
    let schemes = ["http://", "https://"];
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or(FORM)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("must be http://host:port or https://host:port without a user");
    }
    if rest.contains(['/', '?', '#']) {
        return Err(
            "must be http://host:port or https://host:port without a path or a query: traces go there over gRPC",
        );
    }
    let authority: http::uri::Authority = rest.parse().map_err(|_| FORM)?;
    let has_port = match authority.port() {
        Some(port) => port.as_str().parse::<u16>().is_ok_and(|port| port > 0),
        None => rest == authority.host(),
    };
    if has_port && !authority.host().is_empty() {
        Ok(())
    } else {
        Err(FORM)
    }
}
