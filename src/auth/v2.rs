//! The auth-v2 scheme: the Authorization value, the derivation of the signing key, the signature.
//!
//! ```text
//! value       = prefix "/" signature
//! prefix      = "auth-v2" "/" ak "/" timestamp "/" names
//! signing key = hex(HMAC-SHA256(secret, prefix))
//! signature   = hex(HMAC-SHA256(signing key as text, canonical request))
//! ```

use aws_lc_rs::constant_time;
use hmac::Mac as _;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use zeroize::Zeroizing;

use super::canonical::{CanonicalRequest, check_names};
use super::derived;
use super::mac::{Mac, new_mac};
use super::{AccessKey, AuthError, Secret};
use crate::hex;

/// A parsed Authorization value.
pub(super) struct AuthorizationValue<'a> {
    /// Verbatim, because the signing key is derived from it.
    pub(super) prefix: &'a str,
    pub(super) access_key: &'a str,
    pub(super) timestamp: Timestamp,
    pub(super) names: &'a str,
    pub(super) signature: [u8; 32],
}

impl<'a> AuthorizationValue<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, AuthError> {
        if !text.starts_with(SCHEME) {
            return Err(AuthError::OtherScheme);
        }
        if text.len() > MAX_VALUE_LENGTH {
            return Err(AuthError::Malformed("too long"));
        }
        let [access_key, timestamp, names, signature] = four_parts(text).ok_or(NOT_FIVE_PARTS)?;
        let prefix = text.get(..text.len() - signature.len() - 1);
        if !AccessKey::is_well_formed(access_key) {
            return Err(AuthError::Malformed("not an access key"));
        }
        check_names(names)?;
        Ok(Self {
            prefix: prefix.ok_or(NOT_FIVE_PARTS)?,
            access_key,
            timestamp: parse_timestamp(timestamp).ok_or(AuthError::Malformed("not a timestamp"))?,
            names,
            signature: parse_hex(signature)
                .ok_or(AuthError::Malformed("not 64 lower-case hex digits"))?,
        })
    }
}

/// Returns the parts after the scheme if there are exactly four.
fn four_parts(text: &str) -> Option<[&str; 4]> {
    let mut slashes = memchr::memchr_iter(b'/', text.as_bytes());
    let mut start = slashes.next()? + 1;
    let mut parts = [""; 4];
    for (index, part) in parts.iter_mut().enumerate() {
        let end = if index < 3 {
            slashes.next()?
        } else {
            text.len()
        };
        *part = text.get(start..end)?;
        start = end + 1;
    }
    slashes.next().is_none().then_some(parts)
}

/// Returns the access key of a value that has five parts, whatever the others are. A value with more parts
/// is none: its second part may be half of something else.
pub(super) fn claimed_access_key(text: &str) -> Option<&str> {
    let [access_key, ..] = four_parts(text).filter(|_| text.starts_with(SCHEME))?;
    AccessKey::is_well_formed(access_key).then_some(access_key)
}

/// Returns everything of a value before its signature.
pub(super) fn prefix(access_key: &AccessKey, timestamp: Timestamp, names: &str) -> String {
    let timestamp = timestamp.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("{SCHEME}{}/{timestamp}/{names}", access_key.as_str())
}

/// Returns the signature of `request` with the key derived from `secret` for `prefix`, as hex digits.
pub(super) fn signature(
    secret: &Secret,
    prefix: &str,
    request: &CanonicalRequest<'_>,
) -> Zeroizing<String> {
    let tag = tag(signing_key(secret, prefix), request);
    Zeroizing::new(to_hex(&tag).iter().copied().map(char::from).collect())
}

/// Whether one of `secrets` signed `request`. Every failure takes the same time, for no, one or two secrets
/// and with or without a cached signing key; a success may be faster.
pub(super) fn verify(
    secrets: &[Secret],
    value: &AuthorizationValue<'_>,
    request: &CanonicalRequest<'_>,
) -> Option<usize> {
    for slot in 0..secrets.len().max(MIN_SECRETS_TRIED) {
        let configured = secrets.get(slot);
        let secret = configured.unwrap_or(&DUMMY_SECRET);
        let cached = derived::get(value.prefix, secret);
        let was_cached = cached.is_some();
        let (mac, fresh) = match cached {
            Some(mac) => (mac, None),
            None => {
                let mac = signing_key(secret, value.prefix);
                (mac.clone(), Some(mac))
            }
        };
        let tag = tag(mac, request);
        let matches = constant_time::verify_slices_are_equal(&tag, &value.signature);
        if configured.is_some() && matches.is_ok() {
            if let Some(key) = fresh {
                // Only after success: unverified requests must not evict the keys of verified callers.
                derived::insert(value.prefix, secret, key);
            }
            return Some(slot);
        }
        if was_cached {
            // The timing must not reveal whether this access key was used in the same second.
            std::hint::black_box(signing_key(secret, value.prefix));
        }
    }
    None
}

/// Whether `secret` signed exactly these bytes with the key of `prefix`.
pub(super) fn is_signed(
    secret: &Secret,
    prefix: &str,
    message: &[u8],
    signature: &[u8; 32],
) -> bool {
    let mut mac = signing_key(secret, prefix);
    mac.update(message);
    let tag = mac.finalize().into_bytes();
    constant_time::verify_slices_are_equal(&tag, signature).is_ok()
}

/// Like [`is_signed`], with the signing key as bytes instead of hex digits.
pub(super) fn is_signed_with_raw_key(
    secret: &Secret,
    prefix: &str,
    message: &[u8],
    signature: &[u8; 32],
) -> bool {
    let mut mac = new_mac(secret.bytes());
    mac.update(prefix.as_bytes());
    let mut mac = new_mac(&mac.finalize().into_bytes());
    mac.update(message);
    let tag = mac.finalize().into_bytes();
    constant_time::verify_slices_are_equal(&tag, signature).is_ok()
}

/// Returns what stands in for the secrets of an unknown access key.
pub(super) fn dummy_secrets() -> &'static [Secret] {
    std::slice::from_ref(&DUMMY_SECRET)
}

fn tag(mut mac: Mac, request: &CanonicalRequest<'_>) -> [u8; 32] {
    request.for_each_chunk(|chunk| mac.update(chunk));
    mac.finalize().into_bytes().into()
}

/// Derives the signing key: the hex *text* of the first stage's result, not its bytes.
fn signing_key(secret: &Secret, prefix: &str) -> Mac {
    let mut mac = new_mac(secret.bytes());
    mac.update(prefix.as_bytes());
    new_mac(to_hex(&mac.finalize().into_bytes()).as_ref())
}

fn to_hex(bytes: &[u8]) -> Zeroizing<[u8; 64]> {
    let mut text = Zeroizing::new([0; 64]);
    hex::write(bytes, text.as_mut());
    text
}

/// Parses 64 lower-case hex digits.
pub(super) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    let mut seen = 0;
    for (byte, two) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(two[0])], NIBBLES[usize::from(two[1])]);
        // One test after the loop instead of 64 inside it.
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen < 16).then_some(bytes)
}

/// Parses `yyyy-MM-ddTHH:mm:ssZ`, or the same with three digits of milliseconds, which some clients send.
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let shape = match text.len() {
        20 => "dddd-dd-ddTdd:dd:ddZ",
        24 => "dddd-dd-ddTdd:dd:dd.dddZ",
        _ => return None,
    };
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    if !text.bytes().zip(shape.bytes()).all(fits) {
        return None;
    }
    let two = |at: usize| text.get(at..at + 2)?.parse::<i8>().ok();
    let milliseconds = match text.get(20..23) {
        Some(digits) => digits.parse::<i32>().ok()?,
        None => 0,
    };
    let year = text.get(..4)?.parse().ok()?;
    let time = DateTime::new(
        year,
        two(5)?,
        two(8)?,
        two(11)?,
        two(14)?,
        two(17)?,
        milliseconds * 1_000_000,
    );
    Offset::UTC.to_timestamp(time.ok()?).ok()
}

/// The value of a lower-case hex digit; 0xff for every other byte. By table: parsing is on the path of every
/// request.
static NIBBLES: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

const SCHEME: &str = "auth-v2/";

/// In bytes; far above any observed value.
const MAX_VALUE_LENGTH: usize = 4096;

/// How many secrets are tried before a signature is rejected; missing ones are replaced by the dummy.
const MIN_SECRETS_TRIED: usize = 2;

const NOT_FIVE_PARTS: AuthError = AuthError::Malformed("not five parts between slashes");

/// Replaces missing secrets. A signature made with it never verifies.
static DUMMY_SECRET: std::sync::LazyLock<Secret> =
    std::sync::LazyLock::new(|| Secret::new(vec![b'-'; 32]));
