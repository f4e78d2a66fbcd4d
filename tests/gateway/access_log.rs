//! Access log (§8).

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::Value;

use crate::support::{BERLIN, SHANGHAI, TestEnv, UNKNOWN, eventually, read, signed};

#[tokio::test]
async fn every_request_is_one_line_of_json() {
    let env = TestEnv::start().await;
    let id = http::HeaderName::from_static("x-request-id");
    let hit = env.recording("log-1").with_header(id, "the-second");
    env.get_recording("log-1").await;
    env.send(&signed(hit, SHANGHAI)).await;
    env.send(&signed(env.recording("log-1"), UNKNOWN)).await;
    env.send(&signed(env.post("{\"callId\":null}"), BERLIN))
        .await;
    env.nodes[0]
        .faults()
        .inject(Fault::GarbageJson, When::Always);
    env.send(&signed(env.recording("log-2"), BERLIN)).await;
    let mut query = env.recording("log-3");
    query.target.push_str("?secret=of-the-query");
    env.send(&signed(query, BERLIN)).await;
    let file = env.file("access.log");
    eventually("six lines", async || read(&file).lines().count() == 6).await;
    let text = read(&file);
    assert!(!text.contains("of-the-query"));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let node = env.nodes[0].address().to_string();
    lines.iter().for_each(assert_complete);
    let [miss, hit, stranger, invalid, failed, _] = &lines[..] else {
        unreachable!("six lines");
    };
    let fields = ["gw.ak", "gw.cache", "gw.result_code", "gw.node"];
    let of = |line: &Value| fields.map(|field| line[field].as_str().unwrap_or("-").to_owned());
    assert_eq!(of(miss), [SHANGHAI, "stored", "0", &node]);
    assert_eq!(of(hit), [SHANGHAI, "hit", "0", "-"]);
    assert_eq!(
        of(stranger),
        ["-", "-", "GW401", "-"],
        "not verified, so not named"
    );
    assert_eq!(of(invalid)[0..3], [BERLIN, "-", "0300001"]);
    assert_eq!(of(failed)[0], BERLIN);
    assert_eq!(failed["http.response.status_code"], 502);
    assert_eq!(hit["request_id"], "the-second");
    assert_eq!(
        (miss["gw.attempts"].as_u64(), hit["gw.attempts"].as_u64()),
        (Some(1), Some(0))
    );
}

#[track_caller]
fn assert_complete(line: &Value) {
    for field in [
        "timestamp",
        "request_id",
        "trace_id",
        "gw.listener",
        "client.address",
        "http.request.method",
        "url.path",
        "http.response.status_code",
        "gw.attempts",
        "gw.body_in",
        "gw.body_out",
        "gw.duration_ms",
    ] {
        assert!(!line[field].is_null(), "{field} in {line}");
    }
    assert_eq!(
        line["url.path"],
        "/CCFS/resource/ccfs/getRecordFileUrlFromObs"
    );
}

#[tokio::test]
async fn an_aborted_request_is_logged_too() {
    let env = TestEnv::start().await;
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let request = signed(env.recording("left-1"), SHANGHAI);
    let client = crate::support::client_trusting(&env.file(""));
    let asking = tokio::spawn(async move { client.send(&request).await.is_ok() });
    let node = &env.nodes[0];
    let second = std::time::Duration::from_secs(10);
    assert!(
        node.wait_for_requests("getRecordFileUrlFromObs", 1, second)
            .await
    );
    asking.abort();
    let file = env.file("access.log");
    eventually("one line", async || read(&file).lines().count() == 1).await;
    let line: Value = serde_json::from_str(read(&file).trim()).unwrap();
    assert_eq!(line["gw.outcome"], "client_gone");
    assert_eq!(line["gw.ak"], SHANGHAI);
}
