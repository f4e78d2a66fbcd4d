//! SDK-HMAC-SHA256, as the signers of Huawei's API gateway (APIG) and cloud SDKs make it, for callers with the key and
//! the secret of an app.
//!
//! ```text
//! value     = "SDK-HMAC-SHA256 Access=" app key ", SignedHeaders=" names ", Signature=" signature
//! canonical = method "\n" path "/\n" query "\n" { name ":" value "\n" } "\n" names "\n" hex(SHA-256(body))
//! signature = hex(HMAC-SHA256(secret, "SDK-HMAC-SHA256\n" X-Sdk-Date "\n" hex(SHA-256(canonical))))
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use data_encoding::HEXLOWER;
use foldhash::quality::RandomState;
use hmac::Mac as _;
use http::header::AUTHORIZATION;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::Proven;
use crate::auth::canonical::{check_names, single_value};
use crate::auth::mac::{Mac, new_mac};
use crate::auth::v2::parse_hex;
use crate::auth::{AuthError, Secret, Signable, percent};

/// The key and the secret of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct AppCredential {
    /// Names the app; not a secret.
    pub app_key: String,
    /// Signs.
    pub app_secret: Secret,
}

/// The callers with apps.
pub(super) struct AppCallers<T> {
    by_key: HashMap<Box<str>, (Arc<T>, Mac), RandomState>,
    /// Stands in for the secret of an unknown app.
    unknown: Mac,
}

impl<T> AppCallers<T> {
    /// Creates the index of callers with their apps. An app key in two callers identifies neither.
    pub(super) fn new<'a>(callers: impl Iterator<Item = (&'a Arc<T>, &'a AppCredential)>) -> Self
    where
        T: 'a,
    {
        let mut by_key = HashMap::with_hasher(RandomState::default());
        let mut contested = Vec::new();
        for (caller, app) in callers {
            let mac = new_mac(app.app_secret.bytes());
            let key: Box<str> = app.app_key.as_str().into();
            if by_key.insert(key.clone(), (caller.clone(), mac)).is_some() {
                contested.push(key);
            }
        }
        for key in contested {
            by_key.remove(&key);
        }
        let random = zeroize::Zeroizing::new(rand::random::<[u8; 32]>());
        Self {
            by_key,
            unknown: new_mac(&*random),
        }
    }

    /// Whether no caller has an app.
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Finds the caller whose app signed a request. An unknown app takes the same time as a wrong signature.
    ///
    /// # Errors
    /// [`AuthError::OtherScheme`] if the value names no configured app.
    pub(super) fn verify(
        &self,
        request: &Signable<'_>,
        now: Timestamp,
    ) -> Result<Proven<T>, AuthError> {
        let value = request.headers.get(AUTHORIZATION);
        let value = value.and_then(|value| AppSignature::parse(value.as_bytes()));
        let value = value.ok_or(AuthError::OtherScheme)?;
        let app = self.by_key.get(value.app_key);
        let mac = app.map_or(&self.unknown, |(_, mac)| mac);
        let verified = value.verify(mac.clone(), request, now);
        let (caller, _) = app.ok_or(AuthError::OtherScheme)?;
        verified.map_err(AuthError::WrongAppSignature)?;
        Ok(Proven {
            caller: caller.clone(),
        })
    }
}

impl<T> std::fmt::Debug for AppCallers<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AppCallers({})", self.by_key.len())
    }
}

/// Whether an `Authorization` value is of the scheme, right or wrong.
pub(super) fn is_app_signature(value: &[u8]) -> bool {
    value.starts_with(SCHEME.as_bytes())
}

/// Whether a text can be an app key.
pub fn is_app_key(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=MAX_APP_KEY_LENGTH).contains(&text.len()) && text.bytes().all(is_legal)
}

/// A parsed `Authorization` value.
struct AppSignature<'a> {
    app_key: &'a str,
    names: &'a str,
    signature: [u8; 32],
}

impl<'a> AppSignature<'a> {
    /// Parses a value; a longer one than any client makes is none, so that its names cost no work.
    fn parse(value: &'a [u8]) -> Option<Self> {
        if value.len() > MAX_VALUE_LENGTH {
            return None;
        }
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.strip_prefix(SCHEME)?.split(", ");
        let (Some(app_key), Some(names), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        Some(Self {
            app_key: app_key.strip_prefix("Access=")?,
            names: names.strip_prefix("SignedHeaders=")?,
            signature: parse_hex(signature.strip_prefix("Signature=")?)?,
        })
    }

    /// Verifies that `mac` signed the request.
    ///
    /// # Errors
    /// The rule that is violated.
    fn verify(
        &self,
        mut mac: Mac,
        request: &Signable<'_>,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        check_names(self.names).map_err(|_| "host is not signed, or a name is malformed")?;
        if !self.names.split(';').any(|name| name == DATE) {
            return Err("X-Sdk-Date is not signed");
        }
        let date = single_value(request.headers, DATE).map_err(|_| "not one X-Sdk-Date")?;
        let date = std::str::from_utf8(date).unwrap_or_default();
        let signed_at = parse_date(date).ok_or("X-Sdk-Date is no time")?;
        if signed_at.duration_since(now).abs() > CLOCK_WINDOW {
            return Err("X-Sdk-Date is not within 15 minutes");
        }
        let hash = HEXLOWER.encode(&Sha256::digest(request.body));
        if request.headers.contains_key(CONTENT_HASH)
            && single_value(request.headers, CONTENT_HASH) != Ok(hash.as_bytes())
        {
            return Err("X-Sdk-Content-Sha256 is not the hash of the body");
        }
        let canonical = self.canonical_request(request, &hash)?;
        let canonical = HEXLOWER.encode(&Sha256::digest(canonical));
        for piece in [ALGORITHM, "\n", date, "\n", &canonical] {
            mac.update(piece.as_bytes());
        }
        let expected = mac.finalize().into_bytes();
        constant_time::verify_slices_are_equal(&expected, &self.signature)
            .map_err(|_| "a wrong signature")
    }

    /// Returns the text of which the hash is signed. The fields are in the order of their names in the value, which
    /// the signers sort.
    fn canonical_request(
        &self,
        request: &Signable<'_>,
        hash: &str,
    ) -> Result<Vec<u8>, &'static str> {
        let mut text = Vec::with_capacity(512);
        let mut line = |line: &[u8]| {
            text.extend_from_slice(line);
            text.push(b'\n');
        };
        line(request.method.as_bytes());
        let slash = if request.path.ends_with('/') { "" } else { "/" };
        line(&[request.path, slash].concat().into_bytes());
        line(&canonical_query(request.query.unwrap_or_default())?);
        for name in self.names.split(';') {
            let value = single_value(request.headers, name)
                .map_err(|_| "a signed field is not there exactly once")?;
            line(&[name.as_bytes(), b":", value].concat());
        }
        line(b"");
        line(self.names.as_bytes());
        text.extend_from_slice(hash.as_bytes());
        Ok(text)
    }
}

/// Returns the query with its pairs decoded, sorted and encoded again.
fn canonical_query(query: &str) -> Result<Vec<u8>, &'static str> {
    let decode = |text| percent::decode(text).ok_or("a broken escape in the query");
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(key)?, decode(value)?));
    }
    pairs.sort_unstable();
    let encoded = pairs.iter().map(|(key, value)| {
        let pair = percent::encode(key).chain([b'=']);
        pair.chain(percent::encode(value)).collect::<Vec<_>>()
    });
    Ok(encoded.collect::<Vec<_>>().join(&b'&'))
}

/// Parses `yyyyMMddTHHmmssZ`.
fn parse_date(text: &str) -> Option<Timestamp> {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    let shape = "ddddddddTddddddZ";
    if text.len() != shape.len() || !text.bytes().zip(shape.bytes()).all(fits) {
        return None;
    }
    let two = |at: usize| text.get(at..at + 2)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse().ok()?;
    let time = DateTime::new(year, two(4)?, two(6)?, two(9)?, two(11)?, two(13)?, 0);
    Offset::UTC.to_timestamp(time.ok()?).ok()
}

const ALGORITHM: &str = "SDK-HMAC-SHA256";

const SCHEME: &str = "SDK-HMAC-SHA256 ";

const DATE: &str = "x-sdk-date";

const CONTENT_HASH: &str = "x-sdk-content-sha256";

/// How far `X-Sdk-Date` may be from the clock, each way. APIG has the same.
const CLOCK_WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// In bytes; as that of auth-v2.
const MAX_VALUE_LENGTH: usize = 4096;

/// Those of APIG have at most 64 characters.
const MAX_APP_KEY_LENGTH: usize = 128;

#[cfg(test)]
mod tests;
