//! Revoked client certificates, with real handshakes.

use std::sync::Arc;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::certificates::WatchedGateway;
use crate::page;
use crate::support::{eventually, read};

/// An authority that issues and revokes client certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A client's certificate and key.
struct Identity {
    serial: u64,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, serial: u64) -> Identity {
        let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        Identity {
            serial,
            certificate: params.signed_by(&key, &self.0).unwrap().der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// The CRL of these certificates, valid until the end of `year`.
    fn crl(&self, revoked: &[&Identity], year: i32) -> String {
        let revoked = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(year, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A gateway that requires certificates of the authority and has its CRL.
async fn start(authority: &Authority, crl: &str) -> WatchedGateway {
    WatchedGateway::start(|env, text| {
        std::fs::write(env.file("clients.pem"), authority.0.pem()).unwrap();
        std::fs::write(env.file("clients.crl"), crl).unwrap();
        text.replacen(
            "tls = { certificate = \"leaf.pem\"",
            "tls = { client_ca = \"clients.pem\", client_crl = \"clients.crl\", \
             client_auth = \"optional\", certificate = \"leaf.pem\"",
            1,
        )
    })
    .await
}

/// Whether the gateway accepts this client. In TLS 1.2 the handshake itself tells; in TLS 1.3 the
/// client would have to wait for an alert.
async fn enters(gateway: &WatchedGateway, identity: &Identity) -> bool {
    let mut roots = RootCertStore::empty();
    let ca = read(&gateway.env.file("ca.pem"));
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    let address = gateway.url.strip_prefix("https://").unwrap();
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(client))
        .connect(name, tcp)
        .await
        .is_ok()
}

#[tokio::test]
async fn a_revoked_client_is_rejected_and_others_are_not() {
    let authority = Authority::new();
    let (good, bad) = (authority.issue(1), authority.issue(2));
    let gateway = start(&authority, &authority.crl(&[&bad], 2900)).await;
    assert!(enters(&gateway, &good).await);
    assert!(!enters(&gateway, &bad).await);
}

#[tokio::test]
async fn clients_covered_only_by_an_expired_crl_are_rejected() {
    let authority = Authority::new();
    let good = authority.issue(1);
    let gateway = start(&authority, &authority.crl(&[], 2025)).await;
    assert!(!enters(&gateway, &good).await);
}

#[tokio::test]
async fn a_new_crl_is_applied_and_an_invalid_one_keeps_the_last_valid_one() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(1), authority.issue(2));
    let gateway = start(&authority, &authority.crl(&[], 2900)).await;
    let file = gateway.env.file("clients.crl");
    assert!(enters(&gateway, &one).await && enters(&gateway, &two).await);
    std::fs::write(&file, authority.crl(&[&one], 2900)).unwrap();
    eventually("the revocation is in force", async || {
        !enters(&gateway, &one).await
    })
    .await;
    assert!(enters(&gateway, &two).await);
    let stranger = Authority::new();
    let admin = gateway.admin;
    let mut rejected = 0.0;
    for bad in ["", "no list", &stranger.crl(&[&two], 2900)] {
        std::fs::write(&file, bad).unwrap();
        rejected = page::rejected_reloads_after(admin, rejected).await;
        assert!(!enters(&gateway, &one).await, "{bad:?}");
        assert!(enters(&gateway, &two).await, "{bad:?}");
    }
    std::fs::write(&file, authority.crl(&[&one, &two], 2900)).unwrap();
    eventually("a valid one is applied", async || {
        !enters(&gateway, &two).await
    })
    .await;
}
