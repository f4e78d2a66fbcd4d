//! Load balancing: shares by weight, drained nodes, node affinity, connection limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ccfs_gateway::stand_in::{Fault, When};
use http::header::CACHE_CONTROL;

use crate::load::{Kind, Load, Target, env_admin_request};
use crate::support::{SHANGHAI, Setup, TestEnv, eventually, read, signed};

async fn before(nodes: usize, cluster: &str) -> TestEnv {
    Setup {
        nodes,
        cluster: cluster.into(),
        ..Setup::default()
    }
    .start()
    .await
}

fn counts(env: &TestEnv) -> Vec<u64> {
    let nodes = env.nodes.iter();
    nodes
        .map(|node| node.count("getRecordFileUrlFromObs"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_is_spread_by_weight() {
    for policy in ["least-request", "round-robin"] {
        let env = before(3, &format!("balance = \"{policy}\"")).await;
        let file = env.file("gateway.toml");
        let mut text = read(&file);
        for (node, weight) in env.nodes.iter().zip(1..) {
            let url = format!("\"{}\"", node.url());
            text = text.replace(&url, &format!("{{ url = {url}, weight = {weight} }}"));
        }
        std::fs::write(&file, text).unwrap();
        env_admin_request(&env, "POST", "/reload").await;
        let load = Load::start(&Target::of(&env), Kind::Recording, 8, Duration::ZERO);
        load.wait_for_responses(2400).await;
        load.stop().await.assert_nothing_lost(policy);
        let counts = counts(&env);
        let total: u64 = counts.iter().sum();
        for (&count, weight) in counts.iter().zip(1u32..) {
            let fair = total as f64 * f64::from(weight) / 6.0;
            let off = (count as f64 - fair).abs() / total as f64;
            assert!(off < 0.05, "{policy}: {counts:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_gets_nothing_new_until_it_is_undrained() {
    for policy in ["least-request", "round-robin", "consistent-hash"] {
        let env = before(2, &format!("balance = \"{policy}\"")).await;
        let load = Load::start(&Target::of(&env), Kind::Recording, 4, Duration::ZERO);
        load.wait_for_responses(60).await;
        let path = format!("/nodes/ccfs/{}", env.nodes[0].address());
        env_admin_request(&env, "POST", &format!("{path}/drain")).await;
        // Lets requests that were in flight when the node was drained complete.
        load.wait_for_responses(8).await;
        let at_drain = counts(&env);
        load.wait_for_responses(100).await;
        env_admin_request(&env, "POST", "/reload").await;
        load.wait_for_responses(100).await;
        let drained = counts(&env);
        assert_eq!(drained[0], at_drain[0], "{policy}, also after a reload");
        // The node counts a request on arrival, `Load` counts it on completion: up to one per
        // client differs.
        assert!(drained[1] + 4 >= at_drain[1] + 200, "{drained:?}");
        env_admin_request(&env, "POST", &format!("{path}/undrain")).await;
        eventually("it serves again", async || counts(&env)[0] > drained[0]).await;
        load.stop().await.assert_nothing_lost(policy);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_stays_with_its_node() {
    let env = before(3, "balance = \"consistent-hash\"").await;
    for call in 0..30 {
        for _ in 0..3 {
            let request = env.recording(&format!("call-{call}"));
            let response = env
                .send(&signed(
                    request.with_header(CACHE_CONTROL, "no-cache"),
                    SHANGHAI,
                ))
                .await;
            assert_eq!(response.result_code().as_deref(), Some("0"));
        }
    }
    let mut homes: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (place, node) in env.nodes.iter().enumerate() {
        for request in node.requests() {
            if let Ok(body) = serde_json::from_slice::<serde_json::Value>(&request.body) {
                let call = body["callId"].as_str().unwrap().to_owned();
                homes.entry(call).or_default().insert(place);
            }
        }
    }
    assert_eq!(homes.len(), 30);
    assert!(homes.values().all(|nodes| nodes.len() == 1), "{homes:?}");
    let used: BTreeSet<_> = homes.values().flatten().collect();
    assert_eq!(used.len(), 3, "every node has calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_at_its_connection_limit_gets_no_more() {
    let env = before(
        1,
        "pool = { max_connections = 2 }\nhealth_check = { enabled = false }",
    )
    .await;
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let target = Target::of(&env);
    let held = Load::start(&target, Kind::Recording, 2, Duration::from_millis(100));
    let name = "getRecordFileUrlFromObs";
    assert!(
        env.nodes[0]
            .wait_for_requests(name, 2, Duration::from_secs(10))
            .await
    );
    let refused = target.send(Kind::Recording, "third").await.unwrap_err();
    let refused = format!("{refused:?}");
    assert!(
        refused.contains("503") && refused.contains("no-healthy-node"),
        "{refused}"
    );
    assert_eq!(env.nodes[0].count(name), 2);
    env.nodes[0].faults().clear();
    held.stop().await.assert_nothing_lost("held");
    target.send(Kind::Recording, "fourth").await.unwrap();
}
