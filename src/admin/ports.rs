//! The listeners' ports as the admin interface sees them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

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
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// One more, until the guard is dropped.
    pub fn enter(&self) -> Connected {
        self.0.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connected(Connections);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
