//! The form of a token, and what it says.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use super::MAX_TOKEN_LENGTH;
use super::json::{self, Object};
use crate::auth::AuthError;

/// A token of the right form (RFC 7515, 7.1), not verified.
pub(super) struct Token<'a> {
    /// The header and the payload as they were sent, which the signature covers.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
    /// As the header says.
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) times: TokenTimes,
    payload: Object,
}

impl<'a> Token<'a> {
    /// Parses a token.
    ///
    /// # Errors
    /// It is no JSON Web Token of the accepted form.
    pub(super) fn parse(text: &'a [u8]) -> Result<Self, AuthError> {
        if text.len() > MAX_TOKEN_LENGTH {
            return Err(AuthError::WrongToken("longer than 8 KiB"));
        }
        let malformed = AuthError::WrongToken("malformed");
        let [header, payload, signature] = split(text).ok_or(malformed.clone())?;
        let signed = text.get(..header.len() + 1 + payload.len());
        let header = object(header).ok_or(malformed.clone())?;
        let payload = object(payload).ok_or(malformed.clone())?;
        // An extension that must be understood (RFC 7515, 4.1.11): none is.
        if header.contains_key("crit") {
            return Err(AuthError::WrongToken("it has crit"));
        }
        // Content that is encrypted (RFC 7516, 4.1.2).
        if header.contains_key("enc") {
            return Err(AuthError::WrongToken("it is encrypted"));
        }
        // A token that is bound to a key of its holder (RFC 7800), which is not proved here.
        if payload.contains_key("cnf") {
            return Err(AuthError::WrongToken("it has cnf"));
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(malformed),
        };
        let algorithm = header.get("alg").and_then(Value::as_str);
        Ok(Self {
            signed: signed.ok_or(malformed.clone())?,
            signature: decode(signature).ok_or(malformed.clone())?,
            algorithm: algorithm.ok_or(malformed)?.to_owned(),
            key_id,
            times: TokenTimes::of(&payload)?,
            payload,
        })
    }

    pub(super) fn is_issued_by(&self, issuer: &str) -> bool {
        self.payload.get("iss").and_then(Value::as_str) == Some(issuer)
    }

    pub(super) fn is_for(&self, audience: &str) -> bool {
        holds(self.payload.get("aud"), audience)
    }

    pub(super) fn has_claims(&self, claims: &BTreeMap<String, String>) -> bool {
        let mut claims = claims.iter();
        claims.all(|(name, value)| holds(self.payload.get(name), value))
    }
}

/// When a token counts, in seconds since 1970. The leeway is not in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenTimes {
    expires: i64,
    begins: i64,
}

impl TokenTimes {
    fn of(payload: &Object) -> Result<Self, AuthError> {
        let expires = payload.get("exp").ok_or(AuthError::WrongToken("no exp"))?;
        let expires = seconds(expires, f64::floor);
        let begins = match payload.get("nbf") {
            None => Some(i64::MIN),
            Some(begins) => seconds(begins, f64::ceil),
        };
        match (expires, begins) {
            (Some(expires), Some(begins)) => Ok(Self { expires, begins }),
            _ => Err(AuthError::WrongToken("an exp or nbf that is no time")),
        }
    }

    /// When it no longer counts.
    pub(super) fn expires(self) -> i64 {
        self.expires
    }

    /// Whether it counts at `now`. A token is over at its `exp` (RFC 7519, 4.1.4), and begins at its `nbf` (4.1.5).
    ///
    /// # Errors
    /// Which of both is wrong.
    pub(super) fn check(self, now: Timestamp) -> Result<(), AuthError> {
        let now = now.as_second();
        if now >= self.expires.saturating_add(LEEWAY) {
            return Err(AuthError::WrongToken("its time is over"));
        }
        if now < self.begins.saturating_sub(LEEWAY) {
            return Err(AuthError::WrongToken("its time has not begun"));
        }
        Ok(())
    }
}

/// Reads a time (RFC 7519, 2, "NumericDate"). Fractions are rounded, so that none lengthens the time of a token.
fn seconds(value: &Value, round: fn(f64) -> f64) -> Option<i64> {
    if let Some(seconds) = value.as_i64() {
        return Some(seconds);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, which is as far away"
    )]
    value.as_f64().map(|seconds| round(seconds) as i64)
}

/// Whether a claim is this text, or a list that holds it.
fn holds(claim: Option<&Value>, text: &str) -> bool {
    match claim {
        Some(Value::String(claim)) => claim == text,
        Some(Value::Array(list)) => list.iter().any(|item| item.as_str() == Some(text)),
        _ => false,
    }
}

fn split(text: &[u8]) -> Option<[&[u8]; 3]> {
    let mut parts = text.split(|byte| *byte == b'.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => Some([header, payload, signature]),
        _ => None,
    }
}

fn object(part: &[u8]) -> Option<Object> {
    json::parse_object(&decode(part)?)
}

/// Decodes base64url without padding (RFC 7515, 2). Bits that encode nothing must be zero, so that no two texts are
/// one token.
pub(super) fn decode(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// For clocks that differ, in seconds. Not configurable: what it forgives, a clock that is set right needs not.
const LEEWAY: i64 = 60;
