//! JSON Web Tokens: what identifies, what never does, rotation by the file's content, and that a token shows nowhere.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ccfs_gateway::app::App;
use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::config::Config;
use http::Method;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{X_API_KEY, caller, with};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, read, signed, write_secret};

const ISSUER: &str = "https://idp.example.com";
pub(super) const JWT: &str = "jwt = { jwks_file = \"idp.jwks\", issuer = \"https://idp.example.com\", \
                   audience = \"recordings\", claims = { group = \"qa\" } }";

/// An identity provider with a key for EdDSA.
pub(super) struct Issuer {
    id: &'static str,
    key: Ed25519KeyPair,
}

impl Issuer {
    pub(super) fn new(id: &'static str) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        Self { id, key }
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x })
    }

    /// A token with these claims changed; null removes one.
    pub(super) fn token(&self, changes: &[(&str, Value)]) -> String {
        let end = Timestamp::now().as_second() + 600;
        let mut claims = json!({ "iss": ISSUER, "aud": "recordings", "exp": end, "group": "qa" });
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let header = json!({ "alg": "EdDSA", "kid": self.id });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(super) fn write_keys(folder: &Path, issuers: &[&Issuer]) {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    std::fs::write(folder.join("idp.jwks"), json!({ "keys": keys }).to_string()).unwrap();
}

/// Starts a gateway with the caller `qa`, these keys of its listener and these tables.
async fn start(issuer: &Issuer, listener: &str, tables: &str) -> TestEnv {
    let setup = Setup {
        listener: listener.to_owned(),
        tables: caller("qa", JWT) + tables,
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_keys(site.folder.path(), &[issuer]);
    TestEnv::with_site(site)
}

fn bearing(request: ClientRequest, token: &str) -> ClientRequest {
    with(request, AUTHORIZATION, &format!("Bearer {token}"))
}

#[tokio::test]
async fn a_token_identifies_its_caller_and_reaches_no_node() {
    let issuer = Issuer::new("one");
    let other = format!("[callers.berlin]\naccess_key = \"{BERLIN}\"\n{JWT}\n");
    let other = other.replace("\"qa\"", "\"berlin\"");
    let env = start(&issuer, "", &other).await;
    let token = issuer.token(&[("sub", "CANARY".into())]);
    let response = env.send(&bearing(env.recording("1-1"), &token)).await;
    assert_node_response(&response, "0");
    let got = env.sole_upstream_request();
    assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    let fields = format!("{:?}", got.headers);
    assert!(!fields.contains("Bearer") && !fields.contains(&token[..20]));
    let line = env.log_line(&response).await;
    assert_eq!(
        (&line["gw.caller"], &line["gw.ak"]),
        (&json!("qa"), &json!(SHANGHAI))
    );
    // The same one again, another one, and one with lists, share the cache entry.
    for token in [
        token,
        issuer.token(&[("jti", 2.into())]),
        issuer.token(&[
            ("aud", json!(["x", "recordings"])),
            ("group", json!(["x", "qa"])),
        ]),
    ] {
        let hit = env.send(&bearing(env.recording("1-1"), &token)).await;
        assert_node_response(&hit, "0");
        env.assert_no_upstream_request();
    }
    let token = issuer.token(&[("group", "berlin".into())]);
    let response = env.send(&bearing(env.recording("1-1"), &token)).await;
    assert_node_response(&response, "0");
    assert_eq!(
        env.sole_upstream_request().access_key.as_deref(),
        Some(BERLIN)
    );
    assert_eq!(env.log_line(&response).await["gw.caller"], "berlin");
    let way = "caller_auth_total{way=\"jwt\"}";
    assert_eq!(page::metric(env.bound.admin.unwrap(), way).await, 5.0);
}

#[tokio::test]
async fn what_is_no_right_token_is_401_and_never_forwarded() {
    let (issuer, forger) = (Issuer::new("one"), Issuer::new("one"));
    let now = Timestamp::now().as_second();
    let right = issuer.token(&[]);
    let wrong = [
        forger.token(&[]),
        issuer.token(&[("iss", "https://other.example.com".into())]),
        issuer.token(&[("aud", "other".into())]),
        issuer.token(&[("exp", Value::Null)]),
        issuer.token(&[("exp", (now - 61).into())]),
        issuer.token(&[("nbf", (now + 90).into())]),
        issuer.token(&[("group", "ops".into())]),
        issuer.token(&[("cnf", json!({ "jkt": "x" }))]),
        issuer.token(&[("x", "a".repeat(6_200).into())]),
        format!("{right}=="),
        format!("{right}.e30.e30"),
        right.rsplit_once('.').unwrap().0.to_owned() + ".",
        "no-token-but-an-api-key-of-nobody-000".to_owned(),
    ];
    for listener in [
        "",
        "authentication = \"shadow\"",
        "unknown_clients = \"forward\"",
    ] {
        let env = start(&issuer, listener, "").await;
        for token in &wrong {
            let response = env.send(&bearing(env.recording("1-1"), token)).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
            assert_eq!(env.log_line(&response).await["gw.caller"], Value::Null);
        }
        let signature = signed(env.recording("1-1"), SHANGHAI).headers[AUTHORIZATION].clone();
        let signature = signature.to_str().unwrap().to_owned();
        let bearer = format!("Bearer {right}");
        for (name, value) in [
            (AUTHORIZATION, format!("DPoP {right}")),
            (AUTHORIZATION, right.clone()),
            (AUTHORIZATION, format!("Basic x, Bearer {right}")),
            (AUTHORIZATION, format!("Bearer {right}, Bearer {right}")),
            (X_API_KEY, right.clone()),
            (X_API_KEY, bearer.clone()),
        ] {
            let response = env.send(&with(env.recording("1-1"), name, &value)).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
        }
        for (name, value) in [
            (AUTHORIZATION, &bearer),
            (AUTHORIZATION, &signature),
            (X_API_KEY, &right),
        ] {
            let request = bearing(env.recording("1-1"), &right);
            let response = env.send(&with(request, name, value)).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
        }
        assert_node_response(&env.send(&bearing(env.recording("1-1"), &right)).await, "0");
        // Clients that sign are not affected.
        assert_node_response(&env.get_recording("1-1").await, "0");
    }
}

#[tokio::test]
async fn from_an_address_over_its_budget_only_remembered_tokens_count() {
    let (issuer, forger) = (Issuer::new("one"), Issuer::new("one"));
    let limits = "[limits]\nper_address = { per_hour = 60, burst = 4 }\n";
    let env = start(&issuer, "", limits).await;
    let tokens: Vec<_> = (0..8)
        .map(|number| issuer.token(&[("jti", number.into())]))
        .collect();
    let ask = async |token: &str| {
        let response = env.send(&bearing(env.recording("1-1"), token)).await;
        response.status.as_u16()
    };
    // Right tokens cost the address nothing, however many they are.
    for token in &tokens[..7] {
        assert_eq!(ask(token).await, 200);
    }
    let forged: Vec<_> = (0..5)
        .map(|number| forger.token(&[("jti", number.into())]))
        .collect();
    let mut statuses = Vec::new();
    for token in &forged {
        statuses.push(ask(token).await);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 429]);
    let new = env.send(&bearing(env.recording("1-1"), &tokens[7])).await;
    assert_gateway_error(&new, 429, "rate-limited", "0300009");
    for token in &tokens[..7] {
        assert_eq!(ask(token).await, 200);
    }
    // Nothing was charged to the access key.
    assert_node_response(&env.get_recording("1-1").await, "0");
    let wrong = "auth_total{result=\"wrong_credential\"}";
    assert_eq!(page::metric(env.bound.admin.unwrap(), wrong).await, 4.0);
}

#[tokio::test]
async fn keys_follow_the_content_of_their_file() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let setup = Setup {
        tables: caller("qa", JWT),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_keys(site.folder.path(), &[&old]);
    let (config, _) = Config::load(&site.file).unwrap();
    let app = App::bind(config, Some(site.file.clone())).unwrap();
    let app = app.with_watch_interval(Duration::from_millis(20));
    let env = TestEnv::with_app(site, app);
    let ask = async |token: &str| {
        let response = env.send(&bearing(env.recording("1-1"), token)).await;
        response.status.as_u16()
    };
    let [by_old, by_new] = [&old, &new].map(|issuer| issuer.token(&[]));
    assert_eq!((ask(&by_old).await, ask(&by_new).await), (200, 401));
    // Both during a rotation, then the new one alone: a token that was remembered goes with its key.
    write_keys(env.file("idp.jwks").parent().unwrap(), &[&old, &new]);
    eventually("the new key", async || ask(&by_new).await == 200).await;
    assert_eq!(ask(&by_old).await, 200);
    // What cannot be used changes nothing.
    std::fs::write(
        env.file("idp.jwks"),
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"CANARY\"}]}",
    )
    .unwrap();
    let failed = "config_reloads_total{result=\"refused\"}";
    let admin = env.bound.admin.unwrap();
    eventually("the reload", async || {
        page::metric(admin, failed).await > 0.0
    })
    .await;
    assert_eq!((ask(&by_old).await, ask(&by_new).await), (200, 200));
    write_keys(env.file("idp.jwks").parent().unwrap(), &[&new]);
    eventually("the end of the old key", async || ask(&by_old).await == 401).await;
    assert_eq!(ask(&by_new).await, 200);
}

#[tokio::test]
async fn a_caller_that_changes_or_is_disabled_loses_its_tokens_at_once() {
    let issuer = Issuer::new("one");
    let env = start(&issuer, "", "").await;
    let token = issuer.token(&[]);
    let ask = async || {
        let response = env.send(&bearing(env.recording("1-1"), &token)).await;
        response.status.as_u16()
    };
    let file = env.file("gateway.toml");
    let whole = read(&file);
    assert_eq!(ask().await, 200);
    for (key, value) in [
        (
            "claims = { group = \"qa\" }",
            "claims = { group = \"ops\" }",
        ),
        ("audience = \"recordings\"", "audience = \"others\""),
        (
            "issuer = \"https://idp.example.com\"",
            "issuer = \"https://idp2.example.com\"",
        ),
        ("[callers.qa]\n", "[callers.qa]\nenabled = false\n"),
        (
            "[callers.qa]\n",
            "[callers.qa]\nnot_after = \"2001-01-01T00:00:00Z\"\n",
        ),
    ] {
        std::fs::write(&file, whole.replacen(key, value, 1)).unwrap();
        env.reload().await;
        assert_eq!(ask().await, 401, "{value}");
        std::fs::write(&file, &whole).unwrap();
        env.reload().await;
        assert_eq!(ask().await, 200, "{value}");
    }
}

#[tokio::test]
async fn a_token_opens_links_and_gets_tickets() {
    let issuer = Issuer::new("one");
    let env = start(&issuer, "playback = true", "").await;
    let window = "begin=2021-11-24T16:25:03Z&end=2021-11-24T17:25:11Z";
    let request = |method: Method, target: &str| {
        ClientRequest::new(method, &format!("{}{target}", env.url())).unwrap()
    };
    let token = issuer.token(&[]);
    let link = request(Method::GET, &format!("/recordings/1-1?{window}"));
    assert_eq!(env.send(&bearing(link, &token)).await.status, 302);
    let issue = request(Method::POST, &format!("/recordings/1-1/ticket?{window}"));
    let ticket = env.send(&bearing(issue, &token)).await;
    assert_eq!(ticket.status, 200);
    let url = ticket.json()["url"].as_str().unwrap().to_owned();
    assert_eq!(env.send(&request(Method::GET, &url)).await.status, 302);
}

#[tokio::test]
async fn a_token_shows_nowhere() {
    let issuer = Issuer::new("one");
    let tables = "[telemetry]\nlog_level = \"debug\"\naccess_log = \"access.log\"\nlog_claimed_ak = true\n\
                  audit_log = \"audit.log\"\n";
    let mut env = start(&issuer, "unknown_clients = \"forward\"", tables).await;
    let token = issuer.token(&[("sub", "CANARY".into())]);
    let signature = token.rsplit_once('.').unwrap().1;
    let claims = token.split('.').nth(1).unwrap();
    let shows =
        |text: &str| text.contains(signature) || text.contains(claims) || text.contains("CANARY");
    for request in [
        bearing(env.recording("1-1"), &token),
        bearing(env.recording("1-1"), &format!("{token}x")),
        with(
            env.recording("1-1"),
            AUTHORIZATION,
            &format!("DPoP {token}"),
        ),
        with(
            env.recording("1-1"),
            AUTHORIZATION,
            &format!("auth-v2/{token}/2021-11-24T16:25:03.000Z/host/00"),
        ),
        with(env.recording("1-1"), X_API_KEY, &token),
    ] {
        let response = env.send(&request).await;
        assert!(!shows(&format!("{:?}", response.headers)));
        assert!(!shows(&String::from_utf8_lossy(&response.body)));
    }
    for request in env.nodes[0].requests() {
        assert!(!shows(&format!("{:?}", request.headers)));
    }
    let admin = env.bound.admin.unwrap();
    for path in ["/status", "/config", "/metrics", "/"] {
        assert!(!shows(&page::get(admin, path).await.body), "{path}");
    }
    let config = page::get(admin, "/config").await.json();
    let shown = &config["callers"]["qa"]["jwt"];
    assert_eq!(
        (&shown["issuer"], &shown["keys"][0]["kid"]),
        (&json!(ISSUER), &json!("one"))
    );
    env.shut_down().await;
    for file in ["access.log", "audit.log"] {
        assert!(!shows(&read(&env.file(file))), "{file}");
    }
}

#[tokio::test]
async fn api_keys_and_tokens_have_their_own_form() {
    let issuer = Issuer::new("one");
    let key = "0123456789abcdef0123456789abcdef";
    let setup = Setup {
        tables: caller("qa", JWT) + &caller("tools", "api_key_file = \"tools-key\""),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_keys(site.folder.path(), &[&issuer]);
    write_secret(&site.folder.path().join("tools-key"), key.as_bytes());
    let env = TestEnv::with_site(site);
    for (token, name) in [(issuer.token(&[]).as_str(), "qa"), (key, "tools")] {
        let response = env.send(&bearing(env.recording("1-1"), token)).await;
        assert_node_response(&response, "0");
        assert_eq!(env.log_line(&response).await["gw.caller"], name);
    }
}
