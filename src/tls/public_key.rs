//! The public key of a certificate, also of one that webpki cannot parse, and the signatures that it
//! verifies in a handshake.

use std::fmt;

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::asn1_rs::{Any, BitString, FromBer, FromDer, Oid};

use super::legacy_rsa::{self, Padding, RsaKey};
use super::trust_error::{Cause, TrustError};

/// A SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
#[derive(Debug)]
pub(crate) struct PublicKey<'a> {
    spki: &'a [u8],
    kind: KeyKind,
    key: &'a [u8],
}

/// The algorithm of a key, with its size in bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyKind {
    Rsa(usize),
    /// A key for RSASSA-PSS alone (RFC 4055, 1.2).
    RsaPss(usize),
    P256,
    P384,
    P521,
    Secp256k1,
    Ed25519,
    Ed448,
    Dsa,
    Other,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::RsaPss(bits) => write!(f, "RSA-PSS {bits}"),
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::P521 => f.write_str("ECDSA P-521"),
            Self::Secp256k1 => f.write_str("ECDSA secp256k1"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Ed448 => f.write_str("Ed448"),
            Self::Dsa => f.write_str("DSA"),
            Self::Other => f.write_str("of an unknown kind"),
        }
    }
}

impl<'a> PublicKey<'a> {
    /// Finds the key of a certificate of any version (RFC 5280, 4.1) and reads nothing else of it.
    pub(crate) fn of(certificate: &'a [u8]) -> Option<Self> {
        let (certificate, _) = element(certificate)?;
        let (tbs, _) = element(certificate.data)?;
        let (first, mut rest) = element(tbs.data)?;
        // Version 1 has no version field: its first field is the serial number.
        if first.is_context(0) {
            rest = element(rest)?.1;
        }
        for _signature_issuer_validity_subject in 0..4 {
            rest = element(rest)?.1;
        }
        let (_, after) = element(rest)?;
        let spki = rest.get(..rest.len() - after.len())?;
        Self::from_spki(spki)
    }

    fn from_spki(spki: &'a [u8]) -> Option<Self> {
        let (outer, _) = element(spki)?;
        let (algorithm, rest) = element(outer.data)?;
        let (_, key) = BitString::from_der(rest).ok()?;
        let key = rest_of_bit_string(rest, key.data.len())?;
        let (parameters, oid) = Oid::from_der(algorithm.data).ok()?;
        let curve = || Some(Oid::from_der(parameters).ok()?.1.to_id_string());
        let kind = match oid.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => KeyKind::Rsa(RsaKey::parse(key)?.bits()),
            "1.2.840.113549.1.1.10" => KeyKind::RsaPss(RsaKey::parse(key)?.bits()),
            "1.2.840.10045.2.1" => match curve().as_deref() {
                Some("1.2.840.10045.3.1.7") => KeyKind::P256,
                Some("1.3.132.0.34") => KeyKind::P384,
                Some("1.3.132.0.35") => KeyKind::P521,
                Some("1.3.132.0.10") => KeyKind::Secp256k1,
                _ => KeyKind::Other,
            },
            "1.3.101.112" => KeyKind::Ed25519,
            "1.3.101.113" => KeyKind::Ed448,
            "1.2.840.10040.4.1" => KeyKind::Dsa,
            _ => KeyKind::Other,
        };
        Some(Self { spki, kind, key })
    }

    /// Returns the whole SubjectPublicKeyInfo in DER.
    pub(crate) fn spki(&self) -> &'a [u8] {
        self.spki
    }

    pub(crate) fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Verifies a handshake signature by the key of a certificate, also of one that webpki cannot
    /// parse.
    ///
    /// # Errors
    /// It is not of this key.
    pub(super) fn verify_handshake(
        certificate: &CertificateDer<'_>,
        is_tls13: bool,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = PublicKey::of(certificate)
            .is_some_and(|key| key.verifies(signed.scheme, is_tls13, message, signed.signature()));
        if verified {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(TrustError::new(Cause::HandshakeSignature, certificate).into())
        }
    }

    /// Whether a handshake signature of `scheme` over `message` is of this key. In TLS 1.3 a scheme
    /// names one padding or curve (RFC 8446, 4.2.3), in TLS 1.2 any curve (RFC 5246, 7.4.1.4.1).
    pub(super) fn verifies(
        &self,
        scheme: SignatureScheme,
        is_tls13: bool,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        use Padding::{Pkcs1, Pss};
        let Some(hash) = Hash::of(scheme) else {
            return false;
        };
        let pkcs1 = matches!(
            scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
        );
        let padding = if pkcs1 { Pkcs1 } else { Pss };
        let is_rsae = pkcs1
            || matches!(
                scheme,
                SignatureScheme::RSA_PSS_SHA256
                    | SignatureScheme::RSA_PSS_SHA384
                    | SignatureScheme::RSA_PSS_SHA512
            );
        match self.kind {
            KeyKind::Rsa(_) if !is_rsae || (pkcs1 && is_tls13) => false,
            KeyKind::RsaPss(_) if !RSA_PSS_PSS.contains(&scheme) => false,
            KeyKind::Rsa(bits) | KeyKind::RsaPss(bits) if bits < MIN_RSA_BITS => {
                RsaKey::parse(self.key)
                    .is_some_and(|key| legacy_rsa::verify(&key, padding, hash, message, signature))
            }
            KeyKind::Rsa(_) | KeyKind::RsaPss(_) => {
                let algorithm: &'static dyn VerificationAlgorithm = match (padding, hash) {
                    (Pkcs1, Hash::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
                    (Pkcs1, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
                    (Pkcs1, Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
                    (Pss, Hash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
                    (Pss, Hash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
                    (Pss, Hash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
                };
                self.verifies_by(algorithm, message, signature)
            }
            KeyKind::Ed25519 if scheme == SignatureScheme::ED25519 => {
                self.verifies_by(&signature::ED25519, message, signature)
            }
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => ecdsa(self.kind, scheme, is_tls13)
                .is_some_and(|algorithm| self.verifies_by(algorithm, message, signature)),
            KeyKind::Ed25519
            | KeyKind::Secp256k1
            | KeyKind::Ed448
            | KeyKind::Dsa
            | KeyKind::Other => false,
        }
    }

    fn verifies_by(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let key = UnparsedPublicKey::new(algorithm, self.key);
        key.verify(message, signature).is_ok()
    }
}

/// Returns the algorithm of an ECDSA signature by a key on the curve of `kind`.
fn ecdsa(
    kind: KeyKind,
    scheme: SignatureScheme,
    is_tls13: bool,
) -> Option<&'static dyn VerificationAlgorithm> {
    use SignatureScheme as S;
    Some(match (kind, scheme) {
        (KeyKind::P256, S::ECDSA_NISTP256_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P384, S::ECDSA_NISTP384_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P521, S::ECDSA_NISTP521_SHA512) => &signature::ECDSA_P521_SHA512_ASN1,
        _ if is_tls13 => return None,
        (KeyKind::P256, S::ECDSA_NISTP384_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, S::ECDSA_NISTP521_SHA512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, S::ECDSA_NISTP256_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, S::ECDSA_NISTP521_SHA512) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyKind::P521, S::ECDSA_NISTP256_SHA256) => &signature::ECDSA_P521_SHA256_ASN1,
        (KeyKind::P521, S::ECDSA_NISTP384_SHA384) => &signature::ECDSA_P521_SHA384_ASN1,
        _ => return None,
    })
}

/// The hash of a signature scheme.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn of(scheme: SignatureScheme) -> Option<Self> {
        use SignatureScheme as S;
        match scheme {
            S::RSA_PKCS1_SHA256 | S::RSA_PSS_SHA256 | S::ECDSA_NISTP256_SHA256 => {
                Some(Self::Sha256)
            }
            S::RSA_PKCS1_SHA384 | S::RSA_PSS_SHA384 | S::ECDSA_NISTP384_SHA384 => {
                Some(Self::Sha384)
            }
            S::RSA_PKCS1_SHA512
            | S::RSA_PSS_SHA512
            | S::ECDSA_NISTP521_SHA512
            // Ed25519 hashes with SHA-512 by itself (RFC 8032, 5.1).
            | S::ED25519 => Some(Self::Sha512),
            other if other == RSA_PSS_PSS[0] => Some(Self::Sha256),
            other if other == RSA_PSS_PSS[1] => Some(Self::Sha384),
            other if other == RSA_PSS_PSS[2] => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// Reads one element, and returns it with what follows.
fn element(bytes: &[u8]) -> Option<(Any<'_>, &[u8])> {
    let (rest, element) = Any::from_ber(bytes).ok()?;
    Some((element, rest))
}

/// Returns the last `length` bytes of the bit string that `bytes` consist of.
fn rest_of_bit_string(bytes: &[u8], length: usize) -> Option<&[u8]> {
    let (bits, _) = element(bytes)?;
    let start = bits.data.len().checked_sub(length)?;
    bits.data.get(start..)
}

trait Context {
    fn is_context(&self, tag: u32) -> bool;
}

impl Context for Any<'_> {
    fn is_context(&self, tag: u32) -> bool {
        self.header.is_contextspecific() && self.header.tag().0 == tag
    }
}

/// Signatures of keys for RSASSA-PSS alone, with SHA-256, SHA-384 and SHA-512 (RFC 8446, 4.2.3), which
/// rustls has no names for.
pub(super) const RSA_PSS_PSS: [SignatureScheme; 3] = [
    SignatureScheme::Unknown(0x0809),
    SignatureScheme::Unknown(0x080a),
    SignatureScheme::Unknown(0x080b),
];

/// Returns the schemes of the provider, and those of RSA-PSS keys, so that a peer with such a key presents it:
/// with a pin it is accepted, else the refusal names it.
pub(super) fn schemes_with_rsa_pss(algorithms: &WebPkiSupportedAlgorithms) -> Vec<SignatureScheme> {
    let mut schemes = algorithms.supported_schemes();
    schemes.extend(RSA_PSS_PSS);
    schemes
}

/// Shorter keys can be factored with a great effort (NIST SP 800-131A, 3).
pub(crate) const MIN_RSA_BITS: usize = 2_048;
