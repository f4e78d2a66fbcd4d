//! `balance = "least-time"` beside `least-request`: a node that is slow, and one that answers errors fast.

use std::time::Duration;

use ccfs_gateway::stand_in::{Fault, When};

use crate::load::{Kind, Load, Target};
use crate::support::{Setup, TestEnv, eventually};

async fn three_nodes(policy: &str) -> TestEnv {
    let cluster = format!(
        "balance = \"{policy}\"\nejection = {{ consecutive_failures = 0 }}\n\
         retries = {{ budget = 100, floor = 1000 }}"
    );
    let env = Setup {
        nodes: 3,
        cluster,
        ..Setup::default()
    }
    .start()
    .await;
    for node in &env.nodes[1..] {
        let delay = Fault::DelayHead(Duration::from_millis(15));
        node.faults().inject(delay, When::Always);
    }
    env
}

/// The share of all attempts that the first node gets, once the policy knows its nodes.
async fn share_of_the_first(env: &TestEnv) -> f64 {
    let load = Load::start(&Target::of(env), Kind::Recording, 6, Duration::ZERO);
    load.wait_for_responses(60).await;
    let counts = || {
        env.nodes
            .iter()
            .map(|node| node.count("getRecordFileUrlFromObs"))
    };
    let before: Vec<_> = counts().collect();
    load.wait_for_responses(600).await;
    let attempts: Vec<_> = counts().zip(before).map(|(now, then)| now - then).collect();
    load.stop().await.assert_nothing_lost("least-time");
    attempts[0] as f64 / attempts.iter().sum::<u64>() as f64
}

/// A fifth of an equal share.
const LITTLE: f64 = 1.0 / 15.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_ten_times_slower_gets_a_fifth_of_an_equal_share_at_most() {
    let mut shares = Vec::new();
    for policy in ["least-request", "least-time"] {
        let env = three_nodes(policy).await;
        let slow = Fault::DelayHead(Duration::from_millis(150));
        env.nodes[0].faults().inject(slow, When::Always);
        shares.push(share_of_the_first(&env).await);
    }
    assert!(shares[1] <= LITTLE && shares[1] < shares[0], "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_errors_fast_attracts_nothing() {
    let mut shares = Vec::new();
    for policy in ["least-request", "least-time"] {
        let env = three_nodes(policy).await;
        env.nodes[0]
            .faults()
            .inject(Fault::Status(500), When::Always);
        shares.push(share_of_the_first(&env).await);
    }
    assert!(
        shares[0] > 1.0 / 3.0,
        "least-request is attracted: {shares:?}"
    );
    assert!(shares[1] <= LITTLE, "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_nodes_share_equally_and_a_node_that_recovers_is_noticed() {
    let env = three_nodes("least-time").await;
    let delay = Fault::DelayHead(Duration::from_millis(40));
    env.nodes[0].faults().inject(delay, When::Always);
    let slower = share_of_the_first(&env).await;
    env.nodes[0].faults().clear();
    let delay = Fault::DelayHead(Duration::from_millis(15));
    env.nodes[0].faults().inject(delay, When::Always);
    let load = Load::start(&Target::of(&env), Kind::Recording, 6, Duration::ZERO);
    let count = || env.nodes[0].count("getRecordFileUrlFromObs");
    let all = || {
        env.nodes
            .iter()
            .map(|node| node.count("getRecordFileUrlFromObs"))
            .sum::<u64>()
    };
    let mut last = (count(), all());
    eventually("it gets a fifth of the requests", async || {
        load.wait_for_responses(120).await;
        let now = (count(), all());
        let share = (now.0 - last.0) as f64 / (now.1 - last.1) as f64;
        last = now;
        share > 0.2
    })
    .await;
    load.stop().await.assert_nothing_lost("recovery");
    assert!(slower < 0.3, "{slower}");
}
