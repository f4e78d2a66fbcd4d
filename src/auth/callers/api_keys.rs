//! API keys: found by a MAC under a random key, and compared in constant time. The index holds no API key.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use foldhash::quality::RandomState;
use hmac::Mac as _;
use zeroize::Zeroizing;

use super::super::Secret;
use super::super::mac::{Mac, new_mac};

/// The API keys of callers.
pub(super) struct ApiKeys<T> {
    mac: Mac,
    /// By the first bytes of the MAC; compared whole.
    callers: HashMap<[u8; 8], Bucket<T>, RandomState>,
}

type Digest = [u8; 32];

/// The callers with keys whose MACs begin alike.
type Bucket<T> = Vec<(Digest, Arc<T>)>;

impl<T> ApiKeys<T> {
    /// Creates the index of callers with their keys. A key in two callers identifies neither.
    pub(super) fn new<'a>(callers: impl Iterator<Item = (&'a Arc<T>, &'a [Secret])>) -> Self
    where
        T: 'a,
    {
        let random = Zeroizing::new(rand::random::<[u8; 32]>());
        let mut keys = Self {
            mac: new_mac(&*random),
            callers: HashMap::with_hasher(RandomState::default()),
        };
        for (caller, secrets) in callers {
            for secret in secrets {
                let digest = keys.digest(secret.bytes());
                let bucket = keys.callers.entry(prefix(&digest)).or_default();
                bucket.push((digest, caller.clone()));
            }
        }
        for bucket in keys.callers.values_mut() {
            let all = bucket.clone();
            bucket.retain(|(digest, caller)| {
                !all.iter()
                    .any(|(other, holder)| other == digest && !Arc::ptr_eq(holder, caller))
            });
        }
        keys
    }

    /// Whether no caller has a key.
    pub(super) fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Finds the caller with a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<&Arc<T>> {
        let digest = self.digest(key);
        let bucket = self.callers.get(&prefix(&digest))?;
        let mut equal = bucket
            .iter()
            .filter(|(held, _)| constant_time::verify_slices_are_equal(held, &digest).is_ok());
        equal.next().map(|(_, caller)| caller)
    }

    fn digest(&self, key: &[u8]) -> Digest {
        let mut mac = self.mac.clone();
        mac.update(key);
        mac.finalize().into_bytes().into()
    }
}

impl<T> std::fmt::Debug for ApiKeys<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.callers.len())
    }
}

fn prefix(digest: &Digest) -> [u8; 8] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// Returns the token of an `Authorization: Bearer TOKEN` (RFC 6750, 2.1), also an empty one; `None` for another
/// scheme.
pub(super) fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (scheme, token) = value.split_at(end.unwrap_or(value.len()));
    scheme
        .eq_ignore_ascii_case(b"bearer")
        .then(|| token.trim_ascii())
}

/// Whether a text can be an API key: at least 32 and at most 512 characters of a token (RFC 6750, 2.1), which are not
/// three parts between dots, the form of a JSON Web Token.
pub fn is_api_key(text: &[u8]) -> bool {
    (MIN_API_KEY_LENGTH..=MAX_API_KEY_LENGTH).contains(&text.len())
        && text.iter().copied().all(is_key_byte)
        && text.iter().filter(|byte| **byte == b'.').count() != 2
}

/// Whether an API key can hold a character.
pub(super) fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

/// 128 bits in hexadecimal digits.
pub(super) const MIN_API_KEY_LENGTH: usize = 32;

/// Longer ones are mistakes.
const MAX_API_KEY_LENGTH: usize = 512;
