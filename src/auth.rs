//! Verifies auth-v2 signatures. A head becomes a [`Claim`]; a claim, with the body and the credential it
//! names, becomes a [`Signer`]. Pure: time, credential and body are arguments.
//!
//! A [`Signer`] is proof: only [`Claim::verify`] makes one, and [`Proven::signer`] for a caller without a
//! secret key, so a function that takes a `Signer` cannot be reached by a request that was not verified.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::words;

mod callers;
mod canonical;
mod derived;
mod diagnosis;
mod keys;
mod mac;
mod parts;
mod percent;
mod secret_set;
mod v2;

#[cfg(test)]
mod tests;

pub use callers::{
    AppCredential, CallerCredentials, CallerIndex, CredentialSearch, JwkSet, JwkSetError,
    Presented, Principal, Proven, SignatureAlgorithm, TicketMacKeys, TicketScope, TokenRules,
    TokenVerifier, X_API_KEY, is_api_key, is_app_key,
};
pub use canonical::CanonicalRequest;
pub use diagnosis::{Evidence, Mistake, find_mistake, mistake_of_head};
pub use keys::{AccessKey, Credential, Secret};
pub use secret_set::SecretSet;

/// The parts of a request that a signature covers, as they were on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The raw path, neither decoded nor normalized.
    pub path: &'a str,
    /// The raw query without its `?`; `None` and empty are the same.
    pub query: Option<&'a str>,
    /// All headers, with `host` (over HTTP/2 made from `:authority`).
    pub headers: &'a HeaderMap,
    /// The exact bytes of the body.
    pub body: &'a [u8],
}

/// What a request claims in its Authorization value. Well-formed, within the clock window, `host` signed
/// and each signed header present once; not yet verified.
pub struct Claim<'a> {
    value: v2::AuthorizationValue<'a>,
}

impl<'a> Claim<'a> {
    /// Parses the one `Authorization` header of a head.
    ///
    /// `window` is how far the timestamp may be from `now`, each way; `None` is unchecked.
    ///
    /// # Errors
    /// Everything that is wrong independently of the configured keys.
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

    /// Returns the access key that the claim names; not verified.
    pub fn access_key(&self) -> &'a str {
        self.value.access_key
    }

    /// Returns the signed header names verbatim, as in `content-length;host`.
    pub fn signed_names(&self) -> &'a str {
        self.value.names
    }

    /// Returns the time at which the claim says it was signed.
    pub fn signed_at(&self) -> Timestamp {
        self.value.timestamp
    }

    /// Returns everything before the signature, verbatim: the text that the signing key is derived from.
    pub fn prefix(&self) -> &'a str {
        self.value.prefix
    }

    /// Checks the signature with each secret of `credential`, in constant time.
    ///
    /// # Errors
    /// Without a credential (unknown access key), with a disabled one, or with the credential of another
    /// access key it does the same work with a dummy secret and fails.
    pub fn verify(
        &self,
        credential: Option<&Arc<Credential>>,
        request: &Signable<'_>,
    ) -> Result<Signer, AuthError> {
        let request = CanonicalRequest::with_checked_names(self.value.names, request)?;
        let credential =
            credential.filter(|credential| credential.access_key().as_str() == self.access_key());
        let enabled = credential.filter(|credential| credential.enabled());
        let secrets = enabled.map_or(&[][..], |credential| credential.secrets());
        let secret = v2::verify(secrets, &self.value, &request);
        match (enabled, credential, secret) {
            (Some(credential), _, Some(secret)) => Ok(Signer {
                credential: Arc::clone(credential),
                signed_names: self.value.names.into(),
                has_used_second_secret: secret > 0,
                is_on_behalf: false,
            }),
            (Some(_), ..) => Err(AuthError::WrongSignature),
            (None, Some(_), _) => Err(AuthError::Disabled),
            (None, None, _) => Err(AuthError::UnknownKey),
        }
    }

    /// Returns the signature that `secret` would make for this claim, for the signature debugger.
    pub fn expected_signature(
        &self,
        secret: &Secret,
        request: &Signable<'_>,
    ) -> Result<Zeroizing<String>, AuthError> {
        let request = CanonicalRequest::with_checked_names(self.value.names, request)?;
        Ok(v2::signature(secret, self.value.prefix, &request))
    }
}

/// Omits the signature.
impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("prefix", &self.value.prefix)
            .finish_non_exhaustive()
    }
}

/// The verified account that a request is signed as: by its client, or by the gateway on behalf of a caller
/// without a secret key. Only [`Claim::verify`] and [`Proven::signer`] make one.
#[derive(Clone, Debug)]
pub struct Signer {
    credential: Arc<Credential>,
    /// Up to 24 bytes take no allocation: `content-length;host` has 19.
    signed_names: CompactString,
    has_used_second_secret: bool,
    is_on_behalf: bool,
}

impl Signer {
    /// Returns the verified access key.
    pub fn access_key(&self) -> &AccessKey {
        self.credential.access_key()
    }

    /// Returns the credential to sign with.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// Returns the names of the signed headers, as in `content-length;host`: verbatim as the client signed them.
    pub fn signed_names(&self) -> &str {
        &self.signed_names
    }

    /// Returns the signer of a request that the gateway makes itself.
    #[must_use]
    pub fn on_behalf(self) -> Self {
        Self {
            signed_names: CompactString::const_new(callers::SIGNED_NAMES),
            is_on_behalf: true,
            ..self
        }
    }

    /// Whether the client has no signature of its own: the gateway signs every attempt.
    pub fn is_on_behalf(&self) -> bool {
        self.is_on_behalf
    }

    /// Whether the signature was made with the second of two secrets.
    pub fn has_used_second_secret(&self) -> bool {
        self.has_used_second_secret
    }
}

/// Returns the header names that an auth-v2 value says are signed, verbatim; empty without such a value.
/// For requests that did not verify; [`Signer::signed_names`] has those that did.
pub fn signed_names(headers: &HeaderMap) -> &str {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| v2::AuthorizationValue::parse(value.to_str().ok()?).ok())
        .map_or("", |value| value.names)
}

/// Returns the access key that the first auth-v2 value names, unverified, whether or not the value is valid
/// otherwise. For requests that did not verify.
pub fn claimed_access_key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    v2::claimed_access_key(value)
}

/// Makes the `Authorization` value for `request`, with the first secret of `credential`. The value is
/// marked sensitive.
///
/// `names` is the list of signed header names as the value will hold it, e.g. `content-length;host`.
///
/// # Errors
/// [`AuthError::Disabled`] if the credential has no secret, and everything that [`Claim::parse`] would
/// reject.
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
    // What the format cannot hold, e.g. a year before 0000, must not be sent.
    v2::AuthorizationValue::parse(&value)?;
    let mut value =
        HeaderValue::from_str(&value).map_err(|_| AuthError::Malformed("not a field value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether any part of an `Authorization` value satisfies `is_access_key`. Such a value is never forwarded unverified.
/// Double quotes around a part do not hide it.
pub fn mentions_access_key(value: &[u8], is_access_key: impl Fn(&str) -> bool) -> bool {
    parts::any_part(value, |part| {
        std::str::from_utf8(part)
            .is_ok_and(|part| is_access_key(part) || is_access_key(part.trim_matches('"')))
    })
}

/// Why a claim was not parsed or not verified. For the log; responses never reveal it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthError {
    /// The access key is configured but disabled, by the configuration, an order or its dates.
    #[error("the access key is disabled, or outside its dates")]
    Disabled,
    /// The head does not hold a signed header exactly once.
    #[error("the request does not have the signed header {0:?} exactly once")]
    SignedFieldMissing(String),
    /// The value starts with `auth-v2/` but is not well-formed, or the query has a broken escape.
    #[error("malformed auth-v2 request: {0}")]
    Malformed(&'static str),
    /// No `Authorization` header.
    #[error("no Authorization header")]
    Missing,
    /// A scheme other than `auth-v2`.
    #[error("a scheme other than auth-v2")]
    OtherScheme,
    /// The client certificate is that of more than one caller.
    #[error("the client certificate identifies more than one caller")]
    AmbiguousCertificate,
    /// The caller is disabled, or outside its dates.
    #[error("the caller is disabled, or outside its dates")]
    CallerDisabled,
    /// More than one credential where callers may ask.
    #[error("more than one credential")]
    SeveralCredentials,
    /// More than one `Authorization` header.
    #[error("more than one Authorization header")]
    RepeatedAuthorization,
    /// The query repeats a key, which the canonical request cannot represent.
    #[error("the query repeats a key")]
    RepeatedQueryKey,
    /// The timestamp is outside the clock window; the distance in seconds.
    #[error("signed {} by this clock", words::clock_error(*.0))]
    Stale(i64),
    /// The ticket was not issued for this link, or its time is over.
    #[error("an invalid ticket, or one whose time is over")]
    WrongTicket,
    /// The JSON Web Token identifies no caller; the text says which rule, and holds no part of it.
    #[error("an invalid token: {0}")]
    WrongToken(&'static str),
    /// The signature of an app is wrong; the text says which rule.
    #[error("an invalid SDK-HMAC-SHA256 signature: {0}")]
    WrongAppSignature(&'static str),
    /// The API key is no caller's.
    #[error("an unknown API key")]
    UnknownApiKey,
    /// The access key is not configured.
    #[error("unknown access key")]
    UnknownKey,
    /// The signature does not match.
    #[error("wrong signature")]
    WrongSignature,
}
