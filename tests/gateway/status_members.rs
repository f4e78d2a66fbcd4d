//! What `/status` says to the people who look at the page: of nodes, access keys, failures and events.

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::Value;

use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, read, signed};

async fn status(env: &TestEnv, query: &str) -> Value {
    let path = format!("/status{query}");
    page::get(env.bound.admin.unwrap(), &path).await.json()
}

fn texts(status: &Value) -> Vec<&str> {
    let events = status["events"].as_array().unwrap().iter();
    events
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_node_has_its_state_its_check_its_failure_and_its_figures() {
    let setup = Setup {
        cluster: "health_check = { interval = \"200ms\", timeout = \"150ms\" }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    assert_eq!(env.get_recording("state-1").await.status, 200);
    eventually("a check has passed", async || {
        status(&env, "").await["clusters"][0]["nodes"][0]["last_check"]["ok"] == true
    })
    .await;
    let shown = status(&env, "").await;
    let node = &shown["clusters"][0]["nodes"][0];
    assert!(node["last_check"]["duration_ms"].as_f64().unwrap() > 0.0);
    let [p50, p99, max] = ["p50_ms", "p99_ms", "max_ms"].map(|name| node[name].as_f64().unwrap());
    assert!(p50 <= p99 && p99 <= max, "{node}");
    assert_eq!(node["last_failure_at"], Value::Null);
    let days = node["certificate"]["days_left"].as_i64().unwrap();
    assert!(days > 0, "{node}");
    let up_since = node["state_since"].as_str().unwrap().to_owned();

    env.nodes[0]
        .faults()
        .inject_everywhere(Fault::Status(503), When::Always);
    eventually("the node is down", async || {
        status(&env, "").await["clusters"][0]["nodes"][0]["state"] == "down"
    })
    .await;
    eventually("since later than it was up", async || {
        let shown = status(&env, "").await;
        shown["clusters"][0]["nodes"][0]["state_since"].as_str() > Some(&up_since)
    })
    .await;
    let shown = status(&env, "").await;
    let node = &shown["clusters"][0]["nodes"][0];
    assert_eq!(node["last_check"]["ok"], false);
    assert!(node["last_failure_at"].as_str() > Some(&up_since), "{node}");
    let has = |shown: &Value, words: &str| texts(shown).iter().any(|text| text.contains(words));
    let down = "is down: server error: health check";
    assert!(has(&shown, down), "{:?}", texts(&shown));

    env.nodes[0].faults().clear();
    eventually("it is up again, which is an event", async || {
        has(&status(&env, "").await, " is up")
    })
    .await;
}

#[tokio::test]
async fn an_access_key_has_its_hits_and_what_went_wrong() {
    let setup = Setup {
        nodes: 1,
        shanghai: "rate_limit = { per_second = 1, burst = 3 }\nname = \"Vendor A\"".to_owned(),
        berlin: "enabled = false".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    for _ in 0..3 {
        assert_eq!(env.get_recording("counts-1").await.status, 200);
    }
    env.nodes[0].faults().add_unknown_call("counts-2");
    env.get_recording("counts-2").await;
    env.get_recording("counts-2").await;
    let invalid = env.post("{}");
    assert_eq!(env.send(&signed(invalid, SHANGHAI)).await.status, 200);
    env.nodes[0]
        .faults()
        .inject(Fault::Status(500), When::Always);
    assert_eq!(env.get_recording("counts-3").await.status, 500);
    assert_eq!(env.get_recording("counts-4").await.status, 429);
    let shown = status(&env, "?keys=vendor%20a").await;
    let found = &shown["access_key_rows"];
    assert_eq!(found["matching"], 1);
    let row = &found["rows"][0];
    assert_eq!(row["access_key"], SHANGHAI);
    let counts = [
        "requests",
        "hits",
        "not_found",
        "refused",
        "failed",
        "limited",
    ];
    let counts = counts.map(|name| row[name].as_u64().unwrap());
    assert_eq!(counts, [8, 3, 2, 1, 1, 1], "{row}");
    assert_eq!(row["state"], "usable");
    assert_eq!(row["second_secret"], Value::Null);

    let all = status(&env, "?keys=&sort=limited").await;
    let rows = all["access_key_rows"]["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| &row["access_key"]).collect();
    assert_eq!(names, [SHANGHAI, BERLIN]);
    assert_eq!(rows[1]["state"], "disabled-by-configuration");
    assert_eq!(status(&env, "").await["access_key_rows"], Value::Null);
}

#[tokio::test]
async fn the_last_failed_requests_are_shown_without_secrets() {
    let env = TestEnv::start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(500), When::Always);
    assert_eq!(env.get_recording("failed-1").await.status, 500);
    let mut refused = signed(env.recording("failed-2"), SHANGHAI);
    let authorization = refused.headers["authorization"].clone();
    let body = String::from_utf8(refused.body.to_vec()).unwrap();
    refused.body = body.replace("failed-2", "failed-3").into();
    assert_eq!(env.send(&refused).await.status, 401);
    eventually("both are shown", async || {
        let shown = status(&env, "").await;
        shown["failed_requests"].as_array().unwrap().len() == 2
    })
    .await;
    let shown = status(&env, "").await;
    let [unverified, failed] = [0, 1].map(|place| &shown["failed_requests"][place]);
    assert_eq!(unverified["status"], 401);
    assert_eq!(unverified["access_key"], Value::Null);
    assert!(unverified["reason"].as_str().unwrap().contains("signature"));
    assert_eq!(failed["status"], 500);
    assert_eq!(failed["access_key"], SHANGHAI);
    assert_eq!(failed["call_id"], "failed-1");
    assert_eq!(failed["interface"], "getRecordFileUrlFromObs");
    assert_eq!(failed["node"], env.nodes[0].address().to_string());
    let text = shown.to_string();
    assert!(!text.contains(authorization.to_str().unwrap()));
}

#[tokio::test]
async fn a_failed_fetch_is_a_lookup_without_a_hit() {
    let env = TestEnv::start().await;
    env.get_recording("ratio-1").await;
    env.get_recording("ratio-1").await;
    env.nodes[0]
        .faults()
        .inject(Fault::CloseBeforeResponse, When::Always);
    for number in 2..4 {
        let call_id = format!("ratio-{number}");
        assert_eq!(env.get_recording(&call_id).await.status, 502);
    }
    let shown = status(&env, "").await;
    assert_eq!(shown["counters"]["cache_requests"]["failed"], 2);
    assert_eq!(shown["rates"]["hit_ratio"], 0.25, "one of four");
}

#[tokio::test]
async fn a_reload_says_what_it_changed() {
    let env = TestEnv::start().await;
    let file = env.file("gateway.toml");
    let admin = env.bound.admin.unwrap();
    let table =
        "\n[access_keys.ak-new]\nsecret_key_file = \"ak-stranger\"\ntime_zone = \"GMT+8\"\n";
    let text = read(&file) + table + "[limits]\nmax_in_flight = 77\n";
    std::fs::write(&file, text).unwrap();
    let answer = page::post(admin, "/reload").await.json();
    let changes = &status(&env, "").await["reloads"]["last"]["changes"];
    assert_eq!(answer["changes"], *changes);
    let changes: Vec<_> = changes.as_array().unwrap().iter().collect();
    assert_eq!(
        changes,
        ["+1 access key (ak-new)", "limits.max_in_flight: 10000 → 77"]
    );
    eventually("it is an event", async || {
        texts(&status(&env, "").await)
            == ["configuration reloaded, generation 2: +1 access key (ak-new); limits.max_in_flight: 10000 → 77"]
    })
    .await;
    page::post(admin, "/cache/purge").await;
    std::fs::write(&file, "no configuration").unwrap();
    page::post(admin, "/reload").await;
    eventually("so is a rejected one", async || {
        texts(&status(&env, "").await)
            .iter()
            .any(|text| text.starts_with("reload rejected: "))
    })
    .await;
    let shown = status(&env, "").await;
    assert!(
        texts(&shown).contains(&"order purge all from 127.0.0.1"),
        "{:?}",
        texts(&shown)
    );
    assert_eq!(shown["config_file"], file.to_str().unwrap());
}

#[tokio::test]
async fn result_codes_of_nodes_are_rates() {
    let env = TestEnv::start().await;
    env.nodes[0]
        .faults()
        .inject(Fault::FlowControl, When::Always);
    env.get_recording("codes-1").await;
    env.nodes[0].faults().clear();
    env.get_recording("codes-2").await;
    let shown = status(&env, "").await;
    let codes = &shown["rates"]["result_codes"];
    for class in ["flow_control", "success"] {
        assert!(codes[class].as_f64().unwrap() > 0.0, "{codes}");
    }
    assert_eq!(codes["parameter"], 0.0);
}
