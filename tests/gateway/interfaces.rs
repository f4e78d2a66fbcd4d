//! The interfaces other than the recording URL: envelopes, downloads, uploads, idempotency.

use std::time::Duration;

use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS};
use ccfs_gateway::stand_in::{Fault, When, files};
use http::header::CONTENT_TYPE;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::assertions::{
    assert_common_headers, assert_gateway_error, assert_node_response, result_desc,
};
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, credential, signed};

/// The interfaces with an envelope, each with a message that the stand-in node accepts.
pub(super) const ENVELOPES: [(&str, &str); 17] = [
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

fn message(tail: &str) -> &'static str {
    ENVELOPES.iter().find(|(name, _)| *name == tail).unwrap().1
}

pub(super) fn envelope(env: &TestEnv, tail: &str) -> ClientRequest {
    let body = format!(
        "{{\"request\":{{\"version\":\"2.0\"}},\"msgBody\":{}}}",
        message(tail)
    );
    signed(env.post_to(tail, body), SHANGHAI)
}

#[tokio::test]
async fn a_complete_envelope_is_forwarded_unchanged() {
    let env = TestEnv::start().await;
    for (tail, message) in ENVELOPES {
        let body = format!(
            "{{ \"msgBody\": {message} ,\n\"request\" :{{\"version\":\"2.0\",\"x\":1.0}},\"y\":null}} "
        );
        let request = signed(env.post_to(tail, body), SHANGHAI);
        let response = env.send(&request).await;
        assert_eq!(
            (response.status.as_u16(), response.header("x-gateway-error")),
            (200, None),
            "{tail}"
        );
        assert_common_headers(&response);
        let got = env.sole_upstream_request();
        assert_eq!(got.body, request.body, "{tail}");
        assert_eq!(
            got.header("authorization"),
            request.headers["authorization"].to_str().ok()
        );
        assert_eq!(got.access_key.as_deref(), Some(SHANGHAI));
    }
}

#[tokio::test]
async fn a_missing_version_is_added_and_the_request_resigned() {
    let env = TestEnv::start().await;
    for (number, (tail, message)) in ENVELOPES.into_iter().enumerate() {
        let head = ["", "\"request\":{},", "\"request\":{\"x\":[1.50]},"][number % 3];
        let body = format!("{{{head}\"msgBody\":{message}}}");
        let earlier = Timestamp::now() - SignedDuration::from_mins(5);
        let request = env.post_to(tail, body);
        let request = request
            .sign(&credential(SHANGHAI), DEFAULT_SIGNED_FIELDS, earlier)
            .unwrap();
        let response = env.send(&request).await;
        assert_eq!(
            (response.status.as_u16(), response.header("x-gateway-error")),
            (200, None),
            "{tail}"
        );
        if response
            .header("content-type")
            .unwrap()
            .starts_with("application/json")
        {
            assert_node_response(&response, "0");
        }
        let got = env.sole_upstream_request();
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
    let env = TestEnv::start().await;
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
            let request = signed(env.post_to(tail, sent.to_string()), ak);
            assert_node_response(&env.send(&request).await, "0");
            let got = env.sole_upstream_request();
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
async fn the_content_of_an_envelope_is_left_to_the_node() {
    let env = TestEnv::start().await;
    for body in [
        r#"{"request":{"version":"1.0"},"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":null},"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":"2.0"}}"#,
        r#"{"request":5,"msgBody":{"fileName":"a"}}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"fileName":""}}"#,
        r#"{"request":{"version":"2.0"},"msgBody":{"beginTime":"x","fileName":"a","endTime":5}}"#,
    ] {
        let request = signed(env.post_to("ivr/getFileHash", body), SHANGHAI);
        let response = env.send(&request).await;
        assert_eq!(
            (response.status.as_u16(), response.header("x-gateway-error")),
            (200, None),
            "{body}"
        );
        assert_eq!(env.sole_upstream_request().body, body);
    }
    for body in [
        "",
        "no json",
        "[]",
        r#"{"request":{},"request":{}}"#,
        r#"{"msgBody":{"a":1,"a":2}}"#,
    ] {
        let request = signed(env.post_to("ivr/getFileHash", body), SHANGHAI);
        let response = env.send(&request).await;
        assert_gateway_error(&response, 200, "invalid-request", "0300007");
        println!("{}", result_desc(&response));
    }
    let request = env
        .post_to("downloadRecord", "{}")
        .with_header(CONTENT_TYPE, "text/plain");
    assert_gateway_error(
        &env.send(&signed(request, SHANGHAI)).await,
        415,
        "unsupported-media-type",
        "GW415",
    );
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn each_interface_has_its_method_and_needs_a_signature() {
    let env = TestEnv::start().await;
    for (tail, message) in ENVELOPES {
        let body = format!("{{\"request\":{{\"version\":\"2.0\"}},\"msgBody\":{message}}}");
        assert_gateway_error(
            &env.send(&env.post_to(tail, body)).await,
            401,
            "unauthenticated",
            "GW401",
        );
        let url = format!("{}/CCFS/resource/ccfs/{tail}", env.url());
        let response = env.send(&ClientRequest::get(&url).unwrap()).await;
        assert_gateway_error(&response, 405, "method-not-allowed", "GW405");
        assert_eq!(response.header("allow"), Some("POST"));
    }
    env.assert_no_upstream_request();
}

pub(super) fn download(env: &TestEnv, name: &str) -> ClientRequest {
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": name}});
    signed(env.post_to("downloadRecord", body.to_string()), SHANGHAI)
}

#[tokio::test]
async fn downloads_of_any_size_arrive_complete() {
    let env = TestEnv::start().await;
    for (size, chunked) in [
        (0, false),
        (1, false),
        (65_536, false),
        (65_537, true),
        (5 << 20, false),
        (300_000, true),
    ] {
        if chunked {
            env.nodes[0].faults().inject(Fault::Chunked, When::Next(1));
        }
        let request = download(&env, &format!("a/size-{size}.wav"));
        let response = env.send(&request).await;
        assert_eq!((response.status.as_u16(), response.body.len()), (200, size));
        assert!(files::matches(0, &response.body));
        assert_eq!(
            response.header("content-type"),
            Some("Application/Octet-stream;charset=UTF-8")
        );
        let length = (!chunked).then(|| size.to_string());
        assert_eq!(response.header("content-length"), length.as_deref());
        assert_common_headers(&response);
    }
    let failed = env.send(&download(&env, "code-0300011.wav")).await;
    assert_node_response(&failed, "0300011");
}

#[tokio::test]
async fn nothing_but_recording_urls_is_cached() {
    let env = TestEnv::start().await;
    for (tail, _) in ENVELOPES {
        for _ in 0..2 {
            let response = env.send(&envelope(&env, tail)).await;
            assert_eq!(response.header("age"), None);
            assert_eq!(response.header("cache-status"), None);
            env.sole_upstream_request();
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
    let (smaller, usual) = (smaller.start().await, TestEnv::start().await);
    let upload = |env: &TestEnv, size: usize| {
        let empty = r#"{"request":{"version":"2.0"},"msgBody":{"data":""}}"#;
        let data = "A".repeat(size - empty.len());
        let body = empty.replace("\"\"", &format!("\"{data}\""));
        env.post_to("ivr/uploadFile?vdnId=5", body)
    };
    for size in [(64 << 10) + 1, 512 << 10] {
        let request = signed(upload(&smaller, size), SHANGHAI);
        assert_node_response(&smaller.send(&request).await, "0");
        let got = smaller.sole_upstream_request();
        assert_eq!(
            (got.body_length, got.access_key.is_some()),
            (size as u64, true)
        );
    }
    for (env, tail, limit) in [
        (&smaller, "ivr/uploadFile", 512 << 10),
        (&usual, "ivr/uploadFile", 8 << 20),
        (&usual, "unlisted", 8 << 20),
        (&usual, "downloadRecord", 64 << 10),
    ] {
        // Unsigned: the size is checked first, so a body of an allowed size is 401.
        let request = env.post_to(tail, "x".repeat(limit + 1));
        let response = env.send(&request).await;
        assert_gateway_error(&response, 413, "body-too-large", "GW413");
        let response = env.send(&env.post_to(tail, "x".repeat(limit))).await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
        env.assert_no_upstream_request();
    }
}

#[tokio::test]
async fn an_upload_without_version_is_resigned_completely() {
    let env = TestEnv::start().await;
    let body = format!("{{\"msgBody\":{{\"data\":\"{}\"}}}}", "A".repeat(1 << 20));
    let request = signed(env.post_to("ivr/uploadFile", body), SHANGHAI);
    assert_node_response(&env.send(&request).await, "0");
    let got = env.sole_upstream_request();
    assert!(got.body_length > 1 << 20 && got.access_key.is_some());
}

#[tokio::test]
async fn all_bodies_together_are_bounded() {
    let tables = "[limits]\nmax_buffered = \"100KiB\"\nmax_upload_size = \"100KiB\"";
    let setup = Setup {
        tables: tables.into(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let upload = |size: usize| {
        let body = json!({"request": {"version": "2.0"}, "msgBody": {"data": "A".repeat(size)}});
        signed(env.post_to("ivr/uploadFile", body.to_string()), SHANGHAI)
    };
    let (node, large, small) = (&env.nodes[0], upload(60 << 10), upload(10 << 10));
    node.faults().inject(Fault::Hold, When::Next(1));
    let held = env.send(&large);
    let others = async {
        let came = node.wait_for_requests("ivr/uploadFile", 1, Duration::from_secs(10));
        assert!(came.await);
        let response = env.send(&large).await;
        assert_gateway_error(&response, 503, "overloaded", "GW503");
        assert!(response.header("retry-after").is_some());
        assert_node_response(&env.send(&small).await, "0");
        node.faults().release();
    };
    let (held, ()) = tokio::join!(held, others);
    assert_node_response(&held, "0");
    // The buffered bytes are released afterwards.
    for _ in 0..3 {
        assert_node_response(&env.send(&large).await, "0");
    }
}
