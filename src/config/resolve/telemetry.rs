//! `[telemetry]`: diagnostic log, access log, traces.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::value_or;
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, Setting};
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::{AccessLog, Telemetry};
use crate::telemetry::{AuditKey, LogFormat};

pub(super) fn resolve(file: &file::Telemetry, diagnostics: &mut Diagnostics) -> Telemetry {
    if let Some(written) = &file.access_log
        && !matches!(written.as_str(), "stderr" | "off")
        && let Err(message) = check_log_file("access log", &diagnostics.resolve_path(written))
    {
        diagnostics.error(
            written.span(),
            message,
            "must be \"stderr\", \"off\", or a file that can be written, in a directory that exists",
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
            Some(path) => AccessLog::File(diagnostics.resolve_path(path)),
        },
        audit_log: audit_log(file, diagnostics),
        audit_key: audit_key(file, diagnostics),
        log_claimed_ak: value_or(&file.log_claimed_ak, false),
        otlp_endpoint: otlp_endpoint(&file.otlp_endpoint, diagnostics),
        sample: value_or(&file.sample, 0.01),
        node_histograms: value_or(&file.node_histograms, Default::default()),
    }
}

/// Returns the file of the audit log, which must be another one than that of the access log.
fn audit_log(file: &file::Telemetry, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    let written = file.audit_log.as_ref()?;
    let path = diagnostics.resolve_path(written);
    let is_access_log = file
        .access_log
        .as_ref()
        .is_some_and(|it| diagnostics.resolve_path(it) == path);
    let problem = match check_log_file("audit log", &path) {
        Ok(()) if is_access_log => Some("the access log is written to this file".to_owned()),
        Ok(()) => None,
        Err(message) => Some(message),
    };
    if let Some(message) = problem {
        diagnostics.error(
            written.span(),
            message,
            "must be a file of its own that can be written, in a directory that exists",
        );
    }
    Some(path)
}

/// Reads the key of the audit log.
fn audit_key(file: &file::Telemetry, diagnostics: &mut Diagnostics) -> Option<AuditKey> {
    let written = file.audit_key_file.as_ref()?;
    if file.audit_log.is_none() {
        diagnostics.warning(written.span(), "without audit_log", "has no effect");
    }
    let content = diagnostics.read_secret_file(written, &written.span)?;
    warn_if_readable_by_others(written, &written.span, diagnostics);
    let key = AuditKey::new(content);
    if !(MIN_KEY_LENGTH..=MAX_KEY_LENGTH).contains(&key.len()) {
        diagnostics.error(
            written.span(),
            format!("the key of the audit log has {} bytes", key.len()),
            "must have 32 to 1024, made at random: `openssl rand -hex 32`",
        );
        return None;
    }
    Some(key)
}

/// As long as an HMAC-SHA256 uses.
const MIN_KEY_LENGTH: usize = 32;

/// A longer file is no key.
const MAX_KEY_LENGTH: usize = 1024;

/// Whether lines can be appended to a file, which is not created. A pipe is not opened: its reader would
/// see the end of it.
fn check_log_file(what: &str, path: &Path) -> Result<(), String> {
    let cannot = |error: io::Error| format!("the {what} cannot be written: {error}");
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    match path.metadata() {
        Ok(file) if file.is_dir() => Err(format!("the {what} is a directory")),
        Ok(file) if file.file_type().is_socket() => Err(format!("the {what} is a socket")),
        Ok(file) if file.is_file() => {
            let opened = OpenOptions::new().append(true).open(path);
            opened.map(drop).map_err(cannot)
        }
        Ok(_) => Ok(()),
        Err(_) if !directory.is_dir() => Err(format!("the {what} has no directory")),
        Err(_) => tempfile::tempfile_in(directory).map(drop).map_err(cannot),
    }
}

/// Checks the URL of the collector; it is an error in a build without the feature `otlp`.
fn otlp_endpoint(file: &Setting<String>, diagnostics: &mut Diagnostics) -> Option<String> {
    let written = file.as_ref()?;
    if let Err(help) = check_endpoint(written) {
        diagnostics.error(written.span(), "not the URL of a collector", help);
    } else if !cfg!(feature = "otlp") {
        diagnostics.error(
            written.span(),
            "this program was built without the feature otlp",
            "leave otlp_endpoint out, or build the program with --features otlp",
        );
    }
    Some(written.value.clone())
}

/// Checks the URL of a collector; an error says what would be right.
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
