//! One of two nodes is down or hangs: recording-URL requests do not fail, and after five seconds
//! only health checks reach that node.

use std::time::{Duration, Instant};

use ccfs_gateway::stand_in::{AcceptBehavior, Fault, When};
use serde_json::Value;

use crate::load::{Kind, Load, Target, cluster};
use crate::support::{Setup, TestEnv, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node() {
    is_left_alone("dead", async |env| env.nodes[0].stop().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_responds() {
    is_left_alone("without a response", async |env| {
        let faults = env.nodes[0].faults();
        faults.inject_everywhere(Fault::Hang, When::Always);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_starts_a_handshake() {
    is_left_alone("without a handshake", async |env| {
        let faults = env.nodes[0].faults();
        faults.inject_everywhere(Fault::Hang, When::Always);
        faults.set_accept_behavior(AcceptBehavior::Stall);
    })
    .await;
}

async fn is_left_alone(what: &str, harm: impl AsyncFnOnce(&mut TestEnv)) {
    let setup = Setup {
        nodes: 2,
        ..Setup::default()
    };
    let mut env = setup.start().await;
    let address = env.nodes[0].address().to_string();
    let clients = Load::start(
        &Target::of(&env),
        Kind::Recording,
        6,
        Duration::from_millis(5),
    );
    clients.wait_for_responses(100).await;
    harm(&mut env).await;
    let harmed = Instant::now();
    eventually("it is detected", async || {
        node(&env, &address).await["state"] == "down"
    })
    .await;
    let took = harmed.elapsed();
    println!("{what}: detected after {took:.1?}");
    assert!(took < Duration::from_secs(5), "{what}: {took:?}");
    let tries = node(&env, &address).await["requests"].clone();
    clients.wait_for_responses(300).await;
    assert_eq!(node(&env, &address).await["requests"], tries, "{what}");
    clients.stop().await.assert_nothing_lost(what);
}

/// A node of the first cluster, as `/status` shows it.
async fn node(env: &TestEnv, address: &str) -> Value {
    let mut cluster = cluster(env).await;
    let nodes = cluster["nodes"].as_array_mut().unwrap();
    let found = nodes.iter_mut().find(|node| node["address"] == address);
    found.unwrap().take()
}
