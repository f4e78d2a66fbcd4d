//! Why a certificate is refused: what was presented, and what would be right.

use std::fmt;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use super::details::CertificateDetails;

/// A certificate that is refused. Travels inside [`rustls::Error`]; its text is complete.
#[derive(Clone, Debug)]
pub struct TrustError {
    cause: Cause,
    /// Whether a client presented it to a listener, where there are no pins.
    is_of_client: bool,
    /// The certificate.
    pub presented: CertificateDetails,
}

/// The rule that a certificate breaks.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// It is no certificate.
    Unreadable,
    /// The key of the peer is in no pin.
    OtherKey,
    /// The key is of a kind that only a pin is enough for.
    UnsuitableKey,
    /// The certificate is not in `ca`, but its key is.
    Renewed,
    /// No authority in `ca` signed it.
    UnknownIssuer,
    /// The certificate of an authority that is not itself in `ca`.
    AuthorityAsLeaf,
    /// Out of its time.
    Expired,
    NotYetValid,
    /// The name that it should have.
    OtherName(String),
    Revoked,
    RevocationUnknown,
    RevocationListExpired,
    /// The signature of the issuer does not verify.
    BadSignature,
    /// The issuer signed by an algorithm that is not accepted.
    SignatureAlgorithm,
    /// X.509 version 1 or 2.
    Version,
    CriticalExtension,
    /// The extended key usage does not include this one.
    Purpose,
    /// Its names are outside the constraints of an authority.
    NameConstraint,
    /// The handshake is not signed by the key of the certificate.
    HandshakeSignature,
    Other(String),
}

impl TrustError {
    pub(super) fn new(cause: Cause, certificate: &[u8]) -> Self {
        Self {
            cause,
            is_of_client: false,
            presented: CertificateDetails::read(certificate),
        }
    }

    /// As [`TrustError::new`], for the certificate of a client.
    pub(super) fn of_client(cause: Cause, certificate: &[u8]) -> Self {
        Self {
            is_of_client: true,
            ..Self::new(cause, certificate)
        }
    }

    /// Returns the refusal that `error` carries.
    pub fn of(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                other.0.downcast_ref()
            }
            _ => None,
        }
    }

    /// Returns why it is refused, without what was presented.
    pub fn reason(&self) -> String {
        let presented = &self.presented;
        let ca = self.list();
        match &self.cause {
            Cause::Unreadable => "it is no readable X.509 certificate".to_owned(),
            Cause::OtherKey => "its key is not one of pins".to_owned(),
            Cause::UnsuitableKey => format!("its key is {}", presented.key),
            Cause::Renewed => format!("it is not in {ca}, though an older one with its key is"),
            Cause::UnknownIssuer => format!("signed by no authority in {ca}"),
            Cause::AuthorityAsLeaf if presented.is_self_issued => {
                format!("it is self-signed, and not itself in {ca}")
            }
            Cause::AuthorityAsLeaf => {
                format!("it is an authority's own, and is not itself in {ca}")
            }
            Cause::Expired => "expired".to_owned(),
            Cause::NotYetValid => "not yet valid".to_owned(),
            Cause::OtherName(expected) => {
                let names = presented.names_text();
                format!("it is for {names}, not for {expected}")
            }
            Cause::Revoked => "revoked".to_owned(),
            Cause::RevocationUnknown => "no CRL says whether it is revoked".to_owned(),
            Cause::RevocationListExpired => "the CRL of its issuer expired".to_owned(),
            Cause::BadSignature => {
                format!("signed by no authority in {ca}, though one has the name of its issuer")
            }
            Cause::SignatureAlgorithm => {
                format!(
                    "its chain is signed with {}, or another algorithm that proves nothing",
                    presented.signature
                )
            }
            Cause::Version => "it is of X.509 version 1 or 2".to_owned(),
            Cause::CriticalExtension => "it has an unknown critical extension".to_owned(),
            Cause::Purpose => "its extended key usage does not allow this use".to_owned(),
            Cause::NameConstraint => "its names are outside what its authority may sign".to_owned(),
            Cause::HandshakeSignature => {
                "the handshake is not signed by the key of the certificate".to_owned()
            }
            Cause::Other(text) => text.clone(),
        }
    }

    /// Returns why it is refused, and what was presented.
    pub fn finding(&self) -> String {
        let presented = &self.presented;
        let issuer = if presented.is_self_issued {
            "self-signed".to_owned()
        } else {
            format!("issued by {}", presented.issuer)
        };
        let mut text = format!(
            "{}; presented: {}, {issuer}, for {}",
            self.reason(),
            presented.subject,
            presented.names_text()
        );
        if let Some(validity) = presented.validity {
            text += &format!(", valid {} to {}", validity.not_before, validity.not_after);
        }
        text += &format!(", key {}", presented.key);
        if let Some(pin) = presented.pin {
            text += &format!(", pin {pin}");
        }
        text
    }

    /// Returns the name of the key that lists what is trusted.
    fn list(&self) -> &'static str {
        if self.is_of_client { "client_ca" } else { "ca" }
    }

    /// Returns what would be right, with the pin ready to paste.
    fn advice(&self) -> String {
        let ca = self.list();
        let pin = self.presented.pin.filter(|_| !self.is_of_client);
        let pin = pin.map(|pin| format!("pins = [\"{pin}\"]"));
        let without_ca = if self.is_of_client { "" } else { " without ca" };
        let or_pin = |first: &str| match &pin {
            Some(pin) => format!("{first}, or {pin}"),
            None => first.to_owned(),
        };
        match &self.cause {
            Cause::OtherKey => or_pin("the pinned key"),
            Cause::UnknownIssuer | Cause::BadSignature if self.presented.is_self_issued => {
                or_pin(&format!("this certificate itself in {ca}"))
            }
            Cause::UnknownIssuer | Cause::BadSignature => or_pin(&format!(
                "its authority or the certificate itself in {ca}, and its whole chain presented"
            )),
            Cause::Renewed | Cause::AuthorityAsLeaf => {
                or_pin(&format!("this certificate itself in {ca}"))
            }
            Cause::Expired => "a renewed certificate".to_owned(),
            Cause::NotYetValid => "a certificate that is valid now, and right clocks".to_owned(),
            Cause::OtherName(expected) => or_pin(&format!(
                "a certificate for {expected}, server_name = one of its names"
            )),
            Cause::UnsuitableKey => {
                or_pin("an RSA key of 2048 bits and more, ECDSA or Ed25519") + without_ca
            }
            Cause::Version | Cause::CriticalExtension => {
                or_pin("a certificate of version 3 without it") + without_ca
            }
            Cause::Revoked => "another certificate".to_owned(),
            Cause::RevocationUnknown | Cause::RevocationListExpired => {
                "the current CRL of its issuer".to_owned()
            }
            Cause::Unreadable => or_pin("a well-formed certificate") + without_ca,
            Cause::HandshakeSignature => "a certificate with its own key".to_owned(),
            Cause::SignatureAlgorithm
            | Cause::Purpose
            | Cause::NameConstraint
            | Cause::Other(_) => or_pin("another certificate"),
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (finding, advice) = (self.finding(), self.advice());
        write!(
            f,
            "certificate not trusted: {finding}; right would be: {advice}"
        )
    }
}

impl std::error::Error for TrustError {}

impl From<TrustError> for rustls::Error {
    fn from(error: TrustError) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

impl Cause {
    /// Translates what webpki says about a certificate. `expected` is the name of the peer.
    pub(super) fn of(error: &rustls::Error, expected: &str) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else {
            return Self::Other(error.to_string());
        };
        match error {
            CertificateError::BadEncoding => Self::Unreadable,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnhandledCriticalExtension => Self::CriticalExtension,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationListExpired,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                Self::SignatureAlgorithm
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName(expected.to_owned())
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            CertificateError::Other(other) => Self::of_webpki(&other.to_string()),
            other => Self::of_webpki(&other.to_string()),
        }
    }

    /// rustls passes some causes on by their name alone.
    fn of_webpki(name: &str) -> Self {
        const NAMES: [(&str, Cause); 5] = [
            ("CaUsedAsEndEntity", Cause::AuthorityAsLeaf),
            ("UnsupportedCertVersion", Cause::Version),
            ("UnsupportedCriticalExtension", Cause::CriticalExtension),
            ("NameConstraintViolation", Cause::NameConstraint),
            ("UnsupportedSignatureAlgorithm", Cause::SignatureAlgorithm),
        ];
        let known = NAMES.into_iter().find(|(known, _)| name.contains(known));
        known.map_or_else(
            || Self::Other(super::words::plain_words(name)),
            |(_, cause)| cause,
        )
    }
}
