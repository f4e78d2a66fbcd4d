//! Every rejection is counted with its reason.

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::{Fault, When};
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, signed};

#[tokio::test]
async fn each_rejection_has_its_own_counter() {
    let env = Setup {
        listener: "unknown_paths = \"reject\"".into(),
        cluster: "ejection = { consecutive_failures = 0 }\n\
                  timeouts = { connect = \"100ms\", per_try = \"100ms\", overall = \"200ms\", fetch = \"300ms\" }"
            .into(),
        berlin: "rate_limit = { per_second = 1, burst = 1 }".into(),
        ..Setup::default()
    }
    .start()
    .await;
    let get = |path: &str| ClientRequest::get(&format!("{}{path}", env.url())).unwrap();
    let recording = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";
    let put = format!("{}{recording}", env.url());
    let put = ClientRequest::new(Method::PUT, &put).unwrap();
    let mut wide = env.recording("1-1");
    let field = "y".repeat(33_000).parse().unwrap();
    wide.headers.insert("x-wide", field);
    let text = env.recording("1-1").with_header(CONTENT_TYPE, "text/plain");
    let packed = env.recording("1-1").with_header(CONTENT_ENCODING, "gzip");
    let ask = |ak: &str| signed(env.recording("1-1"), ak);
    for (request, status, kind) in [
        (get("/a/%2e%2e/b"), 400, "malformed"),
        (wide, 431, "headers-too-large"),
        (env.recording("1-1"), 401, "unauthenticated"),
        (get("/nowhere"), 404, "not-found"),
        (put, 405, "method-not-allowed"),
        (env.post("x".repeat(70_000)), 413, "body-too-large"),
        (signed(text, SHANGHAI), 415, "unsupported-media-type"),
        (signed(packed, SHANGHAI), 415, "unsupported-media-type"),
        (signed(env.post("{}"), SHANGHAI), 200, "invalid-request"),
    ] {
        counts(&env, &request, status, kind).await;
    }
    for (fault, status, kind) in [
        (Fault::GarbageJson, 502, "node-failed"),
        (Fault::Hang, 504, "node-timeout"),
    ] {
        env.nodes[0].faults().inject(fault, When::Always);
        counts(&env, &ask(SHANGHAI), status, kind).await;
        env.nodes[0].faults().clear();
    }
    env.send(&ask(BERLIN)).await;
    let more = signed(env.recording("1-2"), BERLIN);
    counts(&env, &more, 429, "rate-limited").await;
}

/// Sends the request and asserts that the counter of its kind increases.
async fn counts(env: &TestEnv, request: &ClientRequest, status: u16, kind: &str) {
    let label = format!("outcome=\"{}\"", kind.replace('-', "_"));
    let before = env.metric_sum("requests_total", &label).await;
    let response = env.send(request).await;
    let seen = (response.status.as_u16(), response.header("x-gateway-error"));
    assert_eq!(seen, (status, Some(kind)));
    eventually(kind, async || {
        env.metric_sum("requests_total", &label).await == before + 1
    })
    .await;
}
