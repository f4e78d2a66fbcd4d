//! Certificates, private keys and authorities, read from PEM files for rustls.

mod advice;
mod pem;
mod pins;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, NamedGroup, RootCertStore};

use crate::config::diagnostics::Diagnostics;
use crate::config::file::{ClusterTls, Setting};
use crate::config::spanned::Spanned;
use crate::tls::{
    Authorities, CertificateDetails, NoVerification, Pin, PublicKey, ServerTrust, validity,
};

/// Reads certificates, keys and authorities. Shared by the whole configuration, so that the system's
/// authorities are loaded once.
pub(super) struct TlsFiles {
    provider: Arc<CryptoProvider>,
    native_roots: Option<Arc<RootCertStore>>,
    /// The subjects of all authorities of the configuration.
    known_authorities: BTreeSet<String>,
    pub(super) now: SystemTime,
}

/// The TLS client side of a cluster or of the shared store.
pub(super) struct ClientTls {
    pub(super) client: Arc<ClientConfig>,
    /// For health checks: key exchanges without ML-KEM first.
    pub(super) check_client: Arc<ClientConfig>,
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) insecure: bool,
    pub(super) pins: Vec<Pin>,
    /// Digest of all inputs: equal digests mean equal settings after a reload.
    pub(super) identity: [u8; 32],
}

/// The provider of connections to nodes and to the shared store. It prefers AES-128 with SHA-256, as browsers do:
/// as safe, and SHA-384 made up a tenth of the CPU time of health checks, since few processors help with it.
fn client_provider() -> CryptoProvider {
    let mut provider = crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

impl TlsFiles {
    /// Creates a reader that checks the validity of certificates at the time `now`.
    pub(super) fn new(now: SystemTime) -> Self {
        Self {
            provider: Arc::new(client_provider()),
            native_roots: None,
            known_authorities: BTreeSet::new(),
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
        let certificates = pem::certificates(chain, diagnostics);
        let private_key = pem::private_key(key, diagnostics);
        let (certificates, private_key) = (certificates?, private_key?);
        let loaded = match self.load(&certificates, &private_key) {
            Ok(loaded) => loaded,
            Err(error) => {
                let wrong = self.explain_pair(&certificates, &private_key, &error, &chain.value);
                diagnostics.error(key.span(), wrong.0, wrong.1);
                return None;
            }
        };
        advice::warn_of_certificate(&certificates, &self.known_authorities, chain, diagnostics);
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

    fn load(
        &self,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
    ) -> Result<CertifiedKey, rustls::Error> {
        CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &self.provider)
    }

    /// Says why a chain and a key do not belong together or cannot be used, and what would be right.
    fn explain_pair(
        &self,
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
        error: &rustls::Error,
        file: &str,
    ) -> (String, String) {
        let is_of = |certificate: &CertificateDer<'static>| {
            self.load(std::slice::from_ref(certificate), key).is_ok()
        };
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            if chain.iter().skip(1).any(is_of) {
                return (
                    "the chain is in the wrong order".to_owned(),
                    format!(
                        "the leaf must come first in {file}, then the authority that signed it"
                    ),
                );
            }
            return (
                "the key does not belong to the certificate".to_owned(),
                format!("must be the key of {file}"),
            );
        }
        let kind = chain
            .first()
            .and_then(|leaf| PublicKey::of(leaf))
            .map(|key| key.kind());
        let kind = kind.map_or_else(|| "unreadable".to_owned(), |kind| kind.to_string());
        (
            format!("the certificate or its key cannot be used: the key is {kind}"),
            "must be a certificate and its key: RSA of 2048 bits and more, ECDSA P-256, P-384 or P-521, \
             or Ed25519"
                .to_owned(),
        )
    }

    /// Reads the trusted certificates of a PEM file.
    pub(super) fn authorities(
        &mut self,
        file: &Spanned<String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Authorities> {
        let certificates = pem::certificates(file, diagnostics)?;
        let subjects = certificates
            .iter()
            .map(|it| CertificateDetails::read(it).subject);
        self.known_authorities.extend(subjects);
        advice::warn_of_authorities(&certificates, file, self.now, diagnostics);
        match Authorities::new(certificates) {
            Ok(authorities) => Some(authorities),
            Err(error) => {
                diagnostics.error(
                    file.span(),
                    format!("not a certificate of an authority: {error}"),
                    "must hold the authorities' certificates in PEM",
                );
                None
            }
        }
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
        if insecure {
            pins::check_exclusive(tls, diagnostics);
        }
        let pins = pins::parse(tls.pins.as_ref(), diagnostics);
        let mut identity = IdentityDigest::new();
        let verifier: Arc<dyn ServerCertVerifier> = if insecure {
            identity.add(b"insecure");
            Arc::new(NoVerification)
        } else {
            let authorities = match &tls.ca {
                Some(ca) => Some(self.authorities(ca, diagnostics)?),
                None if tls.pins.is_some() => None,
                None => {
                    let span = file.map_or(fallback, |file| &file.span);
                    let roots = self.native_roots(span, diagnostics)?;
                    Some(Authorities::from_roots(RootCertStore::clone(&roots)))
                }
            };
            identity.add_trust(authorities.as_ref(), &pins);
            let provider = Arc::clone(&self.provider);
            Arc::new(ServerTrust::new(authorities, pins.clone(), provider))
        };
        let clients = self.client_configs(&verifier, tls, &mut identity, diagnostics);
        let server_name = server_name(&tls.server_name, diagnostics);
        if let Some(name) = &server_name {
            identity.add(name.to_str().as_bytes());
        }
        let (client, check_client) = clients?;
        Some(ClientTls {
            client,
            check_client,
            server_name,
            insecure,
            pins,
            identity: identity.finish(),
        })
    }

    /// Returns the configurations for requests and for health checks.
    fn client_configs(
        &self,
        verifier: &Arc<dyn ServerCertVerifier>,
        tls: &ClusterTls,
        identity: &mut IdentityDigest,
        diagnostics: &mut Diagnostics,
    ) -> Option<(Arc<ClientConfig>, Arc<ClientConfig>)> {
        let own = match (&tls.certificate, &tls.private_key) {
            (Some(chain), Some(key)) => {
                let own = self.certificate(chain, key, diagnostics)?;
                // The digest needs no private key: a new key has a new certificate.
                own.cert.iter().for_each(|part| identity.add(part));
                Some(Arc::new(rustls::sign::SingleCertAndKey::from(own)))
            }
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                diagnostics.error(
                    one.span(),
                    "half of a certificate and its key",
                    "needs both certificate and private_key",
                );
                return None;
            }
        };
        let build = |provider| {
            let builder = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
                .ok()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(verifier));
            let mut client = match &own {
                Some(own) => builder.with_client_cert_resolver(Arc::clone(own) as _),
                None => builder.with_no_client_auth(),
            };
            client.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(Arc::new(client))
        };
        let mut for_checks = CryptoProvider::clone(&self.provider);
        for_checks
            .kx_groups
            .sort_by_key(|group| group.name() == NamedGroup::X25519MLKEM768);
        Some((
            build(Arc::clone(&self.provider))?,
            build(Arc::new(for_checks))?,
        ))
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

    fn add_trust(&mut self, authorities: Option<&Authorities>, pins: &[Pin]) {
        for pin in pins {
            self.add(pin.to_string().as_bytes());
        }
        let Some(authorities) = authorities else {
            return;
        };
        for certificate in authorities.certificates() {
            self.add(certificate);
        }
        for root in &authorities.roots().roots {
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
