//! JSON Web Tokens (RFC 7519) as credentials of callers: signed with RS256, ES256 or EdDSA by a key of the caller's own
//! file. Nothing that a token says chooses a key outside that file or an algorithm other than the key's own
//! (RFC 8725, 3.1), and nothing is fetched.
//!
//! The signatures are verified by aws-lc, which TLS uses too. A JWT crate would add a parser that accepts repeated
//! members and reads the clock itself, and everything that is decided here would still have to be decided here.

mod claims;
mod json;
mod keys;
mod remembered;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Proven;
use crate::auth::AuthError;
use claims::Token;
use keys::VerificationKey;
pub use keys::{JwkSet, JwkSetError, SignatureAlgorithm};
use remembered::{RememberedTokens, TokenDigest, VerifierId};

/// What a token must be to identify a caller.
#[derive(Debug, PartialEq)]
pub struct TokenRules {
    /// The keys of the issuer.
    pub keys: JwkSet,
    /// The `iss`, compared exactly.
    pub issuer: String,
    /// The `aud`, or one of its list.
    pub audience: String,
    /// Further claims: each is equal, or a list that holds the value.
    pub claims: BTreeMap<String, String>,
}

impl TokenRules {
    /// Whether every token for `other` is one for these rules too, if the keys are the same.
    pub fn include(&self, other: &Self) -> bool {
        let has = |(name, value): (&String, &String)| other.claims.get(name) == Some(value);
        self.issuer == other.issuer
            && self.audience == other.audience
            && self.claims.iter().all(has)
    }
}

/// Verifies the tokens of one caller, and remembers those that were right.
#[derive(Debug)]
pub struct TokenVerifier {
    id: VerifierId,
    rules: Arc<TokenRules>,
    remembered: RememberedTokens,
}

impl TokenVerifier {
    /// Creates a verifier that remembers no token.
    pub fn new(rules: Arc<TokenRules>) -> Self {
        Self {
            id: VerifierId::next(),
            rules,
            remembered: RememberedTokens::default(),
        }
    }

    /// Returns the issuer of the tokens.
    pub(super) fn issuer(&self) -> &str {
        &self.rules.issuer
    }
}

/// The callers that tokens identify on one listener.
#[derive(Debug)]
pub(super) struct TokenCallers<T> {
    callers: Vec<(Arc<T>, Arc<TokenVerifier>)>,
    /// All of the verifiers, sorted.
    ids: Box<[VerifierId]>,
}

impl<T> TokenCallers<T> {
    pub(super) fn new<'a>(
        callers: impl Iterator<Item = (&'a Arc<T>, &'a Arc<TokenVerifier>)>,
    ) -> Self
    where
        T: 'a,
    {
        let callers: Vec<_> = callers
            .map(|(caller, verifier)| (caller.clone(), verifier.clone()))
            .collect();
        let mut ids: Vec<_> = callers.iter().map(|(_, verifier)| verifier.id).collect();
        ids.sort_unstable();
        Self {
            callers,
            ids: ids.into(),
        }
    }

    /// Whether no caller has tokens.
    pub(super) fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Finds the caller of a token that was verified before, among these callers, and whose time is not over.
    pub(super) fn remembered(&self, text: &[u8], now: Timestamp) -> Option<Proven<T>> {
        if self.is_empty() || text.len() > MAX_TOKEN_LENGTH {
            return None;
        }
        let digest = self.digest(text);
        let mut callers = self.callers.iter();
        callers
            .find(|(_, verifier)| verifier.remembered.contains(&digest, now))
            .map(|(caller, _)| Proven {
                caller: caller.clone(),
            })
    }

    fn digest(&self, text: &[u8]) -> TokenDigest {
        remembered::digest(&self.ids, text)
    }

    /// Verifies a token: what is cheap first, the signature last.
    ///
    /// # Errors
    /// It identifies no caller, or more than one.
    pub(super) fn verify(&self, text: &[u8], now: Timestamp) -> Result<Proven<T>, AuthError> {
        let token = Token::parse(text)?;
        let (caller, verifier, key) = self.candidate(&token, now)?;
        key.verify(token.signed, &token.signature)
            .map_err(|_| AuthError::WrongToken("a wrong signature"))?;
        let digest = self.digest(text);
        verifier.remembered.insert(digest, token.times, now);
        Ok(Proven {
            caller: caller.clone(),
        })
    }

    /// Finds the one caller that a token is for, if its signature is right, and the key that must have signed it.
    fn candidate(
        &self,
        token: &Token<'_>,
        now: Timestamp,
    ) -> Result<(&Arc<T>, &TokenVerifier, &VerificationKey), AuthError> {
        let callers = self.callers.iter();
        let mut fitting: Vec<_> = callers
            .filter_map(|(caller, verifier)| {
                let key = verifier
                    .rules
                    .keys
                    .find(&token.algorithm, token.key_id.as_deref());
                key.map(|key| (caller, &**verifier, key))
            })
            .collect();
        if fitting.is_empty() {
            return Err(AuthError::WrongToken(
                "not one key for its algorithm and kid",
            ));
        }
        fitting.retain(|(_, verifier, _)| token.is_issued_by(&verifier.rules.issuer));
        if fitting.is_empty() {
            return Err(AuthError::WrongToken("another issuer"));
        }
        fitting.retain(|(_, verifier, _)| token.is_for(&verifier.rules.audience));
        if fitting.is_empty() {
            return Err(AuthError::WrongToken("another audience"));
        }
        fitting.retain(|(_, verifier, _)| token.has_claims(&verifier.rules.claims));
        token.times.check(now)?;
        match fitting[..] {
            [one] => Ok(one),
            [] => Err(AuthError::WrongToken("other claims")),
            _ => Err(AuthError::WrongToken("it fits more than one caller")),
        }
    }
}

/// Whether a bearer token has three parts, the form of a JSON Web Token. Every other one is an API key.
pub(super) fn is_token(text: &[u8]) -> bool {
    text.iter().filter(|byte| **byte == b'.').count() == 2
}

/// In bytes. Tokens of identity providers have one to two thousand.
pub(super) const MAX_TOKEN_LENGTH: usize = 8 * 1024;

#[cfg(test)]
mod tests;
