//! Plans, dates and orders of access keys (§12), and which of them holds.

use ccfs_gateway::stand_in::certificates::write_private_file;
use ccfs_gateway::stand_in::{Fault, FlowClass, When};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::fetch::{hold_responses, release_responses, wait_until_held};
use crate::flow_control::at_once;
use crate::interfaces::envelope;
use crate::page::{self, AdminResponse};
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, eventually, read, signed};

const TOKEN: &str = "s3cret-token";

/// A gateway whose admin interface has a token.
async fn with_token(shanghai: &str) -> (TestEnv, tempfile::TempDir) {
    with_token_and(shanghai, "").await
}

/// Likewise, with keys of the cluster.
async fn with_token_and(shanghai: &str, cluster: &str) -> (TestEnv, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    write_private_file(&file, TOKEN.as_bytes()).unwrap();
    let setup = Setup {
        shanghai: shanghai.to_owned(),
        cluster: cluster.to_owned(),
        tables: format!("[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = {file:?}"),
        ..Setup::default()
    };
    (setup.start().await, folder)
}

async fn post(env: &TestEnv, path: &str) -> AdminResponse {
    page::post_with_token(env.bound.admin.unwrap(), path, TOKEN).await
}

async fn order(env: &TestEnv, order: &str) -> Value {
    let response = post(env, &format!("/access_keys/{SHANGHAI}/{order}")).await;
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()
}

async fn reload(env: &TestEnv, change: impl FnOnce(String) -> String) {
    let file = env.file("gateway.toml");
    std::fs::write(&file, change(read(&file))).unwrap();
    let response = post(env, "/reload").await;
    assert_eq!(response.status, 200, "{}", response.body);
}

/// A sample of `/metrics`, read with the token.
async fn metric(env: &TestEnv, name: &str) -> f64 {
    let admin = env.bound.admin.unwrap();
    let head =
        format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {TOKEN}\r\n");
    let page = page::exchange(admin, &head).await;
    let sample = format!("ccfs_gateway_{name} ");
    let value = page
        .body
        .lines()
        .find_map(|line| line.strip_prefix(&sample)?.parse().ok());
    value.unwrap_or_default()
}

async fn status(env: &TestEnv, access_key: &str) -> u16 {
    let request = signed(env.recording("order-1"), access_key);
    env.send(&request).await.status.as_u16()
}

#[tokio::test]
async fn an_order_needs_a_token_and_a_configured_enabled_access_key() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let response = page::post(admin, &format!("/access_keys/{SHANGHAI}/disable")).await;
    assert_eq!(response.status, 403, "no token is configured");
    assert_eq!(status(&env, SHANGHAI).await, 200);
    let (env, _folder) = with_token("enabled = false").await;
    for (path, status) in [
        (format!("/access_keys/{SHANGHAI}/disable"), 409),
        ("/access_keys/nobody/disable".to_owned(), 404),
        (format!("/access_keys/{BERLIN}/remove"), 404),
        (format!("/access_keys/{BERLIN}/disable"), 200),
    ] {
        assert_eq!(post(&env, &path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn an_order_holds_over_reloads_until_the_own_table_changes() {
    let (env, _folder) = with_token("").await;
    assert_eq!(status(&env, SHANGHAI).await, 200);
    let disabled = order(&env, "disable").await;
    assert_eq!(
        (&disabled["ak"], &disabled["enabled"]),
        (&SHANGHAI.into(), &false.into())
    );
    assert_eq!(disabled["kept"], "until restart");
    let end: Timestamp = disabled["urls_live_until"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(end > Timestamp::now());
    assert_eq!(status(&env, SHANGHAI).await, 401);
    // The defaults are not its own table.
    reload(&env, |text| {
        format!("{text}\n[access_key_defaults]\nin_flight = 17\n")
    })
    .await;
    assert_eq!(status(&env, SHANGHAI).await, 401);
    let enabled = order(&env, "enable").await;
    assert_eq!(
        (&enabled["enabled"], &enabled["urls_live_until"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(status(&env, SHANGHAI).await, 200);
    order(&env, "disable").await;
    let table = format!("[access_keys.{SHANGHAI}]");
    reload(&env, |text| {
        text.replace(&table, &format!("{table}\nname = \"new\""))
    })
    .await;
    assert_eq!(status(&env, SHANGHAI).await, 200);
    assert_eq!(status(&env, BERLIN).await, 200);
}

#[tokio::test]
async fn requests_that_wait_get_401_and_cached_responses_end() {
    let (env, _folder) = with_token("").await;
    assert_eq!(status(&env, SHANGHAI).await, 200);
    hold_responses(&env);
    let (first, second) = (env.recording("waits-1"), env.recording("waits-1"));
    let (first, second) = (signed(first, SHANGHAI), signed(second, SHANGHAI));
    let waiting = async {
        let (first, second) = tokio::join!(env.send(&first), env.send(&second));
        [first.status.as_u16(), second.status.as_u16()]
    };
    let disable = async {
        wait_until_held(&env, 2).await;
        eventually(
            "the second one has joined the fetch of the first",
            async || metric(&env, "coalesced_waiters").await >= 1.0,
        )
        .await;
        order(&env, "disable").await;
    };
    // At once: the node still holds the fetch.
    let (statuses, ()) = tokio::join!(waiting, disable);
    assert_eq!(statuses, [401, 401]);
    release_responses(&env);
    order(&env, "enable").await;
    let before = env.recording_fetches();
    assert_eq!(status(&env, SHANGHAI).await, 200);
    assert_eq!(
        env.recording_fetches(),
        before + 1,
        "the cached response was purged"
    );
}

#[tokio::test]
async fn places_in_the_queue_for_a_node_end_at_once() {
    let (env, _folder) = with_token_and("", "flow_control = { max_wait = \"8s\" }").await;
    env.nodes[0]
        .faults()
        .set_flow_limit(FlowClass::Query, at_once(1));
    hold_responses(&env);
    let held = signed(env.recording("queue-1"), BERLIN);
    let recording = signed(env.recording("queue-2"), SHANGHAI);
    let other = envelope(&env, "requestPlayVoice");
    let waiting = async {
        wait_until_held(&env, 1).await;
        let (one, other) = tokio::join!(env.send(&recording), env.send(&other));
        [one.status.as_u16(), other.status.as_u16()]
    };
    let disable = async {
        let waiters = "flow_control_waiters{cluster=\"ccfs\"}";
        eventually("both wait for the node", async || {
            metric(&env, waiters).await == 2.0
        })
        .await;
        order(&env, "disable").await;
        assert_eq!(metric(&env, waiters).await, 0.0);
    };
    tokio::select! {
        (statuses, ()) = async { tokio::join!(waiting, disable) } => {
            assert_eq!(statuses, [401, 401]);
        }
        _ = env.send(&held) => panic!("the node holds it"),
    }
    release_responses(&env);
}

#[tokio::test]
async fn places_in_the_queue_for_a_node_end_with_the_validity() {
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    let validity = format!("not_after = {end:.3}");
    let (env, _folder) = with_token_and(&validity, "flow_control = { max_wait = \"8s\" }").await;
    env.nodes[0]
        .faults()
        .set_flow_limit(FlowClass::Query, at_once(1));
    hold_responses(&env);
    let held = signed(env.recording("queue-3"), BERLIN);
    let other = envelope(&env, "requestPlayVoice");
    let waiters = "flow_control_waiters{cluster=\"ccfs\"}";
    let waiting = async {
        wait_until_held(&env, 1).await;
        env.send(&other).await.status.as_u16()
    };
    let queued = async {
        eventually("it waits for the node", async || {
            metric(&env, waiters).await == 1.0
        })
        .await;
        assert!(Timestamp::now() < end, "it waits before the end");
    };
    tokio::select! {
        (status, ()) = async { tokio::join!(waiting, queued) } => assert_eq!(status, 401),
        _ = env.send(&held) => panic!("the node holds it"),
    }
    // The wait by itself would have been longer.
    assert!(Timestamp::now() < end + SignedDuration::from_secs(2));
    assert_eq!(metric(&env, waiters).await, 0.0);
    release_responses(&env);
}

#[tokio::test]
async fn a_wait_for_a_recording_ends_at_once() {
    let (env, _folder) = with_token("").await;
    env.nodes[0]
        .faults()
        .inject(Fault::ResultCode("0300012".into()), When::Always);
    let request = env.recording("prefer-1");
    let request = request.with_header(http::HeaderName::from_static("prefer"), "wait=25");
    let request = signed(request, SHANGHAI);
    let disable = async {
        eventually("it waits", async || {
            metric(&env, "prefer_waiters").await == 1.0
        })
        .await;
        order(&env, "disable").await;
        // Sooner than the next poll.
        tokio::time::Instant::now()
    };
    let waiting = async {
        let response = env.send(&request).await;
        (response.status.as_u16(), tokio::time::Instant::now())
    };
    let ((status, ended), ordered) = tokio::join!(waiting, disable);
    assert_eq!(status, 401);
    assert!(ended < ordered + std::time::Duration::from_millis(700));
}

#[tokio::test]
async fn what_waits_gets_401_when_the_validity_ends() {
    let end = Timestamp::now() + SignedDuration::from_secs(4);
    let (env, _folder) = with_token(&format!("not_after = {end:.3}")).await;
    hold_responses(&env);
    let requests = [(); 2].map(|()| signed(env.recording("validity-1"), SHANGHAI));
    let (first, second) = tokio::join!(env.send(&requests[0]), env.send(&requests[1]));
    assert_eq!([first.status, second.status], [401, 401]);
    // The overall deadline is later.
    assert!(Timestamp::now() < end + SignedDuration::from_secs(3));
    release_responses(&env);
}

#[tokio::test]
async fn an_access_key_outside_its_dates_is_disabled_and_its_plan_counts() {
    let setup = Setup {
        shanghai: "plan = \"small\"\nname = \"Desk\"\nnot_after = 2020-01-01T00:00:00+08:00"
            .to_owned(),
        berlin: "plan = \"small\"\nnot_before = \"2020-01-01T00:00:00Z\"".to_owned(),
        tables: "[plans.small]\nrate_limit = { per_hour = 60, burst = 1 }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    assert_eq!(status(&env, SHANGHAI).await, 401);
    assert_eq!(status(&env, BERLIN).await, 200);
    let other = signed(env.recording("order-2"), BERLIN);
    let limited = env.send(&other).await;
    assert_eq!(limited.status, 429);
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    let admin = env.bound.admin.unwrap();
    eventually("the plan is counted", async || {
        page::metric(admin, "access_keys_by_plan{plan=\"small\"}").await == 2.0
    })
    .await;
    let json = page::get(admin, "/status").await.json();
    assert_eq!(json["access_keys_by_plan"]["small"], 2);
    let config = page::get(admin, "/config").await.json();
    assert_eq!(
        config["access_keys"][SHANGHAI]["not_after"],
        "2019-12-31T16:00:00Z"
    );
    assert_eq!(config["plans"]["small"]["rate_limit"]["per_hour"], 60);
}
