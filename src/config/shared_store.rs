//! The settings of the store shared by all replicas.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use crate::cluster::NodeAddress;

/// Address, credentials and encryption keys of the shared store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SharedStore {
    /// Address of the server, or of any node of a Redis cluster.
    pub address: NodeAddress,
    /// Number of the database.
    pub database: u32,
    /// `None` is plain TCP.
    pub tls: Option<StoreTls>,
    /// User of the server's access list; `None` is its default user.
    pub username: Option<String>,
    /// Password of that user.
    pub password: Option<StoreSecret>,
    /// Maximum time that a request waits for the store, in total; above zero.
    pub timeout: Duration,
    /// One or two encryption keys: the first one encrypts, both decrypt.
    pub seal_keys: Vec<StoreSecret>,
}

impl SharedStore {
    /// Returns the URL, which holds no secret.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        match self.database {
            0 => format!("{scheme}://{}", self.address),
            database => format!("{scheme}://{}/{database}", self.address),
        }
    }
}

/// TLS to the store.
#[derive(Clone, Debug)]
pub struct StoreTls {
    /// Trust anchors or no verification, client certificate. No ALPN.
    pub client: Arc<rustls::ClientConfig>,
    /// Name to verify instead of the server's host.
    pub server_name: Option<ServerName<'static>>,
    /// Whether the server's certificate is not verified.
    pub insecure: bool,
    /// Whether the server's key has to be one of those that are pinned.
    pub is_pinned: bool,
    /// Digest of all inputs: equal digests mean equal settings after a reload.
    pub identity: [u8; 32],
    /// The same inputs as PEM, for the connections that the Redis cluster client opens itself.
    pub pem: StorePem,
}

/// The inputs of TLS to the store as PEM.
#[derive(Clone, Debug, Default)]
pub struct StorePem {
    /// The authorities; `None` is the system's.
    pub ca: Option<Vec<u8>>,
    /// The client certificate and its private key.
    pub client_certificate: Option<(Vec<u8>, StoreSecret)>,
}

/// Compares the inputs; a `ClientConfig` is not comparable.
impl PartialEq for StoreTls {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.insecure == other.insecure
    }
}

impl Eq for StoreTls {}

/// A password or an encryption key of the store: redacted in `Debug`, wiped when dropped.
#[derive(Clone)]
pub struct StoreSecret(Zeroizing<Vec<u8>>);

impl StoreSecret {
    /// Takes the exact bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the exact bytes, for key derivation and login.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for StoreSecret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for StoreSecret {}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(..)")
    }
}
