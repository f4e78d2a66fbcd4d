//! `X-Gateway-Hint` on a response without data (§10, the recording doctor).

use ccfs_gateway::client::{ClientRequest, RecordingQuery};
use ccfs_gateway::stand_in::{Fault, When};
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, read, signed};

/// A request for the hour around the start of a call, by the clock of `zone`.
fn around(env: &TestEnv, start: Timestamp, zone: &str) -> ClientRequest {
    let shown = |time: Timestamp| {
        let zoned = time.in_tz(zone).unwrap();
        zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let query = RecordingQuery {
        call_id: &format!("{}-1", start.as_second()),
        begin: &shown(start - 30.minutes()),
        end: &shown(start + 30.minutes()),
        version: Some("2.0"),
    };
    ClientRequest::recording(&env.url(), &query).unwrap()
}

async fn without_data(tables: &str) -> TestEnv {
    let setup = Setup {
        tables: tables.to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::ResultCode("0300012".into()), When::Always);
    env
}

#[tokio::test]
async fn a_fetched_and_a_held_answer_without_data_get_the_hint_of_their_request() {
    let env = without_data("[cache]\nnegative_ttl = \"1h\"").await;
    let old = Timestamp::now() - 100.hours();
    let utc = signed(around(&env, old, "UTC"), SHANGHAI);
    for cache in ["stored", "negative"] {
        let response = env.send(&utc).await;
        let hint = response.header("x-gateway-hint");
        assert_eq!(hint, Some("times-off; by=\"+08:00\"; as=utc"), "{cache}");
        assert!(response.header("cache-status").unwrap().contains(cache));
    }
    assert_eq!(env.recording_fetches(), 1);
    let right = signed(around(&env, old, "Asia/Shanghai"), SHANGHAI);
    assert_eq!(env.send(&right).await.header("x-gateway-hint"), None);
    let young = Timestamp::now() - 5.minutes();
    let young = signed(around(&env, young, "Europe/Berlin"), BERLIN);
    for _ in 0..2 {
        let response = env.send(&young).await;
        let hint = response.header("x-gateway-hint").unwrap();
        let age: u64 = hint
            .strip_prefix("not-synchronised; age=")
            .unwrap()
            .parse()
            .unwrap();
        assert!((300..360).contains(&age), "{hint}");
    }

    // The log, and the counts of the status.
    let file = env.file("access.log");
    eventually("five lines", async || read(&file).lines().count() == 5).await;
    let text = read(&file);
    let hints: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["gw.hint"].take())
        .collect();
    assert_eq!(hints[1], "times-off; by=\"+08:00\"; as=utc");
    assert!(hints[2].is_null());
    let status = page::get(env.bound.admin.unwrap(), "/status").await.body;
    let status: Value = serde_json::from_str(&status).unwrap();
    let shanghai = serde_json::json!({
        "access_key": SHANGHAI, "requests": 3, "not_found": 3, "not_synchronised": 0,
        "ends_before_call": 0, "begins_after_call": 0, "times_off": [{ "by": "+08:00", "count": 2 }],
    });
    assert_eq!(status["recordings_not_found"][0], shanghai);
    assert_eq!(status["recordings_not_found"][1]["not_synchronised"], 2);
}

#[tokio::test]
async fn a_node_cannot_send_a_hint_and_a_recording_has_none() {
    let env = TestEnv::start().await;
    let faults = env.nodes[0].faults();
    faults.inject(Fault::Header("x-gateway-hint", "times-off"), When::Always);
    let response = env.get_recording("1637742303-1").await;
    assert_eq!(response.header("x-gateway-hint"), None);
}

#[tokio::test]
async fn what_is_not_parsed_gets_no_hint() {
    let setup = Setup {
        listener: "validation = \"off\"".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::ResultCode("0300012".into()), When::Always);
    let utc = around(&env, Timestamp::now() - 100.hours(), "UTC");
    let response = env.send(&signed(utc, SHANGHAI)).await;
    assert_eq!(response.header("x-gateway-hint"), None);
}
