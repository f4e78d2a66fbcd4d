//! `playVoice`, the interface that needs no signature.

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::files;
use jiff::Timestamp;
use serde_json::json;

use crate::assertions::{assert_common_headers, assert_gateway_error, assert_node_response};
use crate::support::{SHANGHAI, Setup, TestEnv, credential, signed};

async fn token(env: &TestEnv, file: &str) -> String {
    let body = json!({"request": {"version": "2.0"}, "msgBody": {"fileName": file}});
    let request = signed(env.post_to("requestPlayVoice", body.to_string()), SHANGHAI);
    let response = env.send(&request).await;
    assert_node_response(&response, "0");
    env.sole_upstream_request();
    response.json()["resultData"]["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn play(env: &TestEnv, token: &str) -> ClientRequest {
    let url = format!(
        "{}/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st={token}",
        env.url()
    );
    ClientRequest::get(&url).unwrap()
}

#[tokio::test]
async fn voice_is_played_without_a_signature() {
    let env = TestEnv::start().await;
    let request = play(&env, &token(&env, "a/size-300000.wav").await);
    let response = env.send(&request).await;
    assert_eq!(
        (response.status.as_u16(), response.body.len()),
        (200, 300_000)
    );
    assert!(files::matches(0, &response.body));
    assert_common_headers(&response);
    let got = env.sole_upstream_request();
    assert_eq!(
        (got.target.as_str(), got.header("authorization")),
        (request.target.as_str(), None)
    );

    let right = request
        .clone()
        .sign(&credential(SHANGHAI), "host", Timestamp::now())
        .unwrap();
    assert_eq!(env.send(&right).await.status, 200);
    env.sole_upstream_request();
    for wrong in ["Bearer x", "auth-v2/x"] {
        let response = env
            .send(&request.clone().with_authorization(wrong.parse().unwrap()))
            .await;
        assert_gateway_error(&response, 401, "unauthenticated", "GW401");
    }
    let mut moved = right;
    moved.target += "&x=1";
    assert_gateway_error(&env.send(&moved).await, 401, "unauthenticated", "GW401");
    env.assert_no_upstream_request();
    let response = env.send(&play(&env, "no-token")).await;
    assert_eq!(
        response.result_code().as_deref(),
        Some("010106"),
        "failures are labelled as files"
    );
}

#[tokio::test]
async fn playback_is_limited_by_address() {
    let tables = "[limits]\nper_address = { per_second = 1, burst = 2 }".into();
    let env = Setup {
        tables,
        ..Setup::default()
    }
    .start()
    .await;
    let request = play(&env, &token(&env, "a.wav").await);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let response = env.send(&request).await;
        statuses.push(response.status.as_u16());
        if response.status == 429 {
            assert_gateway_error(&response, 429, "rate-limited", "0300008");
        }
    }
    assert_eq!(statuses, [200, 200, 429]);
}

#[tokio::test]
async fn a_request_without_host_reaches_the_node_with_the_nodes_own() {
    let env = TestEnv::start().await;
    let head = b"GET /CCFS/resource/ccfs/playVoice?token=x HTTP/1.0\r\n\r\n";
    let response = env.exchange_raw(head).await;
    let got = env.sole_upstream_request();
    let url = env.nodes[0].url();
    assert_eq!(
        got.header("host"),
        url.strip_prefix("https://"),
        "{response}"
    );
}

#[tokio::test]
async fn no_log_contains_a_play_token() {
    let env = TestEnv::start().await;
    let token = token(&env, "a.wav").await;
    env.send(&play(&env, &token)).await;
    let log = env.file("access.log");
    crate::support::eventually("the access log has the line", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("playVoice"))
    })
    .await;
    let text = crate::support::read(&log);
    assert!(!text.contains(&token) && !text.contains("st="), "{text}");
}
