use super::*;
use std::io;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};

struct Made {
    key: Arc<CertifiedKey>,
    der: CertificateDer<'static>,
    private: PrivateKeyDer<'static>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn ticketer() -> Arc<dyn ProducesTickets> {
    rustls::crypto::aws_lc_rs::Ticketer::new().unwrap()
}

fn make(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let der = CertificateDer::from(made.cert.der().to_vec());
    let private = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let key = CertifiedKey::from_der(vec![der.clone()], private.clone_key(), &provider()).unwrap();
    Made {
        key: Arc::new(key),
        der,
        private,
    }
}

fn listener(certificates: &[&Made], client: Option<(&Made, ClientAuth)>) -> ListenerTls {
    let client_ca =
        client.map(|(made, _)| Arc::new(Authorities::new(vec![made.der.clone()]).unwrap()));
    ListenerTls {
        certificates: certificates.iter().map(|made| made.key.clone()).collect(),
        certificate_files: Vec::new(),
        client_ca,
        client_crls: Vec::new(),
        client_auth: client.map(|(_, auth)| auth).unwrap_or_default(),
    }
}

fn roots(certificates: &[&Made]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for made in certificates {
        roots.add(made.der.clone()).unwrap();
    }
    roots
}

fn client(
    server: &Made,
    identity: Option<&Made>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(&[server]));
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(made) => builder
            .with_client_auth_cert(vec![made.der.clone()], made.private.clone_key())
            .unwrap(),
    })
}

/// Shakes hands in memory.
fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> Result<HandshakeKind, io::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        server.read_tls(&mut wire.as_slice())?;
        server.process_new_packets().map_err(io::Error::other)?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        client.read_tls(&mut wire.as_slice())?;
        client.process_new_packets().map_err(io::Error::other)?;
    }
    server
        .handshake_kind()
        .ok_or_else(|| io::Error::other("not done"))
}

#[test]
fn certificates_are_chosen_by_name() {
    let first = make(&["a.example", "*.wild.example"]);
    let second = make(&["b.example", "x.wild.example", "a.example"]);
    let chosen = CertificateResolver::new(&[first.key.clone(), second.key.clone()]).unwrap();
    for (name, expected) in [
        (None, &first),
        (Some("unknown.example"), &first),
        (Some("a.example"), &first),
        (Some("B.EXAMPLE"), &second),
        (Some("y.wild.example"), &first),
        (Some("x.wild.example"), &second),
        (Some("y.x.wild.example"), &first),
        (Some("wild.example"), &first),
    ] {
        assert!(Arc::ptr_eq(chosen.find(name), &expected.key), "{name:?}");
    }
    let chosen = CertificateResolver::new(&[second.key.clone(), first.key]).unwrap();
    assert!(
        Arc::ptr_eq(chosen.find(Some("z.y.wild.example")), &second.key),
        "one label only"
    );
    assert!(CertificateResolver::new(&[]).is_none());
}

#[test]
fn both_versions_shake_hands_and_resume_also_after_a_reload() {
    let server = make(&["localhost"]);
    let tickets = ticketer();
    for version in [&version::TLS13, &version::TLS12] {
        let client = client(&server, None, &[version]);
        let before = server_config(&listener(&[&server], None), tickets.clone()).unwrap();
        assert_ne!(handshake(&before, &client).unwrap(), HandshakeKind::Resumed);
        let after = server_config(&listener(&[&server], None), tickets.clone()).unwrap();
        assert_eq!(handshake(&after, &client).unwrap(), HandshakeKind::Resumed);
    }
}

#[test]
fn client_certificates_are_verified_each_time() {
    let server = make(&["localhost"]);
    let known = make(&["client"]);
    let versions = &[&version::TLS13][..];
    let required = listener(&[&server], Some((&known, ClientAuth::Required)));
    let required = server_config(&required, ticketer()).unwrap();
    let identified = client(&server, Some(&known), versions);
    for _ in 0..2 {
        assert_ne!(
            handshake(&required, &identified).unwrap(),
            HandshakeKind::Resumed
        );
    }
    assert!(handshake(&required, &client(&server, None, versions)).is_err());
    assert!(
        handshake(
            &required,
            &client(&server, Some(&make(&["other"])), versions)
        )
        .is_err()
    );

    let optional = listener(&[&server], Some((&known, ClientAuth::Optional)));
    let optional = server_config(&optional, ticketer()).unwrap();
    assert!(handshake(&optional, &client(&server, None, versions)).is_ok());
}

#[test]
fn early_data_stays_off() {
    let config = server_config(&listener(&[&make(&["x"])], None), ticketer()).unwrap();
    assert_eq!(config.max_early_data_size, 0);
}
