//! Flow control of nodes is learned: callers see none of it while the nodes together take the load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ccfs_gateway::stand_in::{Fault, FlowClass, FlowLimit, RateWindow, When};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::assertions::assert_node_response;
use crate::process::Process;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, client_trusting, eventually, read, signed};
use crate::{load, page};

const RECORDING: &str = "getRecordFileUrlFromObs";

/// A node that takes this many requests at once.
pub(crate) fn at_once(limit: u32) -> FlowLimit {
    FlowLimit {
        max_at_once: Some(limit),
        ..FlowLimit::default()
    }
}

fn per_second(rate: u32, window: RateWindow) -> FlowLimit {
    FlowLimit {
        max_per_second: Some(rate),
        window,
        ..FlowLimit::default()
    }
}

/// Starts nodes that take `service` for each request and have these limits for queries.
async fn nodes_with(limits: &[FlowLimit], service: Duration, cluster: &str) -> Arc<TestEnv> {
    let setup = Setup {
        nodes: limits.len(),
        cluster: cluster.to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    for (node, limit) in env.nodes.iter().zip(limits) {
        node.faults()
            .inject(Fault::DelayHead(service), When::Always);
        node.faults().set_flow_limit(FlowClass::Query, *limit);
    }
    Arc::new(env)
}

/// How a request of a load ended.
#[derive(Debug)]
struct Ended {
    ak: &'static str,
    began: Duration,
    took: Duration,
    code: Option<String>,
}

impl Ended {
    fn is_refused(&self) -> bool {
        matches!(self.code.as_deref(), Some("0300008" | "0300009"))
    }
}

/// Sends this many requests a second of each access key, evenly spread, whatever becomes of them.
async fn offer(env: &Arc<TestEnv>, loads: &[(&'static str, f64)], time: Duration) -> Vec<Ended> {
    let (began, mut all) = (Instant::now(), JoinSet::new());
    for (index, &(ak, rate)) in loads.iter().enumerate() {
        let env = env.clone();
        all.spawn(async move {
            let mut requests = JoinSet::new();
            let mark = began.elapsed().as_nanos();
            for number in 0u32.. {
                let due = Duration::from_secs_f64(f64::from(number) / rate);
                if due >= time {
                    break;
                }
                tokio::time::sleep_until((began + due).into()).await;
                let env = env.clone();
                requests.spawn(async move {
                    let call_id = format!("{}{index}-{number}", mark % 1_000_000);
                    request(&env, ak, &call_id, began).await
                });
            }
            requests.join_all().await
        });
    }
    all.join_all().await.into_iter().flatten().collect()
}

/// Keeps this many requests in progress.
async fn keep_busy(env: &Arc<TestEnv>, clients: usize, time: Duration) -> Vec<Ended> {
    let (began, mut all) = (Instant::now(), JoinSet::new());
    for client in 0..clients {
        let env = env.clone();
        all.spawn(async move {
            let mut ended = Vec::new();
            while began.elapsed() < time {
                let call_id = format!("{client}-{}", ended.len());
                ended.push(request(&env, SHANGHAI, &call_id, began).await);
            }
            ended
        });
    }
    all.join_all().await.into_iter().flatten().collect()
}

async fn request(env: &TestEnv, ak: &'static str, call_id: &str, began: Instant) -> Ended {
    let sent = Instant::now();
    let response = env.send(&signed(env.recording(call_id), ak)).await;
    Ended {
        ak,
        began: sent - began,
        took: sent.elapsed(),
        code: response.result_code(),
    }
}

/// What was learned about the queries of a node.
async fn learned(env: &TestEnv, node: usize) -> Value {
    load::cluster(env).await["nodes"][node]["flow_control"]["query"].take()
}

#[tokio::test]
async fn a_limit_at_once_is_learned_and_requests_wait_for_their_turn() {
    let env = nodes_with(
        &[at_once(3)],
        Duration::from_millis(50),
        "flow_control = { max_wait = \"5s\" }",
    )
    .await;
    let ended = keep_busy(&env, 8, Duration::from_secs(2)).await;
    assert!(ended.len() > 20, "{}", ended.len());
    let wrong: Vec<_> = ended
        .iter()
        .filter(|it| it.code.as_deref() != Some("0"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let bound = learned(&env, 0).await["in_flight"].as_u64().unwrap();
    assert!((2..=8).contains(&bound), "{bound}");
    let (accepted, refused) = env.nodes[0].faults().flow_counts();
    assert!(refused * 2 < accepted, "{refused} refused of {accepted}");
    let metrics = load::env_admin_request(&env, "GET", "/metrics").await;
    let ceiling = metrics
        .lines()
        .find(|line| line.starts_with("ccfs_gateway_upstream_ceiling{"));
    let ceiling = ceiling.unwrap();
    assert!(
        ceiling.contains("class=\"query\"") && ceiling.contains("kind=\"in_flight\""),
        "{ceiling}"
    );
    assert!(metrics.contains("ccfs_gateway_flow_control_waiters{cluster=\"ccfs\"} 0"));
    eventually("a wait in the access log", async || {
        read(&env.file("access.log")).contains("\"gw.queue_ms\":")
    })
    .await;
}

#[tokio::test]
async fn with_pass_callers_see_the_refusals() {
    let env = nodes_with(
        &[at_once(3)],
        Duration::from_millis(50),
        "flow_control = { mode = \"pass\" }",
    )
    .await;
    let ended = keep_busy(&env, 8, Duration::from_secs(1)).await;
    assert!(ended.iter().filter(|it| it.is_refused()).count() > 3);
    assert_eq!(learned(&env, 0).await, Value::Null);
}

#[tokio::test]
async fn a_wait_in_vain_ends_with_the_nodes_own_answer() {
    let env = nodes_with(&[at_once(0), at_once(0)], Duration::ZERO, "").await;
    let began = Instant::now();
    let response = env.get_recording("1-1").await;
    assert_node_response(&response, "0300009");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn requests_that_may_not_be_repeated_wait_too() {
    let env = nodes_with(
        &[at_once(1)],
        Duration::from_millis(50),
        "flow_control = { max_wait = \"5s\" }",
    )
    .await;
    let target = load::Target::of(&env);
    let mut jobs = JoinSet::new();
    for number in 0..6 {
        let target = target.clone();
        let kind = load::Kind::Job("queryBillData");
        jobs.spawn(async move { target.send(kind, &number.to_string()).await.is_ok() });
    }
    assert_eq!(jobs.join_all().await, [true; 6]);
    assert_eq!(env.nodes[0].faults().flow_counts().0, 6);
}

#[tokio::test]
async fn downloads_and_queries_are_bound_by_themselves() {
    let env = nodes_with(&[FlowLimit::default()], Duration::ZERO, "").await;
    let none = at_once(0);
    env.nodes[0]
        .faults()
        .set_flow_limit(FlowClass::Download, none);
    let target = load::Target::of(&env);
    assert!(target.send(load::Kind::Download, "1").await.is_err());
    let began = Instant::now();
    assert_node_response(&env.get_recording("1-1").await, "0");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(400), "{took:?}");
}

#[tokio::test]
async fn a_full_queue_and_a_client_that_has_gone_leave_no_place_unused() {
    let env = nodes_with(
        &[at_once(1)],
        Duration::from_millis(100),
        "flow_control = { max_wait = \"5s\", max_queue = 3 }",
    )
    .await;
    // Learns the bound.
    keep_busy(&env, 2, Duration::from_millis(300)).await;
    let mut clients = JoinSet::new();
    for number in 0..4 {
        let env = env.clone();
        clients.spawn(async move { env.get_recording(&format!("gone-{number}")).await });
    }
    eventually("requests wait", async || {
        load::cluster(&env).await["flow_control_waiters"].as_u64() > Some(0)
    })
    .await;
    clients.shutdown().await;
    let began = Instant::now();
    assert_node_response(&env.get_recording("1-1").await, "0");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let waiting = async || load::cluster(&env).await["flow_control_waiters"] == 0;
    eventually("nothing waits", waiting).await;
}

#[tokio::test]
async fn a_reload_keeps_what_was_learned() {
    let env = nodes_with(
        &[at_once(2)],
        Duration::from_millis(50),
        "flow_control = { max_wait = \"5s\" }",
    )
    .await;
    keep_busy(&env, 5, Duration::from_millis(500)).await;
    assert!(learned(&env, 0).await["in_flight"].is_u64());
    load::env_admin_request(&env, "POST", "/reload").await;
    assert!(learned(&env, 0).await["in_flight"].is_u64());
    assert!(env.nodes[0].count(RECORDING) > 0);
}

#[tokio::test]
async fn with_a_limit_for_each_access_key_one_does_not_hold_up_another() {
    let one_each = FlowLimit {
        per_access_key: true,
        ..at_once(1)
    };
    let service = Duration::from_millis(40);
    let env = nodes_with(&[one_each], service, "flow_control = { max_wait = \"5s\" }").await;
    let busy = tokio::spawn({
        let env = env.clone();
        async move { keep_busy(&env, 6, Duration::from_secs(3)).await }
    });
    eventually("the busy one waits", async || {
        load::cluster(&env).await["flow_control_waiters"].as_u64() > Some(0)
    })
    .await;
    let mut small = offer(&env, &[(BERLIN, 8.0)], Duration::from_secs(2)).await;
    let refused = small.iter().filter(|it| it.is_refused()).count();
    assert_eq!(refused, 0, "{small:?}");
    small.sort_unstable_by_key(|it| it.took);
    let median = small[small.len() / 2].took;
    // Behind six others it would wait for several of their requests.
    assert!(median < service * 4, "{median:?}");
    let busy = busy.await.unwrap();
    assert!(
        busy.iter().all(|it| it.code.as_deref() == Some("0")),
        "{busy:?}"
    );
}

#[tokio::test]
async fn under_overload_nobody_waits_longer_than_max_wait_and_the_nodes_stay_busy() {
    let max_wait = Duration::from_millis(600);
    let cluster = "flow_control = { max_wait = \"600ms\" }";
    let service = Duration::from_millis(50);
    let env = nodes_with(&[at_once(2)], service, cluster).await;
    let time = Duration::from_secs(4);
    // What the node takes, three times over.
    let ended = offer(&env, &[(SHANGHAI, 120.0)], time).await;
    let longest = ended.iter().map(|it| it.took).max().unwrap();
    assert!(longest < max_wait + Duration::from_secs(2), "{longest:?}");
    let served = ended
        .iter()
        .filter(|it| it.code.as_deref() == Some("0"))
        .count();
    // 40 a second at most; half of it even on a machine that is busy with other tests.
    assert!(served >= 80, "{served} of {}", ended.len());
    let refused = ended.iter().filter(|it| it.is_refused()).count();
    assert_eq!(
        served + refused,
        ended.len(),
        "what is not served is the node's own answer"
    );
    let (_, said_no) = env.nodes[0].faults().flow_counts();
    assert!(refused as u64 <= said_no, "{refused} of {said_no}");
}

#[tokio::test]
async fn requests_that_wait_are_served_during_a_drain() {
    let setup = Setup {
        cluster: "flow_control = { max_wait = \"5s\" }".to_owned(),
        tables: "[telemetry]\nlog_level = \"info\"".to_owned(),
        ..Setup::default()
    };
    let mut process = Process::start(&setup).await;
    let faults = process.site.nodes[0].faults();
    faults.inject(Fault::DelayHead(Duration::from_millis(100)), When::Always);
    faults.set_flow_limit(FlowClass::Query, at_once(1));
    let client = Arc::new(client_trusting(process.site.folder.path()));
    let mut requests = JoinSet::new();
    for number in 0..8 {
        let (client, request) = (
            client.clone(),
            signed(process.recording(&format!("drain-{number}")), SHANGHAI),
        );
        requests.spawn(async move { client.send(&request).await.unwrap().result_code() });
    }
    eventually("requests wait", async || {
        let status = page::get(process.admin, "/status").await.json();
        status["clusters"][0]["flow_control_waiters"].as_u64() > Some(1)
    })
    .await;
    process.signal("TERM");
    let codes = requests.join_all().await;
    assert!(
        codes.iter().all(|code| code.as_deref() == Some("0")),
        "{codes:?}"
    );
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

/// What nodes with these limits take a second. How long a request really takes depends on the machine, so
/// that limits at once are measured: more clients than places, for six seconds.
async fn taken_per_second(limits: &[FlowLimit]) -> f64 {
    let rates: Option<Vec<_>> = limits.iter().map(|limit| limit.max_per_second).collect();
    if let Some(rates) = rates {
        return f64::from(rates.iter().sum::<u32>());
    }
    let env = nodes_with(limits, SERVICE, "flow_control = { max_wait = \"5s\" }").await;
    let places: u32 = limits.iter().filter_map(|limit| limit.max_at_once).sum();
    let accepted = || -> u64 {
        let counts = env.nodes.iter().map(|node| node.faults().flow_counts().0);
        counts.sum()
    };
    let clients = 2 * usize::try_from(places).unwrap();
    keep_busy(&env, clients, Duration::from_secs(3)).await;
    let (before, began) = (accepted(), Instant::now());
    keep_busy(&env, clients, Duration::from_secs(3)).await;
    (accepted() - before) as f64 / began.elapsed().as_secs_f64()
}

/// Offers 95 % of what the nodes take. Returns the share of callers that see a refusal, the share of the
/// load that is served, and the longest time of a request.
async fn measure(name: &str, limits: &[FlowLimit], cluster: &str) -> (f64, f64, Duration) {
    let total = taken_per_second(limits).await;
    let env = nodes_with(limits, SERVICE, cluster).await;
    let time = Duration::from_secs(30);
    let ended = offer(&env, &[(SHANGHAI, total * 0.95)], time).await;
    let settled = || {
        let after = Duration::from_secs(10);
        ended.iter().filter(move |it| it.began >= after)
    };
    let all = settled().count() as f64;
    let seen = settled().filter(|it| it.is_refused()).count() as f64 / all;
    let good = settled().filter(|it| it.code.as_deref() == Some("0"));
    let served = good.count() as f64 / all;
    let longest = ended.iter().map(|it| it.took).max().unwrap();
    println!(
        "{name}, {:.1} of {total:.1}/s offered: {:.2} % see a refusal, {:.1} % served, longest {longest:?}",
        total * 0.95,
        seen * 100.0,
        served * 100.0
    );
    (seen, served, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes six minutes of load; the figures are in tests/bench/README.md"]
async fn at_95_percent_of_what_the_nodes_take() {
    let fixed = |rate| per_second(rate, RateWindow::Fixed);
    let bucket = |rate| per_second(rate, RateWindow::Bucket);
    for (name, limits) in [
        ("at once 8", vec![at_once(8)]),
        ("at once 1, 2, 5", vec![at_once(1), at_once(2), at_once(5)]),
        ("bucket 30", vec![bucket(30)]),
        ("buckets 5, 10, 20", vec![bucket(5), bucket(10), bucket(20)]),
        ("windows 5, 10, 20", vec![fixed(5), fixed(10), fixed(20)]),
    ] {
        let pass = format!("{name}, pass");
        measure(&pass, &limits, "flow_control = { mode = \"pass\" }").await;
        let (seen, served, longest) = measure(name, &limits, "").await;
        assert!(seen <= 0.01, "{name}: {seen}");
        assert!(served >= 0.99, "{name}: {served}");
        assert!(
            longest < SERVICE * 2 + Duration::from_secs(1),
            "{name}: {longest:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute of load; the figures are in tests/bench/README.md"]
async fn a_change_is_followed_within_ten_seconds() {
    let env = nodes_with(&[at_once(2), at_once(4)], SERVICE, "").await;
    let change = |limits: [u32; 2]| {
        for (node, limit) in env.nodes.iter().zip(limits) {
            node.faults()
                .set_flow_limit(FlowClass::Query, at_once(limit));
        }
    };
    // A tenth of the places is left for what the machine adds to `SERVICE`.
    let shares = async |places: f64| {
        let total = places / SERVICE.as_secs_f64();
        let ended = offer(&env, &[(SHANGHAI, total)], Duration::from_secs(20)).await;
        let late = |it: &&Ended| it.began >= Duration::from_secs(10);
        let seen = ended.iter().filter(late).filter(|it| it.is_refused());
        let seen = seen.count() as f64 / ended.iter().filter(late).count() as f64;
        println!(
            "{total:.1}/s: {:.2} % see a refusal after 10 s",
            seen * 100.0
        );
        assert!(seen <= 0.01, "{seen}");
    };
    shares(0.9 * 6.0).await;
    change([5, 3]);
    shares(0.9 * 8.0).await;
    change([1, 3]);
    shares(0.9 * 4.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute of load; the figures are in tests/bench/README.md"]
async fn a_hundredth_of_the_load_waits_no_longer() {
    let median = async |loads: [(&'static str, f64); 2]| {
        let env = nodes_with(&[at_once(6)], SERVICE, "").await;
        let ended = offer(&env, &loads, Duration::from_secs(40)).await;
        let of_small = ended.iter().filter(|it| it.ak == BERLIN);
        let mut took: Vec<_> = of_small.map(|it| it.took).collect();
        took.sort();
        took[took.len() / 2].saturating_sub(SERVICE)
    };
    let equal = median([(SHANGHAI, 12.0), (BERLIN, 12.0)]).await;
    let small = median([(SHANGHAI, 24.0), (BERLIN, 0.24)]).await;
    println!("median wait of a small load {small:?}, of equal ones {equal:?}");
    assert!(small <= equal * 2, "{small:?} against {equal:?}");
}

const SERVICE: Duration = Duration::from_millis(300);
