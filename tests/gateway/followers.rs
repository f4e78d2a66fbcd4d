//! What the followers of a fetch get (§5), and content codings.

use std::sync::Arc;

use ccfs_gateway::client::ClientRequest;
use ccfs_gateway::stand_in::{Fault, When};
use http::header::ACCEPT_ENCODING;
use jiff::Timestamp;

use crate::assertions::assert_gateway_error;
use crate::fetch::{
    hold_responses, release_responses, spawn_requests, wait_for_in_flight, wait_until_held,
};
use crate::support::{SHANGHAI, TestEnv, credential, signed};

#[tokio::test]
async fn followers_get_the_headers_that_describe_the_response() {
    let env = Arc::new(TestEnv::start().await);
    let faults = env.nodes[0].faults();
    hold_responses(&env);
    faults.inject(Fault::Status(429), When::Always);
    for (name, value) in [
        ("retry-after", "7"),
        ("location", "/elsewhere"),
        ("www-authenticate", "Basic realm=x"),
        ("content-encoding", "identity"),
        ("set-cookie", "a=b"),
    ] {
        faults.inject(Fault::Header(name, value), When::Always);
    }
    let mut asks = spawn_requests(&env, "described-1", 3);
    wait_until_held(&env, 1).await;
    wait_for_in_flight(&env, 3.0).await;
    release_responses(&env);
    let mut cookies = 0;
    while let Some(response) = asks.join_next().await {
        let response = response.unwrap();
        assert_eq!(response.status, 429);
        assert_eq!(response.header("retry-after"), Some("7"));
        assert_eq!(response.header("location"), Some("/elsewhere"));
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=x"));
        assert_eq!(response.header("content-encoding"), Some("identity"));
        cookies += usize::from(response.header("set-cookie").is_some());
    }
    assert_eq!(cookies, 1, "meant for the leader alone");
}

#[tokio::test]
async fn an_encoded_response_is_shared_with_clients_that_accept_the_coding() {
    let env = Arc::new(TestEnv::start().await);
    let faults = env.nodes[0].faults();
    faults.inject(Fault::Hold, When::Next(1));
    faults.inject(Fault::GarbageJson, When::Next(1));
    faults.inject(Fault::Header("content-encoding", "gzip"), When::Next(1));
    let gzip = || {
        env.recording("coded-1")
            .with_header(ACCEPT_ENCODING, "gzip")
    };
    let names = "accept-encoding;content-length;host";
    let leader = gzip().sign(&credential(SHANGHAI), names, Timestamp::now());
    let (accepting, plain) = (gzip(), env.recording("coded-1"));
    let send = |request: ClientRequest| {
        let env = env.clone();
        tokio::spawn(async move { env.send(&request).await })
    };
    let leader = send(leader.unwrap());
    wait_until_held(&env, 1).await;
    let accepting = send(signed(accepting, SHANGHAI));
    let plain = send(signed(plain, SHANGHAI));
    wait_for_in_flight(&env, 3.0).await;
    release_responses(&env);
    for encoded in [leader.await.unwrap(), accepting.await.unwrap()] {
        assert_eq!(encoded.status, 200);
        assert_eq!(encoded.header("content-encoding"), Some("gzip"));
    }
    let plain = plain.await.unwrap();
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.result_code().as_deref(), Some("0"));
    assert_eq!(env.recording_fetches(), 2);
}

#[tokio::test]
async fn an_unrequested_encoding_is_an_invalid_response() {
    let env = TestEnv::start().await;
    let faults = env.nodes[0].faults();
    faults.inject(Fault::GarbageJson, When::Always);
    faults.inject(Fault::Header("content-encoding", "gzip"), When::Always);
    let unsigned = |request: ClientRequest| request.with_header(ACCEPT_ENCODING, "gzip");
    for request in [
        unsigned(env.recording("coded-2")),
        unsigned(env.post_to("queryBillData", "{}")),
        env.recording("coded-2"),
    ] {
        let response = env.send(&signed(request, SHANGHAI)).await;
        assert_gateway_error(&response, 502, "node-failed", "GW502");
    }
}
