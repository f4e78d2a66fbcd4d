//! Temporary certificates: a generated CA and leaf certificates that it issues. For the demo, the tests
//! and a stand-in without configured certificates; not for any other use.

use std::fmt;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

/// The server names that the demo and the tests use.
pub const SERVER_NAMES: [&str; 4] = ["cc-fs.example.com", "localhost", "127.0.0.1", "::1"];

/// A certificate authority with a P-256 key that exists only in this value.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// Generates a CA that is valid from yesterday for a year.
    pub fn new() -> Result<Self, CertificateError> {
        let mut params = certificate_params(&[], "ccfs-gateway throw-away authority")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Issues a certificate for `names` (DNS names or IP addresses), usable by servers and clients.
    pub fn issue(&self, names: &[&str]) -> Result<IssuedCertificate, CertificateError> {
        let mut params = certificate_params(names, names.first().copied().unwrap_or("nobody"))?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(IssuedCertificate {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            key: Zeroizing::new(key.serialize_der()),
        })
    }

    /// Returns the CA certificate as PEM.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns a root store with this CA alone.
    pub fn roots(&self) -> Result<RootCertStore, CertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        Ok(roots)
    }

    /// Writes the CA certificate. The CA key never leaves the process.
    pub fn write_certificate(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.certificate_pem())
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// A certificate and its private key, as PEM for files and as DER for rustls.
pub struct IssuedCertificate {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key_pem: Zeroizing<String>,
    key: Zeroizing<Vec<u8>>,
}

impl IssuedCertificate {
    /// Returns the certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the private key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Returns the chain to present: the leaf alone, because the issuer is a root.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// Returns the private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }

    /// Returns a server configuration with this certificate: HTTP/1.1 only, no client certificates.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        server_config(self.chain(), self.key())
    }

    /// Writes both files; the key file has mode 0600.
    pub fn write(&self, certificate: &Path, private_key: &Path) -> io::Result<()> {
        std::fs::write(certificate, &self.certificate_pem)?;
        write_private_file(private_key, self.key_pem.as_bytes())
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issued(..)")
    }
}

/// Returns a server configuration for HTTP/1.1 with one certificate and session tickets.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Writes a file with mode 0600, also if it already exists with wider permissions.
pub fn write_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)
}

/// Why a certificate could not be generated or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate could not be generated, e.g. a name is invalid.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The certificate and key could not be used for TLS, e.g. they do not match.
    #[error("cannot use a certificate: {0}")]
    Use(#[from] rustls::Error),
}

/// Returns the crypto provider of the program, independently of the process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificate_params(
    names: &[&str],
    common_name: &str,
) -> Result<CertificateParams, CertificateError> {
    let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let today = today();
    let begin = today.yesterday().unwrap_or(today);
    let end = today.saturating_add(Span::new().years(1));
    params.not_before = rcgen::date_time_ymd(begin.year().into(), month(begin), day(begin));
    params.not_after = rcgen::date_time_ymd(end.year().into(), month(end), day(end));
    Ok(params)
}

fn month(date: Date) -> u8 {
    date.month().unsigned_abs()
}

/// Returns the day, at most 28, so that a leap day plus one year is a valid date.
fn day(date: Date) -> u8 {
    date.day().unsigned_abs().min(28)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the validity of a certificate starts when it is generated"
)]
fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use rustls::client::WebPkiServerVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    #[test]
    fn an_issued_certificate_is_trusted_for_its_names_by_its_ca_only() {
        let authority = CertificateAuthority::new().unwrap();
        let other = CertificateAuthority::new().unwrap();
        let issued = authority.issue(&SERVER_NAMES).unwrap();
        for name in SERVER_NAMES {
            assert!(trusts(&authority, &issued, name), "{name}");
            assert!(!trusts(&other, &issued, name), "{name}");
        }
        assert!(!trusts(&authority, &issued, "other.example.com"));
        issued.server_config().unwrap();
    }

    fn trusts(authority: &CertificateAuthority, issued: &IssuedCertificate, name: &str) -> bool {
        let roots = Arc::new(authority.roots().unwrap());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .unwrap();
        use rustls::client::danger::ServerCertVerifier;
        let name = ServerName::try_from(name).unwrap();
        verifier
            .verify_server_cert(&issued.certificate, &[], &name, &[], UnixTime::now())
            .is_ok()
    }

    #[test]
    fn an_existing_key_file_becomes_private() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("a.pem"), dir.path().join("a.key"));
        std::fs::write(&key, "old").unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        let issued = CertificateAuthority::new()
            .unwrap()
            .issue(&["localhost"])
            .unwrap();
        issued.write(&certificate, &key).unwrap();
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&key).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY"));
        assert!(!format!("{issued:?}").contains("BEGIN"));
    }
}
