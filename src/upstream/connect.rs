//! New connections to nodes: TCP and TLS under one timeout.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::exchange::Connection;
use super::failure_reason::{self, FailureReason};
use super::read_ahead::ReadAhead;
use crate::cluster::{ClusterSettings, Node};
use crate::tls::CertificateDetails;

/// Connects to `node` within the connect timeout.
///
/// # Errors
/// The reason why no connection was established.
pub(super) async fn connect(
    node: &Node,
    settings: &ClusterSettings,
) -> Result<Connection, FailureReason> {
    let connected = AtomicBool::new(false);
    let limit = settings.timeouts.connect;
    match timeout(limit, establish(node, settings, &connected)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            tracing::debug!(node = %node.name(), %error, "connecting failed");
            Err(failure_reason::from_connect(&error))
        }
        Err(_elapsed) => {
            tracing::debug!(node = %node.name(), "connecting timed out");
            Err(if connected.load(Ordering::Relaxed) {
                format!("no TLS handshake in {limit:?}").into()
            } else {
                format!("no connection in {limit:?}").into()
            })
        }
    }
}

/// As [`connect`], but verifies the certificate of `node`: a resumed session would not. The sessions
/// before it are forgotten.
///
/// # Errors
/// The reason why no connection was established.
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "used by the hourly full handshake of health checks"
    )
)]
pub(super) async fn connect_unresumed(
    node: &Node,
    settings: &ClusterSettings,
) -> Result<Connection, FailureReason> {
    node.forget_sessions();
    connect(node, settings).await
}

/// Opens the TCP connection, sets `connected`, and performs the TLS handshake.
async fn establish(
    node: &Node,
    settings: &ClusterSettings,
    connected: &AtomicBool,
) -> io::Result<Connection> {
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(node.address().host.to_string()).map_err(io::Error::other)?,
    };
    let tcp = TcpStream::connect(node.socket()).await?;
    connected.store(true, Ordering::Relaxed);
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(node.tls_client(&settings.tls))
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
