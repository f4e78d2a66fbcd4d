//! From when to when a certificate holds.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The validity of a leaf certificate (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// Not valid before this.
    pub not_before: Timestamp,
    /// Not valid after this.
    pub not_after: Timestamp,
}

impl Validity {
    /// What is to be said about it at the time `now`; nothing if all is well.
    pub(super) fn told_at(&self, now: SystemTime) -> Option<String> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now < self.not_before.as_second() {
            Some(format!(
                "is not yet valid: it begins at {}",
                self.not_before
            ))
        } else if now > self.not_after.as_second() {
            Some(format!("expired at {}", self.not_after))
        } else if self.not_after.as_second() - now < SOON {
            Some(format!("expires at {}", self.not_after))
        } else {
            None
        }
    }
}

/// Two weeks, in seconds: time to renew it on a working day.
const SOON: i64 = 14 * 24 * 3_600;

/// The validity of the leaf of `key`; `None` if it cannot be parsed.
pub fn validity(key: &CertifiedKey) -> Option<Validity> {
    let (_, leaf) = X509Certificate::from_der(key.cert.first()?).ok()?;
    let validity = leaf.validity();
    Some(Validity {
        not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    })
}
