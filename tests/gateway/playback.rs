//! `playVoice`: the interface that nobody signs.

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::files;
use jiff::Timestamp;
use serde_json::json;

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::support::{SHANGHAI, Setup, TestEnv, credential, signed};

async fn token(world: &TestEnv, file: &str) -> String {
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": file}});
    let request = signed(
        world.post_to("requestPlayVoice", body.to_string()),
        SHANGHAI,
    );
    let answer = world.send(&request).await;
    assert_node_response(&answer, "0");
    world.sole_upstream_request();
    answer.json()["resultData"]["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn play(world: &TestEnv, token: &str) -> ClientRequest {
    let url = format!(
        "{}/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st={token}",
        world.url()
    );
    ClientRequest::get(&url).unwrap()
}

#[tokio::test]
async fn voice_is_played_without_a_signature() {
    let world = TestEnv::start().await;
    let request = play(&world, &token(&world, "a/size-300000.wav").await);
    let answer = world.send(&request).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 300_000));
    assert!(files::matches(0, &answer.body));
    assert_common_headers(&answer);
    let got = world.sole_upstream_request();
    assert_eq!(
        (got.target.as_str(), got.header("authorization")),
        (request.target.as_str(), None)
    );

    let right = request
        .clone()
        .sign(&credential(SHANGHAI), "host", Timestamp::now())
        .unwrap();
    assert_eq!(world.send(&right).await.status, 200);
    world.sole_upstream_request();
    for wrong in ["Bearer x", "auth-v2/x"] {
        let answer = world
            .send(&request.clone().with_authorization(wrong.parse().unwrap()))
            .await;
        assert_gateway_error(&answer, 401, "unauthenticated", "GW401");
    }
    let mut moved = right;
    moved.target += "&x=1";
    assert_gateway_error(&world.send(&moved).await, 401, "unauthenticated", "GW401");
    world.assert_no_upstream_request();
    let answer = world.send(&play(&world, "no-token")).await;
    assert_eq!(
        answer.result_code().as_deref(),
        Some("010106"),
        "failures are labelled as files"
    );
}

#[tokio::test]
async fn who_plays_is_limited_by_address() {
    let tables = "[limits]\nper_address = { per_second = 1, burst = 2 }".into();
    let world = Setup {
        tables,
        ..Setup::default()
    }
    .start()
    .await;
    let request = play(&world, &token(&world, "a.wav").await);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = world.send(&request).await;
        statuses.push(answer.status.as_u16());
        if answer.status == 429 {
            assert_gateway_error(&answer, 429, "rate-limited", "0300008");
        }
    }
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn a_token_stands_in_no_log() {
    let world = TestEnv::start().await;
    let token = token(&world, "a.wav").await;
    world.send(&play(&world, &token)).await;
    let log = world.file("access.log");
    crate::support::eventually("the access log has its line", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("playVoice"))
    })
    .await;
    let text = crate::support::read(&log);
    assert!(!text.contains(&token) && !text.contains("st="), "{text}");
}
