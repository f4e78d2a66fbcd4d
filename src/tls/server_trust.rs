//! Which server certificates are trusted: `ca`, `pins`, both, or the system's authorities.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::authorities::Authorities;
use super::pin::Pin;
use super::public_key::{PublicKey, schemes_with_rsa_pss};
use super::trust_error::{Cause, TrustError};

/// Verifies the certificate of a server.
///
/// | configured | decides |
/// |---|---|
/// | authorities | a certificate that they hold byte for byte, or a chain to one of them; dates, name |
/// | pins | the key alone |
/// | both | the key, and authorities and dates, but not the name |
///
/// The handshake signature is verified in every case.
#[derive(Debug)]
pub(crate) struct ServerTrust {
    authorities: Option<Authorities>,
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerTrust {
    /// Creates a verifier. Without authorities `pins` must not be empty: otherwise nothing is trusted.
    pub(crate) fn new(
        authorities: Option<Authorities>,
        pins: Vec<Pin>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            authorities,
            pins,
            provider,
        }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Cause> {
        let key = PublicKey::of(leaf).ok_or(Cause::Unreadable)?;
        let is_pinned = !self.pins.is_empty();
        if is_pinned && !self.pins.contains(&Pin::of_key(&key)) {
            return Err(Cause::OtherKey);
        }
        let Some(authorities) = &self.authorities else {
            return if is_pinned {
                Ok(())
            } else {
                Err(Cause::UnknownIssuer)
            };
        };
        let expected = name.to_str();
        let translate = |error| Cause::of(&error, &expected);
        authorities.check_key(&key)?;
        if authorities.holds(leaf) {
            authorities.check_dates(leaf, now)?;
        } else {
            let parsed = ParsedCertificate::try_from(leaf).map_err(translate)?;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                authorities.roots(),
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )
            .map_err(translate)
            .map_err(|cause| authorities.refine(cause, &key))?;
        }
        if is_pinned {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(leaf).map_err(translate)?;
        verify_server_name(&parsed, name).map_err(translate)
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.check(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(cause) => Err(TrustError::new(cause, end_entity).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.pins.is_empty() {
            return PublicKey::verify_handshake(cert, false, message, dss);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
            .map_err(|_| TrustError::new(Cause::HandshakeSignature, cert).into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.pins.is_empty() {
            return PublicKey::verify_handshake(cert, true, message, dss);
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
            .map_err(|_| TrustError::new(Cause::HandshakeSignature, cert).into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes_with_rsa_pss(&self.provider.signature_verification_algorithms)
    }
}
