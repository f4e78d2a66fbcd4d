//! What may be sent twice, and what may not; what becomes of a download whose node fails.

use std::time::Duration;

use ccfs_gateway::stand_in::{Fault, When, files};

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::interfaces::{ENVELOPES, download, envelope};
use crate::support::{Setup, TestEnv};

/// These start a job, upload or delete.
const NOT_REPEATABLE: [&str; 5] = [
    "queryBillData",
    "queryAgentOprInfoData",
    "ivr/uploadFile",
    "ivr/deleteFile",
    "requestRecordAnalysis",
];

/// Two nodes that are asked in turn, and are never put aside.
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

fn asked(world: &TestEnv, tail: &str) -> u64 {
    world.nodes.iter().map(|node| node.count(tail)).sum()
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let world = two_nodes().await;
    for (tail, _) in ENVELOPES {
        let repeatable = !NOT_REPEATABLE.contains(&tail);
        for fault in [
            Fault::CloseBeforeResponse,
            Fault::Reset,
            Fault::CloseInHead,
            Fault::GarbageHttp,
        ] {
            world.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(fault.clone(), When::Always);
            });
            let answer = world.send(&envelope(&world, tail)).await;
            assert_gateway_error(&answer, 502, "node-failed", "GW502");
            let times = asked(&world, tail);
            assert_eq!(times > 1, repeatable, "{tail} {fault:?} {times}");
            world.nodes.iter().for_each(|node| node.faults().clear());
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_a_502_and_no_second_try_of_a_job() {
    let world = two_nodes().await;
    for tail in NOT_REPEATABLE {
        for fault in [Fault::CloseInBody, Fault::ResetInBody, Fault::GarbageJson] {
            world.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(fault.clone(), When::Always);
            });
            let answer = world.send(&envelope(&world, tail)).await;
            assert_gateway_error(&answer, 502, "node-failed", "GW502");
            assert_eq!(asked(&world, tail), 1, "{tail} {fault:?}");
            world.nodes.iter().for_each(|node| node.faults().clear());
        }
        for status in [502, 503, 504] {
            world.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(Fault::Status(status), When::Always);
            });
            let answer = world.send(&envelope(&world, tail)).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("x-gateway-error")),
                (status, None)
            );
            assert_eq!(asked(&world, tail), 1, "{tail} {status}");
            world.nodes.iter().for_each(|node| node.faults().clear());
        }
    }
}

#[tokio::test]
async fn a_job_that_gets_no_answer_in_time_is_not_started_again() {
    let cluster = "balance = \"round-robin\"\n\
                   timeouts = { connect = \"50ms\", per_try = \"50ms\", overall = \"150ms\", fetch = \"200ms\" }";
    let setup = Setup {
        nodes: 2,
        cluster: cluster.into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    world
        .nodes
        .iter()
        .for_each(|node| node.faults().inject(Fault::Hang, When::Always));
    for tail in ["queryBillData", "ivr/deleteFile"] {
        let answer = world.send(&envelope(&world, tail)).await;
        assert_gateway_error(&answer, 504, "node-timeout", "GW504");
        assert_eq!(asked(&world, tail), 1);
    }
}

#[tokio::test]
async fn flow_control_moves_any_request_since_nothing_was_done() {
    let world = two_nodes().await;
    world.nodes[0]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    for (tail, _) in ENVELOPES {
        for _ in 0..2 {
            let answer = world.send(&envelope(&world, tail)).await;
            assert_eq!(answer.status, 200);
            let code = answer.result_code().unwrap_or_else(|| "0".into());
            assert_eq!(code, "0", "{tail}");
        }
    }
    assert!(world.nodes[0].faults().injected() > 0);
}

#[tokio::test]
async fn a_job_goes_to_another_node_while_nothing_was_sent() {
    let mut world = two_nodes().await;
    world.nodes[0].stop().await;
    for _ in 0..4 {
        for tail in NOT_REPEATABLE {
            assert_node_response(&world.send(&envelope(&world, tail)).await, "0");
        }
    }
    assert_eq!(asked(&world, "queryBillData"), 4);
}

#[tokio::test]
async fn a_job_survives_kept_connections_that_its_node_has_closed() {
    let cluster = "health_check = { enabled = false }".into();
    let setup = Setup {
        cluster,
        ..Setup::default()
    };
    let world = setup.start().await;
    let node = &world.nodes[0];
    for _ in 0..5 {
        node.faults()
            .inject(Fault::CloseAfterResponse, When::Next(1));
        assert_node_response(&world.send(&envelope(&world, "queryBillData")).await, "0");
        let closed = node.wait_for_connections(0, Duration::from_secs(10));
        assert!(closed.await);
        assert_node_response(&world.send(&envelope(&world, "ivr/deleteFile")).await, "0");
    }
    let counts = (
        asked(&world, "queryBillData"),
        asked(&world, "ivr/deleteFile"),
    );
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
        let world = two_nodes().await;
        world.nodes[0].faults().inject(fault.clone(), When::Always);
        for _ in 0..4 {
            let answer = world.send(&download(&world, "a/size-100000.wav")).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body.len()),
                (200, 100_000),
                "{fault:?}"
            );
            assert!(files::matches(0, &answer.body));
        }
        assert!(world.nodes[0].faults().injected() > 0);
    }
}

#[tokio::test]
async fn a_node_that_dies_inside_a_download_ends_the_clients_connection_visibly() {
    for http2 in [false, true] {
        let mut world = two_nodes().await;
        if http2 {
            world.client = world.new_client().http2_only();
        }
        for fault in [Fault::CloseInBody, Fault::ResetInBody] {
            world.nodes.iter().for_each(|node| {
                node.clear_record();
                node.faults().inject(fault.clone(), When::Always);
            });
            let (bytes, error) = world.read_stream(&download(&world, "a/5MiB.wav")).await;
            assert!(
                error.is_some(),
                "{fault:?} looked like an end, {} bytes",
                bytes.len()
            );
            assert!(bytes.len() < 5 << 20 && files::matches(0, &bytes));
            assert_eq!(asked(&world, "downloadRecord"), 1, "not begun again");
            world.nodes.iter().for_each(|node| node.faults().clear());
        }
        let answer = world.send(&download(&world, "a/size-17.wav")).await;
        assert_eq!(answer.body.len(), 17);
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_download_sets_the_node_free() {
    let world = TestEnv::start().await;
    world.nodes[0]
        .faults()
        .inject(Fault::Drip(1024, Duration::from_millis(5)), When::Always);
    let mut streaming = world
        .client
        .send_streaming(&download(&world, "a/1GiB.wav"))
        .await
        .unwrap();
    assert!(streaming.chunk().await.unwrap().is_some());
    drop(streaming);
    let left = world.nodes[0].wait_for_connections(0, Duration::from_secs(10));
    assert!(left.await);
}
