//! The public keys of an issuer: a JWK Set (RFC 7517) in a file.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use serde_json::Value;

use super::claims::decode;
use super::json::{self, Object};

/// The usable keys of a JWK Set.
#[derive(Debug, PartialEq)]
pub struct JwkSet {
    keys: Vec<VerificationKey>,
    skipped: Vec<String>,
}

impl JwkSet {
    /// Parses a JWK Set.
    ///
    /// # Errors
    /// It is none, holds a secret, or has no usable key.
    pub fn parse(text: &[u8]) -> Result<Self, JwkSetError> {
        let mut set = json::parse_object(text).ok_or(JwkSetError::NotJson)?;
        let Some(Value::Array(entries)) = set.remove("keys") else {
            return Err(JwkSetError::NoKeys);
        };
        if entries.len() > MAX_KEYS {
            return Err(JwkSetError::TooManyKeys);
        }
        let (mut keys, mut skipped) = (Vec::<VerificationKey>::new(), Vec::new());
        for (number, entry) in (1..).zip(entries) {
            let Value::Object(entry) = entry else {
                return Err(JwkSetError::NoKeys);
            };
            if let Some(member) = PRIVATE_MEMBERS.iter().find(|it| entry.contains_key(**it)) {
                return Err(JwkSetError::Private(number, member));
            }
            if text_of(&entry, "kty") == Some("oct") {
                return Err(JwkSetError::Symmetric(number));
            }
            match VerificationKey::read(&entry) {
                Ok(key) if key.id.is_some() && keys.iter().any(|other| key.is_named_as(other)) => {
                    return Err(JwkSetError::RepeatedId(number));
                }
                Ok(key) => keys.push(key),
                Err(reason) => skipped.push(describe(number, &entry, &reason)),
            }
        }
        if keys.is_empty() {
            let reasons = match skipped[..] {
                [] => "an empty list".to_owned(),
                _ => skipped.join("; "),
            };
            return Err(JwkSetError::NoUsableKey(reasons));
        }
        Ok(Self { keys, skipped })
    }

    /// Returns the keys that are not used, with the reason.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Returns the id and the algorithm of each key.
    pub fn usable(&self) -> impl Iterator<Item = (Option<&str>, SignatureAlgorithm)> {
        let keys = self.keys.iter();
        keys.map(|key| (key.id.as_deref(), key.algorithm))
    }

    /// Finds the key for the algorithm and the `kid` of a token; without a `kid` only if there is one key for the
    /// algorithm.
    pub(super) fn find(&self, algorithm: &str, id: Option<&str>) -> Option<&VerificationKey> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.algorithm.name() == algorithm && (id.is_none() || key.id.as_deref() == id)
        });
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

/// Why a file is not used as a JWK Set. No text of it holds a part of a key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwkSetError {
    /// Not a JSON object, or a repeated member.
    #[error("not JSON, or a member is repeated")]
    NotJson,
    /// No list of keys.
    #[error("not a JWK Set: no list \"keys\" of keys")]
    NoKeys,
    /// More keys than any issuer has.
    #[error("more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// A private key; its number and the member that tells.
    #[error("key {0} is a private key: it has the member {1:?}")]
    Private(usize, &'static str),
    /// A secret that both sides have.
    #[error("key {0} is symmetric (kty \"oct\"): whoever verifies could sign")]
    Symmetric(usize),
    /// A `kid` that an earlier key of the algorithm has.
    #[error("key {0} has the kid of an earlier key")]
    RepeatedId(usize),
    /// There is none, or every key is skipped, with the reasons.
    #[error("no usable key ({0})")]
    NoUsableKey(String),
}

/// The algorithms of signatures that are accepted (RFC 7518, 3.1 and RFC 8037).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl SignatureAlgorithm {
    /// Returns the value of `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A public key with the one algorithm that it is for.
#[derive(Debug)]
pub(super) struct VerificationKey {
    id: Option<String>,
    algorithm: SignatureAlgorithm,
    key: ParsedPublicKey,
}

impl VerificationKey {
    /// Reads a key, or says why it is not usable.
    fn read(jwk: &Object) -> Result<Self, String> {
        let id = match jwk.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err("its kid is no text".to_owned()),
        };
        if jwk.contains_key("use") && text_of(jwk, "use") != Some("sig") {
            return Err("its use is not \"sig\"".to_owned());
        }
        let is_verify = |operations: &Value| {
            let mut operations = operations.as_array().into_iter().flatten();
            operations.any(|it| it.as_str() == Some("verify"))
        };
        if jwk.get("key_ops").is_some_and(|it| !is_verify(it)) {
            return Err("its key_ops are without \"verify\"".to_owned());
        }
        let (algorithm, key) = match (text_of(jwk, "kty"), text_of(jwk, "crv")) {
            (Some("RSA"), _) => (SignatureAlgorithm::Rs256, rsa(jwk)?),
            (Some("EC"), Some("P-256")) => (SignatureAlgorithm::Es256, p256(jwk)?),
            (Some("OKP"), Some("Ed25519")) => (SignatureAlgorithm::EdDsa, ed25519(jwk)?),
            _ => return Err("another type than RSA, EC with P-256, OKP with Ed25519".to_owned()),
        };
        if jwk.contains_key("alg") && text_of(jwk, "alg") != Some(algorithm.name()) {
            return Err(format!("its alg is not {}", algorithm.name()));
        }
        Ok(Self { id, algorithm, key })
    }

    fn is_named_as(&self, other: &Self) -> bool {
        (&self.id, self.algorithm) == (&other.id, other.algorithm)
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// It is wrong, or not of the form of the algorithm.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Unspecified> {
        self.key.verify_sig(message, signature)
    }
}

impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        self.is_named_as(other) && self.key.as_ref() == other.key.as_ref()
    }
}

fn rsa(jwk: &Object) -> Result<ParsedPublicKey, String> {
    let [modulus, exponent] = ["n", "e"].map(|name| member(jwk, name));
    let (modulus, exponent) = (modulus?, exponent?);
    let modulus = without_leading_zeros(&modulus);
    let exponent = without_leading_zeros(&exponent);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |it| it.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("an RSA key of {bits} bits, not 2048 to 4096"));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    let is_exponent = exponent.len() <= 4 && exponent != [1] && is_odd(exponent);
    let components = RsaPublicKeyComponents {
        n: modulus,
        e: exponent,
    };
    let key = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    match key {
        Ok(key) if is_exponent && is_odd(modulus) => Ok(key),
        _ => Err("not an RSA key".to_owned()),
    }
}

fn p256(jwk: &Object) -> Result<ParsedPublicKey, String> {
    let [x, y] = ["x", "y"].map(|name| member(jwk, name));
    let (x, y) = (x?, y?);
    if (x.len(), y.len()) != (32, 32) {
        return Err("not a point of P-256".to_owned());
    }
    let point = [&[UNCOMPRESSED][..], &x, &y].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .map_err(|_| "not a point of P-256".to_owned())
}

fn ed25519(jwk: &Object) -> Result<ParsedPublicKey, String> {
    let key = member(jwk, "x")?;
    if key.len() != 32 {
        return Err("not an Ed25519 key".to_owned());
    }
    ParsedPublicKey::new(&ED25519, key).map_err(|_| "not an Ed25519 key".to_owned())
}

/// Decodes a member of a key.
fn member(jwk: &Object, name: &str) -> Result<Vec<u8>, String> {
    let decoded = text_of(jwk, name).and_then(|text| decode(text.as_bytes()));
    decoded.ok_or_else(|| format!("its {name} is not base64url"))
}

fn text_of<'a>(jwk: &'a Object, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

/// Some issuers write the sign byte of the number.
fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Names a key for people.
fn describe(number: usize, jwk: &Object, reason: &str) -> String {
    match text_of(jwk, "kid") {
        Some(id) => {
            let start: String = id.chars().take(SHOWN_ID_CHARACTERS).collect();
            format!("key {number} ({start:?}): {reason}")
        }
        None => format!("key {number}: {reason}"),
    }
}

/// Those of private keys (RFC 7518, 6) and of symmetric ones.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Observed issuers publish two to six.
const MAX_KEYS: usize = 32;

/// Shorter ones can be broken (RFC 7518, 3.3); longer ones cost time and are not in use.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// Before the coordinates of a point (SEC 1, 2.3.3).
const UNCOMPRESSED: u8 = 4;

const SHOWN_ID_CHARACTERS: usize = 64;
