//! The certificates of `ca` or `client_ca`.

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Validity;
use super::details::CertificateDetails;
use super::pin::Pin;
use super::public_key::{KeyKind, MIN_RSA_BITS, PublicKey};
use super::trust_error::Cause;

/// Trusted certificates. A peer that presents one of them byte for byte is trusted, whatever its
/// basic constraints say. All but those with CA:FALSE vouch for what they sign, too.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
    pins: Vec<Pin>,
}

impl Authorities {
    /// Takes the certificates of a file.
    ///
    /// # Errors
    /// The first one that cannot be read.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            // One that webpki cannot parse can still be presented itself.
            if CertificateDetails::read(certificate).may_vouch_for_others()
                && let Err(error) = roots.add(certificate.clone())
                && PublicKey::of(certificate).is_none()
            {
                return Err(error);
            }
        }
        Ok(Self {
            roots,
            pins: certificates.iter().filter_map(|it| Pin::of(it)).collect(),
            certificates,
        })
    }

    /// Takes the authorities of the system, which present no certificates themselves.
    pub fn from_roots(roots: RootCertStore) -> Self {
        Self {
            roots,
            certificates: Vec::new(),
            pins: Vec::new(),
        }
    }

    /// Returns those that vouch for what they sign.
    pub fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// Returns the certificates of the file.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether `certificate` is one of them, byte for byte.
    pub fn holds(&self, certificate: &CertificateDer<'_>) -> bool {
        self.position(certificate).is_some()
    }

    pub(super) fn position(&self, certificate: &CertificateDer<'_>) -> Option<usize> {
        let mut held = self.certificates.iter();
        held.position(|held| held.as_ref() == certificate.as_ref())
    }

    pub(super) fn check_key(&self, key: &PublicKey<'_>) -> Result<(), Cause> {
        match key.kind() {
            KeyKind::Rsa(bits) if bits >= MIN_RSA_BITS => Ok(()),
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Ed25519 => Ok(()),
            KeyKind::Rsa(_)
            | KeyKind::RsaPss(_)
            | KeyKind::Secp256k1
            | KeyKind::Ed448
            | KeyKind::Dsa
            | KeyKind::Other => Err(Cause::UnsuitableKey),
        }
    }

    pub(super) fn check_dates(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), Cause> {
        let parsed = X509Certificate::from_der(certificate)
            .map_err(|_| Cause::Unreadable)?
            .1;
        let validity = Validity::of(&parsed).ok_or(Cause::Unreadable)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < validity.not_before.as_second() {
            Err(Cause::NotYetValid)
        } else if now > validity.not_after.as_second() {
            Err(Cause::Expired)
        } else {
            Ok(())
        }
    }

    /// Recognizes a renewed certificate where no authority is known for it.
    pub(super) fn refine(&self, cause: Cause, key: &PublicKey<'_>) -> Cause {
        match cause {
            Cause::UnknownIssuer | Cause::AuthorityAsLeaf
                if self.pins.contains(&Pin::of_key(key)) =>
            {
                Cause::Renewed
            }
            cause => cause,
        }
    }
}
