//! Clients with an unknown access key or another authentication scheme.

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS};
use ccfs_gateway::stand_in::RecordedRequest;
use http::header::{AUTHORIZATION, HOST};
use jiff::Timestamp;
use serde_json::json;

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, secret, signed};

const OFF: &str = "ak-switched-off";

async fn forwarding_env(tables: &str) -> TestEnv {
    let setup = Setup {
        listener: "unknown_clients = \"forward\"".into(),
        accounts: vec![(OFF, "time_zone = \"Asia/Shanghai\"\nenabled = false")],
        tables: tables.into(),
        ..Setup::default()
    };
    setup.start().await
}

pub(super) fn assert_forwarded_unchanged(got: &RecordedRequest, sent: &ClientRequest) {
    assert_eq!(
        (got.target.as_str(), &got.body),
        (sent.target.as_str(), &sent.body)
    );
    for (name, value) in &sent.headers {
        assert_eq!(got.header(name.as_str()), value.to_str().ok(), "{name}");
    }
}

#[tokio::test]
async fn an_unverified_request_is_forwarded_unchanged_and_never_cached() {
    let env = forwarding_env("").await;
    let versionless = json!({
        "callId": "1-1", "beginTime": "2022-01-02 10:00:00", "endTime": "2022-01-02 11:00:00",
    });
    for body in [
        versionless.to_string(),
        "no json".into(),
        "{ \"callId\" : 5 } ".into(),
    ] {
        let mut request = env.post(body);
        request
            .headers
            .insert(HOST, "records.example.com".parse().unwrap());
        let request = signed(request, UNKNOWN);
        for _ in 0..2 {
            let response = env.send(&request).await;
            assert_eq!(response.header("x-gateway-error"), None);
            assert_eq!(response.header("age"), None);
            assert_common_headers(&response);
            let got = env.sole_upstream_request();
            assert_forwarded_unchanged(&got, &request);
            assert_eq!(got.access_key.as_deref(), Some(UNKNOWN));
        }
    }
    // Cache entries of a verified caller are not used for unverified clients, and vice versa.
    assert_node_response(&env.get_recording("1-2").await, "0");
    env.sole_upstream_request();
    let request = signed(env.recording("1-2"), UNKNOWN);
    env.send(&request).await;
    env.sole_upstream_request();
}

#[tokio::test]
async fn other_schemes_are_forwarded_for_the_node_to_verify() {
    let env = forwarding_env("").await;
    for value in [
        "Bearer abc.def",
        "SDK-HMAC-SHA256 Access=x, SignedHeaders=host, Signature=y",
        "Basic eDp5",
    ] {
        let request = env
            .recording("1-1")
            .with_authorization(value.parse().unwrap());
        let response = env.send(&request).await;
        assert_eq!(
            (response.status.as_u16(), response.header("x-gateway-error")),
            (401, None)
        );
        assert_forwarded_unchanged(&env.sole_upstream_request(), &request);
    }
    let mut without = env.recording("1-1");
    without.headers.remove(AUTHORIZATION);
    assert_eq!(env.send(&without).await.header("x-gateway-error"), None);
    assert_forwarded_unchanged(&env.sole_upstream_request(), &without);
}

#[tokio::test]
async fn a_configured_access_key_verifies_or_is_401() {
    let env = forwarding_env("").await;
    let forged = |ak: &str| {
        let secret = Secret::new(secret(UNKNOWN).into_bytes());
        let credential = Credential::new(AccessKey::from(ak), vec![secret], true);
        let request = env.recording("1-1");
        request
            .sign(&credential, DEFAULT_SIGNED_FIELDS, Timestamp::now())
            .unwrap()
    };
    let mut requests = vec![
        forged(SHANGHAI),
        forged(BERLIN),
        forged(OFF),
        signed(env.recording("1-1"), OFF),
    ];
    for value in [
        format!("Bearer {SHANGHAI}"),
        format!("SDK-HMAC-SHA256 Access={SHANGHAI}, SignedHeaders=host, Signature=y"),
        format!("SDK-HMAC-SHA256 Access=x,{SHANGHAI},y"),
        format!("auth-v3/{SHANGHAI}/2022-01-02T10:00:00Z/host/00"),
        format!("AUTH-V2/{OFF}/2022-01-02T10:00:00Z/host/00"),
        format!("Bearer\t{SHANGHAI}"),
        format!("auth-v2/{UNKNOWN}/2022-01-02T10:00:00Z/{SHANGHAI}/00"),
        SHANGHAI.into(),
    ] {
        requests.push(
            env.recording("1-1")
                .with_authorization(value.parse().unwrap()),
        );
    }
    for request in requests {
        let response = env.send(&request).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    // Two Authorization values are always rejected, whatever they contain.
    let mut doubled = signed(env.recording("1-1"), UNKNOWN);
    doubled
        .headers
        .append(AUTHORIZATION, "Bearer x".parse().unwrap());
    assert_gateway_error(&env.send(&doubled).await, 401, "unauthenticated", "GW401");
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn unverified_requests_reach_listed_interfaces_only() {
    let env = forwarding_env("").await;
    for (tail, expected) in [
        ("downloadRecord", 200),
        ("nothing", 401),
        ("downloadRecord/", 401),
    ] {
        let body = "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{\"fileName\":\"a.wav\"}}";
        let response = env.send(&signed(env.post_to(tail, body), UNKNOWN)).await;
        assert_eq!(response.status.as_u16(), expected, "{tail}");
    }
    assert_eq!(env.upstream_requests().len(), 1);
    let url = format!("{}/rest/cmsapp/x", env.url());
    let outside = signed(
        ClientRequest::get(&url)
            .unwrap()
            .with_header(http::header::CONTENT_LENGTH, "0")
            .with_header(http::header::CONTENT_TYPE, "a/b"),
        UNKNOWN,
    );
    assert_gateway_error(&env.send(&outside).await, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn host_node_leaves_unverified_requests_unchanged() {
    let setup = Setup {
        listener: "unknown_clients = \"forward\"".into(),
        cluster: "host = \"node\"".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let request = signed(env.recording("1-1"), UNKNOWN);
    assert_node_response(&env.send(&request).await, "0");
    assert_forwarded_unchanged(&env.sole_upstream_request(), &request);
}

#[tokio::test]
async fn unverified_clients_are_limited_by_address_and_verified_ones_are_not() {
    let env = forwarding_env("[limits]\nper_address = { per_second = 1, burst = 3 }").await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let response = env.send(&signed(env.recording("1-1"), UNKNOWN)).await;
        statuses.push(response.status.as_u16());
        if response.status == 429 {
            assert_gateway_error(&response, 429, "rate-limited", "0300009");
            assert!(response.header("retry-after").is_some());
            assert_eq!(response.header("connection"), Some("close"));
        }
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    for _ in 0..5 {
        assert_node_response(&env.get_recording("1-1").await, "0");
    }
}
