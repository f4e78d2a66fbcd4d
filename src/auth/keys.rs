//! Access keys and their secrets. A [`Secret`] is never displayed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

/// The public identifier of one developer account ("ak").
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AccessKey(Arc<str>);

impl AccessKey {
    /// Returns the access key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the access key as shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Returns the access key as shared text, without counting a reference.
    pub fn as_shared(&self) -> &Arc<str> {
        &self.0
    }

    /// Whether `text` may be an access key: 1 to 128 visible ASCII characters without a slash, which
    /// separates the parts of an Authorization value.
    pub fn is_well_formed(text: &str) -> bool {
        (1..=MAX_ACCESS_KEY_LENGTH).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/')
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

/// A secret key ("SK"): never displayed, zeroed on drop.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    id: u64,
}

impl Secret {
    /// Creates a secret of exactly these bytes, at least one.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Zeroizing::new(bytes),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Passes the bytes to a digest.
    pub fn digest_into(&self, update: &mut dyn FnMut(&[u8])) {
        update(&self.bytes);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the id that only clones share, unique in the process, so that a key derived from one secret
    /// is never taken for one derived from another.
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

/// Compares the bytes, not the ids.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// An access key with its one or two secrets. Verification accepts both; signing uses the first.
#[derive(Debug, Eq, PartialEq)]
pub struct Credential {
    access_key: AccessKey,
    secrets: Vec<Secret>,
    enabled: bool,
}

impl Credential {
    /// Creates a credential of one or two secrets. A disabled one never verifies.
    pub fn new(access_key: AccessKey, secrets: Vec<Secret>, enabled: bool) -> Self {
        Self {
            access_key,
            secrets,
            enabled,
        }
    }

    /// Returns the access key.
    pub fn access_key(&self) -> &AccessKey {
        &self.access_key
    }

    /// Returns the secrets, the signing one first.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// Whether it verifies; a disabled one gets 401 like an unknown access key.
    pub fn enabled(&self) -> bool {
        self.enabled
    }
}

/// Observed access keys have at most 32 characters.
const MAX_ACCESS_KEY_LENGTH: usize = 128;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);
