//! Names and validity of X.509 leaf certificates.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
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
    /// Returns the validity of a parsed certificate; `None` if a date is beyond the calendar.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let validity = certificate.validity();
        Some(Self {
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// Whether the time `now` is after its end.
    pub(crate) fn has_expired_at(&self, now: SystemTime) -> bool {
        now > SystemTime::from(self.not_after)
    }

    /// Returns what to warn of at the time `now`: not yet valid, expired, or about to expire.
    pub(crate) fn warning_at(&self, now: SystemTime) -> Option<String> {
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
        } else if self.not_after.as_second() - now < EXPIRY_NOTICE_SECONDS {
            Some(format!("expires at {}", self.not_after))
        } else {
            None
        }
    }
}

/// Two weeks. Our choice: certificates of ACME authorities are renewed 30 days before they expire, so
/// that a shorter remaining time means that the renewal has failed.
const EXPIRY_NOTICE_SECONDS: i64 = 14 * 24 * 3_600;

/// Returns the validity of the leaf of `key`; `None` if it cannot be parsed.
pub fn validity(key: &CertifiedKey) -> Option<Validity> {
    Validity::of(&leaf(key)?)
}

/// Returns the names of the leaf of `key` for people: its DNS and IP alternative names, or its
/// subject if it has none. Empty if the leaf cannot be parsed.
pub fn display_names(key: &CertifiedKey) -> Vec<String> {
    let Some(leaf) = leaf(key) else {
        return Vec::new();
    };
    let names = alternative_name_texts(&leaf);
    if names.is_empty() {
        vec![leaf.subject().to_string()]
    } else {
        names
    }
}

/// Returns the DNS and IP alternative names of a certificate.
pub(super) fn alternative_name_texts(leaf: &X509Certificate<'_>) -> Vec<String> {
    alternative_names(leaf, |name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => format_ip(bytes),
        _ => None,
    })
}

/// Returns the DNS alternative names of the leaf of `key`, in lower case. Empty if the leaf cannot be
/// parsed.
pub fn dns_names(key: &CertifiedKey) -> Vec<String> {
    leaf(key).map_or_else(Vec::new, |leaf| {
        alternative_names(&leaf, |name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
    })
}

fn leaf(key: &CertifiedKey) -> Option<X509Certificate<'_>> {
    let (_, leaf) = X509Certificate::from_der(key.cert.first()?).ok()?;
    Some(leaf)
}

/// Returns what `text` makes of each subject alternative name (RFC 5280, 4.2.1.6).
fn alternative_names(
    leaf: &X509Certificate<'_>,
    text: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    names.value.general_names.iter().filter_map(text).collect()
}

fn format_ip(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}
