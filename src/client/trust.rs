//! How a client verifies the server's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use super::ClientError;
use zeroize::Zeroizing;

use crate::encoding;
use crate::tls::{Authorities, NoVerification, ServerTrust};

/// Which server certificates a client accepts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Any certificate: the connection is encrypted, the server is not authenticated.
    AnyCertificate,
    /// A certificate for the server's name, issued by one of these CAs.
    Roots(RootCertStore),
    /// One of these certificates itself, or one that they issued; for the server's name.
    Certificates(Authorities),
}

impl Trust {
    /// Reads the trusted certificates of a PEM file.
    pub fn from_pem_file(path: &Path) -> Result<Self, ClientError> {
        let problem = |error: &dyn std::fmt::Display| {
            ClientError::TrustStore(format!("{}: {error}", path.display()))
        };
        let mut certificates = Vec::new();
        let pem = encoding::read_text_file(path).map_err(|error| problem(&error))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            certificates.push(certificate.map_err(|error| problem(&error))?);
        }
        if certificates.is_empty() {
            return Err(problem(&"no certificate in it"));
        }
        let authorities = Authorities::new(certificates).map_err(|error| problem(&error))?;
        Ok(Self::Certificates(authorities))
    }

    /// Uses the CA certificates of the system.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::Roots(roots)
    }

    /// Returns a client configuration that offers HTTP/1.1.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, ClientError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ClientError::TrustStore(error.to_string()))?;
        let mut config = match self {
            Self::AnyCertificate => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(NoVerification))
                .with_no_client_auth(),
            Self::Roots(roots) => builder
                .with_root_certificates(roots.clone())
                .with_no_client_auth(),
            Self::Certificates(authorities) => {
                let trust = ServerTrust::new(Some(authorities.clone()), Vec::new(), provider);
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(trust))
                    .with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A client certificate with its private key.
#[derive(Clone)]
pub struct ClientCertificate(Arc<SingleCertAndKey>);

impl ClientCertificate {
    /// Reads the chain and its private key from PEM files.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or the key does not match the certificate.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self, ClientError> {
        let problem = |path: &Path, error: &dyn std::fmt::Display| {
            ClientError::ClientCertificate(format!("{}: {error}", path.display()))
        };
        let read =
            |path: &Path| encoding::read_text_file(path).map_err(|error| problem(path, &error));
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(chain)?)
            .collect::<Result<_, _>>()
            .map_err(|error| problem(chain, &error))?;
        if certificates.is_empty() {
            return Err(problem(chain, &"no certificate in it"));
        }
        let private_key = PrivateKeyDer::from_pem_slice(&Zeroizing::new(read(key)?))
            .map_err(|error| problem(key, &error))?;
        let provider = aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(certificates, private_key, &provider)
            .map_err(|error| problem(key, &error))?;
        Ok(Self(Arc::new(certified.into())))
    }

    pub(super) fn present_in(&self, config: &mut ClientConfig) {
        config.client_auth_cert_resolver = Arc::clone(&self.0) as _;
    }
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}
