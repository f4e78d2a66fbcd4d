//! `Prefer: wait=N` on a recording that does not exist yet (§10).

use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::client::{ClientRequest, ClientResponse};
use ccfs_gateway::stand_in::{Fault, When};
use http::HeaderName;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::page;
use crate::support::{SHANGHAI, Setup, TestEnv, credential, eventually, signed};

const PREFER: HeaderName = HeaderName::from_static("prefer");

fn waiting(env: &TestEnv, call_id: &str, wait: &'static str) -> ClientRequest {
    signed(env.recording(call_id).with_header(PREFER, wait), SHANGHAI)
}

async fn start(tables: &str) -> Arc<TestEnv> {
    let setup = Setup {
        shanghai: "in_flight = 2500".to_owned(),
        tables: tables.to_owned(),
        ..Setup::default()
    };
    Arc::new(setup.start().await)
}

async fn waiters(env: &TestEnv) -> f64 {
    page::metric(env.bound.admin.unwrap(), "prefer_waiters").await
}

fn is_found(response: &ClientResponse) -> bool {
    response.result_code().as_deref() == Some("0")
}

fn applied(response: &ClientResponse) -> Option<&str> {
    response.header("preference-applied")
}

#[tokio::test]
async fn a_client_waits_for_a_recording_and_is_told_how_long() {
    let env = start("").await;
    let node = &env.nodes[0];
    node.faults().add_unknown_call("late-1");
    let asking = tokio::spawn({
        let env = env.clone();
        async move { env.send(&waiting(&env, "late-1", "wait=20")).await }
    });
    // The first request and one poll.
    eventually("two requests", async || env.recording_fetches() >= 2).await;
    assert_eq!(waiters(&env).await, 1.0);
    node.faults().remove_unknown_call("late-1");
    let response = asking.await.unwrap();
    assert!(is_found(&response), "{}", response.json());
    let seconds: u64 = applied(&response)
        .unwrap()
        .strip_prefix("wait=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..10).contains(&seconds), "{seconds}");
    assert_eq!(
        response.header("cache-status"),
        Some("ccfs-gateway; fwd=uri-miss; stored")
    );
    assert_eq!(response.header("x-gateway-hint"), None);
    assert_eq!(waiters(&env).await, 0.0);
}

#[tokio::test]
async fn a_wait_in_vain_ends_with_the_answer_as_it_was() {
    let env = start("").await;
    env.nodes[0].faults().add_unknown_call("never-1");
    let plain = env.get_recording("never-1").await;
    let started = Instant::now();
    let response = env.send(&waiting(&env, "never-1", "wait=2")).await;
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(
        (response.status, &response.body),
        (plain.status, &plain.body)
    );
    assert_eq!(applied(&response), Some("wait=2"));
    let polls = env.recording_fetches() - 1;
    assert!((1..=2).contains(&polls), "{polls}");
}

#[tokio::test]
async fn what_cannot_wait_is_answered_at_once() {
    let env = start("").await;
    let faults = env.nodes[0].faults();
    faults.inject(Fault::ResultCode("0300012".into()), When::Always);
    for preference in ["wait=0", "wait=x", "wait=1.5", "respond-async"] {
        let response = env.send(&waiting(&env, "c-1", preference)).await;
        assert_eq!(applied(&response), None, "{preference}");
    }
    let mut query = env.recording("c-1").with_header(PREFER, "wait=20");
    query.target.push_str("?a=b");
    assert_eq!(applied(&env.send(&signed(query, SHANGHAI)).await), None);
    for validation in ["off", "shadow"] {
        let setup = Setup {
            listener: format!("validation = \"{validation}\""),
            ..Setup::default()
        };
        let env = setup.start().await;
        let faults = env.nodes[0].faults();
        faults.inject(Fault::ResultCode("0300012".into()), When::Always);
        let response = env.send(&waiting(&env, "c-1", "wait=20")).await;
        assert_eq!(applied(&response), None, "{validation}");
    }
    let env = start("[cache]\nmax_wait = \"0s\"").await;
    let faults = env.nodes[0].faults();
    faults.inject(Fault::ResultCode("0300012".into()), When::Always);
    assert_eq!(
        applied(&env.send(&waiting(&env, "c-1", "wait=20")).await),
        None
    );
}

#[tokio::test]
async fn a_poll_that_fails_is_no_answer_and_the_wait_goes_on() {
    let env = start("").await;
    let faults = env.nodes[0].faults();
    faults.add_unknown_call("late-2");
    env.get_recording("late-2").await;
    faults.inject(Fault::Status(503), When::Next(1));
    faults.inject(Fault::ResultCode("0300009".into()), When::Next(1));
    faults.remove_unknown_call("late-2");
    // Held as negative, so that the faults hit the polls.
    let response = env.send(&waiting(&env, "late-2", "wait=20")).await;
    assert!(is_found(&response), "{}", response.json());
}

#[tokio::test]
async fn without_room_or_budget_the_wait_ends() {
    let env = start("[cache]\nmax_waiters = 1").await;
    env.nodes[0].faults().add_unknown_call("late-3");
    let asking = tokio::spawn({
        let env = env.clone();
        async move { env.send(&waiting(&env, "late-3", "wait=20")).await }
    });
    eventually("one waits", async || waiters(&env).await == 1.0).await;
    let response = env.send(&waiting(&env, "late-3", "wait=20")).await;
    assert_eq!(applied(&response), None);
    env.nodes[0].faults().remove_unknown_call("late-3");
    assert!(is_found(&asking.await.unwrap()));

    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        accounts: vec![(
            "ak-poor",
            "time_zone = \"GMT+8\"\nrate_limit = { per_second = 1, burst = 2 }",
        )],
        ..Setup::default()
    };
    let env = setup.start().await;
    env.nodes[0].faults().add_unknown_call("late-4");
    let poor = |call_id: &str| {
        signed(
            env.recording(call_id).with_header(PREFER, "wait=20"),
            "ak-poor",
        )
    };
    // Two keys poll once a second each: more than the budget.
    env.nodes[0].faults().add_unknown_call("late-5");
    let (one, other) = (poor("late-4"), poor("late-5"));
    let started = Instant::now();
    // On a slow machine the polls of one may take the token of the other's first request: it asks again.
    let send = async |request| {
        loop {
            let response = env.send(request).await;
            if response.status != 429 {
                return response;
            }
        }
    };
    let (one, other) = tokio::join!(send(&one), send(&other));
    let ended = [&one, &other].map(|response| (applied(response).is_some(), is_found(response)));
    assert_eq!(ended, [(true, false); 2]);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_drain_and_a_disconnect_release_the_waiters() {
    let env = start("[server]\ngrace = \"20s\"").await;
    env.nodes[0].faults().add_unknown_call("late-6");
    let ask = || {
        let env = env.clone();
        let client = crate::support::client_trusting(&env.file(""));
        tokio::spawn(async move { client.send(&waiting(&env, "late-6", "wait=30")).await })
    };
    let (leaving, staying) = (ask(), ask());
    eventually("two wait", async || waiters(&env).await == 2.0).await;
    leaving.abort();
    eventually("one waits", async || waiters(&env).await == 1.0).await;
    let started = Instant::now();
    let drain = page::post(env.bound.admin.unwrap(), "/drain").await;
    assert_eq!(drain.status, 202);
    let response = staying.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(!is_found(&response) && applied(&response).is_some());
    assert_eq!(response.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_removed_access_key_ends_its_waits_with_401() {
    let env = start("").await;
    env.nodes[0].faults().add_unknown_call("late-7");
    let asking = tokio::spawn({
        let env = env.clone();
        async move { env.send(&waiting(&env, "late-7", "wait=30")).await }
    });
    eventually("one waits", async || waiters(&env).await == 1.0).await;
    let file = env.file("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("in_flight = 2500", "enabled = false")).unwrap();
    assert_eq!(
        page::post(env.bound.admin.unwrap(), "/reload").await.status,
        200
    );
    let started = Instant::now();
    assert_eq!(asking.await.unwrap().status, 401);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_field_reaches_a_node_only_if_it_is_signed() {
    let env = start("").await;
    env.send(&waiting(&env, "p-1", "wait=5")).await;
    let names = "content-length;host;prefer";
    let request = env.recording("p-2").with_header(PREFER, "wait=5");
    let request = request.sign(&credential(SHANGHAI), names, Timestamp::now());
    env.send(&request.unwrap()).await;
    let received = env.nodes[0].requests();
    let has = received
        .iter()
        .filter(|request| request.path().ends_with("getRecordFileUrlFromObs"))
        .map(|request| request.header("prefer").is_some());
    assert_eq!(has.collect::<Vec<_>>(), [false, true]);
}

/// A thousand streams of one HTTP/2 connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_waiters_of_one_key_cost_one_poll_a_second() {
    let env = start("[limits]\nmax_concurrent_streams = 1100").await;
    let node = &env.nodes[0];
    node.faults().add_unknown_call("many-1");
    let client = crate::support::client_trusting(&env.file("")).http2_only();
    let client = Arc::new(client.with_idle_connections(1));
    client
        .send(&signed(env.recording("many-0"), SHANGHAI))
        .await
        .unwrap();
    let request = Arc::new(waiting(&env, "many-1", "wait=30"));
    let mut asking = JoinSet::new();
    for _ in 0..1000 {
        let (client, request) = (client.clone(), request.clone());
        asking.spawn(async move { (client.send(&request).await.unwrap(), Instant::now()) });
    }
    eventually("all wait", async || waiters(&env).await == 1000.0).await;
    let (before, began) = (env.recording_fetches(), Instant::now());
    eventually("polls", async || env.recording_fetches() >= before + 3).await;
    let (polls, seconds) = (
        env.recording_fetches() - before,
        began.elapsed().as_secs_f64(),
    );
    assert!(polls as f64 <= seconds + 1.0, "{polls} in {seconds} s");
    node.faults().remove_unknown_call("many-1");
    let there = Instant::now();
    let mut delays = Vec::new();
    while let Some(done) = asking.join_next().await {
        let (response, at) = done.unwrap();
        assert!(is_found(&response));
        delays.push(at.saturating_duration_since(there));
    }
    delays.sort_unstable();
    assert!(
        delays[949] < Duration::from_secs(2),
        "p95 {:?}",
        delays[949]
    );
    let (fetches, seconds) = (
        env.recording_fetches() - before,
        began.elapsed().as_secs_f64(),
    );
    assert!(fetches as f64 <= seconds + 2.0, "{fetches} in {seconds} s");
}
