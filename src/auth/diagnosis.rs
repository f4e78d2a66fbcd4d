//! Finds the mistake of a client whose signature did not verify: signs again with one thing changed, until
//! the signature fits. Pure; bounded by the number of variants and the size of the body.

use jiff::Timestamp;

use super::v2::{self, AuthorizationValue};
use super::{AuthError, Credential, Secret, Signable, canonical};

mod body;
mod json_style;
mod message;
mod mistake;
mod variants;

pub use mistake::Mistake;

use message::Message;
use variants::Variants;

/// A request whose signature did not verify.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The request; of a body that was not kept, no byte.
    pub request: Signable<'a>,
    /// Whether the body was kept.
    pub has_body: bool,
    /// `host:port` of the nodes that the request would have reached.
    pub nodes: &'a [String],
    /// The address of the listener, and the port of the connection.
    pub listener: (std::net::IpAddr, u16),
}

/// Omits all that the client sent.
impl std::fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evidence").finish_non_exhaustive()
    }
}

/// Finds the mistake of `evidence`; the second secret counts like the first. `None` if the signature is right
/// as it is.
///
/// Without a credential, a dummy secret does the same work and fits nothing.
pub fn find_mistake(evidence: &Evidence<'_>, credential: Option<&Credential>) -> Option<Mistake> {
    let secrets = credential.map_or(&[][..], Credential::secrets);
    let found =
        parse(evidence.request.headers).map(|value| Search::new(evidence, &value, secrets).find());
    found.unwrap_or(Some(Mistake::NothingFitted))
}

/// Finds the mistake of a claim that is judged by its head alone: `error` is why it was not verified.
pub fn mistake_of_head(error: &AuthError) -> Mistake {
    match error {
        AuthError::Stale(distance) if is_zone_slip(*distance) => Mistake::TimestampLocal,
        _ => Mistake::NothingFitted,
    }
}

/// Returns the one auth-v2 value of a head.
fn parse(headers: &http::HeaderMap) -> Option<AuthorizationValue<'_>> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    AuthorizationValue::parse(value).ok()
}

/// Whether a clock that is so many seconds off shows another zone: whole quarter hours up to fourteen hours,
/// give or take what clocks are off anyway.
fn is_zone_slip(seconds: i64) -> bool {
    let size = seconds.unsigned_abs();
    let quarters = (size + QUARTER / 2) / QUARTER;
    (1..=LARGEST_SLIP / QUARTER).contains(&quarters)
        && size.abs_diff(quarters * QUARTER) <= CLOCK_TOLERANCE
}

/// One search: what was signed, and the secrets that may have signed it.
struct Search<'a> {
    evidence: &'a Evidence<'a>,
    value: &'a AuthorizationValue<'a>,
    secrets: &'a [Secret],
}

impl<'a> Search<'a> {
    fn new(
        evidence: &'a Evidence<'a>,
        value: &'a AuthorizationValue<'a>,
        secrets: &'a [Secret],
    ) -> Self {
        let secrets = match secrets {
            [] => v2::dummy_secrets(),
            secrets => secrets,
        };
        Self {
            evidence,
            value,
            secrets,
        }
    }

    fn find(&self) -> Option<Mistake> {
        let request = &self.evidence.request;
        let names = self.value.names;
        let as_sent = Message::of(request, names);
        let has_signed = names
            .split(';')
            .all(|name| canonical::single_value(request.headers, name).is_ok());
        if has_signed && self.fits(&as_sent, self.value.prefix) {
            return None;
        }
        let variants = Variants {
            evidence: self.evidence,
            as_sent: &as_sent,
        };
        let mut found = None;
        variants.each(&mut |mistake, message| {
            if self.fits(message, self.value.prefix) {
                found = Some(mistake);
            }
            found.is_some()
        });
        found
            .or_else(|| self.other_names(&as_sent))
            .or_else(|| self.other_key(&as_sent))
            .or(Some(Mistake::NothingFitted))
    }

    /// The same or other names, in the key, in what was signed, or in both.
    fn other_names(&self, as_sent: &Message<'_>) -> Option<Mistake> {
        let start = self.value.prefix.strip_suffix(self.value.names)?;
        variants::names(
            self.value.names,
            self.evidence.request.headers,
            &mut |mistake, names| {
                let prefix = format!("{start}{names}");
                let message = Message {
                    names: names.into(),
                    ..as_sent.clone()
                };
                let message = match mistake {
                    Mistake::NamesOther => {
                        message.with_fields(self.evidence.request.headers, names)
                    }
                    _ => message,
                };
                let only_fields = Message {
                    names: self.value.names.into(),
                    ..message.clone()
                };
                let fits = self.fits(&message, self.value.prefix)
                    || self.fits(&message, &prefix)
                    || self.fits(as_sent, &prefix)
                    || (mistake == Mistake::NamesOther
                        && self.fits(&only_fields, self.value.prefix));
                fits.then_some(mistake)
            },
        )
    }

    /// Another key for the same message: another timestamp in it, a secret with what a file or a form adds,
    /// raw bytes.
    fn other_key(&self, as_sent: &Message<'_>) -> Option<Mistake> {
        let prefix = self.value.prefix;
        if let Some(whole_seconds) = without_milliseconds(prefix, self.value.timestamp)
            && self.fits(as_sent, &whole_seconds)
        {
            return Some(Mistake::TimestampMilliseconds);
        }
        let bytes = as_sent.to_bytes();
        for secret in self.secrets {
            for (mistake, variant) in secret.misread() {
                if v2::is_signed(&variant, prefix, &bytes, &self.value.signature) {
                    return Some(mistake);
                }
            }
            if v2::is_signed_with_raw_key(secret, prefix, &bytes, &self.value.signature) {
                return Some(Mistake::RawKey);
            }
        }
        None
    }

    /// Whether one of the secrets signed the message with the key of `prefix`.
    fn fits(&self, message: &Message<'_>, prefix: &str) -> bool {
        let bytes = message.to_bytes();
        let signature = &self.value.signature;
        let mut secrets = self.secrets.iter();
        secrets.any(|secret| v2::is_signed(secret, prefix, &bytes, signature))
    }
}

/// Returns the prefix with its timestamp in whole seconds; `None` if it has no milliseconds.
fn without_milliseconds(prefix: &str, timestamp: Timestamp) -> Option<String> {
    let mut parts = prefix.splitn(4, '/');
    let (scheme, access_key) = (parts.next()?, parts.next()?);
    let (written, names) = (parts.next()?, parts.next()?);
    let seconds = timestamp.strftime("%Y-%m-%dT%H:%M:%SZ");
    written
        .contains('.')
        .then(|| format!("{scheme}/{access_key}/{seconds}/{names}"))
}

impl Secret {
    /// Returns the secrets that a client has which read this one with a line end or blanks, or without those
    /// that it has.
    fn misread(&self) -> Vec<(Mistake, Self)> {
        let with = |mistake, start: &str, end: &str| {
            let bytes = [start.as_bytes(), self.bytes(), end.as_bytes()].concat();
            (mistake, Self::new(bytes))
        };
        let mut misread = vec![
            with(Mistake::SecretLineEnd, "", "\n"),
            with(Mistake::SecretLineEnd, "", "\r\n"),
            with(Mistake::SecretLineEnd, "", "\r"),
            with(Mistake::SecretBlanks, "", " "),
            with(Mistake::SecretBlanks, " ", ""),
            with(Mistake::SecretBlanks, " ", " "),
            with(Mistake::SecretBlanks, "", "\t"),
        ];
        let trimmed = self.bytes().trim_ascii();
        if trimmed.len() < self.bytes().len() && !trimmed.is_empty() {
            misread.push((Mistake::SecretBlanks, Self::new(trimmed.to_vec())));
        }
        misread
    }
}

/// In seconds.
const QUARTER: u64 = 900;

/// The largest offset of a zone, +14:00, in seconds.
const LARGEST_SLIP: u64 = 14 * 3600;

/// How far a clock may be from the quarter hour, in seconds. Our choice: far more than a synchronised clock
/// is off, and small against a quarter hour.
const CLOCK_TOLERANCE: u64 = 60;

#[cfg(test)]
mod tests;
