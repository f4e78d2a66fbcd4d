//! Fetches (§5): coalescing, refresh, stale-if-error, negative entries.

use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::client::ClientResponse;
use ccfs_gateway::stand_in::{Fault, When};
use http::header::CACHE_CONTROL;
use tokio::task::JoinSet;

use crate::cache::{MISS, STORED, cache_status, ttl, with_cache};
use crate::page;
use crate::support::{SHANGHAI, Setup, TestEnv, client_trusting, eventually, signed};

const COLLAPSED: &str = "ccfs-gateway; fwd=uri-miss; collapsed";
const RENEWED: &str = "ccfs-gateway; fwd=request";
const STALE: &str = "ccfs-gateway; hit; detail=stale-if-error";
const NEGATIVE: &str = "ccfs-gateway; hit; detail=negative";
const LONG: Duration = Duration::from_secs(10);

pub(crate) fn hold_responses(env: &TestEnv) {
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
}

pub(crate) fn release_responses(env: &TestEnv) {
    env.nodes[0].faults().clear();
}

/// Waits until `count` recording requests have reached the first node.
pub(crate) async fn wait_until_held(env: &TestEnv, count: u64) {
    let node = &env.nodes[0];
    assert!(
        node.wait_for_requests("getRecordFileUrlFromObs", count, LONG)
            .await
    );
}

/// Waits until `count` requests are in flight in the gateway.
pub(crate) async fn wait_for_in_flight(env: &TestEnv, count: f64) {
    let admin = env.bound.admin.unwrap();
    eventually("this many requests are in flight", async || {
        page::metric(admin, "inflight_requests").await == count
    })
    .await;
}

pub(crate) fn spawn_requests(
    env: &Arc<TestEnv>,
    call_id: &'static str,
    count: usize,
) -> JoinSet<ClientResponse> {
    let mut asks = JoinSet::new();
    for _ in 0..count {
        let env = env.clone();
        asks.spawn(async move { env.get_recording(call_id).await });
    }
    asks
}

async fn no_cache(env: &TestEnv, call_id: &str) -> ClientResponse {
    let request = env
        .recording(call_id)
        .with_header(CACHE_CONTROL, "no-cache");
    env.send(&signed(request, SHANGHAI)).await
}

// ---- Coalescing ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_hundred_misses_make_one_node_request() {
    let env = Arc::new(TestEnv::start().await);
    hold_responses(&env);
    let mut asks = spawn_requests(&env, "many-1", 60);
    let http2 = Arc::new(
        client_trusting(env.file("").as_path())
            .http2_only()
            .with_idle_connections(1),
    );
    let request = signed(env.recording("many-1"), SHANGHAI);
    for _ in 0..40 {
        let (client, request) = (http2.clone(), request.clone());
        asks.spawn(async move { client.send(&request).await.unwrap() });
    }
    wait_for_in_flight(&env, 100.0).await;
    release_responses(&env);
    let responses = asks.join_all().await;
    assert_eq!(env.recording_fetches(), 1);
    assert!(
        responses
            .iter()
            .all(|response| response.body == responses[0].body)
    );
    let count = |status| {
        responses
            .iter()
            .filter(|it| cache_status(it) == status)
            .count()
    };
    assert_eq!(count(STORED), 1);
    // A request that was not yet verified when the fetch completed is a hit.
    let hits = responses
        .iter()
        .filter(|response| ttl(response).is_some())
        .count();
    assert_eq!(count(COLLAPSED) + hits, 99);
    assert!(count(COLLAPSED) > 50);
}

#[tokio::test]
async fn a_fetch_survives_its_leader() {
    let env = Arc::new(TestEnv::start().await);
    hold_responses(&env);
    let leader = spawn_requests(&env, "leader-1", 1);
    wait_until_held(&env, 1).await;
    let mut waiter = spawn_requests(&env, "leader-1", 1);
    wait_for_in_flight(&env, 2.0).await;
    drop(leader);
    wait_for_in_flight(&env, 1.0).await;
    release_responses(&env);
    let waited = waiter.join_next().await.unwrap().unwrap();
    assert_eq!(
        (waited.status.as_u16(), cache_status(&waited)),
        (200, COLLAPSED)
    );
    let later = env.get_recording("leader-1").await;
    assert_eq!((ttl(&later).is_some(), env.recording_fetches()), (true, 1));
}

#[tokio::test]
async fn a_fetch_without_waiters_is_stored_too() {
    let env = Arc::new(TestEnv::start().await);
    hold_responses(&env);
    let leader = spawn_requests(&env, "leader-2", 1);
    wait_until_held(&env, 1).await;
    drop(leader);
    wait_for_in_flight(&env, 0.0).await;
    release_responses(&env);
    let later = env.get_recording("leader-2").await;
    assert!(cache_status(&later) == COLLAPSED || ttl(&later).is_some());
    assert_eq!(env.recording_fetches(), 1);
}

#[tokio::test]
async fn a_failed_fetch_fails_all_waiters_and_is_not_stored() {
    let env = Arc::new(TestEnv::start().await);
    hold_responses(&env);
    let faults = env.nodes[0].faults();
    faults.inject(Fault::GarbageJson, When::Always);
    let asks = spawn_requests(&env, "failed-1", 10);
    wait_until_held(&env, 1).await;
    wait_for_in_flight(&env, 10.0).await;
    faults.release();
    for response in asks.join_all().await {
        assert_eq!(response.status, 502);
        assert_eq!(response.header("x-gateway-error"), Some("node-failed"));
    }
    assert_eq!(env.recording_fetches(), 1);
    release_responses(&env);
    assert_eq!(cache_status(&env.get_recording("failed-1").await), STORED);
}

#[tokio::test]
async fn a_fetch_continues_after_its_waiters_time_out() {
    let setup = Setup {
        cluster: "timeouts = { connect = \"100ms\", per_try = \"200ms\", overall = \"300ms\", fetch = \"30s\" }"
            .to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    hold_responses(&env);
    for _ in 0..2 {
        let response = env.get_recording("slow-1").await;
        assert_eq!(response.status, 504);
        assert_eq!(response.header("x-gateway-error"), Some("node-timeout"));
        assert_eq!(
            env.recording_fetches(),
            1,
            "the second request joins the first one's fetch"
        );
    }
    release_responses(&env);
    eventually("the fetched response is cached", async || {
        ttl(&env.get_recording("slow-1").await).is_some()
    })
    .await;
    assert_eq!(env.recording_fetches(), 1);
}

// ---- no-cache and refresh ------------------------------------------------------------------------

#[tokio::test]
async fn no_cache_queries_the_node_and_replaces_the_entry() {
    let env = TestEnv::start().await;
    let first = env.get_recording("renew-1").await;
    let second = no_cache(&env, "renew-1").await;
    let third = env.get_recording("renew-1").await;
    assert_eq!(cache_status(&second), RENEWED);
    assert_ne!(first.body, second.body);
    assert_eq!(
        (ttl(&third).is_some(), third.body == second.body),
        (true, true)
    );
    assert_eq!(env.recording_fetches(), 2);
}

#[tokio::test]
async fn concurrent_no_caches_join_one_fetch() {
    let env = Arc::new(TestEnv::start().await);
    let first = env.get_recording("renew-2").await;
    hold_responses(&env);
    let mut asks = JoinSet::new();
    for _ in 0..10 {
        let env = env.clone();
        asks.spawn(async move { no_cache(&env, "renew-2").await });
    }
    wait_for_in_flight(&env, 10.0).await;
    let meanwhile = env.get_recording("renew-2").await;
    assert_eq!(
        meanwhile.body, first.body,
        "other requests are still served from the entry"
    );
    release_responses(&env);
    let responses = asks.join_all().await;
    assert!(
        responses
            .iter()
            .all(|response| cache_status(response).starts_with(RENEWED))
    );
    // A late request may start another fetch, but the fetches stay far below ten.
    assert!(env.recording_fetches() <= 3, "{}", env.recording_fetches());
}

#[tokio::test]
async fn an_entry_near_expiry_is_refreshed_once_signed_and_uncharged() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        ..with_cache("expiry_margin = \"1s\"\nminimum_life = \"1s\"")
    };
    let env = setup.start().await;
    let first = env.get_recording("life-4").await;
    assert_eq!(cache_status(&first), STORED);
    hold_responses(&env);
    // The lifetime is at least two seconds, so the rate limit has recovered when 90 % of it has
    // passed.
    eventually("it is refreshed", async || {
        assert!(ttl(&env.get_recording("life-4").await).is_some());
        env.recording_fetches() == 2
    })
    .await;
    for _ in 0..5 {
        assert_eq!(env.get_recording("life-4").await.body, first.body);
    }
    assert_eq!(env.recording_fetches(), 2, "one refresh at a time");
    release_responses(&env);
    eventually("the refreshed entry is served", async || {
        env.get_recording("life-4").await.body != first.body
    })
    .await;
    assert_eq!(env.recording_fetches(), 2);
    let requests = env.nodes[0].requests();
    let of_recordings = requests.iter().filter(|it| it.path().ends_with("FromObs"));
    let signatures: Vec<_> = of_recordings
        .map(|it| (it.access_key.as_deref(), it.header("authorization")))
        .collect();
    assert_eq!(signatures[1].0, Some(SHANGHAI));
    assert_ne!(signatures[0].1, signatures[1].1, "re-signed");
    let miss = env.get_recording("other-1").await;
    assert_eq!(miss.status, 200, "the refresh is not charged");
}

// ---- stale-if-error -------------------------------------------------------------------------------

#[tokio::test]
async fn a_stale_response_is_served_instead_of_an_error() {
    let setup = Setup {
        cluster: "timeouts = { connect = \"100ms\", per_try = \"200ms\", overall = \"300ms\", fetch = \"400ms\" }"
            .to_owned(),
        ..with_cache("expiry_margin = \"20s\"\nminimum_life = \"1s\"")
    };
    let mut env = setup.start().await;
    let first = env.get_recording("life-21").await;
    assert_eq!(cache_status(&first), STORED);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    for fault in [
        Fault::GarbageJson,
        Fault::Reset,
        Fault::FlowControl,
        Fault::Hold,
    ] {
        let faults = env.nodes[0].faults();
        faults.inject(fault.clone(), When::Always);
        let response = env.get_recording("life-21").await;
        assert_eq!(
            (response.status.as_u16(), cache_status(&response)),
            (200, STALE),
            "{fault:?}"
        );
        assert_eq!(response.body, first.body);
        assert!(response.header("age").is_some());
        if fault != Fault::Hold {
            env.nodes[0].faults().clear();
        }
    }
    env.nodes[0].stop().await;
    assert_eq!(
        cache_status(&env.get_recording("life-21").await),
        STALE,
        "no node is reachable"
    );
    // The access log names the failed node although the response is a success.
    let log = env.file("access.log");
    let lines = || crate::support::read(&log);
    eventually("all lines are written", async || {
        lines().lines().count() == 6
    })
    .await;
    for line in lines().lines().skip(1).take(3) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["gw.cache"], "stale_if_error", "{line}");
        assert!(line["gw.node"].is_string(), "{line}");
        assert!(line["gw.attempts"].as_u64() > Some(0), "{line}");
    }
}

#[tokio::test]
async fn a_stale_response_is_not_served_if_the_node_responds() {
    let env = with_cache("expiry_margin = \"20s\"\nminimum_life = \"1s\"")
        .start()
        .await;
    env.get_recording("life-21").await;
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let faults = env.nodes[0].faults();
    faults.inject(Fault::ResultCode("0300011".to_owned()), When::Next(1));
    let response = env.get_recording("life-21").await;
    assert_eq!(
        (response.result_code().as_deref(), cache_status(&response)),
        (Some("0300011"), MISS)
    );
    assert_eq!(
        cache_status(&env.get_recording("life-21").await),
        STORED,
        "nor instead of a success"
    );
}

#[tokio::test]
async fn a_stale_response_must_be_allowed_and_valid_for_the_minimum() {
    for keys in [
        "expiry_margin = \"3s\"\nminimum_life = \"3s\"",
        "expiry_margin = \"3s\"\nminimum_life = \"0s\"\nstale_if_error = false",
    ] {
        let env = with_cache(keys).start().await;
        assert_eq!(cache_status(&env.get_recording("life-4").await), STORED);
        tokio::time::sleep(Duration::from_millis(1050)).await;
        env.nodes[0]
            .faults()
            .inject(Fault::GarbageJson, When::Always);
        let response = env.get_recording("life-4").await;
        assert_eq!(response.status, 502, "{keys}: {}", cache_status(&response));
    }
}

// ---- Negative entries ----------------------------------------------------------------------------

#[tokio::test]
async fn no_data_yet_is_cached_briefly() {
    let env = with_cache("negative_ttl = \"500ms\"").start().await;
    let faults = env.nodes[0].faults();
    faults.add_unknown_call("later-1");
    let first = env.get_recording("later-1").await;
    assert_eq!(first.result_code().as_deref(), Some("0300012"));
    assert!(cache_status(&first).starts_with(MISS));
    let second = env.get_recording("later-1").await;
    assert_eq!(
        (cache_status(&second), &second.body),
        (NEGATIVE, &first.body)
    );
    assert!(second.header("age").is_some());
    faults.remove_unknown_call("later-1");
    eventually("the recording is available", async || {
        env.get_recording("later-1").await.result_code().as_deref() == Some("0")
    })
    .await;
    assert_eq!(env.recording_fetches(), 2);
}

#[tokio::test]
async fn no_data_yet_is_not_cached_if_disabled_or_bypassed() {
    let off = with_cache("negative_ttl = \"0s\"").start().await;
    let on = TestEnv::start().await;
    for _ in 0..2 {
        assert_eq!(cache_status(&off.get_recording("0000-1").await), MISS);
        assert_eq!(cache_status(&no_cache(&on, "0000-1").await), RENEWED);
    }
    assert_eq!((off.recording_fetches(), on.recording_fetches()), (2, 2));
}

#[tokio::test]
async fn no_other_failure_is_cached() {
    let env = TestEnv::start().await;
    let codes = ["0300001", "0300004", "0300011", "0300014"];
    for code in codes {
        let call_id = format!("code-{code}");
        for _ in 0..2 {
            let response = env.get_recording(&call_id).await;
            assert_eq!(response.result_code().as_deref(), Some(code));
            assert_eq!(cache_status(&response), MISS);
        }
    }
    assert_eq!(env.recording_fetches(), 2 * codes.len() as u64);
}
