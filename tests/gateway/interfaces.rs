//! The interfaces beside the recording-URL one: envelopes, downloads, uploads, what may be repeated.

use std::time::Duration;

use ccfs_gateway::cli::client::{NAMES, SignedRequest};
use ccfs_gateway::stand_in::{Fault, When, files};
use http::header::CONTENT_TYPE;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::expect::{answered, carries_what_all_do, desc, refused};
use crate::support::{BERLIN, SHANGHAI, Setup, World, credential, signed};

/// All that have an envelope, and a message that their node understands.
const ENVELOPES: [(&str, &str); 17] = [
    ("queryBillData", JOB),
    ("downloadBillFile", r#"{"billFileName":"a.zip"}"#),
    ("downloadRecordFile", FILE),
    ("downloadRecord", FILE),
    ("queryAgentOprInfoData", JOB),
    (
        "downloadAgentOprInfoFile",
        r#"{"agentOprInfoFileName":"a.zip"}"#,
    ),
    ("requestPlayVoice", FILE),
    ("downloadOiapRecord", FILE),
    ("downloadIVRRecordFile", FILE),
    ("ivr/downloadFile", FILE),
    ("ivr/uploadFile", r#"{"data":"UklGRg=="}"#),
    ("ivr/getFileHash", FILE),
    ("ivr/deleteFile", FILE),
    ("downloadTransferFile", FILE),
    ("requestRecordAnalysis", "{}"),
    ("queryRecordAnalysisStatus", "{}"),
    ("downloadRecordAnalysisFile", FILE),
];

const FILE: &str = r#"{"fileName":"a/size-17.wav"}"#;
const JOB: &str = r#"{"beginTime":"2022-01-02 10:00:00","endTime":"2022-01-02 11:00:00","dataType":"call","callBackURL":"https://a"}"#;

/// These start a job, upload or delete.
const NOT_REPEATABLE: [&str; 5] = [
    "queryBillData",
    "queryAgentOprInfoData",
    "ivr/uploadFile",
    "ivr/deleteFile",
    "requestRecordAnalysis",
];

fn message(tail: &str) -> &'static str {
    ENVELOPES.iter().find(|(name, _)| *name == tail).unwrap().1
}

fn envelope(world: &World, tail: &str) -> SignedRequest {
    let body = format!(
        "{{\"request\":{{\"version\":\"2.0\"}},\"msgBody\":{}}}",
        message(tail)
    );
    signed(world.post_to(tail, body), SHANGHAI)
}

#[tokio::test]
async fn a_whole_envelope_goes_on_byte_for_byte() {
    let world = World::start().await;
    for (tail, message) in ENVELOPES {
        let body = format!(
            "{{ \"msgBody\": {message} ,\n\"request\" :{{\"version\":\"2.0\",\"x\":1.0}},\"y\":null}} "
        );
        let request = signed(world.post_to(tail, body), SHANGHAI);
        let answer = world.send(&request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-gateway-error")),
            (200, None),
            "{tail}"
        );
        carries_what_all_do(&answer);
        let got = world.sole();
        assert_eq!(got.body, request.body, "{tail}");
        assert_eq!(
            got.header("authorization"),
            request.headers["authorization"].to_str().ok()
        );
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    }
}

#[tokio::test]
async fn a_missing_version_is_added_and_the_request_signed_again() {
    let world = World::start().await;
    for (number, (tail, message)) in ENVELOPES.into_iter().enumerate() {
        let head = ["", "\"request\":{},", "\"request\":{\"x\":[1.50]},"][number % 3];
        let body = format!("{{{head}\"msgBody\":{message}}}");
        let earlier = Timestamp::now() - SignedDuration::from_mins(5);
        let request = world.post_to(tail, body);
        let request = request.sign(&credential(SHANGHAI), NAMES, earlier).unwrap();
        let answer = world.send(&request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-gateway-error")),
            (200, None),
            "{tail}"
        );
        if answer
            .header("content-type")
            .unwrap()
            .starts_with("application/json")
        {
            answered(&answer, "0");
        }
        let got = world.sole();
        let mut expected: Value = serde_json::from_slice(&request.body).unwrap();
        expected["request"]["version"] = "2.0".into();
        assert_eq!(
            serde_json::from_slice::<Value>(&got.body).unwrap(),
            expected,
            "{tail}"
        );
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
        assert_eq!(
            got.header("content-length"),
            Some(&*got.body.len().to_string())
        );
        let age =
            Timestamp::now().duration_since(parts(got.header("authorization"))[2].parse().unwrap());
        assert!(age.abs() < SignedDuration::from_secs(30));
    }
}

fn parts(authorization: Option<&str>) -> Vec<&str> {
    authorization.unwrap().split('/').collect()
}

#[tokio::test]
async fn times_with_offset_become_tenant_local() {
    let world = World::start().await;
    let both = |begin: &str, end: &str| {
        json!({
            "request": {"version": "2.0"},
            "msgBody": {"beginTime": begin, "endTime": end, "dataType": "call", "callBackURL": "https://a", "x": begin},
            "beginTime": begin,
        })
    };
    let (utc, plain) = ("2022-07-02T23:00:00Z", "2022-07-03 12:00:00");
    for tail in ["queryBillData", "queryAgentOprInfoData"] {
        for (ak, begin, end, out) in [
            (
                SHANGHAI,
                utc,
                "2022-07-03T10:00:00+08:00",
                ("2022-07-03 07:00:00", "2022-07-03 10:00:00"),
            ),
            (
                BERLIN,
                utc,
                "2022-07-03T10:00:00+08:00",
                ("2022-07-03 01:00:00", "2022-07-03 04:00:00"),
            ),
            (BERLIN, utc, plain, ("2022-07-03 01:00:00", plain)),
            (SHANGHAI, plain, plain, (plain, plain)),
        ] {
            let sent = both(begin, end);
            let request = signed(world.post_to(tail, sent.to_string()), ak);
            answered(&world.send(&request).await, "0");
            let got = world.sole();
            let mut expected = sent;
            expected["msgBody"]["beginTime"] = out.0.into();
            expected["msgBody"]["endTime"] = out.1.into();
            assert_eq!(
                serde_json::from_slice::<Value>(&got.body).unwrap(),
                expected
            );
            assert_eq!(got.access_key.as_deref(), Some(ak));
        }
    }
}

#[tokio::test]
async fn what_an_envelope_says_is_for_the_node_to_judge() {
    let world = World::start().await;
    for body in [
        r#"{"request":{"version":"1.0"},"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":null},"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":"2.0"}}"#,
        r#"{"request":5,"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"fileName":""}}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"x","fileName":"a","endTime":5}}"#,
    ] {
        let request = signed(world.post_to("ivr/getFileHash", body), SHANGHAI);
        let answer = world.send(&request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-gateway-error")),
            (200, None),
            "{body}"
        );
        assert_eq!(world.sole().body, body);
    }
    for body in [
        "",
        "no json",
        "[]",
        r#"{"request":{},"request":{}}"#,
        r#"{"msgBody":{"a":1,"a":2}}"#,
    ] {
        let request = signed(world.post_to("ivr/getFileHash", body), SHANGHAI);
        let answer = world.send(&request).await;
        refused(&answer, 200, "invalid-request", "0300007");
        println!("{}", desc(&answer));
    }
    let request = world
        .post_to("downloadRecord", "{}")
        .with(CONTENT_TYPE, "text/plain");
    refused(
        &world.send(&signed(request, SHANGHAI)).await,
        415,
        "unsupported-media-type",
        "GW415",
    );
    world.nobody_was_asked();
}

#[tokio::test]
async fn each_interface_has_its_method_and_wants_a_signature() {
    let world = World::start().await;
    for (tail, message) in ENVELOPES {
        let body = format!("{{\"request\":{{\"version\":\"2.0\"}},\"msgBody\":{message}}}");
        refused(
            &world.send(&world.post_to(tail, body)).await,
            401,
            "unauthenticated",
            "GW401",
        );
        let url = format!("{}/CCFS/resource/ccfs/{tail}", world.url());
        let answer = world.send(&SignedRequest::get(&url).unwrap()).await;
        refused(&answer, 405, "method-not-allowed", "GW405");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    world.nobody_was_asked();
}

fn download(world: &World, name: &str) -> SignedRequest {
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": name}});
    signed(world.post_to("downloadRecord", body.to_string()), SHANGHAI)
}

#[tokio::test]
async fn downloads_arrive_whole_whatever_their_size() {
    let world = World::start().await;
    for (size, chunked) in [
        (0, false),
        (1, false),
        (65_536, false),
        (65_537, true),
        (5 << 20, false),
        (300_000, true),
    ] {
        if chunked {
            world.nodes[0]
                .faults()
                .inject(Fault::Chunked, When::Next(1));
        }
        let request = download(&world, &format!("a/size-{size}.wav"));
        let answer = world.send(&request).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, size));
        assert!(files::matches(0, &answer.body));
        assert_eq!(
            answer.header("content-type"),
            Some("Application/Octet-stream;charset=UTF-8")
        );
        let length = (!chunked).then(|| size.to_string());
        assert_eq!(answer.header("content-length"), length.as_deref());
        carries_what_all_do(&answer);
    }
    let failed = world.send(&download(&world, "code-0300011.wav")).await;
    answered(&failed, "0300011");
}

#[tokio::test]
async fn nothing_but_recording_urls_is_cached() {
    let world = World::start().await;
    for (tail, _) in ENVELOPES {
        for _ in 0..2 {
            let answer = world.send(&envelope(&world, tail)).await;
            assert_eq!(answer.header("age"), None);
            assert_eq!(answer.header("cache-status"), None);
            world.sole();
        }
    }
}

#[tokio::test]
async fn uploads_have_a_limit_of_their_own() {
    let tables = "[limits]\nmax_upload_size = \"512KiB\"".into();
    let smaller = Setup {
        tables,
        ..Setup::default()
    };
    let (smaller, usual) = (smaller.start().await, World::start().await);
    let upload = |world: &World, size: usize| {
        let empty = r#"{"request":{"version":"2.0"},"msgBody":{"data":""}}"#;
        let data = "A".repeat(size - empty.len());
        let body = empty.replace("\"\"", &format!("\"{data}\""));
        world.post_to("ivr/uploadFile?vdnId=5", body)
    };
    for size in [(64 << 10) + 1, 512 << 10] {
        let request = signed(upload(&smaller, size), SHANGHAI);
        answered(&smaller.send(&request).await, "0");
        let got = smaller.sole();
        assert_eq!(
            (got.body_length, got.access_key.is_some()),
            (size as u64, true)
        );
    }
    for (world, tail, limit) in [
        (&smaller, "ivr/uploadFile", 512 << 10),
        (&usual, "ivr/uploadFile", 8 << 20),
        (&usual, "unlisted", 8 << 20),
        (&usual, "downloadRecord", 64 << 10),
    ] {
        // Not signed: a size comes first, so that one that is allowed is 401.
        let request = world.post_to(tail, "x".repeat(limit + 1));
        let answer = world.send(&request).await;
        refused(&answer, 413, "body-too-large", "GW413");
        let answer = world.send(&world.post_to(tail, "x".repeat(limit))).await;
        refused(&answer, 401, "unauthenticated", "GW401");
        world.nobody_was_asked();
    }
}

#[tokio::test]
async fn an_upload_without_version_is_signed_again_whole() {
    let world = World::start().await;
    let body = format!("{{\"msgBody\":{{\"data\":\"{}\"}}}}", "A".repeat(1 << 20));
    let request = signed(world.post_to("ivr/uploadFile", body), SHANGHAI);
    answered(&world.send(&request).await, "0");
    let got = world.sole();
    assert!(got.body_length > 1 << 20 && got.access_key.is_some());
}

#[tokio::test]
async fn bodies_are_bounded_all_together() {
    let tables = "[limits]\nmax_buffered = \"100KiB\"\nmax_upload_size = \"100KiB\"";
    let setup = Setup {
        tables: tables.into(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let upload = |size: usize| {
        let body = json!({"request": {"version": "2.0"}, "msgBody": {"data": "A".repeat(size)}});
        signed(world.post_to("ivr/uploadFile", body.to_string()), SHANGHAI)
    };
    let (node, large, small) = (&world.nodes[0], upload(60 << 10), upload(10 << 10));
    node.faults().inject(Fault::Hold, When::Next(1));
    let held = world.send(&large);
    let others = async {
        let came = node.wait_for("ivr/uploadFile", 1, Duration::from_secs(10));
        assert!(came.await);
        let answer = world.send(&large).await;
        refused(&answer, 503, "overloaded", "GW503");
        assert!(answer.header("retry-after").is_some());
        answered(&world.send(&small).await, "0");
        node.faults().release();
    };
    let (held, ()) = tokio::join!(held, others);
    answered(&held, "0");
    // What was taken is given back.
    for _ in 0..3 {
        answered(&world.send(&large).await, "0");
    }
}

/// Two nodes that are asked in turn, and are never put aside.
async fn two_nodes() -> World {
    let cluster = "balance = \"round-robin\"\nejection = { consecutive_failures = 0 }\n\
                   retries = { budget = 100, floor = 1000 }";
    let setup = Setup {
        nodes: 2,
        cluster: cluster.into(),
        ..Setup::default()
    };
    setup.start().await
}

fn asked(world: &World, tail: &str) -> u64 {
    world.nodes.iter().map(|node| node.count(tail)).sum()
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let world = two_nodes().await;
    for (tail, _) in ENVELOPES {
        let repeatable = !NOT_REPEATABLE.contains(&tail);
        for fault in [
            Fault::CloseBeforeAnswer,
            Fault::Reset,
            Fault::CloseInHead,
            Fault::GarbageHttp,
        ] {
            world.nodes.iter().for_each(|node| {
                node.clear();
                node.faults().inject(fault.clone(), When::Always);
            });
            let answer = world.send(&envelope(&world, tail)).await;
            refused(&answer, 502, "node-failed", "GW502");
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
                node.clear();
                node.faults().inject(fault.clone(), When::Always);
            });
            let answer = world.send(&envelope(&world, tail)).await;
            refused(&answer, 502, "node-failed", "GW502");
            assert_eq!(asked(&world, tail), 1, "{tail} {fault:?}");
            world.nodes.iter().for_each(|node| node.faults().clear());
        }
        for status in [502, 503, 504] {
            world.nodes.iter().for_each(|node| {
                node.clear();
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
        refused(&answer, 504, "node-timeout", "GW504");
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
            answered(&world.send(&envelope(&world, tail)).await, "0");
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
        node.faults().inject(Fault::CloseAfterAnswer, When::Next(1));
        answered(&world.send(&envelope(&world, "queryBillData")).await, "0");
        let closed = node.wait_for_connections(0, Duration::from_secs(10));
        assert!(closed.await);
        answered(&world.send(&envelope(&world, "ivr/deleteFile")).await, "0");
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
            world.client = world.another_client().over_http2();
        }
        for fault in [Fault::CloseInBody, Fault::ResetInBody] {
            world.nodes.iter().for_each(|node| {
                node.clear();
                node.faults().inject(fault.clone(), When::Always);
            });
            let (bytes, error) = world.stream(&download(&world, "a/5MiB.wav")).await;
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
    let world = World::start().await;
    world.nodes[0]
        .faults()
        .inject(Fault::Drip(1024, Duration::from_millis(5)), When::Always);
    let mut streaming = world
        .client
        .open(&download(&world, "a/1GiB.wav"))
        .await
        .unwrap();
    assert!(streaming.piece().await.unwrap().is_some());
    drop(streaming);
    let left = world.nodes[0].wait_for_connections(0, Duration::from_secs(10));
    assert!(left.await);
}
