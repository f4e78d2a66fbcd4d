//! Handshakes in memory with certificates of every kind that rcgen makes. Those of openssl and keytool
//! are in the scenario tests.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use super::*;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate with its key.
struct Made {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Made {
    self_signed_by(KeyPair::generate().unwrap(), names, change)
}

fn self_signed_by(
    key: KeyPair,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> Made {
    let mut params = params(names);
    change(&mut params);
    Made {
        certificate: params.self_signed(&key).unwrap().der().clone(),
        key,
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().copied().map(str::to_owned).collect();
    CertificateParams::new(names).unwrap()
}

fn is_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

fn is_leaf(params: &mut CertificateParams) {
    params.is_ca = IsCa::ExplicitNoCa;
}

fn pin(certificate: &CertificateDer<'_>) -> Pin {
    Pin::of(certificate).unwrap()
}

fn ca(certificates: &[&Made]) -> Authorities {
    let certificates = certificates.iter().map(|made| made.certificate.clone());
    Authorities::new(certificates.collect()).unwrap()
}

/// A presented chain and the key that signs the handshake.
fn presenting(certificate: &CertificateDer<'static>, key: &KeyPair) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let pair = CertifiedKey::new(vec![certificate.clone()], key);
    Arc::new(SingleCertAndKey::from(pair))
}

fn run(client: ClientConfig, server: ServerConfig) -> Result<(), Error> {
    let name = ServerName::try_from("node.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
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
    Ok(())
}

type Verifier = Arc<dyn rustls::client::danger::ServerCertVerifier>;

/// Connects to a server in both versions of TLS, which must agree; returns the words of the refusal.
fn connect(server: &Arc<SingleCertAndKey>, verifier: &Verifier) -> Result<(), String> {
    let results = rustls::ALL_VERSIONS.iter().map(|version| {
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(server.clone());
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        run(client, server).map_err(|error| explain(&error, "the node"))
    });
    let results: Vec<_> = results.collect();
    assert_eq!(results[0], results[1]);
    results[0].clone()
}

fn trust(authorities: Option<Authorities>, pins: &[Pin]) -> Verifier {
    Arc::new(ServerTrust::new(authorities, pins.to_vec(), provider()))
}

fn made(made: &Made) -> Arc<SingleCertAndKey> {
    presenting(&made.certificate, &made.key)
}

#[track_caller]
fn refused(result: Result<(), String>, reason: &str) {
    let words = result.expect_err("it is refused");
    let expected = format!("certificate not trusted: {reason}");
    assert!(words.starts_with(&expected), "{words}\nexpected {expected}");
    assert!(
        words.contains("; presented: ") && words.contains(", valid "),
        "{words}"
    );
    assert!(
        words.contains("pin sha256/") && words.contains("; right would be: "),
        "{words}"
    );
    for debug in ["Other(", "Error", "{", "CaUsed"] {
        assert!(!words.contains(debug), "{words}");
    }
}

#[test]
fn a_certificate_in_ca_is_trusted_byte_for_byte() {
    for change in [is_authority as fn(&mut CertificateParams), is_leaf, |_| {}] {
        let node = self_signed(&["node.test"], change);
        connect(&made(&node), &trust(Some(ca(&[&node])), &[])).unwrap();
        let renewed_key = KeyPair::from_pem(&node.key.serialize_pem()).unwrap();
        let renewed = self_signed_by(renewed_key, &["node.test"], |params| {
            change(params);
            params.serial_number = Some(7.into());
        });
        let refusal = connect(&made(&renewed), &trust(Some(ca(&[&node])), &[]));
        // Without basic constraints it vouches for what its key signs.
        if CertificateDetails::read(&node.certificate)
            .is_authority
            .is_some()
        {
            refused(
                refusal,
                "it is not in ca, though an older one with its key is",
            );
        } else {
            refusal.unwrap();
        }
        connect(&made(&renewed), &trust(None, &[pin(&node.certificate)])).unwrap();
    }
}

#[test]
fn name_and_dates_of_a_certificate_in_ca_count() {
    let node = self_signed(&["other.test"], is_authority);
    refused(
        connect(&made(&node), &trust(Some(ca(&[&node])), &[])),
        "it is for other.test, not for node.test",
    );
    let unnamed = self_signed(&[], is_authority);
    refused(
        connect(&made(&unnamed), &trust(Some(ca(&[&unnamed])), &[])),
        "it is for no alternative name, not for node.test",
    );
    let expired = self_signed(&["node.test"], |params| {
        is_authority(params);
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    refused(
        connect(&made(&expired), &trust(Some(ca(&[&expired])), &[])),
        "expired",
    );
    let early = self_signed(&["node.test"], |params| {
        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    });
    refused(
        connect(&made(&early), &trust(Some(ca(&[&early])), &[])),
        "not yet valid",
    );
    // A pin alone asks for neither.
    for certificate in [&node, &unnamed, &expired, &early] {
        connect(
            &made(certificate),
            &trust(None, &[pin(&certificate.certificate)]),
        )
        .unwrap();
    }
}

#[test]
fn only_what_may_be_an_authority_vouches_for_others() {
    let issue = |is_ca: IsCa| {
        let mut issuer = params(&["issuer.test"]);
        issuer.is_ca = is_ca;
        let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params(&["node.test"]).signed_by(&key, &issuer).unwrap();
        let leaf = Made {
            certificate: certificate.der().clone(),
            key,
        };
        (Authorities::new(vec![issuer.der().clone()]).unwrap(), leaf)
    };
    let (authority, leaf) = issue(IsCa::Ca(BasicConstraints::Unconstrained));
    connect(&made(&leaf), &trust(Some(authority), &[])).unwrap();
    let (no_authority, leaf) = issue(IsCa::ExplicitNoCa);
    refused(
        connect(&made(&leaf), &trust(Some(no_authority), &[])),
        "signed by no authority in ca",
    );
    let other = self_signed(&["node.test"], is_leaf);
    refused(
        connect(&made(&leaf), &trust(Some(ca(&[&other])), &[])),
        "signed by no authority in ca",
    );
}

#[test]
fn with_pins_and_ca_both_must_hold_but_not_the_name() {
    let node = self_signed(&["other.test"], is_authority);
    let other = self_signed(&["other.test"], is_authority);
    let own = pin(&node.certificate);
    connect(
        &made(&node),
        &trust(Some(ca(&[&node])), &[pin(&other.certificate), own]),
    )
    .unwrap();
    let foreign = trust(Some(ca(&[&node])), &[pin(&other.certificate)]);
    refused(
        connect(&made(&node), &foreign),
        "its key is not one of pins",
    );
    let elsewhere = connect(&made(&node), &trust(Some(ca(&[&other])), &[own]));
    refused(elsewhere, "it is self-signed, and not itself in ca");
    let expired = self_signed(&["node.test"], |params| {
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let both = trust(Some(ca(&[&expired])), &[pin(&expired.certificate)]);
    refused(connect(&made(&expired), &both), "expired");
}

/// A pin proves nothing unless the peer holds the key.
#[test]
fn a_stolen_certificate_is_no_proof_of_its_key() {
    let node = self_signed(&["node.test"], is_authority);
    let thief = presenting(&node.certificate, &KeyPair::generate().unwrap());
    for verifier in [
        trust(None, &[pin(&node.certificate)]),
        trust(Some(ca(&[&node])), &[pin(&node.certificate)]),
        trust(Some(ca(&[&node])), &[]),
    ] {
        refused(
            connect(&thief, &verifier),
            "the handshake is not signed by the key of the certificate",
        );
    }
    let insecure: Verifier = Arc::new(NoVerification);
    connect(&thief, &insecure).unwrap();
}

#[test]
fn every_kind_of_key_can_be_pinned() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let node = self_signed_by(key, &["node.test"], is_leaf);
        let other = self_signed(&["node.test"], is_leaf);
        connect(&made(&node), &trust(None, &[pin(&node.certificate)])).unwrap();
        connect(&made(&node), &trust(Some(ca(&[&node])), &[])).unwrap();
        refused(
            connect(&made(&node), &trust(None, &[pin(&other.certificate)])),
            "its key is not one of pins",
        );
        let thief = presenting(
            &node.certificate,
            &KeyPair::generate_for(algorithm).unwrap(),
        );
        refused(
            connect(&thief, &trust(None, &[pin(&node.certificate)])),
            "the handshake is not signed by the key of the certificate",
        );
    }
}

#[test]
fn an_unknown_critical_extension_needs_a_pin() {
    let node = self_signed(&["node.test"], |params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions = vec![unknown];
    });
    connect(&made(&node), &trust(None, &[pin(&node.certificate)])).unwrap();
    let held = ca(&[&self_signed(&["node.test"], is_authority)]);
    refused(
        connect(&made(&node), &trust(Some(held), &[])),
        "it has an unknown critical extension",
    );
    let insecure: Verifier = Arc::new(NoVerification);
    connect(&made(&node), &insecure).unwrap();
}

/// Connects with a client certificate to a listener with these authorities.
fn present(client: &Made, authorities: &Authorities) -> Result<(), String> {
    let server = self_signed(&["node.test"], is_leaf);
    let results = rustls::ALL_VERSIONS.iter().map(|version| {
        let verifier = ClientTrust::new(authorities, &[], true, provider()).unwrap();
        let listener = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(made(&server));
        let caller = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification))
            .with_client_cert_resolver(made(client));
        run(caller, listener).map_err(|error| explain(&error, "the client"))
    });
    let results: Vec<_> = results.collect();
    assert_eq!(results[0], results[1]);
    results[0].clone()
}

#[test]
fn a_self_made_client_certificate_is_accepted_byte_for_byte() {
    for change in [is_authority as fn(&mut CertificateParams), is_leaf, |_| {}] {
        let client = self_signed(&["client.test"], change);
        present(&client, &ca(&[&client])).unwrap();
        let other = self_signed(&["client.test"], change);
        let words = present(&other, &ca(&[&client])).unwrap_err();
        let is_authority = CertificateDetails::read(&other.certificate).is_authority;
        let expected = match is_authority {
            Some(true) => "it is self-signed, and not itself in client_ca",
            _ => "signed by no authority in client_ca",
        };
        assert!(!words.contains("pins ="), "{words}");
        refused(Err(words), expected);
        let stolen = Made {
            certificate: client.certificate.clone(),
            key: KeyPair::generate().unwrap(),
        };
        refused(
            present(&stolen, &ca(&[&client])),
            "the handshake is not signed by the key of the certificate",
        );
    }
    let expired = self_signed(&["client.test"], |params| {
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    refused(present(&expired, &ca(&[&expired])), "expired");
}
