//! Who signed this request? Turns a head into a [`Claim`] and, with the key it names and the body,
//! a claim into a [`Caller`]. Pure: the time, the key and the body are handed in.
//!
//! A [`Caller`] is proof: only [`Claim::verify`] makes one, so what takes a `Caller` cannot be
//! reached by a request whose signature was not checked.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

mod canonical;
mod derived;
mod keys;
mod mac;
mod percent;
mod v2;

#[cfg(test)]
mod tests;

pub use canonical::CanonicalRequest;
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
pub struct Claim<'a> {
    value: v2::AuthorizationValue<'a>,
}

impl<'a> Claim<'a> {
    /// Reads the one `Authorization` field of a head. Refuses only what does not depend on our keys.
    ///
    /// `window`: how far the timestamp may be from `now`, each way; `None` is unchecked.
    pub fn parse(
        headers: &'a HeaderMap,
        now: Timestamp,
        window: Option<SignedDuration>,
    ) -> Result<Self, AuthError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(AuthError::Missing)?;
        if values.next().is_some() {
            return Err(AuthError::RepeatedAuthorization);
        }
        let text = value
            .to_str()
            .map_err(|_| AuthError::Malformed("not ASCII"))?;
        let value = v2::AuthorizationValue::parse(text)?;
        for name in value.names.split(';') {
            canonical::single_value(headers, name)?;
        }
        let distance = value.timestamp.duration_since(now);
        if window.is_some_and(|window| distance.unsigned_abs() > window.unsigned_abs()) {
            return Err(AuthError::Stale(distance.as_secs()));
        }
        Ok(Self { value })
    }

    /// The access key the claim names; unproven.
    pub fn access_key(&self) -> &'a str {
        self.value.access_key
    }

    /// The signed field names verbatim, as in `content-length;host`.
    pub fn signed_names(&self) -> &'a str {
        self.value.names
    }

    /// When the request says it was signed.
    pub fn signed_at(&self) -> Timestamp {
        self.value.timestamp
    }

    /// Everything before the signature, verbatim: the text that the signing key is derived from.
    pub fn prefix(&self) -> &'a str {
        self.value.prefix
    }

    /// Checks the signature with each secret of `credential`, in constant time. Without a credential
    /// (unknown ak) or with a disabled one the same work is done with a dummy key, and it fails.
    ///
    /// A credential of another ak than the claim names is as good as none.
    pub fn verify(
        &self,
        credential: Option<&Arc<Credential>>,
        request: &Signable<'_>,
    ) -> Result<Caller, AuthError> {
        let request = CanonicalRequest::with_checked_names(self.value.names, request)?;
        let credential =
            credential.filter(|credential| credential.access_key().as_str() == self.access_key());
        let enabled = credential.filter(|credential| credential.enabled());
        let secrets = enabled.map_or(&[][..], |credential| credential.secrets());
        let right = v2::verify(secrets, &self.value, &request);
        match (enabled, credential) {
            (Some(credential), _) if right => Ok(Caller {
                credential: Arc::clone(credential),
            }),
            (Some(_), _) => Err(AuthError::WrongSignature),
            (None, Some(_)) => Err(AuthError::Disabled),
            (None, None) => Err(AuthError::UnknownKey),
        }
    }

    /// The signature that `secret` would make where this claim has its own; for the signature
    /// debugger.
    pub fn expected_signature(
        &self,
        secret: &Secret,
        request: &Signable<'_>,
    ) -> Result<Zeroizing<String>, AuthError> {
        let request = CanonicalRequest::with_checked_names(self.value.names, request)?;
        Ok(v2::signature(secret, self.value.prefix, &request))
    }
}

/// Without the signature.
impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("prefix", &self.value.prefix)
            .finish_non_exhaustive()
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
/// The value is marked sensitive. A credential without a secret signs nothing: [`AuthError::Disabled`].
pub fn sign(
    credential: &Credential,
    names: &str,
    timestamp: Timestamp,
    request: &Signable<'_>,
) -> Result<HeaderValue, AuthError> {
    if !AccessKey::is_well_formed(credential.access_key().as_str()) {
        return Err(AuthError::Malformed("not an access key"));
    }
    let secret = credential.secrets().first().ok_or(AuthError::Disabled)?;
    let request = CanonicalRequest::new(names, request)?;
    let prefix = v2::prefix(credential.access_key(), timestamp, names);
    let signature = v2::signature(secret, &prefix, &request);
    let value = Zeroizing::new(format!("{prefix}/{}", *signature));
    let mut value =
        HeaderValue::from_str(&value).map_err(|_| AuthError::Malformed("not a field value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Does any part of an `Authorization` value, between slashes, commas, `=` or blanks, satisfy
/// `is_access_key`? Such a value is never forwarded as a stranger's. Double quotes around a part do
/// not hide it.
pub fn mentions_access_key(value: &[u8], is_access_key: impl Fn(&str) -> bool) -> bool {
    let is_mentioned = |part: &[u8]| {
        std::str::from_utf8(part)
            .is_ok_and(|part| is_access_key(part) || is_access_key(part.trim_matches('"')))
    };
    // An ak may itself hold a comma or `=`, so parts between slashes and blanks count too.
    value
        .split(|byte| matches!(byte, b'/' | b' ' | b'\t'))
        .any(|part| {
            is_mentioned(part)
                || part
                    .split(|byte| matches!(byte, b',' | b'='))
                    .any(is_mentioned)
                || part
                    .split(|byte| b",=:;'\"()".contains(byte))
                    .any(is_mentioned)
        })
}

/// Why a claim was not read or not believed. Clients never learn which; the log does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthError {
    /// The access key is configured but switched off.
    #[error("the access key is disabled")]
    Disabled,
    /// A signed field does not stand in the head exactly once.
    #[error("the signed field {0:?} does not stand in the request exactly once")]
    SignedFieldMissing(String),
    /// `auth-v2/` stands in front, but the rest has not its form, or the query has a broken escape.
    #[error("malformed auth-v2 request: {0}")]
    Malformed(&'static str),
    /// No `Authorization` field.
    #[error("no Authorization field")]
    Missing,
    /// Not `auth-v2`.
    #[error("another scheme than auth-v2")]
    OtherScheme,
    /// More than one `Authorization` field.
    #[error("more than one Authorization field")]
    RepeatedAuthorization,
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
