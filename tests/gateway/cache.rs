//! §5: what is stored, under which key, for how long, and what the answers say. Who fetches, and what
//! stands in for a fetch, is in `fetch.rs`.

use std::time::Duration;

use ccfs_gateway::client::ClientResponse;
use ccfs_gateway::stand_in::{Fault, When};

use crate::page;
use crate::support::{BERLIN, END, SHANGHAI, Setup, TestEnv, signed};

pub(crate) const MISS: &str = "ccfs-gateway; fwd=uri-miss";
pub(crate) const STORED: &str = "ccfs-gateway; fwd=uri-miss; stored";

pub(crate) fn with_cache(keys: &str) -> Setup {
    Setup {
        tables: format!("[cache]\n{keys}"),
        ..Setup::default()
    }
}

pub(crate) fn cache_status(answer: &ClientResponse) -> &str {
    answer.header("cache-status").unwrap_or("none")
}

/// The seconds of `hit; ttl=…`.
pub(crate) fn ttl(answer: &ClientResponse) -> Option<i64> {
    cache_status(answer)
        .strip_prefix("ccfs-gateway; hit; ttl=")?
        .parse()
        .ok()
}

// ---- The key --------------------------------------------------------------------------------------

#[tokio::test]
async fn spellings_of_one_request_share_an_entry() {
    let world = TestEnv::start().await;
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
            cache_status(&answer)
        );
    }
    assert_eq!(world.recording_fetches(), 1);
}

#[tokio::test]
async fn members_that_nobody_knows_are_part_of_the_key() {
    let world = TestEnv::start().await;
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
            assert_eq!(world.recording_fetches(), n as u64 + 1, "{more}");
        }
    }
}

#[tokio::test]
async fn two_accounts_never_share_an_entry() {
    let world = TestEnv::start().await;
    let as_shanghai = world.get_recording("key-3").await;
    let as_berlin = world.send(&signed(world.recording("key-3"), BERLIN)).await;
    assert_eq!(
        (cache_status(&as_shanghai), cache_status(&as_berlin)),
        (STORED, STORED)
    );
    assert_ne!(as_shanghai.body, as_berlin.body);
    assert_eq!(world.recording_fetches(), 2);
}

#[tokio::test]
async fn a_query_is_forwarded_and_never_cached() {
    let world = TestEnv::start().await;
    for _ in 0..2 {
        let mut request = world.recording("key-4");
        request.target.push_str("?a=1");
        let answer = world.send(&signed(request, SHANGHAI)).await;
        assert_eq!(answer.result_code().as_deref(), Some("0"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(
            !cache_status(&answer).contains("stored"),
            "{}",
            cache_status(&answer)
        );
    }
    assert_eq!(world.recording_fetches(), 2);
}

// ---- What is stored -------------------------------------------------------------------------------

#[tokio::test]
async fn stored_is_what_has_a_code_of_success_and_an_expiry_far_enough() {
    let world = TestEnv::start().await;
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
        let first = world.get_recording(call_id).await;
        assert_eq!(
            cache_status(&first),
            if stored { STORED } else { MISS },
            "{call_id}"
        );
        let second = world.get_recording(call_id).await;
        assert_eq!(ttl(&second).is_some(), stored, "{call_id}");
    }
}

#[tokio::test]
async fn further_codes_of_success_can_be_configured() {
    let world = with_cache(r#"success_codes = ["0", "0100000"]"#)
        .start()
        .await;
    for call_id in ["plain-1", "code-0100000"] {
        world.get_recording(call_id).await;
        let again = world.get_recording(call_id).await;
        let has_url = again.json()["resultData"]["url"].is_string();
        assert_eq!(ttl(&again).is_some(), has_url, "{call_id}");
    }
}

#[tokio::test]
async fn another_status_than_200_passes_and_is_not_stored() {
    let world = TestEnv::start().await;
    for status in [404, 500] {
        let node = world.nodes[0].faults();
        node.inject(Fault::Status(status), When::Next(1));
        let answer = world.get_recording("status-1").await;
        assert_eq!(
            (answer.status.as_u16(), cache_status(&answer)),
            (status, MISS)
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(cache_status(&world.get_recording("status-1").await), STORED);
}

#[tokio::test]
async fn nothing_is_held_where_the_cache_is_off() {
    let world = with_cache(r#"max_size = "0B""#).start().await;
    for _ in 0..2 {
        assert_eq!(cache_status(&world.get_recording("off-1").await), MISS);
        assert_eq!(
            world.get_recording("0000-1").await.result_code().as_deref(),
            Some("0300012")
        );
    }
    assert_eq!(world.recording_fetches(), 4);
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes() {
    let world = with_cache(r#"max_size = "32KiB""#).start().await;
    let admin = world.bound.admin.unwrap();
    for n in 0..100 {
        world.get_recording(&format!("bytes-{n}")).await;
    }
    let bytes = page::metric(admin, "cache_weight_bytes").await;
    let entries = page::metric(admin, "cache_entries").await;
    assert!(bytes <= 32.0 * 1024.0, "{bytes}");
    assert!((1.0..100.0).contains(&entries), "{entries}");
    assert!(
        ttl(&world.get_recording("bytes-99").await).is_some(),
        "the latest stays"
    );
    assert!(
        ttl(&world.get_recording("bytes-0").await).is_none(),
        "the oldest went"
    );
}

// ---- Life -----------------------------------------------------------------------------------------

#[tokio::test]
async fn an_entry_lives_until_the_margin_before_the_expiry() {
    let world = TestEnv::start().await;
    for (call_id, most) in [("life-700", 100), ("long-1", 8 * 3600 - 600)] {
        world.get_recording(call_id).await;
        let hit = world.get_recording(call_id).await;
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
    assert_eq!(cache_status(&world.get_recording("life-2").await), STORED);
    // Fresh for one second at most, since an expiry is a whole second.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(cache_status(&world.get_recording("life-2").await), STORED);
    assert_eq!(world.recording_fetches(), 2);
}

#[tokio::test]
async fn every_answer_of_the_interface_forbids_to_store_it() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let mut answers = vec![
        world.get_recording("store-1").await,
        world.get_recording("store-1").await,
    ];
    answers.push(world.send(&world.recording("store-1")).await);
    answers.push(world.send(&signed(world.post("{}"), SHANGHAI)).await);
    let mut get = world.recording("store-1");
    get.method = http::Method::GET;
    answers.push(world.send(&signed(get, SHANGHAI)).await);
    let limited = async || world.get_recording("store-2").await.status == 429;
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
    let world = TestEnv::start().await;
    let first = world.get_recording("bytes-1").await;
    let request = world.recording("bytes-1");
    let id = http::HeaderName::from_static("x-request-id");
    let hit = world
        .send(&signed(request.with_header(id, "mine-1"), SHANGHAI))
        .await;
    assert_eq!(hit.body, first.body);
    assert_eq!(hit.header("content-type"), first.header("content-type"));
    assert_eq!(hit.header("x-request-id"), Some("mine-1"));
    assert_eq!(hit.header("via"), Some("1.1 ccfs-gateway"));
    assert_eq!(hit.header("x-gateway-error"), None);
}
