//! The hash chain of an audit log: how a line ends, and whether lines follow one another.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The key of an audit log: never displayed, wiped when dropped.
#[derive(Clone)]
pub struct AuditKey(Zeroizing<Vec<u8>>);

impl AuditKey {
    /// Takes the content of a key file, without the line end that editors append.
    pub fn new(mut content: Vec<u8>) -> Self {
        while content.len() > MIN_KEY_LENGTH && matches!(content.last(), Some(b'\n' | b'\r')) {
            content.pop();
        }
        Self(Zeroizing::new(content))
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for AuditKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for AuditKey {}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey(..)")
    }
}

/// The hash of a line, in lower-case hex digits.
pub(super) type LineHash = String;

/// Returns the hash of a line: HMAC-SHA256 with a key, else SHA-256. `line` is all before `,"hash"`.
pub(super) fn hash(line: &[u8], key: Option<&AuditKey>) -> LineHash {
    let digest = match key {
        None => Sha256::digest(line).to_vec(),
        Some(AuditKey(key)) => {
            // RFC 2104: no key is invalid.
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
                return String::new();
            };
            mac.update(line);
            mac.finalize().into_bytes().to_vec()
        }
    };
    data_encoding::HEXLOWER.encode(&digest)
}

/// Ends a line that has all members but the last two, and returns its hash.
pub(super) fn seal(line: &mut Vec<u8>, previous: &str, key: Option<&AuditKey>) -> LineHash {
    line.extend_from_slice(b",\"previous\":\"");
    line.extend_from_slice(previous.as_bytes());
    line.push(b'"');
    let hash = hash(line, key);
    line.extend_from_slice(HASH_MEMBER.as_bytes());
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(b"\"}\n");
    hash
}

/// Splits a line, without its line feed, into what is hashed and the hash that it names.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], &str)> {
    let end = line
        .len()
        .checked_sub(HASH_MEMBER.len() + HASH_LENGTH + 2)?;
    let (hashed, rest) = line.split_at_checked(end)?;
    let rest = rest
        .strip_prefix(HASH_MEMBER.as_bytes())?
        .strip_suffix(b"\"}")?;
    let is_hex = rest
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| str::from_utf8(rest).ok().map(|hash| (hashed, hash)))?
}

/// What the first line of the first chain follows.
pub(super) const NO_PREVIOUS: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

const HASH_MEMBER: &str = ",\"hash\":\"";
const HASH_LENGTH: usize = 64;

/// As short as keys of the store may be: 32 random bytes can end in any byte.
const MIN_KEY_LENGTH: usize = 32;
