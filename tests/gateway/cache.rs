//! §5: what is stored, under which key, for how long, who waits for whom, and what the answers say.

use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::cli::client::{Answer, SignedRequest};
use ccfs_gateway::stand_in::{Fault, When};
use http::header::CACHE_CONTROL;
use tokio::task::JoinSet;

use crate::page;
use crate::support::{BERLIN, END, SHANGHAI, Setup, World, eventually, signed, trusting};

const MISS: &str = "ccfs-gateway; fwd=uri-miss";
const STORED: &str = "ccfs-gateway; fwd=uri-miss; stored";
const COLLAPSED: &str = "ccfs-gateway; fwd=uri-miss; collapsed";
const RENEWED: &str = "ccfs-gateway; fwd=request";
const STALE: &str = "ccfs-gateway; hit; detail=stale-if-error";
const NEGATIVE: &str = "ccfs-gateway; hit; detail=negative";
const LONG: Duration = Duration::from_secs(10);

fn with_cache(keys: &str) -> Setup {
    Setup {
        tables: format!("[cache]\n{keys}"),
        ..Setup::default()
    }
}

fn verdict(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or("none")
}

/// The seconds of `hit; ttl=…`.
fn ttl(answer: &Answer) -> Option<i64> {
    verdict(answer)
        .strip_prefix("ccfs-gateway; hit; ttl=")?
        .parse()
        .ok()
}

fn hold(world: &World) {
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
}

fn release(world: &World) {
    world.nodes[0].faults().clear();
}

/// Waits until so many recording requests have come to the first node.
async fn held(world: &World, count: u64) {
    let node = &world.nodes[0];
    assert!(node.wait_for("getRecordFileUrlFromObs", count, LONG).await);
}

/// Waits until so many requests are inside the gateway.
async fn inside(world: &World, count: f64) {
    let admin = world.bound.admin.unwrap();
    eventually("so many are inside", async || {
        page::metric(admin, "inflight_requests").await == count
    })
    .await;
}

fn spawn_asks(world: &Arc<World>, call_id: &'static str, count: usize) -> JoinSet<Answer> {
    let mut asks = JoinSet::new();
    for _ in 0..count {
        let world = world.clone();
        asks.spawn(async move { world.ask(call_id).await });
    }
    asks
}

async fn no_cache(world: &World, call_id: &str) -> Answer {
    let request = world.recording(call_id).with(CACHE_CONTROL, "no-cache");
    world.send(&signed(request, SHANGHAI)).await
}

// ---- The key --------------------------------------------------------------------------------------

#[tokio::test]
async fn spellings_of_one_request_share_an_entry() {
    let world = World::start().await;
    let spellings = [
        r#"{"callId":"key-1","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}"#,
        "{ \"version\" : \"2.0\",\r\n\t\"endTime\":\"2021-11-24 17:25:11\" , \"callId\":\"key-1\",\"beginTime\":\"2021-11-24 16:25:03\" }",
        r#"{"callId":"\u006bey\u002D1","beginTime":"2021-11-24 16:25:03","endTime":"2021\u002d11-24 17:25:11","v\u0065rsion":"2.0"}"#,
        r#"{"callId":"key-1","beginTime":"2021-11-24 08:25:03","endTime":"2021-11-24 09:25:11"}"#,
        r#"{"callId":"key-1","beginTime":"2021-11-24T08:25:03Z","endTime":"2021-11-24T18:25:11+09:00","version":"2.0"}"#,
        r#"{"callId":"key-1","beginTime":"2021-11-24T16:25:03+08:00","endTime":"2021-11-24 09:25:11"}"#,
    ];
    for (n, body) in spellings.into_iter().enumerate() {
        let answer = world.send(&signed(world.post(body), SHANGHAI)).await;
        assert_eq!(answer.result_code().as_deref(), Some("0"), "{body}");
        assert_eq!(
            ttl(&answer).is_some(),
            n > 0,
            "{body}: {}",
            verdict(&answer)
        );
    }
    assert_eq!(world.fetched(), 1);
}

#[tokio::test]
async fn members_that_nobody_knows_are_part_of_the_key() {
    let world = World::start().await;
    let body = |more: &str| {
        format!(
            r#"{{"callId":"key-2","beginTime":"2021-11-24 16:25:03","endTime":"{END}","version":"2.0"{more}}}"#
        )
    };
    // Each row is an entry of its own; what stands in one row shares it.
    let rows: [&[&str]; 6] = [
        &[""],
        &[r#","a":1"#],
        &[r#","a":1.0"#],
        &[r#","a":"1""#],
        &[
            r#","a":{"x":[1,{"p":true,"q":null}],"y":"ä"}"#,
            r#","a":{"y":"\u00e4", "x":[ 1,{"q":null,"p":true} ]}"#,
        ],
        &[r#","a":{"x":[{"p":true,"q":null},1],"y":"ä"}"#],
    ];
    for (n, row) in rows.into_iter().enumerate() {
        for (m, more) in row.iter().enumerate() {
            let answer = world.send(&signed(world.post(body(more)), SHANGHAI)).await;
            assert_eq!(ttl(&answer).is_some(), m > 0, "{more}");
            assert_eq!(world.fetched(), n as u64 + 1, "{more}");
        }
    }
}

#[tokio::test]
async fn two_accounts_never_share_an_entry() {
    let world = World::start().await;
    let as_shanghai = world.ask("key-3").await;
    let as_berlin = world.send(&signed(world.recording("key-3"), BERLIN)).await;
    assert_eq!(
        (verdict(&as_shanghai), verdict(&as_berlin)),
        (STORED, STORED)
    );
    assert_ne!(as_shanghai.body, as_berlin.body);
    assert_eq!(world.fetched(), 2);
}

#[tokio::test]
async fn a_query_is_forwarded_and_never_cached() {
    let world = World::start().await;
    for _ in 0..2 {
        let mut request = world.recording("key-4");
        request.target.push_str("?a=1");
        let answer = world.send(&signed(request, SHANGHAI)).await;
        assert_eq!(answer.result_code().as_deref(), Some("0"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!verdict(&answer).contains("stored"), "{}", verdict(&answer));
    }
    assert_eq!(world.fetched(), 2);
}

// ---- What is stored -------------------------------------------------------------------------------

#[tokio::test]
async fn stored_is_what_has_a_code_of_success_and_an_expiry_far_enough() {
    let world = World::start().await;
    for (call_id, stored) in [
        ("form-obs", true),
        ("form-s3v2", true),
        ("form-s3v4", true),
        ("form-lss", false),
        ("urls-2", true),
        ("array-3", true),
        ("members-2_form-s3v4", true),
        ("urls-2_form-lss", false),
        ("urls-0", false),
        ("life-700", true),
        ("life-595", false),
        ("urls-2_life-500", false),
        ("code-0300011", false),
        ("code-0100000", false),
    ] {
        let first = world.ask(call_id).await;
        assert_eq!(
            verdict(&first),
            if stored { STORED } else { MISS },
            "{call_id}"
        );
        let second = world.ask(call_id).await;
        assert_eq!(ttl(&second).is_some(), stored, "{call_id}");
    }
}

#[tokio::test]
async fn further_codes_of_success_can_be_configured() {
    let world = with_cache(r#"success_codes = ["0", "0100000"]"#)
        .start()
        .await;
    for call_id in ["plain-1", "code-0100000"] {
        world.ask(call_id).await;
        let again = world.ask(call_id).await;
        let has_url = again.json()["resultData"]["url"].is_string();
        assert_eq!(ttl(&again).is_some(), has_url, "{call_id}");
    }
}

#[tokio::test]
async fn another_status_than_200_passes_and_is_not_stored() {
    let world = World::start().await;
    for status in [404, 500] {
        let node = world.nodes[0].faults();
        node.inject(Fault::Status(status), When::Next(1));
        let answer = world.ask("status-1").await;
        assert_eq!((answer.status.as_u16(), verdict(&answer)), (status, MISS));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(verdict(&world.ask("status-1").await), STORED);
}

#[tokio::test]
async fn nothing_is_held_where_the_cache_is_off() {
    let world = with_cache(r#"max_size = "0B""#).start().await;
    for _ in 0..2 {
        assert_eq!(verdict(&world.ask("off-1").await), MISS);
        assert_eq!(
            world.ask("0000-1").await.result_code().as_deref(),
            Some("0300012")
        );
    }
    assert_eq!(world.fetched(), 4);
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes() {
    let world = with_cache(r#"max_size = "32KiB""#).start().await;
    let admin = world.bound.admin.unwrap();
    for n in 0..100 {
        world.ask(&format!("bytes-{n}")).await;
    }
    let bytes = page::metric(admin, "cache_weight_bytes").await;
    let entries = page::metric(admin, "cache_entries").await;
    assert!(bytes <= 32.0 * 1024.0, "{bytes}");
    assert!((1.0..100.0).contains(&entries), "{entries}");
    assert!(
        ttl(&world.ask("bytes-99").await).is_some(),
        "the latest stays"
    );
    assert!(
        ttl(&world.ask("bytes-0").await).is_none(),
        "the oldest went"
    );
}

// ---- Life -----------------------------------------------------------------------------------------

#[tokio::test]
async fn an_entry_lives_until_the_margin_before_the_expiry() {
    let world = World::start().await;
    for (call_id, most) in [("life-700", 100), ("long-1", 8 * 3600 - 600)] {
        world.ask(call_id).await;
        let hit = world.ask(call_id).await;
        let left = ttl(&hit).unwrap();
        assert!((most - 10..=most).contains(&left), "{call_id}: {left}");
        let age: i64 = hit.header("age").unwrap().parse().unwrap();
        assert!((0..10).contains(&age), "{age}");
    }
}

#[tokio::test]
async fn an_entry_is_gone_when_its_life_is_over() {
    let world = with_cache("expiry_margin = \"1s\"\nminimum_life = \"1s\"")
        .start()
        .await;
    assert_eq!(verdict(&world.ask("life-2").await), STORED);
    // Fresh for one second at most, since an expiry is a whole second.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(verdict(&world.ask("life-2").await), STORED);
    assert_eq!(world.fetched(), 2);
}

#[tokio::test]
async fn every_answer_of_the_interface_forbids_to_store_it() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let mut answers = vec![world.ask("store-1").await, world.ask("store-1").await];
    answers.push(world.send(&world.recording("store-1")).await);
    answers.push(world.send(&signed(world.post("{}"), SHANGHAI)).await);
    let mut get = world.recording("store-1");
    get.method = http::Method::GET;
    answers.push(world.send(&signed(get, SHANGHAI)).await);
    let limited = async || world.ask("store-2").await.status == 429;
    assert!(limited().await || limited().await || limited().await);
    answers.push(world.send(&signed(world.recording("0000-2"), BERLIN)).await);
    answers.push(world.send(&signed(world.recording("0000-2"), BERLIN)).await);
    world.nodes[0]
        .faults()
        .inject(Fault::GarbageJson, When::Always);
    answers.push(
        world
            .send(&signed(world.recording("store-3"), BERLIN))
            .await,
    );
    for answer in answers {
        let control = answer.header("cache-control");
        assert_eq!(
            control,
            Some("no-store"),
            "{} {:?}",
            answer.status,
            answer.headers
        );
    }
}

#[tokio::test]
async fn a_hit_has_the_nodes_body_and_type_and_the_gateways_other_fields() {
    let world = World::start().await;
    let first = world.ask("bytes-1").await;
    let request = world.recording("bytes-1");
    let id = http::HeaderName::from_static("x-request-id");
    let hit = world
        .send(&signed(request.with(id, "mine-1"), SHANGHAI))
        .await;
    assert_eq!(hit.body, first.body);
    assert_eq!(hit.header("content-type"), first.header("content-type"));
    assert_eq!(hit.header("x-request-id"), Some("mine-1"));
    assert_eq!(hit.header("via"), Some("1.1 ccfs-gateway"));
    assert_eq!(hit.header("x-gateway-error"), None);
}

// ---- One fetch ------------------------------------------------------------------------------------

#[tokio::test]
async fn a_hundred_misses_make_one_node_request() {
    let world = Arc::new(World::start().await);
    hold(&world);
    let mut asks = spawn_asks(&world, "many-1", 60);
    let http2 = Arc::new(trusting(world.file("").as_path()).over_http2().keeping(1));
    let request = signed(world.recording("many-1"), SHANGHAI);
    for _ in 0..40 {
        let (client, request) = (http2.clone(), request.clone());
        asks.spawn(async move { client.send(&request).await.unwrap() });
    }
    inside(&world, 100.0).await;
    release(&world);
    let answers = asks.join_all().await;
    assert_eq!(world.fetched(), 1);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    let count = |status| answers.iter().filter(|it| verdict(it) == status).count();
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
    let world = Arc::new(World::start().await);
    hold(&world);
    let leader = spawn_asks(&world, "leader-1", 1);
    held(&world, 1).await;
    let mut waiter = spawn_asks(&world, "leader-1", 1);
    inside(&world, 2.0).await;
    drop(leader);
    inside(&world, 1.0).await;
    release(&world);
    let waited = waiter.join_next().await.unwrap().unwrap();
    assert_eq!((waited.status.as_u16(), verdict(&waited)), (200, COLLAPSED));
    let later = world.ask("leader-1").await;
    assert_eq!((ttl(&later).is_some(), world.fetched()), (true, 1));
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_is_stored_too() {
    let world = Arc::new(World::start().await);
    hold(&world);
    let leader = spawn_asks(&world, "leader-2", 1);
    held(&world, 1).await;
    drop(leader);
    inside(&world, 0.0).await;
    release(&world);
    let later = world.ask("leader-2").await;
    assert!(verdict(&later) == COLLAPSED || ttl(&later).is_some());
    assert_eq!(world.fetched(), 1);
}

#[tokio::test]
async fn a_failed_fetch_is_answered_to_all_and_not_stored() {
    let world = Arc::new(World::start().await);
    hold(&world);
    let faults = world.nodes[0].faults();
    faults.inject(Fault::GarbageJson, When::Always);
    let asks = spawn_asks(&world, "failed-1", 10);
    inside(&world, 10.0).await;
    faults.release();
    for answer in asks.join_all().await {
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("x-gateway-error"), Some("node-failed"));
    }
    assert_eq!(world.fetched(), 1);
    release(&world);
    assert_eq!(verdict(&world.ask("failed-1").await), STORED);
}

#[tokio::test]
async fn a_wait_ends_but_the_fetch_goes_on() {
    let setup = Setup {
        cluster: "timeouts = { connect = \"100ms\", per_try = \"200ms\", overall = \"300ms\", fetch = \"30s\" }"
            .to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    hold(&world);
    for _ in 0..2 {
        let answer = world.ask("slow-1").await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.header("x-gateway-error"), Some("node-timeout"));
        assert_eq!(
            world.fetched(),
            1,
            "the second try joins the first one's fetch"
        );
    }
    release(&world);
    eventually("what was fetched is there", async || {
        ttl(&world.ask("slow-1").await).is_some()
    })
    .await;
    assert_eq!(world.fetched(), 1);
}

// ---- no-cache, renewal ----------------------------------------------------------------------------

#[tokio::test]
async fn no_cache_goes_to_the_node_and_renews_the_entry() {
    let world = World::start().await;
    let first = world.ask("renew-1").await;
    let second = no_cache(&world, "renew-1").await;
    let third = world.ask("renew-1").await;
    assert_eq!(verdict(&second), RENEWED);
    assert_ne!(first.body, second.body);
    assert_eq!(
        (ttl(&third).is_some(), third.body == second.body),
        (true, true)
    );
    assert_eq!(world.fetched(), 2);
}

#[tokio::test]
async fn concurrent_no_caches_join_one_fetch() {
    let world = Arc::new(World::start().await);
    let first = world.ask("renew-2").await;
    hold(&world);
    let mut asks = JoinSet::new();
    for _ in 0..10 {
        let world = world.clone();
        asks.spawn(async move { no_cache(&world, "renew-2").await });
    }
    inside(&world, 10.0).await;
    let meanwhile = world.ask("renew-2").await;
    assert_eq!(
        meanwhile.body, first.body,
        "others are still answered from the entry"
    );
    release(&world);
    let answers = asks.join_all().await;
    assert!(
        answers
            .iter()
            .all(|answer| verdict(answer).starts_with(RENEWED))
    );
    // Who came late starts a second fetch; not ten.
    assert!(world.fetched() <= 3, "{}", world.fetched());
}

#[tokio::test]
async fn an_entry_in_its_last_tenth_is_renewed_once_signed_and_uncharged() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        ..with_cache("expiry_margin = \"1s\"\nminimum_life = \"1s\"")
    };
    let world = setup.start().await;
    let first = world.ask("life-4").await;
    assert_eq!(verdict(&first), STORED);
    hold(&world);
    // Two seconds of life at least, so the budget is full again when the last tenth comes.
    eventually("it is renewed", async || {
        assert!(ttl(&world.ask("life-4").await).is_some());
        world.fetched() == 2
    })
    .await;
    for _ in 0..5 {
        assert_eq!(world.ask("life-4").await.body, first.body);
    }
    assert_eq!(world.fetched(), 2, "one at a time");
    release(&world);
    eventually("the renewed one is there", async || {
        world.ask("life-4").await.body != first.body
    })
    .await;
    assert_eq!(world.fetched(), 2);
    let requests = world.nodes[0].requests();
    let of_recordings = requests.iter().filter(|it| it.path().ends_with("FromObs"));
    let signatures: Vec<_> = of_recordings
        .map(|it| (it.access_key.as_deref(), it.header("authorization")))
        .collect();
    assert_eq!(signatures[1].0, Some(SHANGHAI));
    assert_ne!(signatures[0].1, signatures[1].1, "signed anew");
    let miss = world.ask("other-1").await;
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
    let first = world.ask("life-21").await;
    assert_eq!(verdict(&first), STORED);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    for fault in [
        Fault::GarbageJson,
        Fault::Reset,
        Fault::FlowControl,
        Fault::Hold,
    ] {
        let faults = world.nodes[0].faults();
        faults.inject(fault.clone(), When::Always);
        let answer = world.ask("life-21").await;
        assert_eq!(
            (answer.status.as_u16(), verdict(&answer)),
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
        verdict(&world.ask("life-21").await),
        STALE,
        "nobody is there"
    );
}

#[tokio::test]
async fn a_stale_answer_is_not_given_where_the_node_speaks() {
    let world = with_cache("expiry_margin = \"20s\"\nminimum_life = \"1s\"")
        .start()
        .await;
    world.ask("life-21").await;
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let faults = world.nodes[0].faults();
    faults.inject(Fault::ResultCode("0300011".to_owned()), When::Next(1));
    let answer = world.ask("life-21").await;
    assert_eq!(
        (answer.result_code().as_deref(), verdict(&answer)),
        (Some("0300011"), MISS)
    );
    assert_eq!(
        verdict(&world.ask("life-21").await),
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
        assert_eq!(verdict(&world.ask("life-4").await), STORED);
        tokio::time::sleep(Duration::from_millis(1050)).await;
        world.nodes[0]
            .faults()
            .inject(Fault::GarbageJson, When::Always);
        let answer = world.ask("life-4").await;
        assert_eq!(answer.status, 502, "{keys}: {}", verdict(&answer));
    }
}

// ---- No data yet ----------------------------------------------------------------------------------

#[tokio::test]
async fn no_data_yet_is_held_for_a_moment() {
    let world = with_cache("negative_ttl = \"500ms\"").start().await;
    let faults = world.nodes[0].faults();
    faults.forget("later-1");
    let first = world.ask("later-1").await;
    assert_eq!(first.result_code().as_deref(), Some("0300012"));
    assert!(verdict(&first).starts_with(MISS));
    let second = world.ask("later-1").await;
    assert_eq!((verdict(&second), &second.body), (NEGATIVE, &first.body));
    assert!(second.header("age").is_some());
    faults.learn("later-1");
    eventually("the recording is there", async || {
        world.ask("later-1").await.result_code().as_deref() == Some("0")
    })
    .await;
    assert_eq!(world.fetched(), 2);
}

#[tokio::test]
async fn no_data_yet_is_not_held_where_that_is_off_or_the_client_says_so() {
    let off = with_cache("negative_ttl = \"0s\"").start().await;
    let on = World::start().await;
    for _ in 0..2 {
        assert_eq!(verdict(&off.ask("0000-1").await), MISS);
        assert_eq!(verdict(&no_cache(&on, "0000-1").await), RENEWED);
    }
    assert_eq!((off.fetched(), on.fetched()), (2, 2));
}

#[tokio::test]
async fn no_other_failure_is_held() {
    let world = World::start().await;
    let codes = ["0300001", "0300004", "0300011", "0300014"];
    for code in codes {
        let call_id = format!("code-{code}");
        for _ in 0..2 {
            let answer = world.ask(&call_id).await;
            assert_eq!(answer.result_code().as_deref(), Some(code));
            assert_eq!(verdict(&answer), MISS);
        }
    }
    assert_eq!(world.fetched(), 2 * codes.len() as u64);
}

// ---- Purge ----------------------------------------------------------------------------------------

#[tokio::test]
async fn entries_are_purged_by_ak_by_call_and_all() {
    let world = World::start().await;
    let admin = world.bound.admin.unwrap();
    let requests: Vec<SignedRequest> = [(SHANGHAI, "p-1"), (SHANGHAI, "p-2"), (BERLIN, "p-1")]
        .map(|(ak, call_id)| signed(world.recording(call_id), ak))
        .into();
    for (query, kept) in [
        (format!("?ak={BERLIN}"), [true, true, false]),
        ("?call_id=p-1".to_owned(), [false, true, false]),
        (format!("?ak={SHANGHAI}&call_id=p-2"), [true, false, true]),
        ("?ak=nobody".to_owned(), [true, true, true]),
        (String::new(), [false, false, false]),
    ] {
        for request in &requests {
            world.send(request).await;
        }
        let page = page::post(admin, &format!("/cache/purge{query}")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        for (request, kept) in requests.iter().zip(kept) {
            assert_eq!(ttl(&world.send(request).await).is_some(), kept, "{query}");
        }
    }
    for slip in ["?ak=", "?callId=p-1", "?all"] {
        let page = page::post(admin, &format!("/cache/purge{slip}")).await;
        assert_eq!(page.status, 400, "{slip} must not become everything");
    }
}

#[tokio::test]
async fn what_was_under_way_during_a_purge_is_not_stored() {
    let world = Arc::new(World::start().await);
    hold(&world);
    let mut ask = spawn_asks(&world, "purged-1", 1);
    held(&world, 1).await;
    page::post(
        world.bound.admin.unwrap(),
        &format!("/cache/purge?ak={SHANGHAI}"),
    )
    .await;
    release(&world);
    let answer = ask.join_next().await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), verdict(&answer)), (200, MISS));
    assert_eq!(verdict(&world.ask("purged-1").await), STORED);
}

// ---- Forged signatures ----------------------------------------------------------------------------

#[tokio::test]
async fn a_forged_signature_reads_nothing_costs_nothing_and_names_nobody() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 3 }\nceiling = { per_second = 1, burst = 6 }\nin_flight = 2".to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let stored = world.ask("forged-1").await;
    let mut forged = signed(world.recording("forged-1"), SHANGHAI);
    let value = forged.headers["authorization"].to_str().unwrap();
    let (rest, last) = value.split_at(value.len() - 1);
    let value = format!("{rest}{}", if last == "0" { '1' } else { '0' });
    forged = forged.authorized(value.parse().unwrap());
    for _ in 0..20 {
        let answer = world.send(&forged).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.result_code().as_deref(), Some("GW401"));
        assert_eq!(answer.header("cache-status"), None);
        assert_ne!(answer.body, stored.body);
    }
    // What is left of the burst is still there.
    for call_id in ["forged-2", "forged-3"] {
        assert_eq!(world.ask(call_id).await.status, 200);
    }
    let admin = world.bound.admin.unwrap();
    assert_eq!(page::metric(admin, r#"auth_total{result="ok"}"#).await, 3.0);
    assert_eq!(
        page::metric(admin, r#"auth_total{result="wrong_signature"}"#).await,
        20.0
    );
    let log = world.file("access.log");
    eventually("all lines are written", async || {
        crate::support::read(&log).lines().count() == 23
    })
    .await;
    let refused = crate::support::read(&log);
    for line in refused.lines().filter(|line| line.contains("401")) {
        assert!(
            !line.contains(SHANGHAI) && !line.contains("forged-1"),
            "{line}"
        );
    }
}
