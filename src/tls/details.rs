//! What a certificate says about itself, for people.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Validity, alternative_name_texts};
use super::pin::Pin;
use super::public_key::PublicKey;

/// The fields of a certificate as short text without control characters. The peer chose them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CertificateDetails {
    /// The subject; `UNREADABLE` if the certificate cannot be parsed.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// Whether subject and issuer are the same name.
    pub is_self_issued: bool,
    /// The DNS and IP alternative names, at most `MAX_NAMES`; empty if there are none or they cannot
    /// be parsed.
    pub names: Vec<String>,
    /// The validity period.
    pub validity: Option<Validity>,
    /// The algorithm of the key, with its size.
    pub key: String,
    /// The algorithm of the issuer's signature.
    pub signature: String,
    /// The CA flag of the basic constraints; `None` without that extension.
    pub is_authority: Option<bool>,
    /// Whether its key usage has keyCertSign; `None` without that extension.
    pub signs_certificates: Option<bool>,
    /// Whether it has an extended key usage, as certificates of clients and servers do.
    pub has_purpose: bool,
    /// The pin of the key; `None` if it cannot be read.
    pub pin: Option<Pin>,
}

impl CertificateDetails {
    /// Reads a certificate in DER. What cannot be read stays empty.
    pub fn read(der: &[u8]) -> Self {
        let key = PublicKey::of(der);
        let of_key = Self {
            subject: UNREADABLE.to_owned(),
            issuer: UNREADABLE.to_owned(),
            key: key
                .as_ref()
                .map_or_else(|| UNREADABLE.to_owned(), |key| key.kind().to_string()),
            pin: key.as_ref().map(Pin::of_key),
            ..Self::default()
        };
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return of_key;
        };
        let mut names = alternative_name_texts(&certificate);
        names.truncate(MAX_NAMES);
        let constraints = certificate.basic_constraints().ok().flatten();
        // One that cannot be read allows nothing.
        let key_usage = certificate.key_usage().transpose();
        let key_usage = key_usage.map(|it| it.is_ok_and(|it| it.value.key_cert_sign()));
        Self {
            subject: plain(&certificate.subject().to_string()),
            issuer: plain(&certificate.issuer().to_string()),
            is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            names: names.iter().map(|name| plain(name)).collect(),
            validity: Validity::of(&certificate),
            signature: signature_name(&certificate),
            is_authority: constraints.map(|it| it.value.ca),
            signs_certificates: key_usage,
            has_purpose: !matches!(certificate.extended_key_usage(), Ok(None)),
            ..of_key
        }
    }

    /// Returns the whole days until the certificate expires, negative after that.
    pub fn days_left(&self, now: Timestamp) -> Option<i64> {
        let left = self.validity?.not_after.duration_since(now);
        Some(left.as_secs().div_euclid(86_400))
    }

    /// Whether it may have signed other certificates: its basic constraints do not deny it.
    pub fn may_vouch_for_others(&self) -> bool {
        self.is_authority != Some(false)
    }

    /// Whether what it signed may have names that count: it is an authority, and its key usage, if it has one, lets it
    /// sign certificates (RFC 5280, 6.1.4, k and n). One of version 1 says neither.
    pub fn may_issue_names(&self) -> bool {
        self.is_authority == Some(true) && self.signs_certificates != Some(false)
    }

    /// Returns the names, or words for their absence.
    pub(crate) fn names_text(&self) -> String {
        if self.names.is_empty() {
            "no alternative name".to_owned()
        } else {
            self.names.join(", ")
        }
    }
}

/// Returns the common name of a signature algorithm, or its object identifier.
fn signature_name(certificate: &X509Certificate<'_>) -> String {
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let known = SIGNATURES.iter().find(|(known, _)| *known == oid);
    known.map_or(oid, |(_, name)| (*name).to_owned())
}

/// Replaces control characters and cuts what is too long.
fn plain(text: &str) -> String {
    let mut chars = text.chars();
    let replaced = chars.by_ref().take(MAX_LENGTH).map(|c| match c {
        c if c.is_control() || is_direction(c) => '\u{fffd}',
        c => c,
    });
    let mut plain: String = replaced.collect();
    if chars.next().is_some() {
        plain.push('…');
    }
    plain
}

/// Whether a character changes the direction of the text around it (Unicode, UAX #9).
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// RFC 8017, A.2; RFC 5758; RFC 8410; RFC 3279.
const SIGNATURES: [(&str, &str); 12] = [
    ("1.2.840.113549.1.1.2", "MD2 with RSA"),
    ("1.2.840.113549.1.1.4", "MD5 with RSA"),
    ("1.2.840.113549.1.1.5", "SHA-1 with RSA"),
    ("1.2.840.113549.1.1.11", "SHA-256 with RSA"),
    ("1.2.840.113549.1.1.12", "SHA-384 with RSA"),
    ("1.2.840.113549.1.1.13", "SHA-512 with RSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.10045.4.1", "SHA-1 with ECDSA"),
    ("1.2.840.10045.4.3.2", "SHA-256 with ECDSA"),
    ("1.2.840.10045.4.3.3", "SHA-384 with ECDSA"),
    ("1.2.840.10045.4.3.4", "SHA-512 with ECDSA"),
    ("1.3.101.112", "Ed25519"),
];

/// Stands for what cannot be parsed.
const UNREADABLE: &str = "(unreadable)";

/// Enough to recognize a certificate.
const MAX_NAMES: usize = 8;

/// In characters. RFC 1035, 2.3.4, bounds a name.
const MAX_LENGTH: usize = 255;
