//! Which certificates identify a caller, and for how long.

use rcgen::{
    BasicConstraints, CertificateRevocationListParams, IsCa, KeyIdMethod, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::{Authority, Identity, Site, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::support::{BERLIN, SHANGHAI, signed};

#[tokio::test]
async fn each_name_identifies_its_caller_and_no_other_name_does() {
    let authority = Authority::new("clients");
    let by_key = authority.issue(&["CN=keyed"]);
    let names = format!(
        "client_certificate = [\"CN=qa.example.com\", \"DNS=QA.example.com\", \
         \"URI=spiffe://example.com/qa\", \"{}\"]",
        by_key.pin()
    );
    let env = Site::new(&authority, &caller("qa", &names)).start().await;
    let identities = [
        authority.issue(&["CN=qa.example.com"]),
        authority.issue(&["CN=x", "DNS=other.example.com", "DNS=qa.example.COM"]),
        authority.issue(&["O=x", "URI=spiffe://example.com/qa"]),
        by_key,
    ];
    for (number, identity) in identities.iter().enumerate() {
        let response = env.recording_of(identity, &format!("1-{number}")).await;
        assert_node_response(&response, "0");
        let got = env.sole_upstream_request();
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    }
    for names in [
        &["CN=QA.example.com"][..],
        &["CN=qa.example.com.evil.example"],
        &["CN=xqa.example.com"],
        &["CN=qa.example.com", "CN2=second"],
        &["CN=first", "CN2=qa.example.com"],
        &["DNS=a.qa.example.com"],
        &["DNS=*.example.com"],
        &["O=qa.example.com"],
        &["URI=spiffe://example.com/qa/"],
        &["URI=SPIFFE://example.com/qa"],
        &["DNS=spiffe-example.com"],
        &["CN=spiffe://example.com/qa"],
    ] {
        let response = env.recording_of(&authority.issue(names), "1-1").await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        env.assert_no_upstream_request();
    }
    // Without a certificate.
    let response = env.send(&env.recording("1-1")).await;
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn the_names_of_a_certificate_that_its_client_made_do_not_count() {
    let authority = Authority::new("clients");
    let leaf = Identity::self_made(&["CN=qa"], IsCa::ExplicitNoCa);
    let bare = Identity::self_made(&["CN=qa", "O=bare"], IsCa::NoCa);
    let tables = caller("qa", "client_certificate = [\"CN=qa\"]");
    let mut site = Site::new(&authority, &tables);
    site.client_ca += &(leaf.certificate.pem() + &bare.certificate.pem());
    let env = site.start().await;
    for identity in [&leaf, &bare] {
        let response = env.recording_of(identity, "1-1").await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    assert_node_response(
        &env.recording_of(&authority.issue(&["CN=qa"]), "1-1").await,
        "0",
    );
}

/// A caller whose certificate stands in `client_ca` and may sign others gives itself no further name.
#[tokio::test]
async fn a_caller_cannot_issue_the_name_of_another_one() {
    let authority = Authority::new("clients");
    let own = Authority::new("partner");
    let partner = Identity {
        certificate: own.0.as_ref().clone(),
        key: rcgen::KeyPair::from_pem(&own.0.key().serialize_pem()).unwrap(),
    };
    let tables = caller("qa", "client_certificate = [\"CN=qa\"]")
        + &caller(
            "partner",
            &format!("client_certificate = [{:?}]", partner.pin()),
        );
    let mut site = Site::new(&authority, &tables);
    site.client_ca += &partner.certificate.pem();
    let env = site.start().await;
    let response = env.recording_of(&partner, "1-1").await;
    assert_node_response(&response, "0");
    assert_eq!(env.log_line(&response).await["gw.caller"], "partner");
    env.sole_upstream_request();
    let response = env.recording_of(&own.issue(&["CN=qa"]), "1-1").await;
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    env.assert_no_upstream_request();
}

/// A client whose certificate is trusted itself, and does not say that it is an authority, issues no names.
#[tokio::test]
async fn only_what_says_that_it_signs_certificates_issues_names() {
    let authority = Authority::new("clients");
    let is_ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    let no_signer = vec![KeyUsagePurpose::DigitalSignature];
    let partners = [
        Authority::with("partner-1", is_ca(), no_signer),
        Authority::with("partner-2", IsCa::NoCa, Vec::new()),
        Authority::with("partner-3", IsCa::ExplicitNoCa, Vec::new()),
    ];
    // As `openssl req -x509` makes it: no other authority is known by less.
    let unsaid = Authority::with("home-made", is_ca(), Vec::new());
    let mut site = Site::new(
        &authority,
        &caller("qa", "client_certificate = [\"CN=qa\"]"),
    );
    for held in partners.iter().chain([&unsaid]) {
        site.client_ca += &held.0.pem();
    }
    let env = site.start().await;
    for (partner, may_connect) in partners.iter().zip([true, true, false]) {
        let client = env.client_of(&partner.issue(&["CN=qa"]));
        let response = client.send(&env.recording("1-1")).await;
        assert_eq!(response.is_ok(), may_connect);
        if let Ok(response) = response {
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        }
        env.assert_no_upstream_request();
    }
    for issuer in [&authority, &unsaid] {
        let response = env.recording_of(&issuer.issue(&["CN=qa"]), "1-1").await;
        assert_node_response(&response, "0");
    }
}

#[tokio::test]
async fn a_certificate_of_two_callers_identifies_neither() {
    let authority = Authority::new("clients");
    let tables = caller("a", "client_certificate = [\"CN=a\"]")
        + &caller("b", "client_certificate = [\"DNS=b\"]");
    let env = Site::new(&authority, &tables).start().await;
    let both = env
        .recording_of(&authority.issue(&["CN=a", "DNS=b"]), "1-1")
        .await;
    assert_gateway_error(&both, 401, "unauthenticated", "GW401");
    let line = env.log_line(&both).await;
    assert_eq!(line["gw.caller"], serde_json::Value::Null);
    let reason = line["gw.reject_reason"].as_str().unwrap();
    assert!(reason.contains("more than one caller"), "{reason}");
    assert_node_response(
        &env.recording_of(&authority.issue(&["DNS=b"]), "1-1").await,
        "0",
    );
}

fn crl(authority: &Authority, revoked: Option<&Identity>) -> String {
    let revoked = revoked.map(|identity| RevokedCertParams {
        serial_number: serial(identity),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2900, 12, 31),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&authority.0).unwrap().pem().unwrap()
}

fn serial(identity: &Identity) -> SerialNumber {
    use x509_parser::prelude::FromDer;
    let der = identity.certificate.der();
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).unwrap();
    SerialNumber::from_slice(parsed.raw_serial())
}

#[tokio::test]
async fn a_revocation_ends_what_an_open_connection_may() {
    let authority = Authority::new("clients");
    let identity = authority.issue(&["CN=qa"]);
    let mut site = Site::new(
        &authority,
        &caller("qa", "client_certificate = [\"CN=qa\"]"),
    );
    site.tls = "client_crl = \"clients.crl\", client_auth = \"optional\"";
    let prepared = site.setup.prepare().await;
    let list = prepared.folder.path().join("clients.crl");
    std::fs::write(&list, crl(&authority, None)).unwrap();
    std::fs::write(
        prepared.folder.path().join("clients.pem"),
        authority.0.pem(),
    )
    .unwrap();
    super::with_client_ca(&prepared.file, site.tls);
    let env = crate::support::TestEnv::with_site(prepared);
    let client = env.client_of(&identity);
    assert_node_response(&client.send(&env.recording("1-1")).await.unwrap(), "0");
    std::fs::write(&list, crl(&authority, Some(&identity))).unwrap();
    env.reload().await;
    // A new handshake would fail: this is the same connection.
    let response = client.send(&env.recording("1-1")).await.unwrap();
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    std::fs::write(&list, crl(&authority, None)).unwrap();
    env.reload().await;
    assert_node_response(&client.send(&env.recording("1-1")).await.unwrap(), "0");
}

#[tokio::test]
async fn a_reload_takes_and_gives_names_on_an_open_connection() {
    let authority = Authority::new("clients");
    let env = Site::new(
        &authority,
        &caller("qa", "client_certificate = [\"CN=qa\"]"),
    )
    .start()
    .await;
    let client = env.client_of(&authority.issue(&["CN=qa"]));
    let file = env.file("gateway.toml");
    let original = crate::support::read(&file);
    for (edit, status) in [
        ("client_certificate = [\"CN=other\"]", 401),
        ("client_certificate = [\"CN=qa\"]", 200),
        ("client_certificate = [\"CN=qa\"]\nenabled = false", 401),
        (
            "client_certificate = [\"CN=qa\"]\nnot_after = 2020-01-01T00:00:00Z",
            401,
        ),
        (
            "client_certificate = [\"CN=qa\"]\nnot_before = \"2900-01-01T00:00:00Z\"",
            401,
        ),
        (
            "client_certificate = [\"CN=qa\"]\nnot_after = 2900-01-01T00:00:00Z",
            200,
        ),
    ] {
        let text = original.replace("client_certificate = [\"CN=qa\"]", edit);
        std::fs::write(&file, text).unwrap();
        env.reload().await;
        let response = client.send(&env.recording("1-1")).await.unwrap();
        assert_eq!(response.status.as_u16(), status, "{edit}");
    }
    // The access key is disabled, and with it its callers.
    let text = original.replace(
        "secret_key_file = \"ak-shanghai\"",
        "secret_key_file = \"ak-shanghai\"\nenabled = false",
    );
    std::fs::write(&file, text).unwrap();
    env.reload().await;
    let response = client.send(&env.recording("1-1")).await.unwrap();
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    let berlin = env.send(&signed(env.recording("1-1"), BERLIN)).await;
    assert_node_response(&berlin, "0");
}

#[tokio::test]
async fn a_chain_with_an_intermediate_counts_and_a_foreign_one_is_refused_in_the_handshake() {
    let authority = Authority::new("clients");
    let env = Site::new(
        &authority,
        &caller("qa", "client_certificate = [\"CN=qa\"]"),
    )
    .start()
    .await;
    let foreign = env.client_of(&Authority::new("clients").issue(&["CN=qa"]));
    assert!(foreign.send(&env.recording("1-1")).await.is_err());
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let intermediate = rcgen::CertifiedIssuer::signed_by(params, key, &authority.0).unwrap();
    let issuer = Authority(intermediate);
    let identity = issuer.issue(&["CN=qa"]);
    drop(env.client_of(&identity));
    let chain = env.file("client.pem");
    std::fs::write(&chain, identity.certificate.pem() + &issuer.0.pem()).unwrap();
    let certificate =
        ccfs_gateway::client::ClientCertificate::from_pem_files(&chain, &env.file("client.key"))
            .unwrap();
    let client = env.new_client().with_certificate(&certificate);
    assert_node_response(&client.send(&env.recording("1-1")).await.unwrap(), "0");
}
