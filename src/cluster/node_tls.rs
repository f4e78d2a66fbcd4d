//! TLS of one node: its own sessions, and the certificate that it presented.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::client::Resumption;

use super::Node;
use crate::tls::CertificateDetails;

/// The sessions and the certificate of a node. A store of sessions for each node: a shared one
/// forgets when there are many nodes, and mixes up nodes that are verified by one `server_name`.
#[derive(Debug, Default)]
pub(super) struct NodeTls {
    requests: Mutex<Option<NodeClient>>,
    checks: Mutex<Option<NodeClient>>,
    certificate: ArcSwapOption<CertificateDetails>,
}

/// A TLS configuration with the sessions of one node.
#[derive(Debug)]
struct NodeClient {
    /// The configuration of the cluster that it was made from.
    shared: Arc<ClientConfig>,
    own: Arc<ClientConfig>,
}

impl Node {
    /// Returns the TLS configuration of the cluster with the sessions of this node. After a change of
    /// the cluster's configuration there are no sessions to resume: a resumed session verifies no
    /// certificate.
    pub fn tls_client(&self, shared: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        NodeClient::of(&self.tls.requests, shared)
    }

    /// The same for the connections of health checks, whose sessions are kept apart: a session brings the
    /// group of its key exchange along.
    pub fn check_tls_client(&self, shared: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        NodeClient::of(&self.tls.checks, shared)
    }

    /// Forgets the sessions of this node, so that the next connections verify its certificate.
    pub fn forget_sessions(&self) {
        *self.tls.requests.lock() = None;
        *self.tls.checks.lock() = None;
    }

    /// Returns the certificate of the last full handshake that succeeded.
    pub fn certificate(&self) -> Option<Arc<CertificateDetails>> {
        self.tls.certificate.load_full()
    }

    /// Records the certificate of a full handshake.
    pub fn set_certificate(&self, certificate: CertificateDetails) {
        self.tls.certificate.store(Some(Arc::new(certificate)));
    }
}

impl NodeClient {
    /// Returns the node's own configuration in `slot`, made anew if `shared` is another one than before.
    fn of(slot: &Mutex<Option<Self>>, shared: &Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut client = slot.lock();
        if let Some(client) = &*client
            && Arc::ptr_eq(&client.shared, shared)
        {
            return client.own.clone();
        }
        let mut own = ClientConfig::clone(shared);
        own.resumption = Resumption::in_memory_sessions(SESSIONS);
        let own = Arc::new(own);
        *client = Some(Self {
            shared: shared.clone(),
            own: own.clone(),
        });
        own
    }
}

/// One server in terms of rustls: it keeps eight tickets of it.
const SESSIONS: usize = 8;
