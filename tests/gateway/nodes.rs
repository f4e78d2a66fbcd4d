//! Handling of node responses and node failures.

use std::time::{Duration, Instant};

use ccfs_gateway::stand_in::{Fault, When, files};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::forward::download;
use crate::support::{SHANGHAI, Setup, TestEnv, eventually, signed};

/// Two nodes in round-robin order.
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

/// One node that is never ejected, so that each request of a table is attempted there.
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
async fn invalid_responses_are_node_failed() {
    let env = one_node("").await;
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
        let faults = env.nodes[0].faults();
        faults.inject(fault, When::Always);
        let call_id = format!("1-{number}");
        for request in [
            env.recording(&call_id),
            env.post_to(
                "ivr/getFileHash",
                "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{\"fileName\":\"a\"}}",
            ),
        ] {
            let response = env.send(&signed(request, SHANGHAI)).await;
            assert_gateway_error(&response, 502, "node-failed", "GW502");
            let cached = response
                .header("cache-status")
                .unwrap_or_default()
                .contains("stored");
            assert!(!cached);
        }
        faults.clear();
        assert_node_response(&env.get_recording(&call_id).await, "0");
    }
}

#[tokio::test]
async fn unusual_but_complete_responses_pass() {
    let env = one_node("").await;
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
        env.nodes[0].faults().inject(fault, When::Next(1));
        let response = env.get_recording(&format!("1-{number}")).await;
        assert_node_response(&response, "0");
        assert!(!String::from_utf8_lossy(&response.body).contains("surplus"));
        assert_node_response(&env.get_recording(&format!("2-{number}")).await, "0");
    }
    assert_eq!(env.nodes[0].forbidden_reuses(), 0);
    // After this response the connection is reusable.
    env.nodes[0].faults().inject(Fault::Interim, When::Next(1));
    assert_node_response(&env.get_recording("3-1").await, "0");
    assert_node_response(&env.get_recording("3-2").await, "0");
}

#[tokio::test]
async fn a_nodes_own_status_passes_through_uncached() {
    let env = one_node("").await;
    for status in [
        201, 301, 400, 401, 403, 404, 418, 429, 500, 501, 502, 503, 504,
    ] {
        env.nodes[0].clear_record();
        env.nodes[0]
            .faults()
            .inject(Fault::Status(status), When::Always);
        for _ in 0..2 {
            for request in [env.recording("1-1"), download(&env, "a.wav")] {
                let response = env.send(&signed(request, SHANGHAI)).await;
                assert_eq!(response.status, status);
                assert_eq!(response.header("x-gateway-error"), None, "{status}");
                let node = if status == 401 {
                    "signature verification failed"
                } else {
                    "<html>"
                };
                assert!(
                    String::from_utf8_lossy(&response.body).contains(node),
                    "{status}"
                );
                assert_common_headers(&response);
            }
        }
        assert_eq!(
            env.upstream_requests().len(),
            4,
            "nothing is cached, nothing is repeated"
        );
        env.nodes[0].faults().clear();
    }
}

#[tokio::test]
async fn a_failed_or_unexpected_status_is_retried_at_another_node() {
    for (status, moves) in [
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (301, true),
        (302, true),
        (401, true),
        (403, false),
        (404, false),
        (429, false),
        (501, false),
    ] {
        let env = two_nodes("").await;
        for node in &env.nodes {
            node.faults().inject(Fault::Status(status), When::Next(1));
        }
        // The first attempt fails, then the second; with both nodes failing, the last response
        // passes through.
        let response = env.get_recording("1-1").await;
        assert_eq!(response.status, status);
        assert_eq!(
            env.upstream_requests().len(),
            if moves { 2 } else { 1 },
            "{status}"
        );
        env.nodes.iter().for_each(|node| node.faults().clear());
        env.nodes[0]
            .faults()
            .inject(Fault::Status(status), When::Always);
        let mut statuses = Vec::new();
        for number in 0..6 {
            statuses.push(
                env.get_recording(&format!("2-{number}"))
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
async fn a_401_to_a_verified_request_is_retried_once_and_signed_anew() {
    let env = Setup {
        nodes: 3,
        cluster: "balance = \"round-robin\"".to_owned(),
        ..Setup::default()
    }
    .start()
    .await;
    for node in &env.nodes {
        node.faults().inject(Fault::Status(401), When::Always);
    }
    let response = env.get_recording("1-1").await;
    assert_eq!(response.status, 401);
    assert_eq!(response.header("x-gateway-error"), None);
    let received = env.upstream_requests();
    assert_eq!(received.len(), 2, "one other node, not two");
    // A download is idempotent too; a job is not, and is never sent twice.
    env.nodes.iter().for_each(|node| node.clear_record());
    let job = env.post_to(
        "requestRecordAnalysis",
        "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{}}",
    );
    let response = env.send(&signed(job, SHANGHAI)).await;
    assert_eq!(response.status, 401);
    assert_eq!(env.upstream_requests().len(), 1);
}

#[tokio::test]
async fn cut_connections_fail_no_request_while_another_node_is_left() {
    for fault in [
        Fault::Reset,
        Fault::CloseInHead,
        Fault::CloseInBody,
        Fault::GarbageJson,
        Fault::GarbageHttp,
        Fault::FlowControl,
    ] {
        let env = two_nodes("").await;
        env.nodes[0].faults().inject(fault.clone(), When::Always);
        for number in 0..6 {
            let response = env.get_recording(&format!("1-{number}")).await;
            println!("{fault:?}");
            assert_node_response(&response, "0");
        }
        assert!(env.nodes[0].faults().injected() > 0);
    }
}

#[tokio::test]
async fn flow_control_from_every_node_passes_through() {
    let env = two_nodes("flow_control = { mode = \"pass\" }").await;
    for node in &env.nodes {
        node.faults().inject(Fault::FlowControl, When::Always);
    }
    let response = env.get_recording("1-1").await;
    assert_node_response(&response, "0300009");
    let asked: Vec<_> = env.nodes.iter().map(|node| node.count(RECORDING)).collect();
    assert_eq!(asked, [1, 1]);
    let response = env.send(&signed(download(&env, "a.wav"), SHANGHAI)).await;
    assert_node_response(&response, "0300008");
}

#[tokio::test]
async fn a_parameter_error_passes_through() {
    let env = two_nodes("").await;
    for code in ["0300001", "0300012", "0300028", "0300011"] {
        assert_node_response(&env.get_recording(&format!("code-{code}")).await, code);
        env.sole_upstream_request();
    }
}

const SHORT: &str = "timeouts = { connect = \"100ms\", per_try = \"100ms\", overall = \"300ms\", fetch = \"400ms\" }";

#[tokio::test]
async fn no_response_in_time_is_504() {
    let env = one_node(SHORT).await;
    for fault in [Fault::Hang, Fault::HangInBody] {
        env.nodes[0].faults().inject(fault, When::Always);
        for request in [
            env.recording("1-1"),
            env.post_to(
                "queryRecordAnalysisStatus",
                "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{}}",
            ),
        ] {
            let began = Instant::now();
            let response = env.send(&signed(request, SHANGHAI)).await;
            assert_gateway_error(&response, 504, "node-timeout", "GW504");
            assert!(began.elapsed() < Duration::from_secs(3));
        }
        env.nodes[0].faults().clear();
    }
    env.nodes[0].faults().inject(Fault::Hang, When::Always);
    let response = env.send(&signed(download(&env, "a.wav"), SHANGHAI)).await;
    assert_gateway_error(&response, 504, "node-timeout", "GW504");
}

#[tokio::test]
async fn a_hanging_node_is_left_for_another_after_per_try() {
    let timeouts = "timeouts = { connect = \"50ms\", per_try = \"50ms\" }";
    let env = two_nodes(timeouts).await;
    env.nodes[0].faults().inject(Fault::Hang, When::Always);
    for number in 0..4 {
        assert_node_response(&env.get_recording(&format!("1-{number}")).await, "0");
    }
    assert!(env.nodes[0].faults().injected() > 0);
}

#[tokio::test]
async fn the_last_node_may_take_longer_than_per_try() {
    let env = one_node("timeouts = { connect = \"50ms\", per_try = \"50ms\" }").await;
    env.nodes[0]
        .faults()
        .inject(Fault::DelayHead(Duration::from_millis(200)), When::Always);
    assert_node_response(&env.get_recording("1-1").await, "0");
}

#[tokio::test]
async fn nodes_that_refuse_connections_are_node_failed() {
    let mut env = Setup {
        nodes: 2,
        ..Setup::default()
    }
    .start()
    .await;
    for node in &mut env.nodes {
        node.stop().await;
    }
    for request in [
        env.recording("1-1"),
        download(&env, "a.wav"),
        env.post_to("queryBillData", "{}"),
    ] {
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_gateway_error(&response, 502, "node-failed", "GW502");
    }
    env.nodes[1].restart().await.unwrap();
    eventually("the gateway uses the node again", async || {
        env.get_recording("1-1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn without_an_available_node_it_is_503() {
    let env = TestEnv::start().await;
    let address = env.bound.admin.unwrap();
    let mut admin = tokio::net::TcpStream::connect(address).await.unwrap();
    let order = format!(
        "POST /nodes/ccfs/{}/drain HTTP/1.1\r\nHost: {address}\r\nX-Ccfs-Gateway: 1\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
        env.nodes[0].address()
    );
    admin.write_all(order.as_bytes()).await.unwrap();
    let mut done = String::new();
    admin.read_to_string(&mut done).await.unwrap();
    assert!(done.starts_with("HTTP/1.1 2"), "{done}");
    for request in [env.recording("1-1"), download(&env, "a.wav")] {
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_gateway_error(&response, 503, "no-healthy-node", "GW503");
        assert!(response.header("retry-after").is_some());
    }
    env.assert_no_upstream_request();
}

const RECORDING: &str = "getRecordFileUrlFromObs";

#[tokio::test]
async fn a_download_is_504_without_a_first_byte_in_time_and_unlimited_after_it() {
    let env = one_node(SHORT).await;
    let faults = env.nodes[0].faults();
    for (name, chunked) in [("size-100000.wav", false), ("size-100001.wav", true)] {
        let request = signed(download(&env, name), SHANGHAI);
        if chunked {
            faults.inject(Fault::Chunked, When::Always);
        }
        faults.inject(Fault::DelayBody(Duration::from_secs(2)), When::Always);
        assert_gateway_error(&env.send(&request).await, 504, "node-timeout", "GW504");
        faults.clear();
        // About 0.5 s in total, longer than each of the timeouts.
        faults.inject(Fault::Drip(10_000, Duration::from_millis(50)), When::Always);
        let response = env.send(&request).await;
        assert!(response.body.len() >= 100_000 && files::matches(0, &response.body));
        faults.clear();
    }
}
