//! Which client certificates a listener accepts.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::authorities::Authorities;
use super::public_key::{PublicKey, schemes_with_rsa_pss};
use super::trust_error::{Cause, TrustError};

/// Verifies the certificate of a client: one that the authorities hold byte for byte, or a chain to one
/// of them. With CRLs a certificate that none covers, or only an expired one, is refused; a self-signed
/// one that is held needs none, since it is revoked by removing it.
#[derive(Debug)]
pub(crate) struct ClientTrust {
    authorities: Authorities,
    /// The state of each held certificate in the CRLs.
    revocation: Vec<Revocation>,
    /// Verifies chains; `None` if no held certificate vouches for another one.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    is_required: bool,
    provider: Arc<CryptoProvider>,
}

/// What the CRLs say about a held certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Revocation {
    /// Nothing is to be asked.
    Unneeded,
    /// No CRL covers it.
    Unknown,
    Revoked,
    /// It is not revoked, until the next CRL is due, in seconds since 1970.
    NotUntil(i64),
}

impl ClientTrust {
    /// Creates a verifier; with `is_required` a client without a certificate is refused.
    ///
    /// # Errors
    /// The authorities or CRLs cannot be used.
    pub(crate) fn new(
        authorities: &Authorities,
        crls: &[CertificateRevocationListDer<'static>],
        is_required: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = authorities.roots();
        let chains = if roots.is_empty() {
            None
        } else {
            // As rustls' default and OpenSSL do, the whole chain is checked, and a certificate that no
            // CRL covers is rejected. So is one that only an expired CRL covers: otherwise an attacker
            // who withholds the new CRL could undo a revocation.
            let builder = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots.clone()),
                provider.clone(),
            )
            .with_crls(crls.iter().cloned())
            .enforce_revocation_expiration();
            Some(builder.build()?)
        };
        let held = authorities.certificates().iter();
        Ok(Self {
            revocation: held.clone().map(|it| revocation(it, crls)).collect(),
            hints: held.filter_map(|it| subject(it)).collect(),
            authorities: authorities.clone(),
            chains,
            is_required,
            provider,
        })
    }

    /// Checks a certificate as in a handshake.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Cause> {
        let key = PublicKey::of(leaf).ok_or(Cause::Unreadable)?;
        self.authorities.check_key(&key)?;
        if let Some(index) = self.authorities.position(leaf) {
            self.authorities.check_dates(leaf, now)?;
            return match self.revocation.get(index) {
                Some(Revocation::Unneeded) => Ok(()),
                Some(Revocation::NotUntil(end))
                    if i64::try_from(now.as_secs()).is_ok_and(|now| now < *end) =>
                {
                    Ok(())
                }
                Some(Revocation::NotUntil(_)) => Err(Cause::RevocationListExpired),
                Some(Revocation::Revoked) => Err(Cause::Revoked),
                Some(Revocation::Unknown) | None => Err(Cause::RevocationUnknown),
            };
        }
        self.check_chain(leaf, intermediates, now)
            .map_err(|cause| self.authorities.refine(cause, &key))
    }

    /// Checks that an authority issued a certificate, whether or not it is held itself.
    ///
    /// # Errors
    /// Why the chain is refused.
    pub(super) fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Cause> {
        let chains = self.chains.as_ref().ok_or(Cause::UnknownIssuer)?;
        match chains.verify_client_cert(leaf, intermediates, now) {
            Ok(_verified) => Ok(()),
            Err(error) => Err(Cause::of(&error, "")),
        }
    }
}

impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(cause) => Err(TrustError::of_client(cause, end_entity).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.authorities.holds(cert) {
            return PublicKey::verify_handshake(cert, false, message, dss);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.authorities.holds(cert) {
            return PublicKey::verify_handshake(cert, true, message, dss);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes_with_rsa_pss(&self.provider.signature_verification_algorithms)
    }
}

/// Returns the subject of a certificate, by which clients choose what they present.
fn subject(certificate: &CertificateDer<'_>) -> Option<DistinguishedName> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(DistinguishedName::from(parsed.subject().as_raw().to_vec()))
}

fn revocation(
    certificate: &CertificateDer<'_>,
    crls: &[CertificateRevocationListDer<'static>],
) -> Revocation {
    if crls.is_empty() {
        return Revocation::Unneeded;
    }
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Revocation::Unknown;
    };
    let issuer = certificate.issuer().as_raw();
    let mut end = None;
    for der in crls {
        let Ok((_, crl)) = CertificateRevocationList::from_der(der) else {
            continue;
        };
        if crl.issuer().as_raw() != issuer {
            continue;
        }
        let mut revoked = crl.iter_revoked_certificates();
        if revoked.any(|entry| entry.raw_serial() == certificate.raw_serial()) {
            return Revocation::Revoked;
        }
        let next = crl.next_update().map_or(i64::MAX, |time| time.timestamp());
        end = end.max(Some(next));
    }
    match end {
        Some(end) => Revocation::NotUntil(end),
        None if issuer == certificate.subject().as_raw() => Revocation::Unneeded,
        None => Revocation::Unknown,
    }
}
