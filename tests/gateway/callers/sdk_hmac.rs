//! SDK-HMAC-SHA256 in, auth-v2 out: over both protocols, and what never verifies.

use ccfs_gateway::client::ClientRequest;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::caller;
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{SHANGHAI, Setup, TestEnv, read, signed, write_secret};

const SECRET: &str = "CANARY-MFyfvK41ba2giqM7Uio6PznpdUKGpownRZ";
const SDK_HMAC: &str = "sdk_hmac = { app_key = \"qa\", app_secret_file = \"qa-sdk\" }";
const X_SDK_DATE: HeaderName = HeaderName::from_static("x-sdk-date");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-sdk-content-sha256");

/// Starts a gateway with the caller `qa`, these keys of its listener and these tables.
async fn start(listener: &str, tables: &str) -> TestEnv {
    let setup = Setup {
        listener: listener.to_owned(),
        tables: caller("qa", SDK_HMAC) + tables,
        ..Setup::default()
    };
    let site = setup.prepare().await;
    write_secret(&site.folder.path().join("qa-sdk"), SECRET.as_bytes());
    TestEnv::with_site(site)
}

/// Signs a request as the SDKs do, for an app with this key and this secret, so many seconds ago.
fn sdk_signed(request: ClientRequest, (key, secret): (&str, &str), age: i64) -> ClientRequest {
    let mut request = request;
    let now = Timestamp::from_second(Timestamp::now().as_second() - age).unwrap();
    let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    request.headers.insert(X_SDK_DATE, date.parse().unwrap());
    let hash = |text: &[u8]| HEXLOWER.encode(&Sha256::digest(text));
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let host = request.headers[HOST].to_str().unwrap();
    let kind = request.headers["content-type"].to_str().unwrap();
    let canonical = format!(
        "{}\n{path}/\n{query}\ncontent-type:{kind}\nhost:{host}\nx-sdk-date:{date}\n\n{NAMES}\n{}",
        request.method,
        hash(&request.body)
    );
    let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hash(canonical.as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    let signature = HEXLOWER.encode(&mac.finalize().into_bytes());
    let value =
        format!("SDK-HMAC-SHA256 Access={key}, SignedHeaders={NAMES}, Signature={signature}");
    request
        .headers
        .insert(AUTHORIZATION, value.parse().unwrap());
    request
}

const NAMES: &str = "content-type;host;x-sdk-date";

const QA: (&str, &str) = ("qa", SECRET);

#[tokio::test]
async fn a_signature_of_an_app_identifies_its_caller_over_both_protocols() {
    let mut env = start("", "").await;
    for is_http2 in [false, true] {
        env.client = if is_http2 {
            env.new_client().http2_only()
        } else {
            env.new_client()
        };
        let call_id = format!("1-{is_http2}");
        let request = sdk_signed(env.recording(&call_id), QA, 0);
        let response = env.send(&request).await;
        assert_node_response(&response, "0");
        let got = env.sole_upstream_request();
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        let fields = format!("{:?}", got.headers).to_lowercase();
        assert!(!fields.contains("sdk"), "{fields}");
        let line = env.log_line(&response).await;
        assert_eq!(
            (&line["gw.caller"], &line["gw.ak"]),
            (&"qa".into(), &SHANGHAI.into())
        );
        // A hit, also when signed anew.
        for age in [0, 5] {
            let hit = env
                .send(&sdk_signed(env.recording(&call_id), QA, age))
                .await;
            assert_node_response(&hit, "0");
            env.assert_no_upstream_request();
        }
        // What was signed for one body is not for another.
        let mut other = env.recording("1-2");
        for name in [AUTHORIZATION, X_SDK_DATE] {
            let value = request.headers[&name].clone();
            other.headers.insert(name, value);
        }
        let response = env.send(&other).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    let way = "caller_auth_total{way=\"sdk_hmac\"}";
    assert_eq!(page::metric(env.bound.admin.unwrap(), way).await, 6.0);
}

#[tokio::test]
async fn what_is_wrong_for_a_known_app_is_401_and_never_forwarded() {
    for listener in [
        "",
        "authentication = \"shadow\"",
        "unknown_clients = \"forward\"",
    ] {
        let env = start(listener, "").await;
        let recording = || env.recording("1-1");
        let right = sdk_signed(recording(), QA, 0);
        let value = right.headers[AUTHORIZATION].to_str().unwrap().to_owned();
        let with = |name: HeaderName, value: &str| {
            let mut request = right.clone();
            request.headers.append(name, value.parse().unwrap());
            request
        };
        let replaced = |value: String| {
            let mut request = right.clone();
            request
                .headers
                .insert(AUTHORIZATION, value.parse().unwrap());
            request
        };
        let signature = signed(recording(), SHANGHAI).headers[AUTHORIZATION].clone();
        for request in [
            sdk_signed(recording(), ("qa", "another secret"), 0),
            sdk_signed(recording(), QA, 1_000),
            sdk_signed(recording(), QA, -1_000),
            with(CONTENT_HASH, "UNSIGNED-PAYLOAD"),
            with(X_SDK_DATE, right.headers[X_SDK_DATE].to_str().unwrap()),
            with(AUTHORIZATION, &value),
            with(AUTHORIZATION, signature.to_str().unwrap()),
            with(HeaderName::from_static("x-api-key"), "x"),
            replaced(value.replace(";x-sdk-date", "")),
            replaced(value.replace("Access=", "access=")),
            replaced(value.replace("SHA256", "SM3")),
            replaced(value.to_lowercase()),
        ] {
            let response = env.send(&request).await;
            assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            env.assert_no_upstream_request();
            assert_eq!(env.log_line(&response).await["gw.caller"], Value::Null);
        }
        assert_node_response(&env.send(&right).await, "0");
    }
}

#[tokio::test]
async fn of_an_unknown_app_the_scheme_is_as_any_other() {
    let unknown = ("unknown", SECRET);
    let env = start("", "").await;
    let response = env
        .send(&sdk_signed(env.recording("1-1"), unknown, 0))
        .await;
    assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    env.assert_no_upstream_request();
    let env = start("unknown_clients = \"forward\"", "").await;
    let request = sdk_signed(env.recording("1-1"), unknown, 0);
    env.send(&request).await;
    let got = env.sole_upstream_request();
    assert_eq!(
        got.header("authorization"),
        request.headers[AUTHORIZATION].to_str().ok()
    );
}

/// Long values cost the same for known and unknown apps, since their names are not looked at.
#[tokio::test]
async fn a_value_that_is_too_long_is_read_for_no_app() {
    let tables = "[telemetry]\naccess_log = \"access.log\"\n";
    let env = start("", tables).await;
    for key in ["qa", "unknown"] {
        let mut request = sdk_signed(env.recording("1-1"), (key, SECRET), 0);
        let value = request.headers[AUTHORIZATION].to_str().unwrap();
        let names = format!("SignedHeaders={}", "x".repeat(5_000));
        let value = value.replace("SignedHeaders=", &names);
        request
            .headers
            .insert(AUTHORIZATION, value.parse().unwrap());
        let response = env.send(&request).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        let line = env.log_line(&response).await;
        assert_eq!(line["gw.reject_reason"], "a scheme other than auth-v2");
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn an_app_signs_for_interfaces_alone() {
    let env = start("playback = true\nunknown_paths = \"forward\"", "").await;
    let to = |method: Method, target: &str| {
        let mut request = env.recording("1-1");
        request.method = method;
        request.target = target.to_owned();
        sdk_signed(request, QA, 0)
    };
    let path = env.recording("1-1").target;
    let query = env.send(&to(Method::POST, &format!("{path}?a=1"))).await;
    assert_gateway_error(&query, 400, "malformed", "GW400");
    let other = path.replace("getRecordFileUrlFromObs", "downloadRecord");
    let response = env.send(&to(Method::POST, &other)).await;
    assert_gateway_error(&response, 403, "forbidden", "GW403");
    let link = "/recordings/1-1?begin=2021-11-24T16:25:03Z&end=2021-11-24T17:25:11Z";
    for (method, target) in [
        (Method::GET, link.to_owned()),
        (Method::POST, path.replace("getRecord", "getrecord")),
        (Method::POST, path.replace("getRecord", "get%52ecord")),
        (Method::POST, path.replace("/resource/", "//resource/")),
    ] {
        let response = env.send(&to(method, &target)).await;
        assert!(
            [401, 404].contains(&response.status.as_u16()),
            "{target} {}",
            response.status
        );
        env.assert_no_upstream_request();
    }
}

#[tokio::test]
async fn the_secret_of_an_app_shows_nowhere() {
    let tables = "[telemetry]\nlog_level = \"debug\"\naccess_log = \"access.log\"\nlog_claimed_ak = true\n\
                  audit_log = \"audit.log\"\n";
    let mut env = start("", tables).await;
    let misplaced = format!("auth-v2/{SECRET}/2021-11-24T16:25:03.000Z/host/00");
    let mut wrong = env.recording("1-1");
    wrong
        .headers
        .insert(AUTHORIZATION, misplaced.parse().unwrap());
    for request in [sdk_signed(env.recording("1-1"), QA, 0), wrong] {
        let response = env.send(&request).await;
        assert!(!format!("{:?}", response.headers).contains("CANARY"));
    }
    let admin = env.bound.admin.unwrap();
    for path in ["/status", "/config", "/metrics", "/"] {
        assert!(
            !page::get(admin, path).await.body.contains("CANARY"),
            "{path}"
        );
    }
    let config = page::get(admin, "/config").await.json();
    let shown = &config["callers"]["qa"]["sdk_hmac"];
    assert_eq!(
        (&shown["app_key"], &shown["app_secret"]),
        (&"qa".into(), &"(secret)".into())
    );
    env.shut_down().await;
    for file in ["access.log", "audit.log"] {
        assert!(!read(&env.file(file)).contains("CANARY"), "{file}");
    }
}
