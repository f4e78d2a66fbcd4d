//! New connections to nodes: TCP and TLS under one timeout.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::exchange::Connection;
use super::failure_reason::{self, FailureReason};
use super::happy_eyeballs;
use super::read_ahead::ReadAhead;
use crate::cluster::{ClusterSettings, Node};
use crate::message::ConnectError;
use crate::tls::CertificateDetails;

/// Connects to `node` within the connect timeout.
///
/// # Errors
/// Why no connection was established, as a type and as text.
pub(super) async fn connect(
    node: &Node,
    settings: &ClusterSettings,
) -> Result<Connection, (ConnectError, FailureReason)> {
    connect_with(node, settings, node.tls_client(&settings.tls)).await
}

/// As [`connect`], for health checks.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_for_check(
    node: &Node,
    settings: &ClusterSettings,
) -> Result<Connection, (ConnectError, FailureReason)> {
    connect_with(node, settings, node.check_tls_client(&settings.check_tls)).await
}

async fn connect_with(
    node: &Node,
    settings: &ClusterSettings,
    tls: Arc<ClientConfig>,
) -> Result<Connection, (ConnectError, FailureReason)> {
    let connected = AtomicBool::new(false);
    let limit = settings.timeouts.connect;
    match timeout(limit, establish(node, settings, tls, &connected)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let reason = failure_reason::from_connect(&error);
            tracing::debug!(node = %node.name(), %reason, "connecting failed");
            Err((classify(&error), reason))
        }
        Err(_elapsed) => {
            tracing::debug!(node = %node.name(), "connecting timed out");
            let missing = if connected.load(Ordering::Relaxed) {
                "TLS handshake"
            } else {
                "connection"
            };
            let reason = format!("no {missing} in {limit:?}").into();
            Err((ConnectError::Timeout, reason))
        }
    }
}

/// Opens the TCP connection, sets `connected`, and performs the TLS handshake.
async fn establish(
    node: &Node,
    settings: &ClusterSettings,
    tls: Arc<ClientConfig>,
    connected: &AtomicBool,
) -> io::Result<Connection> {
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(node.address().host.to_string()).map_err(io::Error::other)?,
    };
    let tcp = happy_eyeballs::connect(&node.candidates()).await?;
    node.set_connected(tcp.peer_addr()?);
    connected.store(true, Ordering::Relaxed);
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(tls)
        .connect(name, ReadAhead::new(tcp))
        .await?;
    record_certificate(node, tls.get_ref().1);
    Ok(Connection::new(tls))
}

/// Records the certificate of a full handshake; a resumed session has that of an earlier one.
fn record_certificate(node: &Node, tls: &ClientConnection) {
    if tls.handshake_kind() != Some(HandshakeKind::Resumed)
        && let Some(leaf) = tls.peer_certificates().and_then(<[_]>::first)
    {
        node.set_certificate(CertificateDetails::read(leaf));
    }
}

/// Returns the type of an error of TCP or of the TLS handshake.
fn classify(error: &io::Error) -> ConnectError {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::InvalidCertRevocationList(_)
            | rustls::Error::NoCertificatesPresented,
        ) => return ConnectError::Certificate,
        Some(_) => return ConnectError::Tls,
        None => {}
    }
    match error.kind() {
        io::ErrorKind::TimedOut => ConnectError::Timeout,
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => ConnectError::Closed,
        _ => ConnectError::Refused,
    }
}
