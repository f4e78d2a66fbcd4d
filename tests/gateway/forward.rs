//! What nodes see, what becomes of their answers, and of their failures.

use std::time::{Duration, Instant};

use ccfs_gateway::cli::client::{NAMES, SignedRequest};
use ccfs_gateway::stand_in::{Fault, Received, When, files};
use http::HeaderName;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::expect::{answered, carries_what_all_do, refused};
use crate::support::{SHANGHAI, Setup, World, credential, eventually, signed};

const RECORDING: &str = "getRecordFileUrlFromObs";

fn values(got: &Received, name: &str) -> Vec<String> {
    let fields = got.headers.iter().filter(|(given, _)| given == name);
    fields
        .map(|(_, value)| value.to_str().unwrap().to_owned())
        .collect()
}

fn add(request: &mut SignedRequest, fields: &[(&'static str, &'static str)]) {
    for (name, value) in fields {
        let name = HeaderName::from_static(name);
        request.headers.append(name, value.parse().unwrap());
    }
}

fn download(world: &World, file: &str) -> SignedRequest {
    let body =
        format!("{{\"request\":{{\"version\":\"2.0\"}},\"msgBody\":{{\"fileName\":\"{file}\"}}}}");
    world.post_to("downloadRecord", body)
}

#[tokio::test]
async fn a_node_sees_who_asked_from_the_gateway_only() {
    let world = World::start().await;
    for mut request in [
        world.recording("1-1"),
        download(&world, "a.wav"),
        world.post_to("unlisted", "{}"),
    ] {
        add(
            &mut request,
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-for", "5.6.7.8"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-host", "evil.example.com"),
                ("x-forwarded-port", "1"),
                ("forwarded", "for=1.2.3.4"),
                ("x-real-ip", "1.2.3.4"),
                ("x-request-id", "my-id"),
                ("via", "1.0 fred"),
            ],
        );
        world.send(&signed(request.clone(), SHANGHAI)).await;
        let got = world.sole();
        let host = request.headers["host"].to_str().unwrap();
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", host),
            ("x-request-id", "my-id"),
        ] {
            assert_eq!(values(&got, name), [value], "{name}");
        }
        for gone in ["x-forwarded-port", "forwarded", "x-real-ip"] {
            assert!(values(&got, gone).is_empty(), "{gone}");
        }
        let via = values(&got, "via").join(", ");
        assert_eq!(via, "1.0 fred, 1.1 ccfs-gateway");
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    }
}

#[tokio::test]
async fn what_belongs_to_one_hop_ends_here() {
    let world = World::start().await;
    for mut request in [world.recording("1-1"), download(&world, "a.wav")] {
        add(
            &mut request,
            &[
                (
                    "connection",
                    "keep-alive, X-Client-Secret, authorization, host, content-length",
                ),
                ("x-client-secret", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("upgrade", "websocket"),
                ("proxy-authorization", "Basic x"),
                ("proxy-connection", "keep-alive"),
                ("x-end-to-end", "2"),
                ("x-end-to-end", "1"),
            ],
        );
        let request = signed(request, SHANGHAI);
        let answer = world.send(&request).await;
        assert_eq!(answer.status, 200);
        let got = world.sole();
        for gone in [
            "x-client-secret",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-authorization",
            "proxy-connection",
        ] {
            assert!(values(&got, gone).is_empty(), "{gone}");
        }
        assert_eq!(values(&got, "x-end-to-end"), ["2", "1"]);
        assert_eq!(
            got.header("authorization"),
            request.headers["authorization"].to_str().ok()
        );
    }
}

#[tokio::test]
async fn signed_fields_arrive_as_they_were_signed() {
    let world = World::start().await;
    let mut request = world.recording("1-1");
    add(
        &mut request,
        &[
            ("accept-encoding", "gzip, br"),
            ("x-request-id", "not sane"),
            ("x-named", "  a  b "),
        ],
    );
    add(&mut request, &[("connection", "x-named")]);
    let names = "host;accept-encoding;x-request-id;x-named";
    let request = request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap();
    let answer = world.send(&request).await;
    assert_eq!(answer.status, 200);
    let got = world.sole();
    assert_eq!(
        (got.access_key.as_deref(), &got.refused),
        (Some(SHANGHAI), &None)
    );
    for name in names.split(';') {
        let sent = request.headers[name].to_str().unwrap().trim();
        assert_eq!(values(&got, name), [sent], "{name}");
    }
}

#[tokio::test]
async fn what_must_end_here_although_it_is_signed_is_signed_again_without() {
    let world = World::start().await;
    let mut request = world.recording("1-1");
    add(
        &mut request,
        &[("te", "trailers"), ("keep-alive", "timeout=5")],
    );
    let names = "host;te;content-type;keep-alive";
    let request = request
        .sign(&credential(SHANGHAI), names, Timestamp::now())
        .unwrap();
    answered(&world.send(&request).await, "0");
    let got = world.sole();
    assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    assert_eq!(got.header("te"), None);
}

#[tokio::test]
async fn unsigned_accept_encoding_goes_to_downloads_only() {
    let world = World::start().await;
    let gzip = |mut request: SignedRequest| {
        add(&mut request, &[("accept-encoding", "gzip")]);
        signed(request, SHANGHAI)
    };
    world.send(&gzip(world.recording("1-1"))).await;
    assert_eq!(world.sole().header("accept-encoding"), None);
    world.send(&gzip(download(&world, "a.wav"))).await;
    world.sole();
}

#[tokio::test]
async fn a_trace_is_continued_for_verified_callers_or_begun() {
    let world = World::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let seen = async |traceparent: Option<&'static str>| {
        let mut request = world.recording("1-1");
        request.target += "?uncached";
        if let Some(traceparent) = traceparent {
            add(&mut request, &[("traceparent", traceparent)]);
        }
        world.send(&signed(request, SHANGHAI)).await;
        let value = values(&world.sole(), "traceparent");
        assert_eq!(value.len(), 1);
        let parts: Vec<String> = value[0].split('-').map(Into::into).collect();
        assert_eq!(
            [2, 32, 16, 2],
            *parts.iter().map(String::len).collect::<Vec<_>>(),
            "{value:?}"
        );
        parts
    };
    let continued = seen(Some(parent)).await;
    assert_eq!(continued[1], "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(continued[2], "b7ad6b7169203331");
    let begun = seen(None).await;
    for broken in [
        "x",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let other = seen(Some(broken)).await;
        assert_ne!(other[1], begun[1]);
        assert!(!broken.contains(&other[1]));
    }
}

#[tokio::test]
async fn a_nodes_fields_reach_the_client_but_for_those_of_the_hop() {
    let world = World::start().await;
    world.nodes[0]
        .faults()
        .inject(Fault::HopByHopFields, When::Always);
    for request in [
        world.recording("1-1"),
        download(&world, "a.wav"),
        world.post_to("unlisted", "{}"),
    ] {
        let answer = world.send(&signed(request, SHANGHAI)).await;
        assert_eq!(answer.header("server"), Some("ccfs-stand-in"));
        for gone in [
            "x-node-secret",
            "keep-alive",
            "proxy-authenticate",
            "proxy-connection",
        ] {
            assert_eq!(answer.header(gone), None, "{gone}");
        }
        assert_eq!(answer.headers.get_all("date").iter().count(), 1);
        carries_what_all_do(&answer);
    }
}

/// Two nodes that are asked in turn.
async fn two_nodes(cluster: &str) -> World {
    let cluster = format!("balance = \"round-robin\"\n{cluster}");
    Setup {
        nodes: 2,
        cluster,
        ..Setup::default()
    }
    .start()
    .await
}

/// One node that is never put aside, so that each request of a table is tried there.
async fn one_node(cluster: &str) -> World {
    let cluster = format!("ejection = {{ consecutive_failures = 0 }}\n{cluster}");
    Setup {
        cluster,
        ..Setup::default()
    }
    .start()
    .await
}

#[tokio::test]
async fn answers_that_are_none_are_node_failed() {
    let world = one_node("").await;
    for (number, fault) in [
        Fault::GarbageJson,
        Fault::GarbageHttp,
        Fault::CloseBeforeAnswer,
        Fault::CloseInHead,
        Fault::CloseInBody,
        Fault::Reset,
        Fault::ResetInBody,
        Fault::TwoLengths,
        Fault::LengthAndChunked,
        Fault::NulInField,
        Fault::BigAnswer(1 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        println!("{fault:?}");
        let faults = world.nodes[0].faults();
        faults.inject(fault, When::Always);
        let call_id = format!("1-{number}");
        for request in [
            world.recording(&call_id),
            world.post_to(
                "ivr/getFileHash",
                "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{\"fileName\":\"a\"}}",
            ),
        ] {
            let answer = world.send(&signed(request, SHANGHAI)).await;
            refused(&answer, 502, "node-failed", "GW502");
            let cached = answer
                .header("cache-status")
                .unwrap_or_default()
                .contains("stored");
            assert!(!cached);
        }
        faults.clear();
        answered(&world.ask(&call_id).await, "0");
    }
}

#[tokio::test]
async fn odd_but_whole_answers_are_answers() {
    let world = one_node("").await;
    for (number, fault) in [
        Fault::Chunked,
        Fault::UntilClose,
        Fault::CloseAfterAnswer,
        Fault::Surplus,
        Fault::BigAnswer(900_000),
    ]
    .into_iter()
    .enumerate()
    {
        println!("{fault:?}");
        world.nodes[0].faults().inject(fault, When::Next(1));
        let answer = world.ask(&format!("1-{number}")).await;
        answered(&answer, "0");
        assert!(!String::from_utf8_lossy(&answer.body).contains("surplus"));
        answered(&world.ask(&format!("2-{number}")).await, "0");
    }
    assert_eq!(world.nodes[0].misused(), 0);
    // After this one the connection is as good as any other.
    world.nodes[0]
        .faults()
        .inject(Fault::Interim, When::Next(1));
    answered(&world.ask("3-1").await, "0");
    answered(&world.ask("3-2").await, "0");
}

#[tokio::test]
async fn a_nodes_own_status_passes_through_uncached() {
    let world = one_node("").await;
    for status in [
        201, 301, 400, 401, 403, 404, 418, 429, 500, 501, 502, 503, 504,
    ] {
        world.nodes[0].clear();
        world.nodes[0]
            .faults()
            .inject(Fault::Status(status), When::Always);
        for _ in 0..2 {
            for request in [world.recording("1-1"), download(&world, "a.wav")] {
                let answer = world.send(&signed(request, SHANGHAI)).await;
                assert_eq!(answer.status, status);
                assert_eq!(answer.header("x-gateway-error"), None, "{status}");
                let node = if status == 401 {
                    "signature verification failed"
                } else {
                    "<html>"
                };
                assert!(
                    String::from_utf8_lossy(&answer.body).contains(node),
                    "{status}"
                );
                carries_what_all_do(&answer);
            }
        }
        assert_eq!(
            world.received().len(),
            4,
            "nothing is cached, nothing is repeated"
        );
        world.nodes[0].faults().clear();
    }
}

#[tokio::test]
async fn another_node_is_asked_for_502_503_504_and_no_other_status() {
    for (status, moves) in [
        (502, true),
        (503, true),
        (504, true),
        (500, false),
        (401, false),
        (404, false),
        (429, false),
    ] {
        let world = two_nodes("").await;
        for node in &world.nodes {
            node.faults().inject(Fault::Status(status), When::Next(1));
        }
        // The first of the two that is asked fails, then the second; with both at fault the last
        // answer passes through.
        let answer = world.ask("1-1").await;
        assert_eq!(answer.status, status);
        assert_eq!(
            world.received().len(),
            if moves { 2 } else { 1 },
            "{status}"
        );
        world.nodes.iter().for_each(|node| node.faults().clear());
        world.nodes[0]
            .faults()
            .inject(Fault::Status(status), When::Always);
        let mut statuses = Vec::new();
        for number in 0..6 {
            statuses.push(world.ask(&format!("2-{number}")).await.status.as_u16());
        }
        assert_eq!(
            statuses.iter().all(|seen| *seen == 200),
            moves,
            "{statuses:?}"
        );
    }
}

#[tokio::test]
async fn a_node_that_breaks_off_costs_no_request_while_another_is_left() {
    for fault in [
        Fault::Reset,
        Fault::CloseInHead,
        Fault::CloseInBody,
        Fault::GarbageJson,
        Fault::GarbageHttp,
        Fault::FlowControl,
    ] {
        let world = two_nodes("").await;
        world.nodes[0].faults().inject(fault.clone(), When::Always);
        for number in 0..6 {
            let answer = world.ask(&format!("1-{number}")).await;
            println!("{fault:?}");
            answered(&answer, "0");
        }
        assert!(world.nodes[0].faults().injected() > 0);
    }
}

#[tokio::test]
async fn flow_control_from_every_node_passes_through() {
    let world = two_nodes("").await;
    for node in &world.nodes {
        node.faults().inject(Fault::FlowControl, When::Always);
    }
    let answer = world.ask("1-1").await;
    answered(&answer, "0300009");
    let asked: Vec<_> = world
        .nodes
        .iter()
        .map(|node| node.count(RECORDING))
        .collect();
    assert_eq!(asked, [1, 1]);
    let answer = world
        .send(&signed(download(&world, "a.wav"), SHANGHAI))
        .await;
    answered(&answer, "0300008");
}

#[tokio::test]
async fn a_parameter_error_is_an_answer() {
    let world = two_nodes("").await;
    for code in ["0300001", "0300012", "0300028", "0300011"] {
        answered(&world.ask(&format!("code-{code}")).await, code);
        world.sole();
    }
}

const SHORT: &str = "timeouts = { connect = \"100ms\", per_try = \"100ms\", overall = \"300ms\", fetch = \"400ms\" }";

#[tokio::test]
async fn no_answer_in_time_is_504() {
    let world = one_node(SHORT).await;
    for fault in [Fault::Hang, Fault::HangInBody] {
        world.nodes[0].faults().inject(fault, When::Always);
        for request in [
            world.recording("1-1"),
            world.post_to(
                "queryRecordAnalysisStatus",
                "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{}}",
            ),
        ] {
            let began = Instant::now();
            let answer = world.send(&signed(request, SHANGHAI)).await;
            refused(&answer, 504, "node-timeout", "GW504");
            assert!(began.elapsed() < Duration::from_secs(3));
        }
        world.nodes[0].faults().clear();
    }
    world.nodes[0].faults().inject(Fault::Hang, When::Always);
    let answer = world
        .send(&signed(download(&world, "a.wav"), SHANGHAI))
        .await;
    refused(&answer, 504, "node-timeout", "GW504");
}

#[tokio::test]
async fn a_node_that_hangs_is_left_for_another_after_its_time() {
    let timeouts = "timeouts = { connect = \"50ms\", per_try = \"50ms\" }";
    let world = two_nodes(timeouts).await;
    world.nodes[0].faults().inject(Fault::Hang, When::Always);
    for number in 0..4 {
        answered(&world.ask(&format!("1-{number}")).await, "0");
    }
    assert!(world.nodes[0].faults().injected() > 0);
}

#[tokio::test]
async fn a_slow_last_node_may_take_longer_than_a_try() {
    let world = one_node("timeouts = { connect = \"50ms\", per_try = \"50ms\" }").await;
    world.nodes[0]
        .faults()
        .inject(Fault::DelayHead(Duration::from_millis(200)), When::Always);
    answered(&world.ask("1-1").await, "0");
}

#[tokio::test]
async fn nodes_that_refuse_connections_are_node_failed() {
    let mut world = Setup {
        nodes: 2,
        ..Setup::default()
    }
    .start()
    .await;
    for node in &mut world.nodes {
        node.stop().await;
    }
    for request in [
        world.recording("1-1"),
        download(&world, "a.wav"),
        world.post_to("queryBillData", "{}"),
    ] {
        let answer = world.send(&signed(request, SHANGHAI)).await;
        refused(&answer, 502, "node-failed", "GW502");
    }
    world.nodes[1].restart().await.unwrap();
    eventually("the gateway finds the node again", async || {
        world.ask("1-1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn without_a_node_that_may_be_asked_it_is_503() {
    let world = World::start().await;
    let address = world.bound.admin.unwrap();
    let mut admin = tokio::net::TcpStream::connect(address).await.unwrap();
    let order = format!(
        "POST /nodes/ccfs/{}/drain HTTP/1.1\r\nHost: {address}\r\nX-Ccfs-Gateway: 1\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
        world.nodes[0].address()
    );
    admin.write_all(order.as_bytes()).await.unwrap();
    let mut done = String::new();
    admin.read_to_string(&mut done).await.unwrap();
    assert!(done.starts_with("HTTP/1.1 2"), "{done}");
    for request in [world.recording("1-1"), download(&world, "a.wav")] {
        let answer = world.send(&signed(request, SHANGHAI)).await;
        refused(&answer, 503, "no-healthy-node", "GW503");
        assert!(answer.header("retry-after").is_some());
    }
    world.nobody_was_asked();
}

#[tokio::test]
async fn a_node_cannot_speak_as_the_gateway() {
    let world = World::start().await;
    let body = signed(download(&world, "size-100000.wav"), SHANGHAI);
    let answer = world.send(&body).await;
    assert!(files::matches(0, &answer.body));
    assert_eq!(answer.header("x-gateway-error"), None);
}

#[tokio::test]
async fn a_slow_signature_does_not_outlive_its_names() {
    // The names of the client's signature are those of the gateway's, in the same order.
    let world = Setup {
        cluster: "host = \"node\"".into(),
        ..Setup::default()
    }
    .start()
    .await;
    for names in [NAMES, "host", "host;content-type;content-length"] {
        let mut request = world.recording("1-1");
        request.target += "?uncached";
        let request = request
            .sign(&credential(SHANGHAI), names, Timestamp::now())
            .unwrap();
        answered(&world.send(&request).await, "0");
        let got = world.sole();
        let authorization = got.header("authorization").unwrap();
        assert_eq!(authorization.split('/').nth(3), Some(names));
    }
}
