//! TLS handshakes with loaded settings: a cluster's client side against a listener's certificate.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

/// Performs a handshake in memory and returns the negotiated protocol.
fn handshake(config: &Config, name: &'static str) -> Result<Vec<u8>, rustls::Error> {
    let tls = &config.listeners["ccfs"].tls;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = rustls::ALL_VERSIONS;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.roots().clone()), provider)
                .build()
                .unwrap(),
        ),
    };
    let certificate = SingleCertAndKey::from(Arc::clone(&tls.certificates[0]));
    let mut server = builder.with_cert_resolver(Arc::new(certificate));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let name = ServerName::try_from(name).unwrap();
    let client = Arc::clone(&config.clusters["ccfs"].tls);
    let mut client = ClientConnection::new(client, name).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        server.read_tls(&mut flight.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        client.read_tls(&mut flight.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(client.alpn_protocol().unwrap_or_default().to_vec())
}

#[test]
fn a_node_of_the_authority_is_trusted() {
    let config = TestDir::new().config(MINIMAL);
    assert_eq!(handshake(&config, "localhost").unwrap(), b"http/1.1");
}

#[test]
fn another_name_or_authority_is_not() {
    let dir = TestDir::new();
    let config = dir.config(MINIMAL);
    assert!(handshake(&config, "elsewhere").is_err());
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    dir.write("ca.pem", &other.cert.pem());
    assert!(handshake(&dir.config(MINIMAL), "localhost").is_err());
}

#[test]
fn without_verification_any_certificate_is_taken() {
    let text = MINIMAL.replace("ca = \"ca.pem\"", "insecure_skip_verify = true");
    let config = TestDir::new().config(&text);
    assert!(handshake(&config, "elsewhere").is_ok());
}

#[test]
fn a_client_certificate_is_presented_where_one_is_requested() {
    let dir = TestDir::new();
    let with_client_ca = MINIMAL.replace("tls = { cert", "tls = { client_ca = \"ca.pem\", cert");
    assert!(handshake(&dir.config(&with_client_ca), "localhost").is_err());
    let with_certificate = with_client_ca.replace(
        "{ ca =",
        "{ certificate = \"gateway.pem\", private_key = \"gateway.key\", ca =",
    );
    let result = handshake(&dir.config(&with_certificate), "localhost");
    assert!(result.is_ok(), "{result:?}");
}
