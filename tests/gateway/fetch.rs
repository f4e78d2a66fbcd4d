//! §5: one fetch for all who wait, renewals, what is given out instead of a failure.

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

pub(crate) fn hold_responses(world: &TestEnv) {
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
}

pub(crate) fn release_responses(world: &TestEnv) {
    world.nodes[0].faults().clear();
}

/// Waits until so many recording requests have come to the first node.
pub(crate) async fn wait_until_held(world: &TestEnv, count: u64) {
    let node = &world.nodes[0];
    assert!(
        node.wait_for_requests("getRecordFileUrlFromObs", count, LONG)
            .await
    );
}

/// Waits until so many requests are inside the gateway.
async fn wait_for_in_flight(world: &TestEnv, count: f64) {
    let admin = world.bound.admin.unwrap();
    eventually("so many are inside", async || {
        page::metric(admin, "inflight_requests").await == count
    })
    .await;
}

pub(crate) fn spawn_requests(
    world: &Arc<TestEnv>,
    call_id: &'static str,
    count: usize,
) -> JoinSet<ClientResponse> {
    let mut asks = JoinSet::new();
    for _ in 0..count {
        let world = world.clone();
        asks.spawn(async move { world.get_recording(call_id).await });
    }
    asks
}

async fn no_cache(world: &TestEnv, call_id: &str) -> ClientResponse {
    let request = world
        .recording(call_id)
        .with_header(CACHE_CONTROL, "no-cache");
    world.send(&signed(request, SHANGHAI)).await
}

// ---- One fetch ------------------------------------------------------------------------------------

#[tokio::test]
async fn a_hundred_misses_make_one_node_request() {
    let world = Arc::new(TestEnv::start().await);
    hold_responses(&world);
    let mut asks = spawn_requests(&world, "many-1", 60);
    let http2 = Arc::new(
        client_trusting(world.file("").as_path())
            .http2_only()
            .with_idle_connections(1),
    );
    let request = signed(world.recording("many-1"), SHANGHAI);
    for _ in 0..40 {
        let (client, request) = (http2.clone(), request.clone());
        asks.spawn(async move { client.send(&request).await.unwrap() });
    }
    wait_for_in_flight(&world, 100.0).await;
    release_responses(&world);
    let answers = asks.join_all().await;
    assert_eq!(world.recording_fetches(), 1);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let count = |status| {
        answers
            .iter()
            .filter(|it| cache_status(it) == status)
            .count()
    };
    assert_eq!(count(STORED), 1);
    // One that had come but was not yet verified when the answer was there hits.
    let hits = answers
        .iter()
        .filter(|answer| ttl(answer).is_some())
        .count();
    assert_eq!(count(COLLAPSED) + hits, 99);
    assert!(count(COLLAPSED) > 50);
}

#[tokio::test]
async fn a_fetch_survives_whoever_asked_first() {
    let world = Arc::new(TestEnv::start().await);
    hold_responses(&world);
    let leader = spawn_requests(&world, "leader-1", 1);
    wait_until_held(&world, 1).await;
    let mut waiter = spawn_requests(&world, "leader-1", 1);
    wait_for_in_flight(&world, 2.0).await;
    drop(leader);
    wait_for_in_flight(&world, 1.0).await;
    release_responses(&world);
    let waited = waiter.join_next().await.unwrap().unwrap();
    assert_eq!(
        (waited.status.as_u16(), cache_status(&waited)),
        (200, COLLAPSED)
    );
    let later = world.get_recording("leader-1").await;
    assert_eq!(
        (ttl(&later).is_some(), world.recording_fetches()),
        (true, 1)
    );
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_is_stored_too() {
    let world = Arc::new(TestEnv::start().await);
    hold_responses(&world);
    let leader = spawn_requests(&world, "leader-2", 1);
    wait_until_held(&world, 1).await;
    drop(leader);
    wait_for_in_flight(&world, 0.0).await;
    release_responses(&world);
    let later = world.get_recording("leader-2").await;
    assert!(cache_status(&later) == COLLAPSED || ttl(&later).is_some());
    assert_eq!(world.recording_fetches(), 1);
}

#[tokio::test]
async fn a_failed_fetch_is_answered_to_all_and_not_stored() {
    let world = Arc::new(TestEnv::start().await);
    hold_responses(&world);
    let faults = world.nodes[0].faults();
    faults.inject(Fault::GarbageJson, When::Always);
    let asks = spawn_requests(&world, "failed-1", 10);
    wait_for_in_flight(&world, 10.0).await;
    faults.release();
    for answer in asks.join_all().await {
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("x-gateway-error"), Some("node-failed"));
    }
    assert_eq!(world.recording_fetches(), 1);
    release_responses(&world);
    assert_eq!(cache_status(&world.get_recording("failed-1").await), STORED);
}

#[tokio::test]
async fn a_wait_ends_but_the_fetch_goes_on() {
    let setup = Setup {
        cluster: "timeouts = { connect = \"100ms\", per_try = \"200ms\", overall = \"300ms\", fetch = \"30s\" }"
            .to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    hold_responses(&world);
    for _ in 0..2 {
        let answer = world.get_recording("slow-1").await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.header("x-gateway-error"), Some("node-timeout"));
        assert_eq!(
            world.recording_fetches(),
            1,
            "the second try joins the first one's fetch"
        );
    }
    release_responses(&world);
    eventually("what was fetched is there", async || {
        ttl(&world.get_recording("slow-1").await).is_some()
    })
    .await;
    assert_eq!(world.recording_fetches(), 1);
}

// ---- no-cache, renewal ----------------------------------------------------------------------------

#[tokio::test]
async fn no_cache_goes_to_the_node_and_renews_the_entry() {
    let world = TestEnv::start().await;
    let first = world.get_recording("renew-1").await;
    let second = no_cache(&world, "renew-1").await;
    let third = world.get_recording("renew-1").await;
    assert_eq!(cache_status(&second), RENEWED);
    assert_ne!(first.body, second.body);
    assert_eq!(
        (ttl(&third).is_some(), third.body == second.body),
        (true, true)
    );
    assert_eq!(world.recording_fetches(), 2);
}

#[tokio::test]
async fn concurrent_no_caches_join_one_fetch() {
    let world = Arc::new(TestEnv::start().await);
    let first = world.get_recording("renew-2").await;
    hold_responses(&world);
    let mut asks = JoinSet::new();
    for _ in 0..10 {
        let world = world.clone();
        asks.spawn(async move { no_cache(&world, "renew-2").await });
    }
    wait_for_in_flight(&world, 10.0).await;
    let meanwhile = world.get_recording("renew-2").await;
    assert_eq!(
        meanwhile.body, first.body,
        "others are still answered from the entry"
    );
    release_responses(&world);
    let answers = asks.join_all().await;
    assert!(
        answers
            .iter()
            .all(|answer| cache_status(answer).starts_with(RENEWED))
    );
    // Who came late starts a second fetch; not ten.
    assert!(
        world.recording_fetches() <= 3,
        "{}",
        world.recording_fetches()
    );
}

#[tokio::test]
async fn an_entry_in_its_last_tenth_is_renewed_once_signed_and_uncharged() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        ..with_cache("expiry_margin = \"1s\"\nminimum_life = \"1s\"")
    };
    let world = setup.start().await;
    let first = world.get_recording("life-4").await;
    assert_eq!(cache_status(&first), STORED);
    hold_responses(&world);
    // Two seconds of life at least, so the budget is full again when the last tenth comes.
    eventually("it is renewed", async || {
        assert!(ttl(&world.get_recording("life-4").await).is_some());
        world.recording_fetches() == 2
    })
    .await;
    for _ in 0..5 {
        assert_eq!(world.get_recording("life-4").await.body, first.body);
    }
    assert_eq!(world.recording_fetches(), 2, "one at a time");
    release_responses(&world);
    eventually("the renewed one is there", async || {
        world.get_recording("life-4").await.body != first.body
    })
    .await;
    assert_eq!(world.recording_fetches(), 2);
    let requests = world.nodes[0].requests();
    let of_recordings = requests.iter().filter(|it| it.path().ends_with("FromObs"));
    let signatures: Vec<_> = of_recordings
        .map(|it| (it.access_key.as_deref(), it.header("authorization")))
        .collect();
    assert_eq!(signatures[1].0, Some(SHANGHAI));
    assert_ne!(signatures[0].1, signatures[1].1, "signed anew");
    let miss = world.get_recording("other-1").await;
    assert_eq!(miss.status, 200, "the renewal took nothing from the budget");
}

// ---- stale-if-error -------------------------------------------------------------------------------

#[tokio::test]
async fn a_stale_answer_is_better_than_none() {
    let setup = Setup {
        cluster: "timeouts = { connect = \"100ms\", per_try = \"200ms\", overall = \"300ms\", fetch = \"400ms\" }"
            .to_owned(),
        ..with_cache("expiry_margin = \"20s\"\nminimum_life = \"1s\"")
    };
    let mut world = setup.start().await;
    let first = world.get_recording("life-21").await;
    assert_eq!(cache_status(&first), STORED);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    for fault in [
        Fault::GarbageJson,
        Fault::Reset,
        Fault::FlowControl,
        Fault::Hold,
    ] {
        let faults = world.nodes[0].faults();
        faults.inject(fault.clone(), When::Always);
        let answer = world.get_recording("life-21").await;
        assert_eq!(
            (answer.status.as_u16(), cache_status(&answer)),
            (200, STALE),
            "{fault:?}"
        );
        assert_eq!(answer.body, first.body);
        assert!(answer.header("age").is_some());
        if fault != Fault::Hold {
            world.nodes[0].faults().clear();
        }
    }
    world.nodes[0].stop().await;
    assert_eq!(
        cache_status(&world.get_recording("life-21").await),
        STALE,
        "nobody is there"
    );
    // The operator sees which node failed behind an answer that looks well.
    let log = world.file("access.log");
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
async fn a_stale_answer_is_not_given_where_the_node_speaks() {
    let world = with_cache("expiry_margin = \"20s\"\nminimum_life = \"1s\"")
        .start()
        .await;
    world.get_recording("life-21").await;
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let faults = world.nodes[0].faults();
    faults.inject(Fault::ResultCode("0300011".to_owned()), When::Next(1));
    let answer = world.get_recording("life-21").await;
    assert_eq!(
        (answer.result_code().as_deref(), cache_status(&answer)),
        (Some("0300011"), MISS)
    );
    assert_eq!(
        cache_status(&world.get_recording("life-21").await),
        STORED,
        "nor instead of a good answer"
    );
}

#[tokio::test]
async fn a_stale_answer_must_be_allowed_and_good_for_the_minimum() {
    for keys in [
        "expiry_margin = \"3s\"\nminimum_life = \"3s\"",
        "expiry_margin = \"3s\"\nminimum_life = \"0s\"\nstale_if_error = false",
    ] {
        let world = with_cache(keys).start().await;
        assert_eq!(cache_status(&world.get_recording("life-4").await), STORED);
        tokio::time::sleep(Duration::from_millis(1050)).await;
        world.nodes[0]
            .faults()
            .inject(Fault::GarbageJson, When::Always);
        let answer = world.get_recording("life-4").await;
        assert_eq!(answer.status, 502, "{keys}: {}", cache_status(&answer));
    }
}

// ---- No data yet ----------------------------------------------------------------------------------

#[tokio::test]
async fn no_data_yet_is_held_for_a_moment() {
    let world = with_cache("negative_ttl = \"500ms\"").start().await;
    let faults = world.nodes[0].faults();
    faults.add_unknown_call("later-1");
    let first = world.get_recording("later-1").await;
    assert_eq!(first.result_code().as_deref(), Some("0300012"));
    assert!(cache_status(&first).starts_with(MISS));
    let second = world.get_recording("later-1").await;
    assert_eq!(
        (cache_status(&second), &second.body),
        (NEGATIVE, &first.body)
    );
    assert!(second.header("age").is_some());
    faults.remove_unknown_call("later-1");
    eventually("the recording is there", async || {
        world
            .get_recording("later-1")
            .await
            .result_code()
            .as_deref()
            == Some("0")
    })
    .await;
    assert_eq!(world.recording_fetches(), 2);
}

#[tokio::test]
async fn no_data_yet_is_not_held_where_that_is_off_or_the_client_says_so() {
    let off = with_cache("negative_ttl = \"0s\"").start().await;
    let on = TestEnv::start().await;
    for _ in 0..2 {
        assert_eq!(cache_status(&off.get_recording("0000-1").await), MISS);
        assert_eq!(cache_status(&no_cache(&on, "0000-1").await), RENEWED);
    }
    assert_eq!((off.recording_fetches(), on.recording_fetches()), (2, 2));
}

#[tokio::test]
async fn no_other_failure_is_held() {
    let world = TestEnv::start().await;
    let codes = ["0300001", "0300004", "0300011", "0300014"];
    for code in codes {
        let call_id = format!("code-{code}");
        for _ in 0..2 {
            let answer = world.get_recording(&call_id).await;
            assert_eq!(answer.result_code().as_deref(), Some(code));
            assert_eq!(cache_status(&answer), MISS);
        }
    }
    assert_eq!(world.recording_fetches(), 2 * codes.len() as u64);
}
