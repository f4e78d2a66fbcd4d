//! Callers without a secret key: what a request presents instead of a signature, and which caller that proves.
//!
//! A [`Proven`] caller is proof, as a [`Signer`] is: only this module makes one, and [`Proven::signer`] is the
//! only way from a caller to a signer, which signs as the caller's own access key and no other.

mod api_keys;
mod jwt;
mod sdk_hmac;
mod search;
mod tickets;

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;
use foldhash::quality::RandomState;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;

use super::{AccessKey, AuthError, Credential, Secret, Signable, Signer};
use crate::tls::CertificateName;
use api_keys::{ApiKeys, bearer_token};
use jwt::{TokenCallers, is_token};
use sdk_hmac::{AppCallers, is_app_signature};

pub use api_keys::is_api_key;
pub use jwt::{JwkSet, JwkSetError, SignatureAlgorithm, TokenRules, TokenVerifier};
pub use sdk_hmac::{AppCredential, is_app_key};
pub use search::CredentialSearch;
pub use tickets::{TicketMacKeys, TicketScope};

/// What the gateway must know of a caller to identify it and to sign for it.
pub trait Principal {
    /// Returns its name.
    fn name(&self) -> &str;
    /// Returns the access key that it signs as.
    fn access_key(&self) -> &AccessKey;
}

/// What a request presents instead of a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presented<'a> {
    /// Nothing in its head: a client certificate counts.
    Nothing,
    /// An API key, where a caller may have one; it may be empty, and no client certificate counts.
    ApiKey(&'a [u8]),
    /// A bearer token of three parts, where a caller may have tokens or an API key; no client certificate counts.
    Token(&'a [u8]),
    /// An `Authorization` in the scheme of Huawei's signers, where a caller has an app; no client certificate counts.
    AppSignature,
    /// An `Authorization`, which may be a signature, or an `X-Api-Key`: no client certificate counts.
    Other,
}

/// Finds what a head presents, where callers may ask, and where some of them have more than a certificate.
///
/// # Errors
/// It presents more than one credential.
fn presented(headers: &HeaderMap, takes_keys: bool) -> Result<Presented<'_>, AuthError> {
    let authorizations = headers.get_all(AUTHORIZATION).iter();
    let mut all = authorizations.chain(headers.get_all(X_API_KEY));
    let value = match (all.next(), all.next()) {
        (None, _) => return Ok(Presented::Nothing),
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return Err(AuthError::SeveralCredentials),
    };
    if !takes_keys {
        return Ok(Presented::Other);
    }
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(Presented::ApiKey(value));
    }
    if is_app_signature(value) {
        return Ok(Presented::AppSignature);
    }
    Ok(match bearer_token(value) {
        Some(token) if is_token(token) => Presented::Token(token),
        Some(key) => Presented::ApiKey(key),
        None => Presented::Other,
    })
}

/// The callers that may ask on one listener, by what identifies them.
#[derive(Debug)]
pub struct CallerIndex<T> {
    by_certificate: HashMap<CertificateName, Arc<T>, RandomState>,
    api_keys: ApiKeys<T>,
    tokens: TokenCallers<T>,
    apps: AppCallers<T>,
    by_name: HashMap<Box<str>, Arc<T>, RandomState>,
}

/// What identifies a caller.
#[derive(Clone, Copy, Debug)]
pub struct CallerCredentials<'a> {
    /// The names of its client certificates.
    pub certificates: &'a [CertificateName],
    /// Its API keys.
    pub api_keys: &'a [Secret],
    /// What its tokens must be.
    pub tokens: Option<&'a Arc<TokenVerifier>>,
    /// Its app.
    pub app: Option<&'a AppCredential>,
}

impl<T: Principal> CallerIndex<T> {
    /// Creates the index of callers with what identifies them. What two callers have identifies neither.
    pub fn new<'a>(
        callers: impl Iterator<Item = (&'a Arc<T>, CallerCredentials<'a>)> + Clone,
    ) -> Self
    where
        T: 'a,
    {
        let keys = callers.clone().map(|(caller, it)| (caller, it.api_keys));
        let api_keys = ApiKeys::new(keys);
        let tokens = callers.clone();
        let tokens = tokens.filter_map(|(caller, it)| Some((caller, it.tokens?)));
        let tokens = TokenCallers::new(tokens);
        let apps = callers.clone();
        let apps = apps.filter_map(|(caller, it)| Some((caller, it.app?)));
        let apps = AppCallers::new(apps);
        let mut by_certificate = HashMap::with_hasher(RandomState::default());
        let mut by_name = HashMap::with_hasher(RandomState::default());
        let mut contested = Vec::new();
        for (caller, credentials) in callers {
            by_name.insert(caller.name().into(), caller.clone());
            for name in credentials.certificates {
                let before = by_certificate.insert(name.clone(), caller.clone());
                if before.is_some_and(|before| !Arc::ptr_eq(&before, caller)) {
                    contested.push(name.clone());
                }
            }
        }
        for name in contested {
            by_certificate.remove(&name);
        }
        Self {
            by_certificate,
            api_keys,
            tokens,
            apps,
            by_name,
        }
    }

    /// Whether a head presents any credential.
    pub fn has_credential(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY)
    }

    /// Finds what a head presents.
    ///
    /// # Errors
    /// It presents more than one credential.
    pub fn presented<'a>(&self, headers: &'a HeaderMap) -> Result<Presented<'a>, AuthError> {
        let takes_keys =
            !(self.api_keys.is_empty() && self.tokens.is_empty() && self.apps.is_empty());
        presented(headers, takes_keys)
    }

    /// Finds the caller of an API key, in a time that tells nothing of the keys.
    ///
    /// # Errors
    /// It is no caller's.
    pub fn of_api_key(&self, key: &[u8]) -> Result<Proven<T>, AuthError> {
        let caller = self.api_keys.find(key).cloned();
        let caller = caller.ok_or(AuthError::UnknownApiKey)?;
        Ok(Proven { caller })
    }

    /// Finds the caller of a token that was verified before.
    pub fn of_remembered_token(&self, token: &[u8], now: Timestamp) -> Option<Proven<T>> {
        self.tokens.remembered(token, now)
    }

    /// Verifies a token, whether or not it was verified before, and finds its caller.
    ///
    /// # Errors
    /// It identifies no caller.
    pub fn of_token(&self, token: &[u8], now: Timestamp) -> Result<Proven<T>, AuthError> {
        self.tokens.verify(token, now)
    }

    /// Finds the caller whose app signed a request.
    ///
    /// # Errors
    /// [`AuthError::OtherScheme`] if the request names no app of a caller, after the same work.
    pub fn of_app_signature(
        &self,
        request: &Signable<'_>,
        now: Timestamp,
    ) -> Result<Proven<T>, AuthError> {
        self.apps.verify(request, now)
    }

    /// Finds the caller of a client certificate by the names that it proves; `None` if it is no caller's.
    ///
    /// # Errors
    /// The certificate is that of more than one caller.
    pub fn of_certificate(
        &self,
        names: &[CertificateName],
    ) -> Result<Option<Proven<T>>, AuthError> {
        let mut callers = names
            .iter()
            .filter_map(|name| self.by_certificate.get(name));
        let Some(caller) = callers.next() else {
            return Ok(None);
        };
        if callers.any(|other| !Arc::ptr_eq(other, caller)) {
            return Err(AuthError::AmbiguousCertificate);
        }
        Ok(Some(Proven {
            caller: caller.clone(),
        }))
    }
}

/// A caller that a request proved to be from. Only [`CallerIndex`] makes one.
#[derive(Debug)]
pub struct Proven<T> {
    caller: Arc<T>,
}

impl<T: Principal> Proven<T> {
    /// Returns the caller.
    pub fn caller(&self) -> &Arc<T> {
        &self.caller
    }

    /// Returns the signer of the requests of the caller: its own access key.
    ///
    /// # Errors
    /// `credential` is that of another access key, or disabled.
    pub fn signer(&self, credential: &Arc<Credential>) -> Result<Signer, AuthError> {
        if credential.access_key() != self.caller.access_key() {
            return Err(AuthError::UnknownKey);
        }
        if !credential.enabled() {
            return Err(AuthError::Disabled);
        }
        Ok(Signer {
            credential: credential.clone(),
            signed_names: CompactString::const_new(SIGNED_NAMES),
            has_used_second_secret: false,
            is_on_behalf: true,
        })
    }
}

/// `X-Api-Key`, a credential where callers may ask.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The fields that the gateway signs for a caller, as Huawei's sample does.
pub(super) const SIGNED_NAMES: &str = "content-length;content-type;host";

#[cfg(test)]
mod tests;
