//! A listener's certificates as a rustls configuration.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::config::{ClientAuth, ListenerTls};
use crate::tls::dns_names;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The listener has no certificate.
    #[error("a listener needs a certificate")]
    NoCertificate,
    /// The provider lacks TLS 1.2 or 1.3.
    #[error("the TLS provider cannot be used: {0}")]
    Provider(#[from] rustls::Error),
    /// The roots for client certificates, or the lists of revoked ones, are of no use.
    #[error("the client CA or its CRL cannot be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, no early data. Sessions are resumed by tickets of
/// `ticketer`, which all configurations of the process share, so that they survive a reload; not
/// where client certificates are asked for: a resumed session would skip their verification.
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
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
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
    roots: &Arc<rustls::RootCertStore>,
    tls: &ListenerTls,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, VerifierBuilderError> {
    let lists = tls.client_crls.iter().map(|crl| crl.der.clone());
    // The rest is rustls' default, and what OpenSSL does: the whole chain is looked up, and what no
    // list tells is refused. So must be what only an old list tells: whoever can hold back the new
    // one could undo a revocation.
    let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
        .with_crls(lists)
        .enforce_revocation_expiration();
    match tls.client_auth {
        ClientAuth::Required => builder.build(),
        ClientAuth::Optional => builder.allow_unauthenticated().build(),
    }
}

/// Certificates by the names they are for.
#[derive(Debug)]
struct CertificateResolver {
    /// For no name and for unknown ones.
    default: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows the `*.`; it stands for one label (RFC 6125, 6.4.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl CertificateResolver {
    fn new(certificates: &[Arc<CertifiedKey>]) -> Option<Self> {
        let mut exact = HashMap::new();
        let mut wildcard = HashMap::new();
        // Where two certificates are for one name, the earlier one is meant.
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

    /// Names are compared without case; SNI arrives in lower case or not.
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

/// Two, as browsers and curl use; each costs an encryption.
const TICKETS_PER_HANDSHAKE: usize = 2;

#[cfg(test)]
mod tests;
