//! The rustls configuration of a listener.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::config::{ClientAuth, ListenerTls};
use crate::tls::{Authorities, ClientTrust, dns_names};

/// Why the configuration cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The listener has no certificate.
    #[error("a listener needs a certificate")]
    NoCertificate,
    /// The provider lacks TLS 1.2 or 1.3.
    #[error("the TLS provider cannot be used: {0}")]
    Provider(#[from] rustls::Error),
    /// The CA for client certificates, or its CRL, is invalid.
    #[error("the client CA or its CRL cannot be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

/// Builds a configuration with TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN, and without early data.
///
/// Sessions are resumed by tickets of `ticketer`, which all configurations of the process share, so
/// that resumption survives a reload. There is no resumption with client certificates: a resumed
/// session would skip their verification.
///
/// # Errors
///
/// See [`TlsError`].
pub fn server_config(
    tls: &ListenerTls,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(client_verifier(roots, tls, provider)?),
    };
    let certificates =
        CertificateResolver::new(&tls.certificates).ok_or(TlsError::NoCertificate)?;
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.max_early_data_size = 0;
    if tls.client_ca.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = ticketer;
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    }
    Ok(Arc::new(config))
}

fn client_verifier(
    authorities: &Authorities,
    tls: &ListenerTls,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let lists: Vec<_> = tls.client_crls.iter().map(|crl| crl.der.clone()).collect();
    let is_required = tls.client_auth == ClientAuth::Required;
    let verifier = ClientTrust::new(authorities, &lists, is_required, provider)?;
    Ok(Arc::new(verifier))
}

/// Selects the certificate by SNI.
#[derive(Debug)]
struct CertificateResolver {
    /// Without SNI, and for unknown names.
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the `*.`, which stands for exactly one label (RFC 6125, 6.4.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl CertificateResolver {
    fn new(certificates: &[Arc<CertifiedKey>]) -> Option<Self> {
        let mut exact = HashMap::new();
        let mut wildcard = HashMap::new();
        // In reverse: of two certificates for one name, the first in the configuration is used.
        for certificate in certificates.iter().rev() {
            for name in dns_names(certificate) {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.insert(parent.to_owned(), certificate.clone()),
                    None => exact.insert(name, certificate.clone()),
                };
            }
        }
        Some(Self {
            default: certificates.first()?.clone(),
            exact,
            wildcard,
        })
    }

    /// Returns the certificate for a name; names are compared without case (RFC 6066, 3).
    fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let by_parent = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(by_parent)
        });
        named.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.find(hello.server_name()).clone())
    }
}

/// In order of preference. `http/1.0` is what `curl --http1.0` of Debian 12 offers alone. A client that
/// offers only others is refused with `no_application_protocol` (RFC 7301, 3.2); one that offers none is
/// served HTTP/1.
const ALPN_PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// The default of rustls and OpenSSL; each ticket costs an encryption.
const TICKETS_PER_HANDSHAKE: usize = 2;

#[cfg(test)]
mod tests;
