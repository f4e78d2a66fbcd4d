//! Nodes that refuse what the gateway verified: their secrets or their clocks differ.

use std::time::Duration;

use ccfs_gateway::stand_in::{Fault, When};
use serde_json::Value;

use crate::assertions::assert_node_response;
use crate::load::{Kind, Load, Target, cluster};
use crate::page::metric;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, signed};

const PAUSE: Duration = Duration::from_millis(5);

async fn three_nodes(unknown_at: &[(&'static str, usize)]) -> TestEnv {
    Setup {
        nodes: 3,
        cluster: "ejection = { base_time = \"2s\", max_time = \"2s\", slow_start = \"1s\" }".into(),
        tables: "[cache]\nnegative_ttl = \"0s\"".into(),
        unknown_at: unknown_at.to_vec(),
        ..Setup::default()
    }
    .start()
    .await
}

async fn nodes(env: &TestEnv) -> Vec<Value> {
    cluster(env).await["nodes"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_refuses_everything_is_ejected_and_comes_back() {
    let env = three_nodes(&[]).await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(401), When::Always);
    let load = Load::start(&Target::of(&env), Kind::Recording, 4, PAUSE);
    eventually("it is ejected", async || {
        nodes(&env).await[0]["ejected"]["reason"] == "refuses-signatures"
    })
    .await;
    let status = nodes(&env).await;
    assert_eq!(status[0]["state"], "ejected");
    let until: jiff::Timestamp = status[0]["ejected"]["until"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(until > jiff::Timestamp::now() - jiff::SignedDuration::from_secs(2));
    assert!(status[1]["ejected"].is_null());
    // While it is ejected nothing reaches it.
    let before = env.nodes[0].count("getRecordFileUrlFromObs");
    load.wait_for_responses(50).await;
    let after = env.nodes[0].count("getRecordFileUrlFromObs");
    assert!(after <= before + 8, "{before} {after}");
    env.nodes[0].faults().clear();
    eventually("it is back", async || {
        nodes(&env).await[0]["state"] == "up"
            && env.nodes[0].count("getRecordFileUrlFromObs") > after
    })
    .await;
    load.stop()
        .await
        .assert_nothing_lost("one node refuses all signatures");
    let name = env.nodes[0].address();
    let sample = format!("node_clock_offset_seconds{{cluster=\"ccfs\",node=\"{name}\"}}");
    let offset = metric(env.bound.admin.unwrap(), &sample).await;
    assert!(offset.abs() <= 2.0, "{offset}");
}

#[tokio::test]
async fn a_401_of_all_nodes_passes_through_and_ejects_nobody() {
    let env = three_nodes(&[]).await;
    for node in &env.nodes {
        node.faults().inject(Fault::Status(401), When::Always);
    }
    for call in 0..12 {
        let response = env.get_recording(&format!("1-{call}")).await;
        assert_eq!(response.status, 401);
        assert_eq!(response.header("x-gateway-error"), None);
    }
    // After two refusals each request makes one attempt, at each node in turn.
    let counts = env
        .nodes
        .iter()
        .map(|node| node.count("getRecordFileUrlFromObs"));
    let counts: Vec<_> = counts.collect();
    assert!(counts.iter().sum::<u64>() <= 12 + 3, "{counts:?}");
    assert!(counts.iter().all(|count| *count >= 3), "{counts:?}");
    for node in nodes(&env).await {
        assert!(node["ejected"].is_null(), "{node}");
    }
    env.nodes[1].faults().clear();
    for call in 20..23 {
        env.get_recording(&format!("1-{call}")).await;
    }
    for call in 30..40 {
        let response = env.get_recording(&format!("1-{call}")).await;
        assert_node_response(&response, "0");
    }
}

#[tokio::test]
async fn an_access_key_that_one_node_knows_is_served_there() {
    let env = three_nodes(&[(BERLIN, 0), (BERLIN, 1)]).await;
    let ask = async |ak, call: u32| {
        let request = env.recording(&format!("2-{call}"));
        env.send(&signed(request, ak)).await
    };
    let mut refused = 0;
    for call in 0..60 {
        assert_node_response(&ask(SHANGHAI, call).await, "0");
        let response = ask(BERLIN, call).await;
        if call >= 10 {
            assert_node_response(&response, "0");
        }
        refused += u32::from(response.status == 401);
    }
    assert!(refused <= 5, "{refused}");
    for node in nodes(&env).await {
        assert!(node["ejected"].is_null(), "{node}");
    }
    let known = env.nodes[2].count("getRecordFileUrlFromObs");
    assert!(known >= 60, "{known}");
}

#[tokio::test]
async fn a_403_is_not_held_against_a_node() {
    let env = three_nodes(&[]).await;
    env.nodes[0]
        .faults()
        .inject(Fault::Status(403), When::Always);
    let mut forbidden = 0;
    for call in 0..60 {
        let response = env.get_recording(&format!("3-{call}")).await;
        forbidden += u32::from(response.status == 403);
    }
    assert!((10..=30).contains(&forbidden), "{forbidden}");
    assert!(nodes(&env).await[0]["ejected"].is_null());
}
