//! §5: what is forgotten on request; and what a forged signature does to the cache: nothing.

use std::sync::Arc;

use ccfs_gateway::client::ClientRequest;

use crate::cache::{MISS, STORED, cache_status, ttl};
use crate::fetch::{hold_responses, release_responses, spawn_requests, wait_until_held};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, signed};

#[tokio::test]
async fn entries_are_purged_by_ak_by_call_and_all() {
    let world = TestEnv::start().await;
    let admin = world.bound.admin.unwrap();
    let requests: Vec<ClientRequest> = [(SHANGHAI, "p-1"), (SHANGHAI, "p-2"), (BERLIN, "p-1")]
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
        let answer: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        let gone = kept.iter().filter(|kept| !**kept).count();
        assert_eq!(answer["entries"], gone, "{query}");
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
    let world = Arc::new(TestEnv::start().await);
    hold_responses(&world);
    let mut ask = spawn_requests(&world, "purged-1", 1);
    wait_until_held(&world, 1).await;
    page::post(
        world.bound.admin.unwrap(),
        &format!("/cache/purge?ak={SHANGHAI}"),
    )
    .await;
    release_responses(&world);
    let answer = ask.join_next().await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), cache_status(&answer)), (200, MISS));
    assert_eq!(cache_status(&world.get_recording("purged-1").await), STORED);
}

// ---- Forged signatures ----------------------------------------------------------------------------

#[tokio::test]
async fn a_forged_signature_reads_nothing_costs_nothing_and_names_nobody() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 3 }\nceiling = { per_second = 1, burst = 6 }\nin_flight = 2".to_owned(),
        ..Setup::default()
    };
    let world = setup.start().await;
    let stored = world.get_recording("forged-1").await;
    let mut forged = signed(world.recording("forged-1"), SHANGHAI);
    let value = forged.headers["authorization"].to_str().unwrap();
    let (rest, last) = value.split_at(value.len() - 1);
    let value = format!("{rest}{}", if last == "0" { '1' } else { '0' });
    forged = forged.with_authorization(value.parse().unwrap());
    for _ in 0..20 {
        let answer = world.send(&forged).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.result_code().as_deref(), Some("GW401"));
        assert_eq!(answer.header("cache-status"), None);
        assert_ne!(answer.body, stored.body);
    }
    // What is left of the burst is still there.
    for call_id in ["forged-2", "forged-3"] {
        assert_eq!(world.get_recording(call_id).await.status, 200);
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
