//! Access keys and their secrets. A [`Secret`] cannot be printed.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The public name of one developer account ("ak").
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AccessKey(Arc<str>);

impl AccessKey {
    /// The ak as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AccessKey {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl std::borrow::Borrow<str> for AccessKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A secret key ("SK"): never printed, wiped when dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the exact bytes; at least one.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An access key with the one or two secrets it may sign with: verified against both, signed with
/// the first.
#[derive(Debug)]
pub struct Credential {
    access_key: AccessKey,
    secrets: Vec<Secret>,
    enabled: bool,
}

impl Credential {
    /// A credential of one or two secrets. A disabled one never verifies.
    pub fn new(access_key: AccessKey, secrets: Vec<Secret>, enabled: bool) -> Self {
        Self {
            access_key,
            secrets,
            enabled,
        }
    }

    /// The ak.
    pub fn access_key(&self) -> &AccessKey {
        &self.access_key
    }

    /// The secrets, the signing one first.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// False: 401 like an unknown ak.
    pub fn enabled(&self) -> bool {
        self.enabled
    }
}
