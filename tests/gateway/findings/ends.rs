//! What ends soon, or is old.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};

use super::*;
use crate::support::write_secret;

const HOUR: Duration = Duration::from_secs(3600);

/// The list of an authority that was published some time ago, for a day.
fn daily_list(authority: &CertifiedIssuer<'static, KeyPair>, age: Duration) -> String {
    let published = SystemTime::now() - age;
    let list = CertificateRevocationListParams {
        this_update: published.into(),
        next_update: (published + 24 * HOUR).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(authority).unwrap().pem().unwrap()
}

#[tokio::test]
async fn a_daily_revocation_list_is_judged_against_its_own_period() {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let site = Setup::default().prepare().await;
    let folder = site.folder.path();
    std::fs::write(folder.join("clients.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("clients.crl"), daily_list(&authority, HOUR)).unwrap();
    let tls =
        "client_ca = \"clients.pem\", client_crl = \"clients.crl\", client_auth = \"optional\"";
    let text = read(&site.file).replace("{ certificate =", &format!("{{ {tls}, certificate ="));
    std::fs::write(&site.file, text).unwrap();
    let env = start_site(site);
    // The first reports are there, and a fresh list is none of them.
    eventually("the gateway is observed", async || {
        page::metric(admin(&env), "requests_in_flight").await >= 0.0
    })
    .await;
    assert!(all(&env, "crl-ends").await.is_empty());
    let replace = |age| std::fs::write(env.file("clients.crl"), daily_list(&authority, age));
    replace(18 * HOUR).unwrap();
    let finding = appears(&env, "crl-ends").await;
    assert!(is_name(&finding, "listener", "ccfs"), "{finding}");
    assert_eq!(finding["severity"], "warning");
    replace(23 * HOUR).unwrap();
    eventually("critical", async || {
        let found = all(&env, "crl-ends").await;
        found.iter().any(|it| it["severity"] == "critical")
    })
    .await;
    replace(HOUR).unwrap();
    disappears(&env, "crl-ends").await;
}

#[tokio::test]
async fn an_access_key_that_ends_is_a_note_until_its_date_is_moved() {
    let not_after = |days: i64| {
        let end = Timestamp::now() + SignedDuration::from_hours(24 * days);
        format!("not_after = {end:.0}")
    };
    let (soon, late) = (not_after(3), not_after(30));
    let env = start(Setup {
        shanghai: soon.clone(),
        berlin: late.clone(),
        ..Setup::default()
    })
    .await;
    let finding = appears(&env, "access-key-ends").await;
    assert!(is_name(&finding, "access_key", SHANGHAI), "{finding}");
    assert_eq!(finding["severity"], "note");
    assert!(
        finding["cause"]
            .as_str()
            .unwrap()
            .contains("ends in 2 d 23 h"),
        "{finding}"
    );
    assert_eq!(
        all(&env, "access-key-ends").await.len(),
        1,
        "only the one that ends"
    );
    assert_eq!(
        edit(&env, |text| text.replace(&soon, &late)).await.status,
        200
    );
    disappears(&env, "access-key-ends").await;
}

#[tokio::test]
async fn a_caller_that_ends_is_a_note_until_it_is_disabled() {
    let end = Timestamp::now() + SignedDuration::from_hours(24 * 3);
    let table = |name: &str, more: &str| {
        format!(
            "[callers.{name}]\naccess_key = \"{SHANGHAI}\"\napi_key_file = \"{name}-key\"\n{more}\n"
        )
    };
    let soon = format!("not_after = {end:.0}");
    let site = Setup {
        tables: table("qa", &soon) + &table("web", ""),
        ..Setup::default()
    };
    let site = site.prepare().await;
    for name in ["qa", "web"] {
        let key = format!("{name}-0123456789abcdef0123456789abcdef");
        write_secret(
            &site.folder.path().join(format!("{name}-key")),
            key.as_bytes(),
        );
    }
    let env = start_site(site);
    let finding = appears(&env, "access-key-ends").await;
    assert!(is_name(&finding, "caller", "qa"), "{finding}");
    assert_eq!(finding["severity"], "note");
    assert_eq!(all(&env, "access-key-ends").await.len(), 1);
    let disabled = format!("{soon}\nenabled = false");
    assert_eq!(
        edit(&env, |text| text.replace(&soon, &disabled))
            .await
            .status,
        200
    );
    disappears(&env, "access-key-ends").await;
}

#[tokio::test]
async fn a_ticket_key_of_more_than_a_week_is_old_until_it_is_replaced() {
    let site = Setup {
        listener: "ticket_key_file = [\"new.key\", \"old.key\"]".to_owned(),
        ..Setup::default()
    };
    let site = site.prepare().await;
    let write = |name: &str, byte: u8, days: u32| {
        let path = site.folder.path().join(name);
        write_secret(&path, &[byte; 32]);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - HOUR * (days * 24))
            .unwrap();
    };
    write("new.key", 1, 8);
    write("old.key", 2, 20);
    let env = start_site(site);
    let finding = appears(&env, "ticket-key-old").await;
    assert!(is_name(&finding, "listener", "ccfs"), "{finding}");
    assert!(
        finding["cause"].as_str().unwrap().contains("8 d ago"),
        "{finding}"
    );
    // Only the first one issues tickets.
    write_secret(&env.file("new.key"), &[3; 32]);
    disappears(&env, "ticket-key-old").await;
}
