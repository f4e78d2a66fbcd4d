//! `authentication = "shadow"` and `[limits] dry_run`: a live cluster is moved behind the gateway, and
//! nothing that the gateway thinks of its callers reaches one of them.

use std::time::Duration;

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS};
use http::header::{AUTHORIZATION, HOST};
use jiff::Timestamp;
use serde_json::Value;

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, read, secret, signed};
use crate::unverified_clients::assert_forwarded_unchanged;

const OFF: &str = "ak-switched-off";

async fn shadowing(listener: &str, tables: &str) -> TestEnv {
    let setup = Setup {
        listener: format!("authentication = \"shadow\"\n{listener}"),
        accounts: vec![(OFF, "time_zone = \"Asia/Shanghai\"\nenabled = false")],
        tables: tables.into(),
        ..Setup::default()
    };
    setup.start().await
}

fn sign_as(request: ClientRequest, ak: &str, sk: &str, now: Timestamp) -> ClientRequest {
    let secret = Secret::new(sk.as_bytes().to_vec());
    let credential = Credential::new(AccessKey::from(ak), vec![secret], true);
    request
        .sign(&credential, DEFAULT_SIGNED_FIELDS, now)
        .unwrap()
}

/// Ten ways to be refused for the Authorization.
fn wrong(env: &TestEnv, call_id: &str) -> Vec<(&'static str, ClientRequest)> {
    let request = || env.recording(call_id);
    let (now, hours) = (Timestamp::now(), Duration::from_hours(8));
    let with = |value: &str| request().with_authorization(value.parse().unwrap());
    let mut other_host = signed(request(), SHANGHAI);
    other_host
        .headers
        .insert(HOST, "elsewhere.example.com".parse().unwrap());
    let mut other_body = signed(request(), SHANGHAI);
    other_body.body = String::from_utf8_lossy(&other_body.body)
        .replace(call_id, &call_id.to_uppercase())
        .into();
    let mut none = request();
    none.headers.remove(AUTHORIZATION);
    let mut twice = signed(request(), SHANGHAI);
    twice
        .headers
        .append(AUTHORIZATION, "Bearer other".parse().unwrap());
    let mut query = signed(request(), SHANGHAI);
    query.target.push_str("?a=1&a=2");
    vec![
        ("unknown ak", signed(request(), UNKNOWN)),
        (
            "wrong secret",
            sign_as(request(), SHANGHAI, &secret(UNKNOWN), now),
        ),
        (
            "stale",
            sign_as(request(), SHANGHAI, &secret(SHANGHAI), now - hours),
        ),
        (
            "early",
            sign_as(request(), SHANGHAI, &secret(SHANGHAI), now + hours),
        ),
        ("other host", other_host),
        ("other body", other_body),
        ("malformed", with("auth-v2/x")),
        ("other scheme", with(&format!("Bearer {SHANGHAI}"))),
        ("none", none),
        ("twice", twice),
        ("repeated query key", query),
    ]
}

#[tokio::test]
async fn what_would_be_refused_reaches_a_node_as_it_was_sent() {
    let env = shadowing("", "[limits]\nper_address = { per_second = 1, burst = 2 }").await;
    let requests = wrong(&env, "shadow-1");
    for (what, request) in &requests {
        let response = env.send(request).await;
        assert_eq!(response.header("x-gateway-error"), None, "{what}");
        assert_eq!(response.header("connection"), None, "{what}");
        assert_eq!(response.header("cache-status"), None, "{what}");
        let got = env.sole_upstream_request();
        if *what != "twice" {
            assert_forwarded_unchanged(&got, request);
        }
        let sent: Vec<_> = request.headers.get_all(AUTHORIZATION).iter().collect();
        let received = got.headers.iter().filter(|(name, _)| name == AUTHORIZATION);
        let received: Vec<_> = received.map(|(_, value)| value).collect();
        assert_eq!(received, sent, "{what}");
    }
    // A caller that verifies is served from the cache as ever.
    assert_node_response(&env.get_recording("shadow-1").await, "0");
    env.sole_upstream_request();
    let hit = env.get_recording("shadow-1").await;
    assert!(hit.header("age").is_some());
    env.assert_no_upstream_request();

    let file = env.file("access.log");
    let count = requests.len() + 2;
    eventually("all lines", async || read(&file).lines().count() == count).await;
    let lines: Vec<Value> = read(&file)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (line, (what, _)) in lines.iter().zip(&requests) {
        assert!(line["gw.reject_reason"].is_string(), "{what}: {line}");
        assert!(line["gw.ak"].is_null(), "{what}: {line}");
    }
    let limited = lines
        .iter()
        .filter(|line| line["gw.would_refuse"] == "per_address");
    assert!(limited.count() >= requests.len() - 4);
    let admin = env.bound.admin.unwrap();
    let shadowed = page::metric(admin, "auth_total{result=\"shadowed\"}").await;
    assert_eq!(shadowed, requests.len() as f64);
}

#[tokio::test]
async fn a_disabled_access_key_stays_401_and_unlisted_paths_are_forwarded_only_where_written() {
    for (listener, status) in [("", 401), ("unknown_paths = \"forward\"", 200)] {
        let env = shadowing(listener, "").await;
        let disabled = env.send(&signed(env.recording("off-1"), OFF)).await;
        assert_gateway_error(&disabled, 401, "unauthenticated", "GW401");
        env.assert_no_upstream_request();
        let unlisted = signed(env.post_to("nothing", "{}"), UNKNOWN);
        let response = env.send(&unlisted).await;
        assert_eq!(response.status.as_u16(), status, "{listener:?}");
        let is_own = response.header("x-gateway-error").is_some();
        assert_eq!(is_own, status == 401, "{listener:?}");
    }
}

#[tokio::test]
async fn a_dry_run_counts_and_logs_what_each_limit_would_refuse() {
    let setup = Setup {
        shanghai:
            "rate_limit = { per_hour = 1, burst = 1 }\nceiling = { per_second = 1, burst = 3 }"
                .to_owned(),
        tables: "[limits]\ndry_run = true\nper_address = { per_second = 1, burst = 1 }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    for n in 0..6 {
        let response = env.get_recording(&format!("dry-{n}")).await;
        assert_node_response(&response, "0");
        // Only the first was charged.
        assert_eq!(response.header("ratelimit").is_some(), n == 0);
        let refused = env.send(&signed(env.recording("dry-x"), UNKNOWN)).await;
        assert_gateway_error(&refused, 401, "unauthenticated", "GW401");
        assert_eq!(refused.header("connection"), None);
        let download = signed(
            env.post_to(
                "downloadRecord",
                "{\"request\":{\"version\":\"2.0\"},\"msgBody\":{\"fileName\":\"a.wav\"}}",
            ),
            BERLIN,
        );
        assert_eq!(env.send(&download).await.status, 200);
    }
    let file = env.file("access.log");
    eventually("all lines", async || read(&file).lines().count() == 18).await;
    let text = read(&file);
    for limit in ["rate_limit", "ceiling", "per_address"] {
        let field = format!("\"gw.would_refuse\":\"{limit}\"");
        assert!(text.contains(&field), "{limit}: {text}");
    }
    let admin = env.bound.admin.unwrap();
    for (limiter, at_least) in [("access_key", 4.0), ("ceiling", 2.0), ("address", 3.0)] {
        let labels = format!("limiter=\"{limiter}\",decision=\"would_refuse\",source=\"local\"");
        let name = format!("ratelimit_decisions_total{{{labels}}}");
        let counted = page::metric(admin, &name).await;
        assert!(counted >= at_least, "{limiter}: {counted}");
        let refused = name.replace("would_refuse", "refused");
        assert_eq!(page::metric(admin, &refused).await, 0.0, "{limiter}");
    }
}
