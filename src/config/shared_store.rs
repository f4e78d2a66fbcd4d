//! The store that replicas share, as configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use crate::cluster::NodeAddress;

/// Where the store is, and how it is spoken to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SharedStore {
    /// The server.
    pub address: NodeAddress,
    /// The number of the database there.
    pub database: u32,
    /// `None` is plain TCP.
    pub tls: Option<StoreTls>,
    /// A user of the server's access list; `None` is its default user.
    pub username: Option<String>,
    /// That user's password.
    pub password: Option<StoreSecret>,
    /// What a request may wait for the store, all in all; above zero.
    pub timeout: Duration,
    /// One or two: the first one seals, both open.
    pub seal_keys: Vec<StoreSecret>,
}

impl SharedStore {
    /// The URL without any secret.
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
    /// Roots or no verification, client certificate. No ALPN.
    pub client: Arc<rustls::ClientConfig>,
    /// The name to verify instead of the server's own.
    pub server_name: Option<ServerName<'static>>,
    /// True if the server's certificate is not verified.
    pub insecure: bool,
    /// Digest of all that it was made of.
    pub identity: [u8; 32],
    /// The same as PEM, for the connections that a cluster's client makes by itself.
    pub pem: StorePem,
}

/// What TLS to the store is made of, as it stands in the files.
#[derive(Clone, Debug, Default)]
pub struct StorePem {
    /// The authorities; those of the system if left out.
    pub ca: Option<Vec<u8>>,
    /// The own certificate and its key.
    pub client_certificate: Option<(Vec<u8>, StoreSecret)>,
}

/// Equal is what was made of the same.
impl PartialEq for StoreTls {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.insecure == other.insecure
    }
}

impl Eq for StoreTls {}

/// A password or a key of the store: never printed, wiped when dropped.
#[derive(Clone)]
pub struct StoreSecret(Zeroizing<Vec<u8>>);

impl StoreSecret {
    /// Takes the exact bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The exact bytes, for those who derive from them or log in with them.
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
