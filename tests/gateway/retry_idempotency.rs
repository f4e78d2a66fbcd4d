//! Retries by idempotency, and downloads whose node fails.

use std::time::Duration;

use ccfs_gateway::stand_in::{Fault, When, files};

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::interfaces::{ENVELOPES, download, envelope};
use crate::support::{Setup, TestEnv};

/// Interfaces that start a job, upload or delete.
const NOT_REPEATABLE: [&str; 5] = [
    "queryBillData",
    "queryAgentOprInfoData",
    "ivr/uploadFile",
    "ivr/deleteFile",
    "requestRecordAnalysis",
];

/// Two nodes in round-robin order that are never ejected.
async fn two_nodes() -> TestEnv {
    let cluster = "balance = \"round-robin\"\nejection = { consecutive_failures = 0 }\n\
                   retries = { budget = 100, floor = 1000 }";
    let setup = Setup {
        nodes: 2,
        cluster: cluster.into(),
        ..Setup::default()
    };
    setup.start().await
}

fn asked(env: &TestEnv, tail: &str) -> u64 {
    env.nodes.iter().map(|node| node.count(tail)).sum()
}

#[tokio::test]
async fn non_idempotent_requests_that_were_sent_are_not_retried() {
    let env = two_nodes().await;
    for (tail, _) in ENVELOPES {
        let repeatable = !NOT_REPEATABLE.contains(&tail);
        for fault in [
            Fault::CloseBeforeResponse,
            Fault::Reset,
            Fault::CloseInHead,
            Fault::GarbageHttp,
        ] {
            env.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(fault.clone(), When::Always);
            });
            let response = env.send(&envelope(&env, tail)).await;
            assert_gateway_error(&response, 502, "node-failed", "GW502");
            let times = asked(&env, tail);
            assert_eq!(times > 1, repeatable, "{tail} {fault:?} {times}");
            env.nodes.iter().for_each(|node| node.faults().clear());
        }
    }
}

#[tokio::test]
async fn a_cut_response_is_a_502_without_a_retry_of_a_job() {
    let env = two_nodes().await;
    for tail in NOT_REPEATABLE {
        for fault in [Fault::CloseInBody, Fault::ResetInBody, Fault::GarbageJson] {
            env.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(fault.clone(), When::Always);
            });
            let response = env.send(&envelope(&env, tail)).await;
            assert_gateway_error(&response, 502, "node-failed", "GW502");
            assert_eq!(asked(&env, tail), 1, "{tail} {fault:?}");
            env.nodes.iter().for_each(|node| node.faults().clear());
        }
        for status in [502, 503, 504] {
            env.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(Fault::Status(status), When::Always);
            });
            let response = env.send(&envelope(&env, tail)).await;
            assert_eq!(
                (response.status.as_u16(), response.header("x-gateway-error")),
                (status, None)
            );
            assert_eq!(asked(&env, tail), 1, "{tail} {status}");
            env.nodes.iter().for_each(|node| node.faults().clear());
        }
    }
}

#[tokio::test]
async fn a_job_that_times_out_is_not_retried() {
    let cluster = "balance = \"round-robin\"\n\
                   timeouts = { connect = \"50ms\", per_try = \"50ms\", overall = \"150ms\", fetch = \"200ms\" }";
    let setup = Setup {
        nodes: 2,
        cluster: cluster.into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes
        .iter()
        .for_each(|node| node.faults().inject(Fault::Hang, When::Always));
    for tail in ["queryBillData", "ivr/deleteFile"] {
        let response = env.send(&envelope(&env, tail)).await;
        assert_gateway_error(&response, 504, "node-timeout", "GW504");
        assert_eq!(asked(&env, tail), 1);
    }
}

#[tokio::test]
async fn flow_control_moves_any_request_to_another_node() {
    let env = two_nodes().await;
    env.nodes[0]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    for (tail, _) in ENVELOPES {
        for _ in 0..2 {
            let response = env.send(&envelope(&env, tail)).await;
            assert_eq!(response.status, 200);
            let code = response.result_code().unwrap_or_else(|| "0".into());
            assert_eq!(code, "0", "{tail}");
        }
    }
    assert!(env.nodes[0].faults().injected() > 0);
}

#[tokio::test]
async fn a_job_that_was_not_sent_goes_to_another_node() {
    let mut env = two_nodes().await;
    env.nodes[0].stop().await;
    for _ in 0..4 {
        for tail in NOT_REPEATABLE {
            assert_node_response(&env.send(&envelope(&env, tail)).await, "0");
        }
    }
    assert_eq!(asked(&env, "queryBillData"), 4);
}

#[tokio::test]
async fn a_job_survives_stale_connections() {
    let cluster = "health_check = { enabled = false }".into();
    let setup = Setup {
        cluster,
        ..Setup::default()
    };
    let env = setup.start().await;
    let node = &env.nodes[0];
    for _ in 0..5 {
        node.faults()
            .inject(Fault::CloseAfterResponse, When::Next(1));
        assert_node_response(&env.send(&envelope(&env, "queryBillData")).await, "0");
        let closed = node.wait_for_connections(0, Duration::from_secs(10));
        assert!(closed.await);
        assert_node_response(&env.send(&envelope(&env, "ivr/deleteFile")).await, "0");
    }
    let counts = (asked(&env, "queryBillData"), asked(&env, "ivr/deleteFile"));
    assert_eq!(counts, (5, 5));
}

#[tokio::test]
async fn a_download_fails_over_before_its_first_byte() {
    for fault in [
        Fault::Reset,
        Fault::CloseInHead,
        Fault::Status(503),
        Fault::FlowControl,
    ] {
        let env = two_nodes().await;
        env.nodes[0].faults().inject(fault.clone(), When::Always);
        for _ in 0..4 {
            let response = env.send(&download(&env, "a/size-100000.wav")).await;
            assert_eq!(
                (response.status.as_u16(), response.body.len()),
                (200, 100_000),
                "{fault:?}"
            );
            assert!(files::matches(0, &response.body));
        }
        assert!(env.nodes[0].faults().injected() > 0);
    }
}

#[tokio::test]
async fn a_download_cut_by_its_node_is_visibly_cut_for_the_client() {
    for http2 in [false, true] {
        let mut env = two_nodes().await;
        if http2 {
            env.client = env.new_client().http2_only();
        }
        for fault in [Fault::CloseInBody, Fault::ResetInBody] {
            env.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(fault.clone(), When::Always);
            });
            let (bytes, error) = env.read_stream(&download(&env, "a/5MiB.wav")).await;
            assert!(
                error.is_some(),
                "{fault:?} looked like an end, {} bytes",
                bytes.len()
            );
            assert!(bytes.len() < 5 << 20 && files::matches(0, &bytes));
            assert_eq!(asked(&env, "downloadRecord"), 1, "not begun again");
            env.nodes.iter().for_each(|node| node.faults().clear());
        }
        let response = env.send(&download(&env, "a/size-17.wav")).await;
        assert_eq!(response.body.len(), 17);
    }
}

#[tokio::test]
async fn a_client_that_aborts_a_download_releases_the_node() {
    // Health checks keep a connection of their own.
    let setup = Setup {
        cluster: "health_check = { enabled = false }".into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::Drip(1024, Duration::from_millis(5)), When::Always);
    let mut streaming = env
        .client
        .send_streaming(&download(&env, "a/1GiB.wav"))
        .await
        .unwrap();
    assert!(streaming.chunk().await.unwrap().is_some());
    drop(streaming);
    let left = env.nodes[0].wait_for_connections(0, Duration::from_secs(10));
    assert!(left.await);
}
