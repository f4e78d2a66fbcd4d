//! Where what does not verify is forwarded, credentials of callers and secrets stay out of it, and other clients do not
//! notice that there are callers.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ccfs_gateway::client::ClientRequest;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::json;

use super::{Authority, Site, X_API_KEY, basic, caller, with};
use crate::assertions::assert_gateway_error;
use crate::support::{SHANGHAI, TestEnv, UNKNOWN, secret, signed, write_secret};
use crate::unverified_clients::assert_forwarded_unchanged;

const KEY: &str = "CANARY-0123456789abcdef0123456789";
const OTHER_KEY: &str = "CANARY-fedcba9876543210fedcba9876";
const APP_SECRET: &str = "CANARY-app-secret=";
const ISSUER: &str = "https://idp.example.com";
const FORWARDING: [&str; 2] = [
    "unknown_clients = \"forward\"",
    "authentication = \"shadow\"",
];

/// Starts a gateway whose listener forwards what does not verify. `qa` may ask there; `other` only on another listener,
/// in every way.
async fn start(listener: &str, qa: &str) -> TestEnv {
    let other = caller(
        "other",
        &format!(
            "listeners = [\"two\"]\napi_key_file = \"other-key\"\n\
             jwt = {{ jwks_file = \"idp.jwks\", issuer = \"{ISSUER}\", audience = \"recordings\" }}\n\
             sdk_hmac = {{ app_key = \"opsapp\", app_secret_file = \"app-secret\" }}"
        ),
    );
    let two = "[listeners.two]\nbind = \"127.0.0.1:0\"\ncluster = \"ccfs\"\n\
               tls = { certificate = \"leaf.pem\", private_key = \"leaf.key\" }\n";
    let mut site = Site::new(&Authority::new("clients"), &format!("{qa}{other}{two}"));
    site.setup.listener = listener.to_owned();
    site.start_after(write_files).await
}

fn write_files(folder: &Path) {
    write_secret(&folder.join("qa-key"), KEY.as_bytes());
    write_secret(&folder.join("other-key"), OTHER_KEY.as_bytes());
    write_secret(&folder.join("app-secret"), APP_SECRET.as_bytes());
    let x = URL_SAFE_NO_PAD.encode([7; 32]);
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] });
    std::fs::write(folder.join("idp.jwks"), jwks.to_string()).unwrap();
}

fn qa() -> String {
    caller("qa", "listeners = [\"ccfs\"]\napi_key_file = \"qa-key\"")
}

/// A signature that claims this access key.
fn claiming(claimed: &str) -> String {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("auth-v2/{claimed}/{now}/host/{}", "0".repeat(64))
}

#[tokio::test]
async fn what_identifies_a_caller_of_any_listener_reaches_no_node() {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.c2ln",
        part(json!({ "alg": "EdDSA" })),
        part(json!({ "iss": ISSUER, "exp": 4_000_000_000_i64 }))
    );
    let mut values = vec![
        "SDK-HMAC-SHA256 Access=opsapp, SignedHeaders=host;x-sdk-date, Signature=00".to_owned(),
        format!(
            "SDK-HMAC-SHA256 Access=opsapp, SignedHeaders=host;x-sdk-date, Signature={}",
            "0".repeat(64)
        ),
        format!("auth-v2/{APP_SECRET}"),
        format!("Token \"{APP_SECRET}\""),
        basic(&format!("opsapp:{APP_SECRET}")),
        format!("Bearer {OTHER_KEY}"),
        format!("JWT {token}"),
        format!("JWT.{token}"),
        format!("Bearer{token}"),
        basic(&format!("user:{token}")),
    ];
    for key in [KEY, OTHER_KEY] {
        values.extend([
            claiming(key),
            format!("Bearer{key}"),
            format!("Bearer={key}"),
            format!("Bearer/{key}"),
            format!("Token token={key}"),
            format!("ApiKey apikey={key}"),
            format!("Token <{key}>"),
            format!("Token {{{key}}}"),
            basic(&format!("user:{key}")),
            basic(&format!("user:password:{key}")),
        ]);
    }
    for listener in FORWARDING {
        let env = start(listener, &qa()).await;
        let assert_kept = async |request: ClientRequest| {
            let response = env.send(&request).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
        };
        for value in &values {
            assert_kept(with(env.recording("1-1"), AUTHORIZATION, value)).await;
        }
        // Without a credential that anybody reads.
        for name in [COOKIE, HeaderName::from_static("x-auth-token")] {
            let value = format!("key={OTHER_KEY}");
            assert_kept(with(env.recording("1-1"), name, &value)).await;
        }
        let play = format!(
            "{}/CCFS/resource/ccfs/playVoice?token={OTHER_KEY}",
            env.url()
        );
        assert_kept(ClientRequest::new(Method::GET, &play).unwrap()).await;
    }
}

/// The callers of the listener have no key: a bearer token is a scheme like any other there.
#[tokio::test]
async fn a_key_of_another_listener_is_known_where_no_caller_has_one() {
    for listener in FORWARDING {
        let keys = "listeners = [\"ccfs\"]\nclient_certificate = [\"CN=qa\"]";
        let env = start(listener, &caller("qa", keys)).await;
        let bearer = with(env.recording("1-1"), AUTHORIZATION, "Bearer x");
        env.send(&bearer).await;
        assert_forwarded_unchanged(&env.sole_upstream_request(), &bearer);
        let response = env
            .send(&with(env.recording("1-1"), X_API_KEY, OTHER_KEY))
            .await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        env.assert_no_upstream_request();
    }
}

#[tokio::test]
async fn a_secret_in_the_place_of_an_access_key_is_not_forwarded() {
    for qa in [qa(), String::new()] {
        let env = start("unknown_clients = \"forward\"", &qa).await;
        for claimed in [&*secret(SHANGHAI), KEY, OTHER_KEY] {
            if claimed == KEY && qa.is_empty() {
                continue;
            }
            let request = with(env.recording("1-1"), AUTHORIZATION, &claiming(claimed));
            let response = env.send(&request).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
        }
    }
}

#[tokio::test]
async fn other_clients_are_forwarded_beside_callers_as_without_them() {
    for listener in FORWARDING {
        let env = start(listener, &qa()).await;
        let unknown = "SDK-HMAC-SHA256 Access=x, SignedHeaders=host, Signature=y";
        for request in [
            signed(env.recording("1-1"), UNKNOWN),
            with(env.recording("1-1"), AUTHORIZATION, "Basic eDp5"),
            with(env.recording("1-1"), AUTHORIZATION, unknown),
            with(
                env.recording("1-1"),
                AUTHORIZATION,
                &basic("user:a password of more than 32 characters"),
            ),
            with(
                env.recording("1-1"),
                HeaderName::from_static("x-trace"),
                &KEY[1..],
            ),
        ] {
            env.send(&request).await;
            assert_forwarded_unchanged(&env.sole_upstream_request(), &request);
        }
    }
}

/// Where no caller may ask, nothing is a credential of one.
#[tokio::test]
async fn a_listener_without_callers_forwards_what_it_does_not_know() {
    for listener in FORWARDING {
        let env = start(listener, "").await;
        let request = with(env.recording("1-1"), X_API_KEY, OTHER_KEY);
        env.send(&request).await;
        assert_forwarded_unchanged(&env.sole_upstream_request(), &request);
    }
}
