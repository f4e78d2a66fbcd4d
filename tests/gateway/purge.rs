//! Cache purges (§5), and the absence of any cache effect of a forged signature.

use std::sync::Arc;

use ccfs_gateway::client::ClientRequest;

use crate::cache::{MISS, STORED, cache_status, ttl};
use crate::fetch::{hold_responses, release_responses, spawn_requests, wait_until_held};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, signed};

#[tokio::test]
async fn entries_are_purged_by_ak_by_call_and_all() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let requests: Vec<ClientRequest> = [(SHANGHAI, "p-1"), (SHANGHAI, "p-2"), (BERLIN, "p-1")]
        .map(|(ak, call_id)| signed(env.recording(call_id), ak))
        .into();
    for (query, kept) in [
        (format!("?ak={BERLIN}"), [true, true, false]),
        ("?call_id=p-1".to_owned(), [false, true, false]),
        (format!("?ak={SHANGHAI}&call_id=p-2"), [true, false, true]),
        ("?ak=nobody".to_owned(), [true, true, true]),
        (String::new(), [false, false, false]),
    ] {
        for request in &requests {
            env.send(request).await;
        }
        let page = page::post(admin, &format!("/cache/purge{query}")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let response: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        let gone = kept.iter().filter(|kept| !**kept).count();
        assert_eq!(response["entries"], gone, "{query}");
        for (request, kept) in requests.iter().zip(kept) {
            assert_eq!(ttl(&env.send(request).await).is_some(), kept, "{query}");
        }
    }
    for slip in ["?ak=", "?callId=p-1", "?all"] {
        let page = page::post(admin, &format!("/cache/purge{slip}")).await;
        assert_eq!(page.status, 400, "{slip} must not purge everything");
    }
}

#[tokio::test]
async fn a_fetch_in_flight_during_a_purge_is_not_stored() {
    let env = Arc::new(TestEnv::start().await);
    hold_responses(&env);
    let mut ask = spawn_requests(&env, "purged-1", 1);
    wait_until_held(&env, 1).await;
    page::post(
        env.bound.admin.unwrap(),
        &format!("/cache/purge?ak={SHANGHAI}"),
    )
    .await;
    release_responses(&env);
    let response = ask.join_next().await.unwrap().unwrap();
    assert_eq!(
        (response.status.as_u16(), cache_status(&response)),
        (200, MISS)
    );
    assert_eq!(cache_status(&env.get_recording("purged-1").await), STORED);
}

#[tokio::test]
async fn a_request_after_a_purge_never_joins_an_earlier_fetch() {
    for query in ["", "?ak=ak-shanghai", "?call_id=purged-2"] {
        let env = Arc::new(TestEnv::start().await);
        hold_responses(&env);
        let mut before = spawn_requests(&env, "purged-2", 1);
        wait_until_held(&env, 1).await;
        let admin = env.bound.admin.unwrap();
        page::post(admin, &format!("/cache/purge{query}")).await;
        let mut after = spawn_requests(&env, "purged-2", 1);
        wait_until_held(&env, 2).await;
        release_responses(&env);
        let before = before.join_next().await.unwrap().unwrap();
        let after = after.join_next().await.unwrap().unwrap();
        assert_eq!((before.status.as_u16(), cache_status(&before)), (200, MISS));
        assert_eq!((after.status.as_u16(), cache_status(&after)), (200, STORED));
    }
}

// ---- Forged signatures ----------------------------------------------------------------------------

#[tokio::test]
async fn a_forged_signature_reads_no_entry_is_not_charged_and_names_no_access_key() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 3 }\nceiling = { per_second = 1, burst = 6 }\nin_flight = 2".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let stored = env.get_recording("forged-1").await;
    let mut forged = signed(env.recording("forged-1"), SHANGHAI);
    let value = forged.headers["authorization"].to_str().unwrap();
    let (rest, last) = value.split_at(value.len() - 1);
    let value = format!("{rest}{}", if last == "0" { '1' } else { '0' });
    forged = forged.with_authorization(value.parse().unwrap());
    for _ in 0..20 {
        let response = env.send(&forged).await;
        assert_eq!(response.status, 401);
        assert_eq!(response.result_code().as_deref(), Some("GW401"));
        assert_eq!(response.header("cache-status"), None);
        assert_ne!(response.body, stored.body);
    }
    // The remaining burst is still available.
    for call_id in ["forged-2", "forged-3"] {
        assert_eq!(env.get_recording(call_id).await.status, 200);
    }
    let admin = env.bound.admin.unwrap();
    assert_eq!(page::metric(admin, r#"auth_total{result="ok"}"#).await, 3.0);
    assert_eq!(
        page::metric(admin, r#"auth_total{result="wrong_signature"}"#).await,
        20.0
    );
    let log = env.file("access.log");
    eventually("all lines are written", async || {
        crate::support::read(&log).lines().count() == 23
    })
    .await;
    let refused = crate::support::read(&log);
    let unauthenticated = "\"http.response.status_code\":401";
    let refused: Vec<_> = refused
        .lines()
        .filter(|line| line.contains(unauthenticated))
        .collect();
    assert_eq!(refused.len(), 20);
    for line in refused {
        assert!(
            !line.contains(SHANGHAI) && !line.contains("forged-1"),
            "{line}"
        );
    }
}
