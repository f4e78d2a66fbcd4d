//! What becomes of the answers of nodes, and of their failures.

use std::time::{Duration, Instant};

use ccfs_gateway::stand_in::{Fault, When, files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::forward::download;
use crate::support::{SHANGHAI, Setup, TestEnv, eventually, signed};

/// Two nodes that are asked in turn.
async fn two_nodes(cluster: &str) -> TestEnv {
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
async fn one_node(cluster: &str) -> TestEnv {
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
        Fault::CloseBeforeResponse,
        Fault::CloseInHead,
        Fault::CloseInBody,
        Fault::Reset,
        Fault::ResetInBody,
        Fault::ConflictingContentLengths,
        Fault::ContentLengthAndChunked,
        Fault::NulInHeaderValue,
        Fault::BigResponse(1 << 20),
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
            assert_gateway_error(&answer, 502, "node-failed", "GW502");
            let cached = answer
                .header("cache-status")
                .unwrap_or_default()
                .contains("stored");
            assert!(!cached);
        }
        faults.clear();
        assert_node_response(&world.get_recording(&call_id).await, "0");
    }
}

#[tokio::test]
async fn odd_but_whole_answers_are_answers() {
    let world = one_node("").await;
    for (number, fault) in [
        Fault::Chunked,
        Fault::UntilClose,
        Fault::CloseAfterResponse,
        Fault::ExtraResponse,
        Fault::BigResponse(900_000),
    ]
    .into_iter()
    .enumerate()
    {
        println!("{fault:?}");
        world.nodes[0].faults().inject(fault, When::Next(1));
        let answer = world.get_recording(&format!("1-{number}")).await;
        assert_node_response(&answer, "0");
        assert!(!String::from_utf8_lossy(&answer.body).contains("surplus"));
        assert_node_response(&world.get_recording(&format!("2-{number}")).await, "0");
    }
    assert_eq!(world.nodes[0].forbidden_reuses(), 0);
    // After this one the connection is as good as any other.
    world.nodes[0]
        .faults()
        .inject(Fault::Interim, When::Next(1));
    assert_node_response(&world.get_recording("3-1").await, "0");
    assert_node_response(&world.get_recording("3-2").await, "0");
}

#[tokio::test]
async fn a_nodes_own_status_passes_through_uncached() {
    let world = one_node("").await;
    for status in [
        201, 301, 400, 401, 403, 404, 418, 429, 500, 501, 502, 503, 504,
    ] {
        world.nodes[0].clear_record();
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
                assert_common_headers(&answer);
            }
        }
        assert_eq!(
            world.upstream_requests().len(),
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
        let answer = world.get_recording("1-1").await;
        assert_eq!(answer.status, status);
        assert_eq!(
            world.upstream_requests().len(),
            if moves { 2 } else { 1 },
            "{status}"
        );
        world.nodes.iter().for_each(|node| node.faults().clear());
        world.nodes[0]
            .faults()
            .inject(Fault::Status(status), When::Always);
        let mut statuses = Vec::new();
        for number in 0..6 {
            statuses.push(
                world
                    .get_recording(&format!("2-{number}"))
                    .await
                    .status
                    .as_u16(),
            );
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
            let answer = world.get_recording(&format!("1-{number}")).await;
            println!("{fault:?}");
            assert_node_response(&answer, "0");
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
    let answer = world.get_recording("1-1").await;
    assert_node_response(&answer, "0300009");
    let asked: Vec<_> = world
        .nodes
        .iter()
        .map(|node| node.count(RECORDING))
        .collect();
    assert_eq!(asked, [1, 1]);
    let answer = world
        .send(&signed(download(&world, "a.wav"), SHANGHAI))
        .await;
    assert_node_response(&answer, "0300008");
}

#[tokio::test]
async fn a_parameter_error_is_an_answer() {
    let world = two_nodes("").await;
    for code in ["0300001", "0300012", "0300028", "0300011"] {
        assert_node_response(&world.get_recording(&format!("code-{code}")).await, code);
        world.sole_upstream_request();
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
            assert_gateway_error(&answer, 504, "node-timeout", "GW504");
            assert!(began.elapsed() < Duration::from_secs(3));
        }
        world.nodes[0].faults().clear();
    }
    world.nodes[0].faults().inject(Fault::Hang, When::Always);
    let answer = world
        .send(&signed(download(&world, "a.wav"), SHANGHAI))
        .await;
    assert_gateway_error(&answer, 504, "node-timeout", "GW504");
}

#[tokio::test]
async fn a_node_that_hangs_is_left_for_another_after_its_time() {
    let timeouts = "timeouts = { connect = \"50ms\", per_try = \"50ms\" }";
    let world = two_nodes(timeouts).await;
    world.nodes[0].faults().inject(Fault::Hang, When::Always);
    for number in 0..4 {
        assert_node_response(&world.get_recording(&format!("1-{number}")).await, "0");
    }
    assert!(world.nodes[0].faults().injected() > 0);
}

#[tokio::test]
async fn a_slow_last_node_may_take_longer_than_a_try() {
    let world = one_node("timeouts = { connect = \"50ms\", per_try = \"50ms\" }").await;
    world.nodes[0]
        .faults()
        .inject(Fault::DelayHead(Duration::from_millis(200)), When::Always);
    assert_node_response(&world.get_recording("1-1").await, "0");
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
        assert_gateway_error(&answer, 502, "node-failed", "GW502");
    }
    world.nodes[1].restart().await.unwrap();
    eventually("the gateway finds the node again", async || {
        world.get_recording("1-1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn without_a_node_that_may_be_asked_it_is_503() {
    let world = TestEnv::start().await;
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
        assert_gateway_error(&answer, 503, "no-healthy-node", "GW503");
        assert!(answer.header("retry-after").is_some());
    }
    world.assert_no_upstream_request();
}

const RECORDING: &str = "getRecordFileUrlFromObs";

#[tokio::test]
async fn a_download_without_a_first_byte_in_time_is_504_and_later_it_may_take_longer() {
    let world = one_node(SHORT).await;
    let faults = world.nodes[0].faults();
    for (name, chunked) in [("size-100000.wav", false), ("size-100001.wav", true)] {
        let request = signed(download(&world, name), SHANGHAI);
        if chunked {
            faults.inject(Fault::Chunked, When::Always);
        }
        faults.inject(Fault::DelayBody(Duration::from_secs(2)), When::Always);
        assert_gateway_error(&world.send(&request).await, 504, "node-timeout", "GW504");
        faults.clear();
        // Some 0.5 s in all, longer than any of the deadlines.
        faults.inject(Fault::Drip(10_000, Duration::from_millis(50)), When::Always);
        let answer = world.send(&request).await;
        assert!(answer.body.len() >= 100_000 && files::matches(0, &answer.body));
        faults.clear();
    }
}
