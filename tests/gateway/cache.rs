//! Cache (§5): what is stored, under which key, for how long, and what responses say about it.
//! Coalescing, refresh and stale-if-error are in `fetch.rs`.

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

pub(crate) fn cache_status(response: &ClientResponse) -> &str {
    response.header("cache-status").unwrap_or("none")
}

/// The seconds of `hit; ttl=…`, if the response is a cache hit.
pub(crate) fn ttl(response: &ClientResponse) -> Option<i64> {
    cache_status(response)
        .strip_prefix("ccfs-gateway; hit; ttl=")?
        .parse()
        .ok()
}

// ---- The key --------------------------------------------------------------------------------------

#[tokio::test]
async fn spellings_of_one_request_share_an_entry() {
    let env = TestEnv::start().await;
    let spellings = [
        r#"{"callId":"key-1","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0"}"#,
        "{ \"version\" : \"2.0\",\r\n\t\"endTime\":\"2021-11-24 17:25:11\" , \"callId\":\"key-1\",\"beginTime\":\"2021-11-24 16:25:03\" }",
        r#"{"callId":"\u006bey\u002D1","beginTime":"2021-11-24 16:25:03","endTime":"2021\u002d11-24 17:25:11","v\u0065rsion":"2.0"}"#,
        r#"{"callId":"key-1","beginTime":"2021-11-24 08:25:03","endTime":"2021-11-24 09:25:11"}"#,
        r#"{"callId":"key-1","beginTime":"2021-11-24T08:25:03Z","endTime":"2021-11-24T18:25:11+09:00","version":"2.0"}"#,
        r#"{"callId":"key-1","beginTime":"2021-11-24T16:25:03+08:00","endTime":"2021-11-24 09:25:11"}"#,
    ];
    for (n, body) in spellings.into_iter().enumerate() {
        let response = env.send(&signed(env.post(body), SHANGHAI)).await;
        assert_eq!(response.result_code().as_deref(), Some("0"), "{body}");
        assert_eq!(
            ttl(&response).is_some(),
            n > 0,
            "{body}: {}",
            cache_status(&response)
        );
    }
    assert_eq!(env.recording_fetches(), 1);
}

#[tokio::test]
async fn unknown_fields_are_part_of_the_key() {
    let env = TestEnv::start().await;
    let body = |more: &str| {
        format!(
            r#"{{"callId":"key-2","beginTime":"2021-11-24 16:25:03","endTime":"{END}","version":"2.0"{more}}}"#
        )
    };
    // Each row is a cache entry of its own; the bodies of one row share it.
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
            let response = env.send(&signed(env.post(body(more)), SHANGHAI)).await;
            assert_eq!(ttl(&response).is_some(), m > 0, "{more}");
            assert_eq!(env.recording_fetches(), n as u64 + 1, "{more}");
        }
    }
}

#[tokio::test]
async fn two_accounts_never_share_an_entry() {
    let env = TestEnv::start().await;
    let as_shanghai = env.get_recording("key-3").await;
    let as_berlin = env.send(&signed(env.recording("key-3"), BERLIN)).await;
    assert_eq!(
        (cache_status(&as_shanghai), cache_status(&as_berlin)),
        (STORED, STORED)
    );
    assert_ne!(as_shanghai.body, as_berlin.body);
    assert_eq!(env.recording_fetches(), 2);
}

#[tokio::test]
async fn a_query_is_forwarded_and_never_cached() {
    let env = TestEnv::start().await;
    for _ in 0..2 {
        let mut request = env.recording("key-4");
        request.target.push_str("?a=1");
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_eq!(response.result_code().as_deref(), Some("0"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(
            !cache_status(&response).contains("stored"),
            "{}",
            cache_status(&response)
        );
    }
    assert_eq!(env.recording_fetches(), 2);
}

// ---- What is stored -------------------------------------------------------------------------------

#[tokio::test]
async fn only_successes_with_a_sufficient_lifetime_are_stored() {
    let env = TestEnv::start().await;
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
        let first = env.get_recording(call_id).await;
        assert_eq!(
            cache_status(&first),
            if stored { STORED } else { MISS },
            "{call_id}"
        );
        let second = env.get_recording(call_id).await;
        assert_eq!(ttl(&second).is_some(), stored, "{call_id}");
    }
}

#[tokio::test]
async fn further_success_codes_can_be_configured() {
    let env = with_cache(r#"success_codes = ["0", "0100000"]"#)
        .start()
        .await;
    for call_id in ["plain-1", "code-0100000"] {
        env.get_recording(call_id).await;
        let again = env.get_recording(call_id).await;
        let has_url = again.json()["resultData"]["url"].is_string();
        assert_eq!(ttl(&again).is_some(), has_url, "{call_id}");
    }
}

#[tokio::test]
async fn statuses_other_than_200_pass_and_are_not_stored() {
    let env = TestEnv::start().await;
    for status in [404, 500] {
        let node = env.nodes[0].faults();
        node.inject(Fault::Status(status), When::Next(1));
        let response = env.get_recording("status-1").await;
        assert_eq!(
            (response.status.as_u16(), cache_status(&response)),
            (status, MISS)
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    assert_eq!(cache_status(&env.get_recording("status-1").await), STORED);
}

#[tokio::test]
async fn nothing_is_stored_when_the_cache_is_off() {
    let env = with_cache(r#"max_size = "0B""#).start().await;
    for _ in 0..2 {
        assert_eq!(cache_status(&env.get_recording("off-1").await), MISS);
        assert_eq!(
            env.get_recording("0000-1").await.result_code().as_deref(),
            Some("0300012")
        );
    }
    assert_eq!(env.recording_fetches(), 4);
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes() {
    let env = with_cache(r#"max_size = "32KiB""#).start().await;
    let admin = env.bound.admin.unwrap();
    for n in 0..100 {
        env.get_recording(&format!("bytes-{n}")).await;
    }
    let bytes = page::metric(admin, "cache_weight_bytes").await;
    let entries = page::metric(admin, "cache_entries").await;
    assert!(bytes <= 32.0 * 1024.0, "{bytes}");
    assert!((1.0..100.0).contains(&entries), "{entries}");
    assert!(
        ttl(&env.get_recording("bytes-99").await).is_some(),
        "the newest stays"
    );
    assert!(
        ttl(&env.get_recording("bytes-0").await).is_none(),
        "the oldest is evicted"
    );
}

// ---- Lifetime ------------------------------------------------------------------------------------

#[tokio::test]
async fn an_entry_is_fresh_until_the_expiry_margin() {
    let env = TestEnv::start().await;
    for (call_id, most) in [("life-700", 100), ("long-1", 8 * 3600 - 600)] {
        env.get_recording(call_id).await;
        let hit = env.get_recording(call_id).await;
        let left = ttl(&hit).unwrap();
        assert!((most - 10..=most).contains(&left), "{call_id}: {left}");
        let age: i64 = hit.header("age").unwrap().parse().unwrap();
        assert!((0..10).contains(&age), "{age}");
    }
}

#[tokio::test]
async fn an_expired_entry_is_removed() {
    let env = with_cache("expiry_margin = \"1s\"\nminimum_life = \"1s\"")
        .start()
        .await;
    assert_eq!(cache_status(&env.get_recording("life-2").await), STORED);
    // Fresh for at most one second: the expiry has a resolution of whole seconds.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(cache_status(&env.get_recording("life-2").await), STORED);
    assert_eq!(env.recording_fetches(), 2);
}

#[tokio::test]
async fn every_response_of_the_interface_is_no_store() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let mut responses = vec![
        env.get_recording("store-1").await,
        env.get_recording("store-1").await,
    ];
    responses.push(env.send(&env.recording("store-1")).await);
    responses.push(env.send(&signed(env.post("{}"), SHANGHAI)).await);
    let mut get = env.recording("store-1");
    get.method = http::Method::GET;
    responses.push(env.send(&signed(get, SHANGHAI)).await);
    let limited = async || env.get_recording("store-2").await.status == 429;
    assert!(limited().await || limited().await || limited().await);
    responses.push(env.send(&signed(env.recording("0000-2"), BERLIN)).await);
    responses.push(env.send(&signed(env.recording("0000-2"), BERLIN)).await);
    env.nodes[0]
        .faults()
        .inject(Fault::GarbageJson, When::Always);
    responses.push(env.send(&signed(env.recording("store-3"), BERLIN)).await);
    for response in responses {
        let control = response.header("cache-control");
        assert_eq!(
            control,
            Some("no-store"),
            "{} {:?}",
            response.status,
            response.headers
        );
    }
}

#[tokio::test]
async fn a_hit_has_the_nodes_body_and_type_and_the_gateways_other_headers() {
    let env = TestEnv::start().await;
    let first = env.get_recording("bytes-1").await;
    let request = env.recording("bytes-1");
    let id = http::HeaderName::from_static("x-request-id");
    let hit = env
        .send(&signed(request.with_header(id, "mine-1"), SHANGHAI))
        .await;
    assert_eq!(hit.body, first.body);
    assert_eq!(hit.header("content-type"), first.header("content-type"));
    assert_eq!(hit.header("x-request-id"), Some("mine-1"));
    assert_eq!(hit.header("via"), Some("1.1 ccfs-gateway"));
    assert_eq!(hit.header("x-gateway-error"), None);
}
