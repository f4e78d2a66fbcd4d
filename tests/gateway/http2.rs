//! The main flows over HTTP/2: the same answers, and nodes that see no difference.

use std::time::Duration;

use ccfs_gateway::client::{Client, NAMES, SignedRequest};
use ccfs_gateway::stand_in::{Fault, When, files};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::assertions::{answered, refused};
use crate::support::{BERLIN, SHANGHAI, STRANGER, Setup, World, credential, signed};

async fn world() -> World {
    speaking(Setup::default()).await
}

async fn speaking(setup: Setup) -> World {
    let mut world = setup.start().await;
    world.client = world.another_client().over_http2();
    world
}

fn versionless(call_id: &str) -> String {
    json!({
        "callId": call_id, "beginTime": "2022-01-02 10:00:00", "endTime": "2022-01-02 11:00:00",
    })
    .to_string()
}

#[tokio::test]
async fn a_recording_url_is_missed_stored_and_hit() {
    let world = world().await;
    let request = signed(world.recording("1-1"), SHANGHAI);
    let first = world.send(&request).await;
    answered(&first, "0");
    let got = world.sole();
    assert_eq!(got.body, request.body);
    for name in ["authorization", "host", "content-type", "content-length"] {
        assert_eq!(
            got.header(name),
            request.headers[name].to_str().ok(),
            "{name}"
        );
    }
    let second = world.send(&request).await;
    assert_eq!(first.body, second.body);
    assert!(
        second
            .header("cache-status")
            .unwrap()
            .starts_with("ccfs-gateway; hit")
    );
    world.nobody_was_asked();
    // One protocol's entry is the other's.
    let mut other = world;
    other.client = other.another_client();
    assert_eq!(other.send(&request).await.body, first.body);
    other.nobody_was_asked();
}

#[tokio::test]
async fn a_versionless_request_is_converted() {
    let world = world().await;
    let request = signed(world.post(versionless("1-1")), SHANGHAI);
    answered(&world.send(&request).await, "0");
    let got = world.sole();
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        (&body["version"], &body["beginTime"]),
        (&json!("2.0"), &json!("2022-01-02 18:00:00"))
    );
    assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    assert_eq!(got.header("host"), request.headers[HOST].to_str().ok());
    let answer = world
        .send(&signed(world.post(versionless("1-1")), BERLIN))
        .await;
    refused(&answer, 200, "invalid-request", "0300006");
}

/// The stream has a Host only in its pseudo field: that is what was signed, and what the node gets.
#[tokio::test]
async fn the_authority_is_the_host_that_was_signed() {
    let world = world().await;
    let mut request = world.recording("1-1");
    request
        .headers
        .insert(HOST, "records.example.com:28443".parse().unwrap());
    let request = signed(request, SHANGHAI);
    answered(&world.send(&request).await, "0");
    let got = world.sole();
    assert_eq!(got.header("host"), Some("records.example.com:28443"));
    assert_eq!(
        got.header("x-forwarded-host"),
        Some("records.example.com:28443")
    );
    let moved = request.with(HOST, "other.example.com");
    refused(&world.send(&moved).await, 401, "unauthenticated", "GW401");
}

#[tokio::test]
async fn a_request_without_length_is_framed_by_one_for_the_node() {
    let world = world().await;
    let mut request = world.recording("1-1");
    request.headers.remove("content-length");
    let names = "host;content-type";
    let request = request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap();
    answered(&world.send(&request).await, "0");
    let got = world.sole();
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
async fn refusals_are_the_same() {
    let world = world().await;
    let url = |path: &str| format!("{}{path}", world.url());
    let recording = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
    let get = SignedRequest::new(Method::GET, &url(recording)).unwrap();
    let mut wide = world.recording("1-1");
    wide.headers
        .insert("x-wide", "y".repeat(33_000).parse().unwrap());
    let mut doubled = signed(world.recording("1-1"), SHANGHAI);
    doubled.headers.append(AUTHORIZATION, "x".parse().unwrap());
    for (request, status, kind, code) in [
        (world.recording("1-1"), 401, "unauthenticated", "GW401"),
        (
            signed(world.recording("1-1"), STRANGER),
            401,
            "unauthenticated",
            "GW401",
        ),
        (doubled, 401, "unauthenticated", "GW401"),
        (get, 405, "method-not-allowed", "GW405"),
        (
            world.post("x".repeat(70_000)),
            413,
            "body-too-large",
            "GW413",
        ),
        (
            signed(
                world
                    .post("{}")
                    .with(http::header::CONTENT_ENCODING, "gzip"),
                SHANGHAI,
            ),
            415,
            "unsupported-media-type",
            "GW415",
        ),
        (
            signed(world.post("{}"), SHANGHAI),
            200,
            "invalid-request",
            "0300001",
        ),
        (
            SignedRequest::get(&url("/CCFS/%2e%2e/x")).unwrap(),
            400,
            "malformed",
            "GW400",
        ),
        (wide, 431, "headers-too-large", "GW431"),
    ] {
        println!("{kind}");
        refused(&world.send(&request).await, status, kind, code);
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn failures_of_nodes_are_the_same() {
    let cluster = "ejection = { consecutive_failures = 0 }\n\
                   timeouts = { connect = \"100ms\", per_try = \"100ms\", overall = \"200ms\", fetch = \"300ms\" }";
    let world = speaking(Setup {
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
        world.nodes[0].faults().inject(fault, When::Always);
        refused(&world.ask(kind).await, status, kind, code);
        world.nodes[0].faults().clear();
    }
    world.nodes[0]
        .faults()
        .inject(Fault::Status(503), When::Next(1));
    let answer = world.ask("1-1").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-gateway-error")),
        (503, None)
    );
    answered(&world.ask("1-1").await, "0");
}

#[tokio::test]
async fn fields_of_one_hop_of_a_node_do_not_break_a_stream() {
    let world = world().await;
    world.nodes[0]
        .faults()
        .inject(Fault::HopByHopFields, When::Always);
    for number in 0..3 {
        let answer = world.ask(&format!("1-{number}")).await;
        answered(&answer, "0");
        for gone in [
            "connection",
            "keep-alive",
            "x-node-secret",
            "proxy-connection",
            "transfer-encoding",
        ] {
            assert_eq!(answer.header(gone), None, "{gone}");
        }
    }
}

#[tokio::test]
async fn cookies_in_pieces_reach_the_node_as_one() {
    let world = world().await;
    let mut request = world.recording("1-1");
    for piece in ["a=1", "b=2"] {
        request
            .headers
            .append(HeaderName::from_static("cookie"), piece.parse().unwrap());
    }
    answered(&world.send(&signed(request, SHANGHAI)).await, "0");
    // RFC 9113, 8.2.3.
    assert_eq!(world.sole().header("cookie"), Some("a=1; b=2"));
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let world = world().await;
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"data": "A".repeat(2 << 20)}});
    let request = signed(world.post_to("ivr/uploadFile", body.to_string()), SHANGHAI);
    answered(&world.send(&request).await, "0");
    assert_eq!(world.sole().body_length, request.body.len() as u64);
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": "5MiB.wav"}});
    let request = signed(world.post_to("downloadRecord", body.to_string()), SHANGHAI);
    let answer = world.send(&request).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 5 << 20));
    assert!(files::matches(0, &answer.body));
    assert_eq!(answer.header("content-length"), Some("5242880"));
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() {
    let world = world().await;
    answered(&world.ask("0-0").await, "0");
    world.nodes[0].clear();
    world.nodes[0].faults().inject(Fault::Hold, When::Next(1));
    let held = world.ask("1-1");
    let others = async {
        let came = world.nodes[0].wait_for("getRecordFileUrlFromObs", 1, Duration::from_secs(10));
        assert!(came.await);
        for number in 0..3 {
            answered(&world.ask(&format!("2-{number}")).await, "0");
        }
        world.nodes[0].faults().release();
    };
    let (held, ()) = tokio::join!(held, others);
    answered(&held, "0");
}

#[tokio::test]
async fn both_protocols_are_offered_and_the_client_chooses() {
    let world = World::start().await;
    let clients: [Client; 2] = [world.another_client(), world.another_client().over_http2()];
    for (number, client) in clients.into_iter().enumerate() {
        let request = world.recording(&format!("1-{number}"));
        let request = request
            .sign(&credential(SHANGHAI), NAMES, Timestamp::now())
            .unwrap();
        answered(&client.send(&request).await.unwrap(), "0");
    }
}
