//! API keys: the two forms, what is no key, rotation, and that a key shows nowhere.

use std::path::Path;

use http::HeaderName;
use http::header::AUTHORIZATION;
use serde_json::Value;

use super::{Authority, Site, X_API_KEY, basic, caller, with};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, read, signed, write_secret};

const KEY: &str = "CANARY-0123456789abcdef0123456789";
const SECOND: &str = "CANARY-fedcba9876543210fedcba9876";
const QA: &str = "api_key_file = [\"qa-key\", \"qa-key-2\"]";

/// Starts a gateway with the caller `qa`, that has both keys, and these tables.
async fn start(listener: &str, tables: &str) -> TestEnv {
    let setup = Setup {
        listener: listener.to_owned(),
        tables: caller("qa", QA) + tables,
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_keys(site.folder.path());
    TestEnv::with_site(site)
}

fn write_keys(folder: &Path) {
    write_secret(&folder.join("qa-key"), KEY.as_bytes());
    write_secret(&folder.join("qa-key-2"), format!("{SECOND}\n").as_bytes());
}

#[tokio::test]
async fn a_key_is_taken_in_both_forms_and_the_second_one_too() {
    let env = start("", "").await;
    for (number, (name, value)) in [
        (AUTHORIZATION, format!("Bearer {KEY}")),
        (AUTHORIZATION, format!("bearer   {SECOND}")),
        (X_API_KEY, KEY.to_owned()),
        (X_API_KEY, SECOND.to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let request = with(env.recording(&format!("1-{number}")), name, &value);
        let response = env.send(&request).await;
        assert_node_response(&response, "0");
        let got = env.sole_upstream_request();
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        assert!(!format!("{:?}", got.headers).contains("CANARY"));
        assert_eq!(env.log_line(&response).await["gw.caller"], "qa");
    }
    // A browser's page may send a key that it has: these rules are for certificates.
    let site = HeaderName::from_static("sec-fetch-site");
    let request = with(env.recording("1-1"), X_API_KEY, KEY).with_header(site, "cross-site");
    let hit = env.send(&request).await;
    assert_node_response(&hit, "0");
    assert_eq!(hit.header("cross-origin-resource-policy"), None);
    env.assert_no_upstream_request();
    let way = "caller_auth_total{way=\"api_key\"}";
    assert_eq!(page::metric(env.bound.admin.unwrap(), way).await, 5.0);
}

#[tokio::test]
async fn what_is_not_the_whole_key_is_401_and_never_forwarded() {
    for listener in [
        "",
        "authentication = \"shadow\"",
        "unknown_clients = \"forward\"",
    ] {
        let env = start(listener, "").await;
        for (name, value) in [
            (AUTHORIZATION, "Bearer".to_owned()),
            (AUTHORIZATION, format!("Bearer {}", &KEY[1..])),
            (AUTHORIZATION, format!("Bearer {KEY}0")),
            (AUTHORIZATION, format!("Bearer {}", KEY.to_lowercase())),
            (AUTHORIZATION, format!("Bearer {KEY},{KEY}")),
            (AUTHORIZATION, format!("Bearer {KEY} {KEY}")),
            (AUTHORIZATION, format!("Bearer \"{KEY}\"")),
            (AUTHORIZATION, "Bearer a.b.c".to_owned()),
            (AUTHORIZATION, format!("Basic x, Bearer {KEY}")),
            (AUTHORIZATION, format!("ApiKey {KEY}")),
            (AUTHORIZATION, KEY.to_owned()),
            (AUTHORIZATION, basic(&format!(":{KEY}"))),
            (AUTHORIZATION, basic(&format!("web:{KEY}"))),
            (AUTHORIZATION, basic(KEY)),
            (AUTHORIZATION, basic(&format!("{KEY}:x"))),
            (X_API_KEY, String::new()),
            (X_API_KEY, "x".to_owned()),
            (X_API_KEY, format!("Bearer {KEY}")),
            (X_API_KEY, format!("{KEY}, {KEY}")),
            (X_API_KEY, format!("{KEY},")),
        ] {
            let response = env.send(&with(env.recording("1-1"), name, &value)).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
            assert_eq!(
                env.log_line(&response).await["gw.caller"],
                Value::Null,
                "{value}"
            );
        }
        // Every pair.
        let signature = signed(env.recording("1-1"), SHANGHAI).headers[AUTHORIZATION].clone();
        let signature = signature.to_str().unwrap().to_owned();
        let all = [
            (AUTHORIZATION, format!("Bearer {KEY}")),
            (AUTHORIZATION, signature),
            (X_API_KEY, KEY.to_owned()),
        ];
        for first in &all {
            for second in &all {
                let request = with(env.recording("1-1"), first.0.clone(), &first.1);
                let request = with(request, second.0.clone(), &second.1);
                let response = env.send(&request).await;
                assert_gateway_error(&response, 401, "unauthenticated", "GW401");
                env.assert_no_upstream_request();
            }
        }
    }
}

#[tokio::test]
async fn a_key_beside_a_certificate_counts_alone() {
    let authority = Authority::new("clients");
    let tables = caller("qa", QA) + &caller("other", "client_certificate = [\"CN=other\"]");
    let site = Site::new(&authority, &tables);
    let env = site.start_after(write_keys).await;
    let client = env.client_of(&authority.issue(&["CN=other"]));
    let right = with(env.recording("1-1"), X_API_KEY, KEY);
    let response = client.send(&right).await.unwrap();
    assert_node_response(&response, "0");
    assert_eq!(env.log_line(&response).await["gw.caller"], "qa");
    env.sole_upstream_request();
    let wrong = with(env.recording("1-1"), X_API_KEY, "wrong");
    let response = client.send(&wrong).await.unwrap();
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn a_new_key_file_counts_and_the_old_key_does_not() {
    let env = start("", "").await;
    let ask = async |key: &str| {
        let request = with(env.recording("1-1"), X_API_KEY, key);
        env.send(&request).await.status.as_u16()
    };
    assert_eq!((ask(KEY).await, ask(SECOND).await), (200, 200));
    let new = "CANARY-another-key-of-40-characters-000";
    write_secret(&env.file("qa-key"), new.as_bytes());
    env.reload().await;
    assert_eq!(
        (ask(KEY).await, ask(SECOND).await, ask(new).await),
        (401, 200, 200)
    );
}

#[tokio::test]
async fn keys_of_other_callers_and_listeners_do_not_count() {
    let other = format!(
        "[callers.berlin]\naccess_key = \"{BERLIN}\"\napi_key_file = \"berlin-key\"\n\
         [callers.elsewhere]\naccess_key = \"{BERLIN}\"\napi_key_file = \"third-key\"\nlisteners = [\"two\"]\n\
         [listeners.two]\nbind = \"127.0.0.1:0\"\ncluster = \"ccfs\"\n\
         tls = {{ certificate = \"leaf.pem\", private_key = \"leaf.key\" }}\n"
    );
    let setup = Setup {
        tables: caller("qa", QA) + &other,
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_keys(site.folder.path());
    let [berlin, third] = [
        "berlin-key-0123456789abcdef0123456789",
        "third-key-0123456789abcdef0123456789a",
    ];
    write_secret(&site.folder.path().join("berlin-key"), berlin.as_bytes());
    write_secret(&site.folder.path().join("third-key"), third.as_bytes());
    let env = TestEnv::with_site(site);
    let request = with(env.recording("1-1"), X_API_KEY, berlin);
    assert_node_response(&env.send(&request).await, "0");
    assert_eq!(
        env.sole_upstream_request().access_key.as_deref(),
        Some(BERLIN)
    );
    let request = with(env.recording("1-1"), X_API_KEY, third);
    assert_gateway_error(&env.send(&request).await, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn a_key_shows_nowhere() {
    let tables = "[telemetry]\nlog_level = \"debug\"\naccess_log = \"access.log\"\nlog_claimed_ak = true\n\
                  audit_log = \"audit.log\"\n";
    let mut env = start("", tables).await;
    for request in [
        with(
            env.recording("1-1"),
            AUTHORIZATION,
            &format!("Bearer {KEY}"),
        ),
        with(
            env.recording("1-1"),
            AUTHORIZATION,
            &format!("Bearer {KEY}x"),
        ),
        with(
            env.recording("1-1"),
            AUTHORIZATION,
            &format!("auth-v2/{KEY}/2021-11-24T16:25:03.000Z/host/00"),
        ),
        with(env.recording("1-1"), X_API_KEY, KEY),
    ] {
        let response = env.send(&request).await;
        assert!(!format!("{:?}", response.headers).contains("CANARY"));
        assert!(!String::from_utf8_lossy(&response.body).contains("CANARY"));
    }
    let admin = env.bound.admin.unwrap();
    for path in ["/status", "/config", "/metrics", "/"] {
        let shown = page::get(admin, path).await.body;
        assert!(!shown.contains("CANARY"), "{path}");
    }
    let config = page::get(admin, "/config").await.json();
    assert_eq!(config["callers"]["qa"]["api_key"][1], "(secret)");
    env.shut_down().await;
    for file in ["access.log", "audit.log"] {
        let text = read(&env.file(file));
        assert!(!text.contains("CANARY"), "{file}: {text}");
    }
}
