//! Searches requests that did not verify for credentials of callers, which must reach no node, wherever they stand.

use std::collections::{HashMap, HashSet};

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use foldhash::quality::RandomState;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::api_keys::{MIN_API_KEY_LENGTH, is_key_byte};
use super::{CallerCredentials, X_API_KEY};
use crate::auth::parts::any_part;
use crate::auth::{Secret, SecretSet, percent};

/// The credentials of all callers of a configuration, as far as they can be recognized. It holds no secret.
#[derive(Debug)]
pub struct CredentialSearch {
    keys: KeySearch,
    /// API keys, and the secrets of apps.
    secrets: SecretSet,
    app_keys: HashSet<Box<str>, RandomState>,
    issuers: HashSet<Box<str>, RandomState>,
}

impl CredentialSearch {
    /// Creates the search for the credentials of these callers.
    pub fn new<'a>(callers: impl Iterator<Item = CallerCredentials<'a>> + Clone) -> Self {
        let keys = callers.clone().flat_map(|it| it.api_keys);
        let apps = callers.clone().filter_map(|it| it.app);
        let secrets = keys.clone().chain(apps.clone().map(|app| &app.app_secret));
        let issuers = callers.filter_map(|it| it.tokens);
        Self {
            keys: KeySearch::new(keys.map(Secret::bytes)),
            secrets: SecretSet::new(secrets),
            app_keys: apps.map(|app| app.app_key.as_str().into()).collect(),
            issuers: issuers.map(|tokens| tokens.issuer().into()).collect(),
        }
    }

    /// Whether a head holds an API key anywhere, or in `Authorization` or `X-Api-Key` a token of an issuer, the secret
    /// of an app, or a signature that names an app. What is too long to be searched counts as if it did.
    pub fn is_in(&self, head: &Parts) -> bool {
        if self.keys.is_empty() && self.app_keys.is_empty() && self.issuers.is_empty() {
            return false;
        }
        let target = head.uri.path_and_query();
        let target = target.map_or(&[][..], |target| target.as_str().as_bytes());
        let mut values = head.headers.values();
        if self.has_key(target) || values.any(|value| self.has_key(value.as_bytes())) {
            return true;
        }
        let authorizations = head.headers.get_all(AUTHORIZATION).iter();
        let mut all = authorizations.chain(head.headers.get_all(X_API_KEY));
        all.any(|value| {
            let value = value.as_bytes();
            value.len() > MAX_LENGTH
                || self.names_app(value)
                || self.has_secret(value)
                || decoded(value).any(|text| self.has_key(&text) || self.has_secret(&text))
        })
    }

    /// Whether a text holds an API key, also percent-encoded as in URLs and cookies.
    fn has_key(&self, text: &[u8]) -> bool {
        let is_in = |text: &[u8]| self.keys.is_in(text, |key| self.secrets.contains(key));
        let decoded = || percent::decode(std::str::from_utf8(text).ok()?);
        is_in(text) || text.contains(&b'%') && decoded().is_some_and(|text| is_in(&text))
    }

    /// Whether a text holds a token, or a secret as one of its parts.
    fn has_secret(&self, text: &[u8]) -> bool {
        self.has_token(text) || any_part(text, |part| self.secrets.contains(part))
    }

    /// Whether a signature of Huawei's signers, in whatever form, names an app.
    fn names_app(&self, value: &[u8]) -> bool {
        let scheme = value.get(..SCHEME_FAMILY.len()).unwrap_or_default();
        let is_app_key =
            |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| self.app_keys.contains(part));
        scheme.eq_ignore_ascii_case(SCHEME_FAMILY) && any_part(value, is_app_key)
    }

    /// Whether a text holds a token of an issuer, right or wrong: one between two dots says so.
    fn has_token(&self, text: &[u8]) -> bool {
        if self.issuers.is_empty() {
            return false;
        }
        let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let mut runs = text.split(|byte| !is_token_byte(*byte));
        runs.any(|run| {
            let parts: Vec<&[u8]> = run.split(|byte| *byte == b'.').collect();
            let mut payloads = parts.windows(3).map(|three| three[1]);
            payloads.any(|payload| self.is_of_issuer(payload).unwrap_or_default())
        })
    }

    fn is_of_issuer(&self, payload: &[u8]) -> Option<bool> {
        let payload = BASE64URL_NOPAD.decode(payload).ok()?;
        let payload: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        Some(self.issuers.contains(payload.get("iss")?.as_str()?))
    }
}

/// Decodes what may be base64 in a text, in either alphabet of RFC 4648, from each of the places at which it can begin
/// behind the name of a scheme that no blank separates.
fn decoded(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    let runs = text.split(move |byte| !is_base64(*byte));
    let runs = runs.filter(|run| run.len() >= MIN_ENCODED_LENGTH);
    runs.flat_map(|run| {
        let standard: Vec<u8> = run.iter().copied().map(standard_base64).collect();
        (0..4).filter_map(move |start| BASE64_NOPAD.decode(standard.get(start..)?).ok())
    })
}

fn standard_base64(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    }
}

/// Finds API keys within texts, in one pass over a text whatever their number is (Rabin and Karp).
struct KeySearch {
    /// Random and odd, so that the fingerprints tell nothing of the keys.
    base: u64,
    /// What a byte that leaves the window was multiplied by.
    leaving: u64,
    /// The lengths of the keys, by the fingerprints of their first [`WINDOW`] bytes.
    lengths: HashMap<u64, Vec<usize>, RandomState>,
}

impl KeySearch {
    fn new<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let base = rand::random::<u64>() | 1;
        let mut search = Self {
            base,
            leaving: (0..WINDOW).fold(1, |power: u64, _| power.wrapping_mul(base)),
            lengths: HashMap::with_hasher(RandomState::default()),
        };
        for key in keys {
            if let Some(start) = key.get(..WINDOW) {
                let fingerprint = search.fingerprint(start);
                let lengths = search.lengths.entry(fingerprint).or_default();
                lengths.push(key.len());
            }
        }
        search
    }

    fn fingerprint(&self, window: &[u8]) -> u64 {
        let bytes = window.iter().copied().map(u64::from);
        bytes.fold(0, |sum: u64, byte| {
            sum.wrapping_mul(self.base).wrapping_add(byte)
        })
    }

    fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Whether a text holds a key, which `is_key` confirms.
    fn is_in(&self, text: &[u8], is_key: impl Fn(&[u8]) -> bool) -> bool {
        let mut runs = text.split(|byte| !is_key_byte(*byte));
        !self.is_empty() && runs.any(|run| self.is_in_run(run, &is_key))
    }

    /// The same for a text of characters that a key may have.
    fn is_in_run(&self, run: &[u8], is_key: impl Fn(&[u8]) -> bool) -> bool {
        let Some(window) = run.get(..WINDOW) else {
            return false;
        };
        let mut fingerprint = self.fingerprint(window);
        let mut rest = run;
        loop {
            if let Some(lengths) = self.lengths.get(&fingerprint)
                && (lengths.iter()).any(|length| rest.get(..*length).is_some_and(&is_key))
            {
                return true;
            }
            let (Some((first, after)), Some(next)) = (rest.split_first(), rest.get(WINDOW)) else {
                return false;
            };
            fingerprint = fingerprint
                .wrapping_mul(self.base)
                .wrapping_add(u64::from(*next))
                .wrapping_sub(self.leaving.wrapping_mul(u64::from(*first)));
            rest = after;
        }
    }
}

impl std::fmt::Debug for KeySearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySearch({})", self.lengths.len())
    }
}

/// The start of `SDK-HMAC-SHA256` and of its relatives, such as SDK-HMAC-SM3.
const SCHEME_FAMILY: &[u8] = b"sdk-hmac";

/// In bytes: the shortest API key.
const WINDOW: usize = MIN_API_KEY_LENGTH;

/// In characters: what the shortest secret of an app has in base64.
const MIN_ENCODED_LENGTH: usize = 11;

/// In bytes; twice the longest token that is accepted.
const MAX_LENGTH: usize = 16 * 1024;

#[cfg(test)]
mod tests;
