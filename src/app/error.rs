//! Why the gateway could not start.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::listener::TlsError;
use crate::telemetry;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("{what} cannot listen on {address}: {error}")]
    Bind {
        /// The listener, or the admin interface.
        what: String,
        /// The configured address.
        address: SocketAddr,
        /// The cause. Part of this error's text, therefore not its `source`.
        error: io::Error,
    },
    /// The audit log could not be opened.
    #[error("the audit log cannot be opened: {0}")]
    AuditLog(io::Error),
    /// The access log could not be opened.
    #[error("the access log cannot be opened: {0}")]
    AccessLog(io::Error),
    /// The trace exporter could not be started.
    #[error("traces cannot be exported: {0}")]
    Traces(telemetry::CollectorError),
    /// The TLS configuration of a listener was rejected.
    #[error("TLS of listener {0} cannot be set up: {1}")]
    Tls(Arc<str>, TlsError),
    /// A worker thread could not be started.
    #[error("a worker thread cannot be started: {0}")]
    Worker(io::Error),
}
