//! Access keys and their secrets. A [`Secret`] cannot be printed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

/// The public name of one developer account ("ak").
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AccessKey(Arc<str>);

impl AccessKey {
    /// The ak as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ak as shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// May `text` be an ak at all? 1 to 128 visible ASCII characters, none of them a slash, since
    /// slashes part the fields of an Authorization value.
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

/// A secret key ("SK"): never printed, wiped when dropped.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    id: u64,
}

impl Secret {
    /// Takes the exact bytes; at least one.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Zeroizing::new(bytes),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Shared with clones, and with nothing else that this process ever made: what was derived from
    /// one secret is never taken for derived from another.
    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

/// Equal are equal bytes, whenever they were read.
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

/// Those seen have 32 characters and fewer.
const MAX_ACCESS_KEY_LENGTH: usize = 128;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);
