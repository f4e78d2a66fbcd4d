//! What a caller may ask for, what a node sees of it, and what is written about it.

use ccfs_gateway::client::ClientRequest;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, RANGE};
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use super::{Authority, Identity, Site, X_API_KEY, caller};
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, TestEnv, read, signed};

const QA: &str = "client_certificate = [\"CN=qa\"]";

async fn qa(more: &str) -> (TestEnv, Identity) {
    let authority = Authority::new("clients");
    let env = Site::new(&authority, &(caller("qa", QA) + more))
        .start()
        .await;
    (env, authority.issue(&["CN=qa"]))
}

#[tokio::test]
async fn the_entries_of_an_access_key_are_shared_by_its_callers_and_by_no_other() {
    let authority = Authority::new("clients");
    let other = format!(
        "[callers.berlin]\naccess_key = \"{BERLIN}\"\nclient_certificate = [\"CN=berlin\"]\n"
    );
    let tables = caller("a", "client_certificate = [\"CN=a\"]")
        + &caller("b", "client_certificate = [\"CN=b\"]")
        + &other;
    let env = Site::new(&authority, &tables).start().await;
    let [a, b, berlin] = ["CN=a", "CN=b", "CN=berlin"].map(|name| authority.issue(&[name]));
    let first = env.recording_of(&a, "1-1").await;
    assert_node_response(&first, "0");
    assert_eq!(
        env.sole_upstream_request().access_key.as_deref(),
        Some(SHANGHAI)
    );
    for again in [
        env.recording_of(&a, "1-1").await,
        env.recording_of(&b, "1-1").await,
        env.send(&signed(env.recording("1-1"), SHANGHAI)).await,
    ] {
        assert_eq!(again.body, first.body);
        assert!(again.header("cache-status").unwrap().contains("; hit"));
    }
    env.assert_no_upstream_request();
    let of_berlin = env.recording_of(&berlin, "1-1").await;
    assert_node_response(&of_berlin, "0");
    assert_eq!(
        env.sole_upstream_request().access_key.as_deref(),
        Some(BERLIN)
    );
    assert_ne!(of_berlin.body, first.body);
}

#[tokio::test]
async fn a_node_sees_nothing_of_the_head_of_a_caller() {
    let authority = Authority::new("clients");
    let keys = format!("{QA}\ninterfaces = [\"getRecordFileUrlFromObs\", \"downloadRecordFile\"]");
    let env = Site::new(&authority, &caller("qa", &keys)).start().await;
    let client = env.client_of(&authority.issue(&["CN=qa"]));
    let file = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"a/17B.wav"}}"#;
    for request in [
        env.recording("1-1"),
        env.post_to("downloadRecordFile", file),
    ] {
        let request = request
            .with_header(COOKIE, "session=CANARY")
            .with_header(ACCEPT_ENCODING, "gzip")
            .with_header(RANGE, "bytes=0-1")
            .with_header(CACHE_CONTROL, "no-cache")
            .with_header(HeaderName::from_static("prefer"), "wait=1")
            .with_header(HeaderName::from_static("x-forwarded-for"), "192.0.2.1")
            .with_header(HeaderName::from_static("x-canary"), "CANARY")
            .with_header(CONTENT_TYPE, "application/json; canary=CANARY");
        assert_eq!(client.send(&request).await.unwrap().status.as_u16(), 200);
        let got = env.sole_upstream_request();
        let mut names: Vec<_> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let own = [
            "authorization",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id",
        ];
        assert_eq!(names, own);
        assert_eq!(
            got.header("content-type"),
            Some("application/json;charset=UTF-8")
        );
        assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(got.header("host"), request.headers["host"].to_str().ok());
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        assert_eq!(got.rejection, None);
        assert!(!format!("{:?}", got.headers).contains("CANARY"));
    }
}

#[tokio::test]
async fn any_second_credential_is_401() {
    let (env, identity) = qa("").await;
    let client = env.client_of(&identity);
    let signature = signed(env.recording("1-1"), SHANGHAI).headers[AUTHORIZATION].clone();
    let values = [
        (AUTHORIZATION, signature),
        (AUTHORIZATION, HeaderValue::from_static("Bearer x")),
        (AUTHORIZATION, HeaderValue::from_static("")),
        (
            X_API_KEY,
            HeaderValue::from_static("0123456789abcdef0123456789abcdef"),
        ),
        (X_API_KEY, HeaderValue::from_static("")),
    ];
    for first in &values {
        for second in &values {
            let mut request = env.recording("1-1");
            request.headers.append(&first.0, first.1.clone());
            request.headers.append(&second.0, second.1.clone());
            for sender in [&client, &env.client] {
                let response = sender.send(&request).await.unwrap();
                assert_gateway_error(&response, 401, "unauthenticated", "GW401");
            }
        }
        // A wrong one does not fall back to the certificate; a right one counts alone.
        let mut request = env.recording("1-1");
        request.headers.append(&first.0, first.1.clone());
        let response = client.send(&request).await.unwrap();
        let is_signed = first.1.as_bytes().starts_with(b"auth-v2");
        assert_eq!(response.status.as_u16(), if is_signed { 200 } else { 401 });
        let caller = env.log_line(&response).await["gw.caller"].clone();
        assert_eq!(caller, Value::Null, "{first:?}");
    }
    let count = "auth_total{result=\"several_credentials\"}";
    let several = page::metric(env.bound.admin.unwrap(), count).await;
    assert_eq!(several, 50.0);
}

#[tokio::test]
async fn a_listener_without_callers_takes_api_keys_for_any_other_field() {
    let authority = Authority::new("clients");
    let env = Site::new(&authority, "").start().await;
    let request = signed(env.recording("1-1"), SHANGHAI).with_header(X_API_KEY, "anything");
    assert_node_response(&env.send(&request).await, "0");
    assert_eq!(
        env.sole_upstream_request().header("x-api-key"),
        Some("anything")
    );
}

#[tokio::test]
async fn only_listed_interfaces_are_served() {
    let authority = Authority::new("clients");
    let keys = format!("{QA}\ninterfaces = [\"downloadRecordFile\"]");
    let mut site = Site::new(&authority, &caller("qa", &keys));
    site.setup.listener = "unknown_paths = \"forward\"".to_owned();
    let env = site.start().await;
    let client = env.client_of(&authority.issue(&["CN=qa"]));
    let file = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"a/17B.wav"}}"#;
    let download = client
        .send(&env.post_to("downloadRecordFile", file))
        .await
        .unwrap();
    assert_eq!(download.status.as_u16(), 200);
    let got = env.sole_upstream_request();
    assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    for (request, status, kind, code) in [
        (env.recording("1-1"), 403, "forbidden", "GW403"),
        (
            env.post_to("downloadRecord", file),
            403,
            "forbidden",
            "GW403",
        ),
        (
            env.post_to("ivr/deleteFile", file),
            403,
            "forbidden",
            "GW403",
        ),
        (
            env.post_to("downloadRecordFiles", file),
            404,
            "not-found",
            "GW404",
        ),
        (
            env.post_to("downloadRecordFile?a=b", file),
            400,
            "malformed",
            "GW400",
        ),
        (
            env.post_to("downloadRecordFile?", file),
            400,
            "malformed",
            "GW400",
        ),
    ] {
        let response = client.send(&request).await.unwrap();
        assert_gateway_error(&response, status, kind, code);
        let line = env.log_line(&response).await;
        assert_eq!(line["gw.caller"], "qa", "{request:?}");
        env.assert_no_upstream_request();
    }
    let get = ClientRequest::new(
        Method::GET,
        &format!("{}/CCFS/resource/ccfs/downloadRecordFile", env.url()),
    );
    let response = client.send(&get.unwrap()).await.unwrap();
    assert_gateway_error(&response, 405, "method-not-allowed", "GW405");
    // Playback needs no credential, and a certificate is none.
    let play = format!("{}/CCFS/resource/ccfs/playVoice?token=x", env.url());
    let response = client
        .send(&ClientRequest::get(&play).unwrap())
        .await
        .unwrap();
    assert_eq!(response.header("x-gateway-error"), None);
    assert_eq!(env.log_line(&response).await["gw.caller"], Value::Null);
}

#[tokio::test]
async fn a_caller_is_served_as_a_signer_is() {
    let (env, identity) = qa("[cache]\nmax_wait = \"3s\"\nnegative_ttl = \"0s\"").await;
    let client = env.client_of(&identity);
    // Normalized, with hints, and waiting for a recording.
    let body = r#"{"callId":"1637742303-1","beginTime":"2021-11-24 08:25:03","endTime":"2021-11-24 09:25:11"}"#;
    assert_node_response(&client.send(&env.post(body)).await.unwrap(), "0");
    let got = env.sole_upstream_request();
    assert!(String::from_utf8_lossy(&got.body).contains("\"version\":\"2.0\""));
    let invalid = client.send(&env.post("{}")).await.unwrap();
    assert_gateway_error(&invalid, 200, "invalid-request", "0300001");
    env.nodes[0].faults().add_unknown_call("1637700000-1");
    let waiting = env
        .recording("1637700000-1")
        .with_header(HeaderName::from_static("prefer"), "wait=1");
    let response = client.send(&waiting).await.unwrap();
    assert_node_response(&response, "0300012");
    assert_eq!(response.header("preference-applied"), Some("wait=1"));
    assert!(response.header("x-gateway-hint").is_some());
    // Over HTTP/2 too.
    let client = env.client_of(&identity).http2_only();
    assert_node_response(&client.send(&env.recording("1-9")).await.unwrap(), "0");
}

#[tokio::test]
async fn logs_and_status_name_the_caller_and_nothing_that_identifies_it() {
    let authority = Authority::new("CANARY-authority");
    let keys = "client_certificate = [\"CN=CANARY-name\"]\nrate_limit = { per_minute = 5 }";
    let tables = caller("qa", keys)
        + "[telemetry]\nlog_level = \"debug\"\naccess_log = \"access.log\"\naudit_log = \"audit.log\"\n";
    let mut env = Site::new(&authority, &tables).start().await;
    let identity = authority.issue(&["CN=CANARY-name"]);
    let response = env.recording_of(&identity, "1-1").await;
    assert_node_response(&response, "0");
    let line = env.log_line(&response).await;
    assert_eq!(
        (&line["gw.caller"], &line["gw.ak"]),
        (&"qa".into(), &SHANGHAI.into())
    );
    let admin = env.bound.admin.unwrap();
    let status = page::get(admin, "/status").await.json();
    let shown = &status["callers"][0];
    assert_eq!(shown["name"], "qa");
    assert_eq!(shown["access_key"], SHANGHAI);
    assert_eq!(
        (&shown["usable"], &shown["requests"]),
        (&true.into(), &1.into())
    );
    let config = page::get(admin, "/config").await.json();
    assert_eq!(
        config["callers"]["qa"]["client_certificate"][0],
        "CN=CANARY-name"
    );
    let way = "caller_auth_total{way=\"certificate\"}";
    assert_eq!(page::metric(admin, way).await, 1.0);
    let metrics = page::get(admin, "/metrics").await.body;
    assert!(!metrics.contains("CANARY") && !metrics.contains("\"qa\""));
    env.shut_down().await;
    let audit = read(&env.file("audit.log"));
    assert!(audit.contains("\"caller\":\"qa\""), "{audit}");
    for file in ["access.log", "audit.log"] {
        assert!(!read(&env.file(file)).contains("CANARY"), "{file}");
    }
}

/// Whatever else a listener lets pass, a caller that may not ask is refused.
#[tokio::test]
async fn what_is_wrong_with_a_caller_is_never_forwarded() {
    for listener in [
        "authentication = \"shadow\"",
        "unknown_clients = \"forward\"",
    ] {
        let authority = Authority::new("clients");
        let tables =
            caller("qa", QA) + &caller("off", "client_certificate = [\"CN=off\"]\nenabled = false");
        let mut site = Site::new(&authority, &tables);
        site.setup.listener = listener.to_owned();
        let env = site.start().await;
        let off = env.recording_of(&authority.issue(&["CN=off"]), "1-1").await;
        assert_gateway_error(&off, 401, "unauthenticated", "GW401");
        let client = env.client_of(&authority.issue(&["CN=qa"]));
        assert_node_response(&client.send(&env.recording("1-1")).await.unwrap(), "0");
        assert_eq!(
            env.sole_upstream_request().access_key.as_deref(),
            Some(SHANGHAI)
        );
        let mut two = env.recording("1-1").with_header(X_API_KEY, "x");
        two.headers
            .append(AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        let response = client.send(&two).await.unwrap();
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        env.assert_no_upstream_request();
    }
}
