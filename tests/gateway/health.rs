//! Nodes that die, hang, slow down and return under load: no request fails while one node is
//! healthy.

use std::time::{Duration, Instant};

use ccfs_gateway::stand_in::{AcceptBehavior, Fault, StandIn, When};
use serde_json::Value;

use crate::load::{Kind, Load, Target, cluster, env_admin_request};
use crate::support::{Setup, TestEnv, eventually};

const PAUSE: Duration = Duration::from_millis(5);

fn setup(nodes: usize) -> Setup {
    Setup {
        nodes,
        ..Setup::default()
    }
}

/// Concurrent load on recording URLs and downloads.
struct Clients(Load, Load);

impl Clients {
    fn start(env: &TestEnv) -> Self {
        let target = Target::of(env);
        Self(
            Load::start(&target, Kind::Recording, 6, PAUSE),
            Load::start(&target, Kind::Download, 2, PAUSE),
        )
    }

    async fn more(&self, responses: u64) {
        self.0.wait_for_responses(responses).await;
        self.1.wait_for_responses(responses / 5).await;
    }

    async fn end_without_loss(self, what: &str) {
        self.0.stop().await.assert_nothing_lost(what);
        self.1.stop().await.assert_nothing_lost(what);
    }
}

async fn node_of(env: &TestEnv, node: &StandIn) -> Value {
    let cluster = cluster(env).await;
    let address = node.address().to_string();
    let nodes = cluster["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|row| row["address"] == *address);
    found.unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_and_restarting_two_of_three_loses_nothing() {
    let mut env = setup(3).start().await;
    let target = Target::of(&env);
    let recordings = Load::start(&target, Kind::Recording, 8, PAUSE);
    for round in 0..6 {
        let (one, other) = (round % 3, (round + 1) % 3);
        env.nodes[one].stop().await;
        recordings.wait_for_responses(30).await;
        env.nodes[other].stop().await;
        recordings.wait_for_responses(60).await;
        for node in [one, other] {
            env.nodes[node].restart().await.unwrap();
        }
        recordings.wait_for_responses(30).await;
    }
    recordings
        .stop()
        .await
        .assert_nothing_lost("kill and restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_without_a_first_byte_fail_over() {
    let mut env = setup(2).start().await;
    for fault in [
        Fault::CloseBeforeResponse,
        Fault::CloseInHead,
        Fault::FlowControl,
        Fault::GarbageHttp,
        Fault::Reset,
        Fault::Status(502),
        Fault::Status(503),
    ] {
        let what = format!("{fault:?}");
        env.nodes[0].faults().inject(fault, When::Next(2));
        let downloads = Load::start(&Target::of(&env), Kind::Download, 1, PAUSE);
        downloads.wait_for_responses(6).await;
        downloads.stop().await.assert_nothing_lost(&what);
        env.nodes[0].faults().clear();
    }
    env.nodes[0].stop().await;
    let downloads = Load::start(&Target::of(&env), Kind::Download, 2, PAUSE);
    downloads.wait_for_responses(20).await;
    downloads.stop().await.assert_nothing_lost("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hanging_nodes_of_three_fail_no_request() {
    let env = setup(3).start().await;
    let clients = Clients::start(&env);
    clients.more(50).await;
    // The first accepts requests and never responds, health checks included; the second never
    // completes a TLS handshake.
    env.nodes[0]
        .faults()
        .inject_everywhere(Fault::Hang, When::Always);
    env.nodes[1]
        .faults()
        .inject_everywhere(Fault::Hang, When::Always);
    env.nodes[1]
        .faults()
        .set_accept_behavior(AcceptBehavior::Stall);
    eventually("both are unhealthy", async || {
        let mut dead = 0;
        for node in &env.nodes {
            dead += usize::from(node_of(&env, node).await["state"] == "down");
        }
        dead == 2
    })
    .await;
    clients.more(50).await;
    for node in &env.nodes {
        node.faults().clear();
    }
    clients.more(50).await;
    clients.end_without_loss("hang").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_node_is_not_abandoned() {
    let env = setup(2).start().await;
    let slow = Fault::DelayHead(Duration::from_millis(300));
    env.nodes[0].faults().inject(slow, When::Always);
    let clients = Clients::start(&env);
    clients.more(100).await;
    clients.end_without_loss("slow").await;
    let counts: Vec<_> = env.nodes.iter().map(|node| node.requests().len()).collect();
    assert!(
        counts[0] * 2 < counts[1],
        "the fast one serves more: {counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_one_node_fails_no_request() {
    let faults = [
        Fault::CloseAfterResponse,
        Fault::CloseBeforeResponse,
        Fault::CloseInBody,
        Fault::CloseInHead,
        Fault::FlowControl,
        Fault::GarbageHttp,
        Fault::GarbageJson,
        Fault::ContentLengthAndChunked,
        Fault::Reset,
        Fault::ResetInBody,
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::ExtraResponse,
        Fault::ConflictingContentLengths,
    ];
    for fault in faults {
        let env = setup(2).start().await;
        let what = format!("{fault:?}");
        env.nodes[0].faults().inject(fault, When::Always);
        let recordings = Load::start(&Target::of(&env), Kind::Recording, 4, PAUSE);
        recordings.wait_for_responses(60).await;
        recordings.stop().await.assert_nothing_lost(&what);
        assert!(env.nodes[0].faults().injected() > 0, "{what}");
        assert_eq!(env.nodes[0].forbidden_reuses(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_five_seconds_a_dead_node_gets_only_health_checks() {
    let mut env = setup(3).start().await;
    let clients = Clients::start(&env);
    clients.more(30).await;
    env.nodes[1].stop().await;
    let killed = Instant::now();
    eventually("it is unhealthy", async || {
        node_of(&env, &env.nodes[1]).await["state"] == "down"
    })
    .await;
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    let tries = node_of(&env, &env.nodes[1]).await["requests"].clone();
    clients.more(300).await;
    assert_eq!(node_of(&env, &env.nodes[1]).await["requests"], tries);
    clients.end_without_loss("one node down").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_recovers_with_the_first_node() {
    let mut env = setup(3).start().await;
    let recordings = Load::start(&Target::of(&env), Kind::Recording, 4, PAUSE);
    recordings.wait_for_responses(20).await;
    for node in &mut env.nodes {
        node.stop().await;
    }
    eventually("all are unhealthy, and it is reported", async || {
        let cluster = cluster(&env).await;
        let nodes = cluster["nodes"].as_array().unwrap();
        nodes.iter().all(|node| node["state"] == "down") && cluster["panic"] == true
    })
    .await;
    env.nodes[2].restart().await.unwrap();
    let (back, good) = (Instant::now(), recordings.response_counts().1);
    eventually("a successful response", async || {
        recordings.response_counts().1 > good
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    // From here on no request fails, although two nodes are still down.
    let target = Target::of(&env);
    recordings.stop().await;
    let recordings = Load::start(&target, Kind::Recording, 4, PAUSE);
    recordings.wait_for_responses(100).await;
    recordings
        .stop()
        .await
        .assert_nothing_lost("one node is up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_code_ejects_a_node_and_a_reload_keeps_it_ejected() {
    let env = Setup {
        nodes: 2,
        cluster: "ejection = { result_codes = [\"0399999\"], base_time = \"1m\" }".into(),
        ..Setup::default()
    }
    .start()
    .await;
    let broken = Fault::ResultCode("0399999".into());
    env.nodes[1].faults().inject(broken, When::Always);
    let recordings = Load::start(&Target::of(&env), Kind::Recording, 2, PAUSE);
    recordings.wait_for_responses(40).await;
    recordings
        .stop()
        .await
        .assert_nothing_lost("a broken database");
    let row = node_of(&env, &env.nodes[1]).await;
    assert_eq!(
        (&row["state"], &row["last_error"]),
        (&"ejected".into(), &"server_error".into())
    );
    assert_eq!(row["last_cause"], "resultCode \"0399999\"");
    env_admin_request(&env, "POST", "/reload").await;
    let again = node_of(&env, &env.nodes[1]).await;
    assert_eq!(
        (&again["state"], &again["failures"]),
        (&"ejected".into(), &row["failures"])
    );
}
