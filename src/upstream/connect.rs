//! New connections to nodes: TCP and TLS under one timeout.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::exchange::Connection;
use super::failure_reason::{self, FailureReason};
use super::read_ahead::ReadAhead;
use crate::cluster::{ClusterSettings, Node};

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
    let tls = TlsConnector::from(settings.tls.clone())
        .connect(name, ReadAhead::new(tcp))
        .await?;
    Ok(Connection::new(tls))
}
