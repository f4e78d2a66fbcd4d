//! The listeners' ports as the admin interface sees them.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::gauge::Gauge;

/// The ports that are open now; the app replaces the list when it changes.
pub type Ports = ArcSwap<Vec<OpenPort>>;

/// One open port.
#[derive(Clone, Debug)]
pub struct OpenPort {
    /// The listener.
    pub name: Arc<str>,
    /// As bound.
    pub address: SocketAddr,
    /// Connections now.
    pub connections: Connections,
}

/// A count of connections, shared by handle.
pub type Connections = Gauge;
