//! The main paths over HTTP/2: responses and forwarded requests are the same as over HTTP/1.1.

use std::time::Duration;

use ccfs_gateway::client::{Client, ClientRequest, DEFAULT_SIGNED_FIELDS};
use ccfs_gateway::stand_in::{Fault, When, files};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, credential, signed};

async fn env() -> TestEnv {
    speaking(Setup::default()).await
}

async fn speaking(setup: Setup) -> TestEnv {
    let mut env = setup.start().await;
    env.client = env.new_client().http2_only();
    env
}

fn versionless(call_id: &str) -> String {
    json!({
        "callId": call_id, "beginTime": "2022-01-02 10:00:00", "endTime": "2022-01-02 11:00:00",
    })
    .to_string()
}

#[tokio::test]
async fn a_recording_url_is_a_miss_then_a_hit() {
    let env = env().await;
    let request = signed(env.recording("1-1"), SHANGHAI);
    let first = env.send(&request).await;
    assert_node_response(&first, "0");
    let got = env.sole_upstream_request();
    assert_eq!(got.body, request.body);
    for name in ["authorization", "host", "content-type", "content-length"] {
        assert_eq!(
            got.header(name),
            request.headers[name].to_str().ok(),
            "{name}"
        );
    }
    let second = env.send(&request).await;
    assert_eq!(first.body, second.body);
    assert!(
        second
            .header("cache-status")
            .unwrap()
            .starts_with("ccfs-gateway; hit")
    );
    env.assert_no_upstream_request();
    // Both protocols share cache entries.
    let mut other = env;
    other.client = other.new_client();
    assert_eq!(other.send(&request).await.body, first.body);
    other.assert_no_upstream_request();
}

#[tokio::test]
async fn a_versionless_request_is_converted() {
    let env = env().await;
    let request = signed(env.post(versionless("1-1")), SHANGHAI);
    assert_node_response(&env.send(&request).await, "0");
    let got = env.sole_upstream_request();
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        (&body["version"], &body["beginTime"]),
        (&json!("2.0"), &json!("2022-01-02 18:00:00"))
    );
    assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    assert_eq!(got.header("host"), request.headers[HOST].to_str().ok());
    let response = env
        .send(&signed(env.post(versionless("1-1")), BERLIN))
        .await;
    assert_gateway_error(&response, 200, "invalid-request", "0300006");
}

/// The stream carries the host in `:authority` only; that is what was signed, and what the node
/// receives.
#[tokio::test]
async fn the_authority_is_the_host_that_was_signed() {
    let env = env().await;
    let mut request = env.recording("1-1");
    request
        .headers
        .insert(HOST, "records.example.com:28443".parse().unwrap());
    let request = signed(request, SHANGHAI);
    assert_node_response(&env.send(&request).await, "0");
    let got = env.sole_upstream_request();
    assert_eq!(got.header("host"), Some("records.example.com:28443"));
    assert_eq!(
        got.header("x-forwarded-host"),
        Some("records.example.com:28443")
    );
    let moved = request.with_header(HOST, "other.example.com");
    assert_gateway_error(&env.send(&moved).await, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn a_request_without_length_gets_one_for_the_node() {
    let env = env().await;
    let mut request = env.recording("1-1");
    request.headers.remove("content-length");
    let names = "host;content-type";
    let request = request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap();
    assert_node_response(&env.send(&request).await, "0");
    let got = env.sole_upstream_request();
    assert_eq!(
        got.header("content-length"),
        Some(&*got.body.len().to_string())
    );
    assert_eq!(
        got.header("authorization"),
        request.headers[AUTHORIZATION].to_str().ok()
    );
}

#[tokio::test]
async fn rejections_are_the_same() {
    let env = env().await;
    let url = |path: &str| format!("{}{path}", env.url());
    let recording = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
    let get = ClientRequest::new(Method::GET, &url(recording)).unwrap();
    let mut wide = env.recording("1-1");
    wide.headers
        .insert("x-wide", "y".repeat(33_000).parse().unwrap());
    let mut doubled = signed(env.recording("1-1"), SHANGHAI);
    doubled.headers.append(AUTHORIZATION, "x".parse().unwrap());
    for (request, status, kind, code) in [
        (env.recording("1-1"), 401, "unauthenticated", "GW401"),
        (
            signed(env.recording("1-1"), UNKNOWN),
            401,
            "unauthenticated",
            "GW401",
        ),
        (doubled, 401, "unauthenticated", "GW401"),
        (get, 405, "method-not-allowed", "GW405"),
        (env.post("x".repeat(70_000)), 413, "body-too-large", "GW413"),
        (
            signed(
                env.post("{}")
                    .with_header(http::header::CONTENT_ENCODING, "gzip"),
                SHANGHAI,
            ),
            415,
            "unsupported-media-type",
            "GW415",
        ),
        (
            signed(env.post("{}"), SHANGHAI),
            200,
            "invalid-request",
            "0300001",
        ),
        (
            ClientRequest::get(&url("/CCFS/%2e%2e/x")).unwrap(),
            400,
            "malformed",
            "GW400",
        ),
        (wide, 431, "headers-too-large", "GW431"),
    ] {
        println!("{kind}");
        assert_gateway_error(&env.send(&request).await, status, kind, code);
    }
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn node_failures_are_the_same() {
    let cluster = "ejection = { consecutive_failures = 0 }\n\
                   timeouts = { connect = \"100ms\", per_try = \"100ms\", overall = \"200ms\", fetch = \"300ms\" }";
    let env = speaking(Setup {
        cluster: cluster.into(),
        ..Setup::default()
    })
    .await;
    for (fault, status, kind, code) in [
        (Fault::Reset, 502, "node-failed", "GW502"),
        (Fault::CloseInBody, 502, "node-failed", "GW502"),
        (Fault::GarbageJson, 502, "node-failed", "GW502"),
        (Fault::Hang, 504, "node-timeout", "GW504"),
    ] {
        env.nodes[0].faults().inject(fault, When::Always);
        assert_gateway_error(&env.get_recording(kind).await, status, kind, code);
        env.nodes[0].faults().clear();
    }
    env.nodes[0]
        .faults()
        .inject(Fault::Status(503), When::Next(1));
    let response = env.get_recording("1-1").await;
    assert_eq!(
        (response.status.as_u16(), response.header("x-gateway-error")),
        (503, None)
    );
    assert_node_response(&env.get_recording("1-1").await, "0");
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_node_do_not_break_a_stream() {
    let env = env().await;
    env.nodes[0]
        .faults()
        .inject(Fault::HopByHopHeaders, When::Always);
    for number in 0..3 {
        let response = env.get_recording(&format!("1-{number}")).await;
        assert_node_response(&response, "0");
        for gone in [
            "connection",
            "keep-alive",
            "x-node-secret",
            "proxy-connection",
            "transfer-encoding",
        ] {
            assert_eq!(response.header(gone), None, "{gone}");
        }
    }
}

#[tokio::test]
async fn cookie_crumbs_reach_the_node_joined() {
    let env = env().await;
    let mut request = env.recording("1-1");
    for piece in ["a=1", "b=2"] {
        request
            .headers
            .append(HeaderName::from_static("cookie"), piece.parse().unwrap());
    }
    assert_node_response(&env.send(&signed(request, SHANGHAI)).await, "0");
    // RFC 9113 section 8.2.3: cookie crumbs are joined with "; ".
    assert_eq!(
        env.sole_upstream_request().header("cookie"),
        Some("a=1; b=2")
    );
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let env = env().await;
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"data": "A".repeat(2 << 20)}});
    let request = signed(env.post_to("ivr/uploadFile", body.to_string()), SHANGHAI);
    assert_node_response(&env.send(&request).await, "0");
    assert_eq!(
        env.sole_upstream_request().body_length,
        request.body.len() as u64
    );
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": "5MiB.wav"}});
    let request = signed(env.post_to("downloadRecord", body.to_string()), SHANGHAI);
    let response = env.send(&request).await;
    assert_eq!(
        (response.status.as_u16(), response.body.len()),
        (200, 5 << 20)
    );
    assert!(files::matches(0, &response.body));
    assert_eq!(response.header("content-length"), Some("5242880"));
}

#[tokio::test]
async fn streams_of_one_connection_do_not_block_each_other() {
    let env = env().await;
    assert_node_response(&env.get_recording("0-0").await, "0");
    env.nodes[0].clear_record();
    env.nodes[0].faults().inject(Fault::Hold, When::Next(1));
    let held = env.get_recording("1-1");
    let others = async {
        let came =
            env.nodes[0].wait_for_requests("getRecordFileUrlFromObs", 1, Duration::from_secs(10));
        assert!(came.await);
        for number in 0..3 {
            assert_node_response(&env.get_recording(&format!("2-{number}")).await, "0");
        }
        env.nodes[0].faults().release();
    };
    let (held, ()) = tokio::join!(held, others);
    assert_node_response(&held, "0");
}

#[tokio::test]
async fn both_protocols_are_offered_and_the_client_chooses() {
    let env = TestEnv::start().await;
    let clients: [Client; 2] = [env.new_client(), env.new_client().http2_only()];
    for (number, client) in clients.into_iter().enumerate() {
        let request = env.recording(&format!("1-{number}"));
        let request = request
            .sign(
                &credential(SHANGHAI),
                DEFAULT_SIGNED_FIELDS,
                Timestamp::now(),
            )
            .unwrap();
        assert_node_response(&client.send(&request).await.unwrap(), "0");
    }
}
