//! Forwarding loops (§4): a node's address that leads back to the gateway.

use ccfs_gateway::client::ClientRequest;
use http::header::{CACHE_CONTROL, VIA};

use crate::assertions::assert_gateway_error;
use crate::page;
use crate::support::{SHANGHAI, TestEnv, UNKNOWN, read, signed};

/// What `gateway` writes into `Via` toward the nodes of `env`.
async fn via_toward_nodes(env: &TestEnv, gateway: &TestEnv) -> String {
    let request = gateway
        .recording("via-1")
        .with_header(CACHE_CONTROL, "no-cache");
    gateway.send(&signed(request, SHANGHAI)).await;
    let got = env.sole_upstream_request();
    got.header("via").unwrap().to_owned()
}

fn with_via(mut request: ClientRequest, via: &str) -> ClientRequest {
    request.headers.insert(VIA, via.parse().unwrap());
    request
}

#[tokio::test]
async fn a_gateway_that_is_its_own_node_answers_508_at_once() {
    let env = TestEnv::start().await;
    let file = env.file("gateway.toml");
    let own = read(&file).replace(&env.nodes[0].url(), &env.url());
    std::fs::write(&file, own).unwrap();
    let admin = env.bound.admin.unwrap();
    let page = page::post(admin, "/reload").await;
    assert_eq!(page.status, 200, "{}", page.body);

    let download = env.post_to("downloadRecord", "{\"msgBody\":{\"callId\":\"loop-1\"}}");
    for request in [env.recording("loop-1"), download] {
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_eq!(response.status, 508);
        assert_eq!(response.result_code().as_deref(), Some("GW508"));
    }
    let text = page::get(admin, "/metrics").await.body;
    let is_counted = |line: &str| line.contains("loop_detected") && !line.ends_with(" 0");
    assert!(text.lines().any(is_counted), "{text}");
    env.assert_no_upstream_request();
}

#[tokio::test]
async fn the_own_name_in_via_is_a_loop_before_authentication_and_routes() {
    let env = TestEnv::start().await;
    let via = via_toward_nodes(&env, &env).await;
    let name = via.strip_prefix("1.1 ccfs-gateway-").unwrap();
    assert!(
        name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{via}"
    );
    let returned = format!("1.0 fred (a, b), {via}, 1.1 x");
    for client in [env.new_client(), env.new_client().http2_only()] {
        for request in [
            signed(env.recording("via-2"), SHANGHAI),
            signed(env.recording("via-2"), UNKNOWN),
            env.post_to("no-such-interface", "{}"),
        ] {
            let request = with_via(request, &returned);
            let response = client.send(&request).await.unwrap();
            assert_gateway_error(&response, 508, "loop-detected", "GW508");
        }
        env.assert_no_upstream_request();
    }
    // Another gateway's name is none of its own.
    let other = via_toward_nodes(&env, &env.replica()).await;
    assert_ne!(other, via);
    let request = with_via(env.recording("via-3"), &other);
    assert_eq!(env.send(&signed(request, SHANGHAI)).await.status, 200);
    let got = env.sole_upstream_request();
    let seen: Vec<_> = got
        .headers
        .iter()
        .filter(|(name, _)| name == "via")
        .collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
}
