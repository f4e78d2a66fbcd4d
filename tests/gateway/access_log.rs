//! Access log (§8).

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::Value;

use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, read, signed};

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

/// Waits for the log's lines, and returns them.
async fn lines(env: &TestEnv, count: usize) -> Vec<Value> {
    let file = env.file("access.log");
    eventually("all lines", async || read(&file).lines().count() == count).await;
    let lines = read(&file);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[tokio::test]
async fn a_line_says_what_was_asked_for_and_what_was_made_of_it() {
    let env = TestEnv::start().await;
    env.get_recording("plain-1").await;
    let utc = r#"{"callId":"utc-1","beginTime":"2021-11-24 08:25:03","endTime":"2021-11-24T18:25:11+09:00"}"#;
    env.send(&signed(env.post(utc), SHANGHAI)).await;
    let bad = r#"{"callId":"bad-1","beginTime":"yesterday","endTime":""}"#;
    env.send(&signed(env.post(bad), SHANGHAI)).await;
    let name = format!("Y:/IVR\u{202e}/{}.V3", "x".repeat(300));
    let file =
        serde_json::json!({ "request": { "version": "2.0" }, "msgBody": { "fileName": name } });
    let file = env.post_to("downloadRecordFile", file.to_string());
    env.send(&signed(file, SHANGHAI)).await;
    let bill = r#"{"msgBody":{"beginTime":"2021-11-24T08:25:03Z","endTime":"2021-11-24 17:00:00","callId":"b-1"}}"#;
    env.send(&signed(env.post_to("queryBillData", bill), BERLIN))
        .await;
    let lines = lines(&env, 5).await;
    let of = |line: usize| {
        let names = ["gw.call_id", "gw.begin_sent", "gw.end_sent", "gw.zone"];
        let line = &lines[line];
        assert_eq!(line["gw.normalized"].is_null(), line["gw.zone"].is_null());
        names.map(|name| line[name].as_str().unwrap_or("-"))
    };
    let (begin, end) = ("2021-11-24 16:25:03", "2021-11-24 17:25:11");
    assert_eq!(of(0), ["plain-1", begin, end, "-"]);
    assert_eq!(of(1), ["utc-1", begin, end, "Asia/Shanghai"]);
    assert_eq!(of(2), ["bad-1", "-", "-", "-"]);
    let logged = lines[3]["gw.file_name"].as_str().unwrap();
    assert_eq!(logged, name.chars().take(256).collect::<String>());
    assert!(!read(&env.file("access.log")).contains('\u{202e}'));
    let berlin = ["b-1", "2021-11-24 09:25:03", "2021-11-24 17:00:00"];
    assert_eq!(of(4)[..3], berlin);
    assert_eq!(of(4)[3], "Europe/Berlin");
}

#[tokio::test]
async fn shadow_mode_logs_the_call_too() {
    let setup = Setup {
        listener: "validation = \"shadow\"".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let bad = r#"{"callId":"bad-1","beginTime":"yesterday","endTime":"today"}"#;
    env.send(&signed(env.post(bad), SHANGHAI)).await;
    let lines = lines(&env, 1).await;
    assert_eq!(lines[0]["gw.call_id"], "bad-1");
    assert_eq!(lines[0]["gw.outcome"], "node");
}

#[tokio::test]
async fn a_claimed_access_key_is_logged_only_if_asked_for() {
    for asked_for in [false, true] {
        let setup = Setup {
            tables: format!(
                "[telemetry]\nlog_level = \"error\"\naccess_log = \"access.log\"\nlog_claimed_ak = {asked_for}"
            ),
            ..Setup::default()
        };
        let env = setup.start().await;
        let names = "host";
        let wrong = |ak: &str| {
            let value = format!(
                "auth-v2/{ak}/2021-11-24T08:25:03Z/{names}/{}",
                "0".repeat(64)
            );
            let value = http::HeaderValue::try_from(value).unwrap();
            env.recording("c").with_authorization(value)
        };
        let secret = crate::support::secret(SHANGHAI);
        let long = "y".repeat(100);
        for ak in [SHANGHAI, &long, &secret] {
            env.send(&wrong(ak)).await;
        }
        env.send(&signed(env.recording("c"), UNKNOWN)).await;
        let lines = lines(&env, 4).await;
        let claimed: Vec<_> = lines
            .iter()
            .map(|line| line["gw.claimed_ak"].as_str())
            .collect();
        let cut = format!("{}…", "y".repeat(64));
        let expected = [SHANGHAI, &cut, "a secret key where the ak belongs", UNKNOWN];
        assert_eq!(claimed, expected.map(|claim| asked_for.then_some(claim)));
        assert!(lines.iter().all(|line| line["gw.ak"].is_null()));
        assert!(!read(&env.file("access.log")).contains(&secret));
    }
}
