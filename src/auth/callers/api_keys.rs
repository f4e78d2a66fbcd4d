//! API keys: found by a MAC under a random key, and compared in constant time. The index holds no API key.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use data_encoding::BASE64_NOPAD;
use foldhash::quality::RandomState;
use hmac::Mac as _;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::super::Secret;
use super::super::mac::{Mac, new_mac};
use super::X_API_KEY;

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

    /// Whether a text is one of the keys.
    pub(super) fn is_key(&self, text: &[u8]) -> bool {
        !self.is_empty()
            && (MIN_API_KEY_LENGTH..=MAX_API_KEY_LENGTH).contains(&text.len())
            && self.find(text).is_some()
    }
}

impl<T> std::fmt::Debug for ApiKeys<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.callers.len())
    }
}

/// Whether any part of the credentials of a head satisfies `is_credential`, in whatever scheme it stands; also the
/// name and the password of `Basic` (RFC 7617), which clients make of a key.
pub(super) fn any_part(headers: &HeaderMap, is_credential: impl Fn(&[u8]) -> bool) -> bool {
    let values = headers.get_all(AUTHORIZATION).iter();
    let mut values = values.chain(headers.get_all(X_API_KEY));
    values.any(|value| {
        let mut parts = value.as_bytes().split(|byte| SEPARATORS.contains(byte));
        parts.any(|part| {
            let padding = part.iter().rev().take_while(|byte| **byte == b'=').count();
            let unpadded = &part[..part.len() - padding];
            let basic = BASE64_NOPAD.decode(unpadded).unwrap_or_default();
            let colon = basic.iter().position(|byte| *byte == b':');
            let (name, password) = basic.split_at(colon.unwrap_or(basic.len()));
            let password = password.get(1..).unwrap_or_default();
            [part, name, password].iter().any(|it| is_credential(it))
        })
    })
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
    let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    (MIN_API_KEY_LENGTH..=MAX_API_KEY_LENGTH).contains(&text.len())
        && text.iter().all(is_legal)
        && text.iter().filter(|byte| **byte == b'.').count() != 2
}

/// 128 bits in hexadecimal digits.
const MIN_API_KEY_LENGTH: usize = 32;

/// Longer ones are mistakes.
const MAX_API_KEY_LENGTH: usize = 512;

/// None of them can be in an API key or a token.
pub(super) const SEPARATORS: &[u8] = b" \t,;:'\"()";
