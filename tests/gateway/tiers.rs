//! Tiers of nodes, and a cluster that takes over: nodes are killed and revived under load.

use std::time::Duration;

use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::{Fault, When};

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::load::{Kind, Load, Target, cluster, env_admin_request};
use crate::support::{SHANGHAI, Setup, TestEnv, eventually, read, signed};

const PAUSE: Duration = Duration::from_millis(5);

/// Four nodes, the last two of which are a tier of their own.
async fn two_tiers() -> TestEnv {
    start(|text, urls| {
        for url in &urls[2..] {
            let tiered = format!("{{ url = {url}, priority = 1 }}");
            *text = text.replace(url, &tiered);
        }
    })
    .await
}

/// Four nodes, the last two of which are the fallback cluster `north`.
async fn with_fallback() -> TestEnv {
    start(|text, urls| {
        let all = format!("nodes = [{}]", urls.join(", "));
        let own = format!("nodes = [{}]\nfallback = \"north\"", urls[..2].join(", "));
        *text = text.replace(&all, &own);
        let north = urls[2..].join(", ");
        *text += &format!("\n[clusters.north]\nnodes = [{north}]\ntls = {{ ca = \"ca.pem\" }}\n");
    })
    .await
}

async fn start(edit: impl FnOnce(&mut String, &[String])) -> TestEnv {
    let setup = Setup {
        nodes: 4,
        cluster: "ejection = { base_time = \"1s\", max_time = \"1s\" }".into(),
        tables: "[cache]\nnegative_ttl = \"60s\"".into(),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    let urls: Vec<_> = site
        .nodes
        .iter()
        .map(|node| format!("{:?}", node.url()))
        .collect();
    let mut text = read(&site.file);
    edit(&mut text, &urls);
    std::fs::write(&site.file, text).unwrap();
    Config::load(&site.file).unwrap();
    TestEnv::with_site(site)
}

fn counts(env: &TestEnv) -> Vec<u64> {
    let nodes = env.nodes.iter();
    nodes
        .map(|node| node.count("getRecordFileUrlFromObs"))
        .collect()
}

/// Kills the first two nodes under load, waits until the last two serve, and revives them.
async fn kill_and_revive(mut env: TestEnv, serving: &str) -> TestEnv {
    let target = Target::of(&env);
    let recordings = Load::start(&target, Kind::Recording, 6, PAUSE);
    let downloads = Load::start(&target, Kind::Download, 2, PAUSE);
    recordings.wait_for_responses(60).await;
    assert_eq!(counts(&env)[2..], [0, 0], "the others wait");
    for _ in 0..2 {
        env.nodes[0].stop().await;
        recordings.wait_for_responses(40).await;
        env.nodes[1].stop().await;
        recordings.wait_for_responses(80).await;
        eventually("the others serve", async || {
            cluster(&env).await["serving"] == *serving
        })
        .await;
        eventually("the finding says so", async || {
            let status = env_admin_request(&env, "GET", "/status").await;
            status.contains("tier-or-fallback-in-use")
        })
        .await;
        recordings.wait_for_responses(40).await;
        for node in &mut env.nodes[..2] {
            node.restart().await.unwrap();
        }
        eventually("the first ones serve again", async || {
            cluster(&env).await["serving"] == "first-tier"
        })
        .await;
        recordings.wait_for_responses(40).await;
    }
    assert!(counts(&env)[2..].iter().all(|count| *count > 0));
    recordings.stop().await.assert_nothing_lost("recordings");
    downloads.stop().await.assert_nothing_lost("downloads");
    env
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_tier_takes_over_without_loss() {
    kill_and_revive(two_tiers().await, "tier-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fallback_cluster_takes_over_without_loss() {
    let env = kill_and_revive(with_fallback().await, "fallback").await;
    let node = &env.nodes[2];
    let requests = node.requests();
    let mut recordings = requests
        .iter()
        .filter(|request| request.path().ends_with("getRecordFileUrlFromObs"));
    // Signed for its own Host, and verified by it.
    assert!(recordings.all(|request| {
        request.header("host") == Some(&*node.address().to_string())
            && request.access_key.as_deref() == Some(SHANGHAI)
    }));
    eventually("the log names the cluster that answered", async || {
        let log = read(&env.file("access.log"));
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("\"gw.cluster\":\"north\"") && line.contains("\"gw.fallback\":true")
        })
    })
    .await;
}

/// The first request after the nodes are gone finds the fallback by itself.
#[tokio::test]
async fn within_one_request_the_fallback_comes_after_nodes_that_are_gone() {
    let mut env = with_fallback().await;
    for node in &mut env.nodes[..2] {
        node.stop().await;
    }
    assert_node_response(&env.get_recording("1-1").await, "0");
    let hit = env.get_recording("1-1").await;
    assert!(
        hit.header("cache-status").unwrap().contains("; hit"),
        "held"
    );
}

#[tokio::test]
async fn what_a_fallback_lacks_is_said_and_not_held() {
    let mut env = with_fallback().await;
    for node in &env.nodes[2..] {
        node.faults().add_unknown_call("1-7");
    }
    for node in &mut env.nodes[..2] {
        node.stop().await;
    }
    let response = env.get_recording("1-7").await;
    assert_node_response(&response, "0300012");
    assert_eq!(response.header("x-gateway-hint"), Some("fallback"));
    for node in &mut env.nodes[..2] {
        node.restart().await.unwrap();
    }
    eventually("its own cluster has it", async || {
        env.get_recording("1-7").await.result_code().as_deref() == Some("0")
    })
    .await;
}

#[tokio::test]
async fn a_fallback_that_refuses_the_signature_says_so() {
    let mut env = with_fallback().await;
    for node in &env.nodes[2..] {
        node.faults().inject(Fault::Status(401), When::Always);
    }
    for node in &mut env.nodes[..2] {
        node.stop().await;
    }
    let response = env.get_recording("1-8").await;
    assert_eq!(response.status, 401);
    assert_eq!(response.header("x-gateway-hint"), Some("fallback"));
}

/// A node that answers is not gone, and a job may not be done twice.
#[tokio::test]
async fn neither_errors_of_nodes_nor_jobs_go_to_the_fallback() {
    let mut env = with_fallback().await;
    for node in &env.nodes[..2] {
        node.faults().inject(Fault::Status(503), When::Next(1));
    }
    assert_eq!(env.get_recording("1-9").await.status, 503);
    for node in &mut env.nodes[..2] {
        node.stop().await;
    }
    let body = "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{\"fileName\":\"Y:/ivr/a.wav\"}}";
    let job = signed(env.post_to("ivr/deleteFile", body), SHANGHAI);
    assert_gateway_error(&env.send(&job).await, 502, "node-failed", "GW502");
    for node in &env.nodes[2..] {
        assert_eq!(node.count("ivr/deleteFile"), 0);
        assert_eq!(node.count("getRecordFileUrlFromObs"), 0);
    }
}
