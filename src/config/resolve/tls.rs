//! Certificates, private keys and authorities, read from PEM files for rustls.

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};

use crate::config::diagnostics::Diagnostics;
use crate::config::file::{ClusterTls, Setting};
use crate::config::spanned::Spanned;
use crate::tls::{NoVerification, validity};

/// Reads certificates, keys and authorities. Shared by the whole configuration, so that the system's
/// authorities are loaded once.
pub(super) struct TlsFiles {
    provider: Arc<CryptoProvider>,
    native_roots: Option<Arc<RootCertStore>>,
    pub(super) now: SystemTime,
}

/// The TLS client side of a cluster or of the shared store.
pub(super) struct ClientTls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) insecure: bool,
    /// Digest of all inputs: equal digests mean equal settings after a reload.
    pub(super) identity: [u8; 32],
}

impl TlsFiles {
    /// Creates a reader that checks the validity of certificates at the time `now`.
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            provider: Arc::new(crypto::aws_lc_rs::default_provider()),
            native_roots: None,
            now,
        }
    }

    /// Reads a certificate chain and its private key, which must match.
    pub(super) fn certificate(
        &self,
        chain: &Spanned<String>,
        key: &Spanned<String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<CertifiedKey>> {
        let certificates = certificates(chain, diagnostics);
        let private_key = private_key(key, diagnostics);
        let (certificates, private_key) = (certificates?, private_key?);
        let loaded = match CertifiedKey::from_der(certificates, private_key, &self.provider) {
            Ok(loaded) => loaded,
            Err(rustls::Error::InconsistentKeys(_)) => {
                diagnostics.error(
                    key.span(),
                    "the key does not belong to the certificate",
                    format!("must be the key of {}", chain.value),
                );
                return None;
            }
            Err(error) => {
                diagnostics.error(
                    key.span(),
                    format!("the certificate or its key cannot be used: {error}"),
                    "must be a certificate and its RSA, ECDSA or Ed25519 key",
                );
                return None;
            }
        };
        match validity(&loaded) {
            Some(validity) => {
                if let Some(warning) = validity.warning_at(self.now) {
                    diagnostics.warning(
                        chain.span(),
                        format!("the certificate {warning}"),
                        "must be renewed: out of its time it is refused",
                    );
                }
                Some(Arc::new(loaded))
            }
            None => {
                diagnostics.error(
                    chain.span(),
                    "the certificate cannot be read",
                    "must be an X.509 certificate, the leaf first",
                );
                None
            }
        }
    }

    /// Reads the authorities of a PEM file, as trust anchors and as certificates.
    pub(super) fn roots(
        &self,
        file: &Spanned<String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<(Arc<RootCertStore>, Vec<CertificateDer<'static>>)> {
        let mut roots = RootCertStore::empty();
        let certificates = certificates(file, diagnostics)?;
        for certificate in &certificates {
            if let Err(error) = roots.add(certificate.clone()) {
                diagnostics.error(
                    file.span(),
                    format!("not a certificate of an authority: {error}"),
                    "must hold the authorities' certificates in PEM",
                );
                return None;
            }
        }
        Some((Arc::new(roots), certificates))
    }

    /// Builds the TLS client side of a cluster; without a table, from the system's authorities.
    pub(super) fn client_tls(
        &mut self,
        file: Option<&Spanned<ClusterTls>>,
        fallback: &std::ops::Range<usize>,
        diagnostics: &mut Diagnostics,
    ) -> Option<ClientTls> {
        let none = ClusterTls::default();
        let tls = file.map_or(&none, |file| &file.value);
        let insecure = tls
            .insecure_skip_verify
            .as_ref()
            .is_some_and(|key| key.value);
        if insecure && let Some(ca) = &tls.ca {
            diagnostics.error(
                ca.span(),
                "both ca and insecure_skip_verify",
                "must be one of the two: without verification the ca has no use",
            );
        }
        let mut identity = IdentityDigest::new();
        let verifier: Arc<dyn rustls::client::danger::ServerCertVerifier> = if insecure {
            identity.add(b"insecure");
            Arc::new(NoVerification::new(Arc::clone(&self.provider)))
        } else {
            let roots = match &tls.ca {
                Some(ca) => self.roots(ca, diagnostics).map(|(roots, _)| roots),
                None => self.native_roots(file.map_or(fallback, |file| &file.span), diagnostics),
            };
            let roots = roots?;
            identity.add_roots(&roots);
            let builder =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider));
            match builder.build() {
                Ok(verifier) => verifier,
                Err(error) => {
                    let span = tls.ca.as_ref().map_or(fallback.clone(), Spanned::span);
                    diagnostics.error(
                        span,
                        format!("no verification is possible: {error}"),
                        "must hold the authorities' certificates in PEM",
                    );
                    return None;
                }
            }
        };
        let client = self.client_config(verifier, tls, &mut identity, diagnostics);
        let server_name = server_name(&tls.server_name, diagnostics);
        if let Some(name) = &server_name {
            identity.add(name.to_str().as_bytes());
        }
        Some(ClientTls {
            client: client?,
            server_name,
            insecure,
            identity: identity.finish(),
        })
    }

    fn client_config(
        &self,
        verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
        tls: &ClusterTls,
        identity: &mut IdentityDigest,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut client = match (&tls.certificate, &tls.private_key) {
            (Some(chain), Some(key)) => {
                let own = self.certificate(chain, key, diagnostics)?;
                // The digest needs no private key: a new key has a new certificate.
                own.cert.iter().for_each(|part| identity.add(part));
                builder
                    .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(one), None) | (None, Some(one)) => {
                diagnostics.error(
                    one.span(),
                    "half of a certificate and its key",
                    "needs both certificate and private_key",
                );
                return None;
            }
        };
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Arc::new(client))
    }

    fn native_roots(
        &mut self,
        span: &std::ops::Range<usize>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<RootCertStore>> {
        if self.native_roots.is_none() {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            self.native_roots = Some(Arc::new(roots));
        }
        let roots = self.native_roots.clone()?;
        if roots.is_empty() {
            diagnostics.error(
                span.clone(),
                "this system has no root certificates",
                "needs tls = { ca = \"…\" }, the authority of the nodes' certificates",
            );
            return None;
        }
        Some(roots)
    }
}

/// A SHA-256 digest over length-prefixed parts.
struct IdentityDigest(digest::Context);

impl IdentityDigest {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update(&part.len().to_be_bytes());
        self.0.update(part);
    }

    fn add_roots(&mut self, roots: &RootCertStore) {
        for root in &roots.roots {
            self.add(&root.subject);
            self.add(&root.subject_public_key_info);
            self.add(root.name_constraints.as_deref().unwrap_or_default());
        }
    }

    fn finish(self) -> [u8; 32] {
        let mut identity = [0; 32];
        identity.copy_from_slice(self.0.finish().as_ref());
        identity
    }
}

fn server_name(
    key: &Setting<String>,
    diagnostics: &mut Diagnostics,
) -> Option<ServerName<'static>> {
    let key = key.as_ref()?;
    match ServerName::try_from(key.value.clone()) {
        Ok(name) => Some(name),
        Err(_) => {
            diagnostics.error(
                key.span(),
                "not a name of a server",
                "must be a DNS name or an IP address, without a port",
            );
            None
        }
    }
}

fn certificates(
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = diagnostics.read_file(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            diagnostics.error(
                file.span(),
                "no certificate in this file",
                "must hold -----BEGIN CERTIFICATE----- blocks",
            );
            None
        }
    }
}

fn private_key(
    file: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<PrivateKeyDer<'static>> {
    let pem = zeroize::Zeroizing::new(diagnostics.read_secret_text(file, &file.span)?);
    match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => Some(key),
        Err(_) => {
            diagnostics.error(
                file.span(),
                "no private key in this file",
                "must hold a -----BEGIN PRIVATE KEY----- block without a password",
            );
            None
        }
    }
}
