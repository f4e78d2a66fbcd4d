//! What the parts of the listener share: per listener and worker, and per connection.

use std::sync::Arc;

use rustls::ServerConfig;

use super::connection_limits::ConnectionPermit;
use super::{ConnectionInfo, Settings};
use crate::drain::Watch;
use crate::metrics::Shard;

/// Shared by all connections of one listener on one worker.
#[derive(Debug)]
pub struct ListenerContext<H> {
    /// The listener's name.
    pub name: Arc<str>,
    /// The TLS configuration; `None` serves HTTP/1.1 without TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// Serves the requests.
    pub handler: Arc<H>,
    /// Limits and timeouts.
    pub settings: Arc<Settings>,
    /// The worker's counters.
    pub metrics: Arc<Shard>,
}

/// Held for the lifetime of one connection, from the end of its handshake.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) permit: ConnectionPermit,
    pub(super) drain: Watch,
}
