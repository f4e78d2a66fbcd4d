//! Who signed this request? Turns a head into a [`Claim`] and, with the key it names and the body,
//! a claim into a [`Caller`]. Pure: the time, the key and the body are handed in.
//!
//! A [`Caller`] is proof: only [`Claim::verify`] makes one, so what takes a `Caller` cannot be
//! reached by a request whose signature was not checked.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};

mod canonical;
mod keys;
mod v2;

pub use keys::{AccessKey, Credential, Secret};

/// The parts of a request that a signature covers, as they were on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The raw path, neither decoded nor normalized.
    pub path: &'a str,
    /// The raw query without its `?`; `None` and empty mean the same.
    pub query: Option<&'a str>,
    /// All fields of the head, `host` among them (over HTTP/2 the caller puts `:authority` there).
    pub headers: &'a HeaderMap,
    /// The exact bytes of the body.
    pub body: &'a [u8],
}

/// What a caller says of himself: well-formed, within the clock window, `host` signed, and all named
/// fields present. Not yet believed.
#[derive(Debug)]
pub struct Claim<'a> {
    _todo: &'a (),
}

impl<'a> Claim<'a> {
    /// Reads the one `Authorization` field of a head. Refuses only what does not depend on our keys.
    ///
    /// `window`: how far the timestamp may be from `now`, each way; `None` is unchecked.
    pub fn read(
        headers: &'a HeaderMap,
        now: Timestamp,
        window: Option<SignedDuration>,
    ) -> Result<Self, AuthError> {
        let _ = (headers, now, window);
        Err(AuthError::Missing)
    }

    /// The access key the claim names; unproven.
    pub fn access_key(&self) -> &'a str {
        ""
    }

    /// The signed field names verbatim, as in `content-length;host`.
    pub fn signed_names(&self) -> &'a str {
        ""
    }

    /// Checks the signature with each secret of `credential`, in constant time. Without a credential
    /// (unknown ak) or with a disabled one the same work is done with a dummy key, and it fails.
    pub fn verify(
        &self,
        credential: Option<&Arc<Credential>>,
        request: &Signable<'_>,
    ) -> Result<Caller, AuthError> {
        let _ = (credential, request);
        Err(AuthError::WrongSignature)
    }
}

/// Somebody whose signature over this very request was right. Only [`Claim::verify`] makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    credential: Arc<Credential>,
}

impl Caller {
    /// The proven access key.
    pub fn access_key(&self) -> &AccessKey {
        self.credential.access_key()
    }

    /// What to sign with on the caller's behalf.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }
}

/// Makes the `Authorization` value for `request`, with the first secret of `credential`.
///
/// `names` is the list of signed fields as it will stand in the value, e.g. `content-length;host`.
/// The value is marked sensitive.
pub fn sign(
    credential: &Credential,
    names: &str,
    timestamp: Timestamp,
    request: &Signable<'_>,
) -> Result<HeaderValue, AuthError> {
    let _ = (credential, names, timestamp, request);
    Err(AuthError::Missing)
}

/// Does any part of an `Authorization` value, between slashes, commas, `=` or blanks, satisfy
/// `is_access_key`? Such a value is never forwarded as a stranger's.
pub fn mentions(value: &[u8], is_access_key: impl Fn(&str) -> bool) -> bool {
    let _ = (value, is_access_key);
    true
}

/// Why a claim was not read or not believed. Clients never learn which; the log does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthError {
    /// The access key is configured but switched off.
    #[error("the access key is disabled")]
    Disabled,
    /// A signed field does not stand in the head exactly once.
    #[error("the signed field {0:?} does not stand in the request exactly once")]
    FieldNotSent(String),
    /// `auth-v2/` stands in front, but the rest has not its form.
    #[error("malformed auth-v2 value: {0}")]
    Malformed(&'static str),
    /// No `Authorization` field.
    #[error("no Authorization field")]
    Missing,
    /// Not `auth-v2`.
    #[error("another scheme than auth-v2")]
    OtherScheme,
    /// More than one `Authorization` field.
    #[error("more than one Authorization field")]
    Repeated,
    /// The query repeats a key, which the signature rules cannot represent.
    #[error("the query repeats a key")]
    RepeatedQueryKey,
    /// The timestamp is outside the clock window.
    #[error("signed {0} seconds away from this clock")]
    Stale(i64),
    /// No such access key.
    #[error("unknown access key")]
    UnknownKey,
    /// The signature does not match.
    #[error("wrong signature")]
    WrongSignature,
}
