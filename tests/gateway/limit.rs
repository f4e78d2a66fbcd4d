//! Limits (§6): which requests are charged to which limit, and what happens at each limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::client::{Client, ClientRequest, ClientResponse, Trust};
use ccfs_gateway::stand_in::{Fault, When};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::page;
use crate::support::{
    BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, client_trusting, eventually, signed,
};

const LONG: Duration = Duration::from_secs(10);
const FILE: &str = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"a/17B.wav"}}"#;

fn shanghai(keys: &str) -> Setup {
    Setup {
        shanghai: keys.to_owned(),
        ..Setup::default()
    }
}

fn limits(keys: &str) -> Setup {
    Setup {
        tables: format!("[limits]\n{keys}"),
        ..Setup::default()
    }
}

/// Sends requests made by `next` until one is rejected; returns the number of served requests and
/// the rejection.
async fn until_refused(
    env: &TestEnv,
    next: impl Fn(usize) -> ClientRequest,
) -> (usize, ClientResponse) {
    for n in 0..50 {
        let response = env.send(&next(n)).await;
        if ![200, 401].contains(&response.status.as_u16()) {
            return (n, response);
        }
    }
    panic!("nothing is rejected");
}

#[track_caller]
fn assert_limited(response: &ClientResponse, code: &str) {
    assert_eq!(response.status, 429);
    assert_eq!(response.header("x-gateway-error"), Some("rate-limited"));
    assert_eq!(response.result_code().as_deref(), Some(code));
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[track_caller]
fn assert_overloaded(response: &ClientResponse) {
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-gateway-error"), Some("overloaded"));
    assert_eq!(response.result_code().as_deref(), Some("GW503"));
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
}

fn forged(env: &TestEnv, call_id: &str) -> ClientRequest {
    let right = signed(env.recording(call_id), SHANGHAI);
    let value = right.headers["authorization"].to_str().unwrap();
    let wrong = format!("{}{}", &value[..value.len() - 4], "0000");
    right.clone().with_authorization(wrong.parse().unwrap())
}

// ---- Rate limit of an access key -----------------------------------------------------------------

#[tokio::test]
async fn misses_are_charged_and_hits_are_not() {
    let env = shanghai("rate_limit = { per_second = 1, burst = 3 }")
        .start()
        .await;
    let miss = |n| signed(env.recording(&format!("miss-{n}")), SHANGHAI);
    let (served, refused) = until_refused(&env, miss).await;
    assert!((3..=5).contains(&served), "{served}");
    assert_limited(&refused, "0300009");
    let policy = refused.header("ratelimit-policy").unwrap();
    assert!(policy.contains("q=3") && policy.contains("w=3"), "{policy}");
    let state = refused.header("ratelimit").unwrap();
    assert!(state.contains("r=0") && state.contains("t=1"), "{state}");
    for _ in 0..20 {
        assert_eq!(
            env.get_recording("miss-0").await.status,
            200,
            "hits are free"
        );
    }
    let other = signed(env.recording("miss-0"), BERLIN);
    assert_eq!(
        env.send(&other).await.status,
        200,
        "another access key has its own limit"
    );
    assert_eq!(
        env.recording_fetches(),
        served as u64 + 1,
        "no node received the rejected one"
    );
}

#[tokio::test]
async fn validation_errors_are_not_charged() {
    let env = shanghai("rate_limit = { per_second = 1, burst = 2 }")
        .start()
        .await;
    for _ in 0..20 {
        let response = env.send(&signed(env.post("{}"), SHANGHAI)).await;
        assert_eq!(response.result_code().as_deref(), Some("0300001"));
    }
    assert_eq!(env.get_recording("valid-1").await.status, 200);
    assert_eq!(env.get_recording("valid-2").await.status, 200);
}

#[tokio::test]
async fn a_coalesced_fetch_is_charged_once() {
    let env = Arc::new(
        shanghai("rate_limit = { per_second = 1, burst = 1 }")
            .start()
            .await,
    );
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let mut asks = JoinSet::new();
    for _ in 0..10 {
        let env = env.clone();
        asks.spawn(async move { env.get_recording("wait-1").await });
    }
    wait_for_in_flight(&env, 10.0).await;
    env.nodes[0].faults().clear();
    for response in asks.join_all().await {
        assert_eq!(response.status, 200);
    }
    assert_eq!(env.recording_fetches(), 1);
}

/// Returns what `RateLimit` says: the name of the limit, what is left, and the seconds until it grows.
fn rate_limit(response: &ClientResponse) -> Option<(String, u32, u64)> {
    let mut parts = response.header("ratelimit")?.split(';');
    let name = parts.next()?.trim_matches('"').to_owned();
    let left = parts.next()?.strip_prefix("r=")?.parse().ok()?;
    Some((name, left, parts.next()?.strip_prefix("t=")?.parse().ok()?))
}

const FEW: &str =
    "rate_limit = { per_hour = 60, burst = 6 }\nceiling = { per_second = 1, burst = 20 }";

#[tokio::test]
async fn charged_responses_tell_what_is_left_and_others_do_not() {
    let env = shanghai(FEW).start().await;
    let mut left = Vec::new();
    for n in 0..2 {
        let response = env.get_recording(&format!("left-{n}")).await;
        let (name, tokens, seconds) = rate_limit(&response).unwrap();
        assert_eq!(name, "ak");
        assert!((55..=60).contains(&seconds), "{seconds}");
        assert_eq!(
            response.header("ratelimit-policy"),
            Some("\"ak\";q=6;w=360")
        );
        left.push(tokens);
    }
    // A failure of the nodes was charged as well, also of an interface that is not cached.
    for node in &env.nodes {
        node.faults().inject(Fault::GarbageJson, When::Always);
    }
    let failed = env.get_recording("left-2").await;
    assert_eq!(failed.status, 502);
    left.push(rate_limit(&failed).unwrap().1);
    env.nodes.iter().for_each(|node| node.faults().clear());
    let download = env
        .send(&signed(env.post_to("downloadRecordFile", FILE), SHANGHAI))
        .await;
    assert_eq!(download.status, 200);
    left.push(rate_limit(&download).unwrap().1);
    assert_eq!(left, [5, 4, 3, 2]);
    for uncharged in [
        env.get_recording("left-0").await,
        env.send(&signed(env.post("{}"), SHANGHAI)).await,
        env.send(&signed(env.recording("left-0"), UNKNOWN)).await,
        env.send(&signed(env.recording("left-9"), BERLIN)).await,
    ] {
        assert_eq!(rate_limit(&uncharged), None, "{uncharged:?}");
    }
}

#[tokio::test]
async fn concurrent_requests_learn_different_remainders_and_followers_none() {
    let env = Arc::new(shanghai(FEW).start().await);
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let mut asks = JoinSet::new();
    for n in 0..10 {
        let env = env.clone();
        // Five fetches, each with a follower.
        asks.spawn(async move { env.get_recording(&format!("at-once-{}", n / 2)).await });
    }
    wait_for_in_flight(&env, 10.0).await;
    env.nodes[0].faults().clear();
    let responses = asks.join_all().await;
    let mut left: Vec<u32> = responses
        .iter()
        .filter_map(|it| Some(rate_limit(it)?.1))
        .collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn ratelimit_fields_can_be_limited_to_refusals_or_turned_off() {
    for (value, on_refusal) in [("refused", true), ("off", false)] {
        let setup = Setup {
            shanghai: "rate_limit = { per_second = 1, burst = 1 }".to_owned(),
            ..limits(&format!("ratelimit_fields = \"{value}\""))
        };
        let env = setup.start().await;
        let charged = env.get_recording("fields-0").await;
        assert_eq!((charged.status.as_u16(), rate_limit(&charged)), (200, None));
        let miss = |n| signed(env.recording(&format!("fields-1{n}")), SHANGHAI);
        let (_, refused) = until_refused(&env, miss).await;
        assert_limited(&refused, "0300009");
        assert_eq!(rate_limit(&refused).is_some(), on_refusal, "{value}");
    }
}

#[tokio::test]
async fn the_ceiling_names_itself() {
    let env = shanghai("ceiling = { per_second = 1, burst = 1 }")
        .start()
        .await;
    let request = |_| signed(env.recording("named-1"), SHANGHAI);
    let (_, refused) = until_refused(&env, request).await;
    assert_eq!(rate_limit(&refused), Some(("ceiling".to_owned(), 0, 1)));
}

#[tokio::test]
async fn hits_are_charged_unless_they_are_free() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 3 }".to_owned(),
        ..limits("hits_are_free = false")
    };
    let env = setup.start().await;
    let hit = |_| signed(env.recording("hit-1"), SHANGHAI);
    let (served, refused) = until_refused(&env, hit).await;
    assert!((3..=5).contains(&served), "{served}");
    assert_limited(&refused, "0300009");
    // Every verified request is charged, also one that fails validation.
    let invalid = |_| signed(env.post("{}"), SHANGHAI);
    assert_limited(&until_refused(&env, invalid).await.1, "0300009");
}

#[tokio::test]
async fn a_rate_limited_download_has_the_code_of_downloads() {
    let env = shanghai("rate_limit = { per_second = 1, burst = 1 }")
        .start()
        .await;
    for interface in ["downloadRecordFile", "downloadBillFile", "ivr/downloadFile"] {
        let download = |_| signed(env.post_to(interface, FILE), SHANGHAI);
        assert_limited(&until_refused(&env, download).await.1, "0300008");
    }
    let query = |_| signed(env.post_to("requestPlayVoice", FILE), SHANGHAI);
    assert_limited(&until_refused(&env, query).await.1, "0300009");
}

#[tokio::test]
async fn the_ceiling_counts_every_verified_request() {
    let keys = "ceiling = { per_second = 1, burst = 4 }";
    for what in ["hit", "invalid", "download"] {
        let env = shanghai(keys).start().await;
        let request = |_| match what {
            "hit" => signed(env.recording("ceiling-1"), SHANGHAI),
            "invalid" => signed(env.post("{}"), SHANGHAI),
            _ => signed(env.post_to("downloadRecordFile", FILE), SHANGHAI),
        };
        let (served, refused) = until_refused(&env, request).await;
        assert!((4..=6).contains(&served), "{what}: {served}");
        let code = if what == "download" {
            "0300008"
        } else {
            "0300009"
        };
        assert_limited(&refused, code);
    }
}

// ---- Concurrency limits --------------------------------------------------------------------------

#[tokio::test]
async fn an_account_has_a_limit_of_concurrent_requests() {
    let env = Arc::new(shanghai("in_flight = 1").start().await);
    let busy = hold_one(&env).await;
    let refused = env.get_recording("second-1").await;
    assert_limited(&refused, "0300009");
    let download = signed(env.post_to("downloadRecordFile", FILE), SHANGHAI);
    assert_limited(&env.send(&download).await, "0300008");
    let invalid = signed(env.post("{}"), BERLIN);
    assert_eq!(
        env.send(&invalid).await.status,
        200,
        "another access key has its own limit"
    );
    env.nodes[0].faults().clear();
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(
        env.get_recording("second-1").await.status,
        200,
        "the slot is free again"
    );
}

#[tokio::test]
async fn the_gateway_has_a_limit_of_concurrent_requests() {
    let env = Arc::new(limits("max_in_flight = 1").start().await);
    let busy = hold_one(&env).await;
    for ak in [SHANGHAI, BERLIN] {
        let second = signed(env.recording("second-1"), ak);
        assert_overloaded(&env.send(&second).await);
    }
    let stranger = signed(env.recording("second-1"), UNKNOWN);
    assert_eq!(env.send(&stranger).await.status, 401, "it takes no slot");
    env.nodes[0].faults().clear();
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(env.get_recording("second-1").await.status, 200);
}

#[tokio::test]
async fn unverified_requests_do_not_block_verified_ones() {
    let env = limits("max_in_flight = 1\nclock_window = \"0s\"")
        .start()
        .await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let mut stranger = Connection::open(&env).await.unwrap();
        let body_to_come = b"POST /CCFS/resource/ccfs/getRecordFileUrlFromObs HTTP/1.1\r\n\
            Host: h\r\nContent-Length: 1000\r\n\
            Authorization: auth-v2/nobody/2026-01-01T00:00:00Z/host/";
        stranger.0.write_all(body_to_come).await.unwrap();
        stranger.0.write_all(&[b'0'; 64]).await.unwrap();
        stranger.0.write_all(b"\r\n\r\n").await.unwrap();
        strangers.push(stranger);
    }
    assert_eq!(env.get_recording("served-1").await.status, 200);
}

#[tokio::test]
async fn a_fetch_counts_as_in_flight_of_its_caller_until_it_ends() {
    let env = Arc::new(shanghai("in_flight = 1").start().await);
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let asking = env.clone();
    let gone = tokio::spawn(async move { asking.get_recording("abandoned-1").await });
    let node = &env.nodes[0];
    assert!(
        node.wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    gone.abort();
    let _ = gone.await;
    wait_for_in_flight(&env, 0.0).await;
    assert_limited(&env.get_recording("second-1").await, "0300009");
    node.faults().clear();
    eventually("the fetch has ended", async || {
        env.get_recording("second-1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn request_bodies_share_a_memory_limit() {
    let setup =
        limits("max_body_size = \"1KiB\"\nmax_upload_size = \"1KiB\"\nmax_buffered = \"1KiB\"");
    let env = Arc::new(setup.start().await);
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let large = |call_id: &str| {
        let padding = "x".repeat(600);
        let body = format!(
            r#"{{"callId":"{call_id}","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0","padding":"{padding}"}}"#
        );
        signed(env.post(body), SHANGHAI)
    };
    let (first, second) = (large("large-1"), large("large-2"));
    let busy = tokio::spawn({
        let env = env.clone();
        async move { env.send(&first).await }
    });
    assert!(
        env.nodes[0]
            .wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    assert_overloaded(&env.send(&second).await);
    env.nodes[0].faults().clear();
    assert_eq!(busy.await.unwrap().status, 200);
    eventually("the memory is released", async || {
        env.send(&second).await.status == 200
    })
    .await;
}

/// Starts one request of [`SHANGHAI`] that its node holds.
async fn hold_one(env: &Arc<TestEnv>) -> tokio::task::JoinHandle<ClientResponse> {
    env.nodes[0].faults().inject(Fault::Hold, When::Always);
    let asking = env.clone();
    let busy = tokio::spawn(async move { asking.get_recording("busy-1").await });
    assert!(
        env.nodes[0]
            .wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    busy
}

async fn wait_for_in_flight(env: &TestEnv, count: f64) {
    let admin = env.bound.admin.unwrap();
    eventually("this many requests are in flight", async || {
        page::metric(admin, "inflight_requests").await == count
    })
    .await;
}

// ---- Limits by client address --------------------------------------------------------------------

const TIGHT: &str = "per_address = { per_second = 1, burst = 3 }";

#[tokio::test]
async fn failures_exhaust_the_address_limit_and_verified_requests_pass() {
    let env = limits(TIGHT).start().await;
    env.get_recording("nat-1").await;
    let wrong = |n: usize| match n % 4 {
        0 => forged(&env, "nat-1"),
        1 => signed(env.recording("nat-1"), UNKNOWN),
        2 => env.recording("nat-1"),
        _ => env
            .recording("nat-1")
            .with_authorization("Bearer abc".parse().unwrap()),
    };
    let (failures, refused) = until_refused(&env, wrong).await;
    assert!((3..=5).contains(&failures), "{failures}");
    assert_limited(&refused, "0300009");
    assert_eq!(refused.header("connection"), Some("close"));
    for n in 0..4 {
        let again = env.send(&wrong(n)).await;
        assert_eq!(again.status, 429, "whatever is wrong with it");
        let right = env.get_recording(&format!("nat-{n}")).await;
        assert_eq!(
            right.status, 200,
            "another client of the same address is served"
        );
    }
}

#[tokio::test]
async fn verified_requests_are_not_charged_to_their_address() {
    let env = limits(TIGHT).start().await;
    for n in 0..10 {
        assert_eq!(env.get_recording(&format!("right-{n}")).await.status, 200);
    }
    assert_eq!(env.send(&forged(&env, "right-1")).await.status, 401);
}

#[tokio::test]
async fn unauthenticated_interfaces_are_charged_to_the_address() {
    let env = limits(TIGHT).start().await;
    let url = format!(
        "{}/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st=abc",
        env.url()
    );
    let (served, refused) = until_refused(&env, |_| ClientRequest::get(&url).unwrap()).await;
    assert!((3..=5).contains(&served), "{served}");
    assert_limited(&refused, "0300008");
}

// ---- Connection limits ---------------------------------------------------------------------------

/// A raw connection whose end the test can observe.
struct Connection(TlsStream<TcpStream>);

impl Connection {
    async fn open(env: &TestEnv) -> std::io::Result<Self> {
        let trust = Trust::from_pem_file(&env.file("ca.pem")).unwrap();
        let tls = TlsConnector::from(trust.client_config().unwrap());
        let address: SocketAddr = env.bound.listeners["ccfs"];
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Ok(Self(tls.connect(name, stream).await?))
    }

    /// Sends a request that is rejected immediately; returns whether the connection still works.
    async fn works(&mut self) -> bool {
        let head = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut response = [0; 4096];
        self.0.write_all(head).await.is_ok() && matches!(self.0.read(&mut response).await, Ok(1..))
    }

    /// Waits until the gateway closes the connection.
    async fn ended(&mut self) -> bool {
        let end = self.0.read_u8();
        tokio::time::timeout(LONG, end)
            .await
            .is_ok_and(|read| read.is_err())
    }
}

#[tokio::test]
async fn over_a_connection_limit_the_longest_idle_one_is_closed() {
    for cap in ["max_connections = 2", "max_connections_per_address = 2"] {
        let env = limits(cap).start().await;
        let mut first = Connection::open(&env).await.unwrap();
        assert!(first.works().await);
        let mut second = Connection::open(&env).await.unwrap();
        assert!(second.works().await);
        let mut third = Connection::open(&env).await.unwrap();
        assert!(third.works().await, "{cap}");
        assert!(first.ended().await, "{cap}");
        assert!(second.works().await && third.works().await, "{cap}");
    }
}

#[tokio::test]
async fn over_a_limit_of_busy_connections_the_new_one_is_closed() {
    for cap in ["max_connections = 1", "max_connections_per_address = 1"] {
        let env = Arc::new(limits(cap).start().await);
        let busy = hold_one(&env).await;
        let refused = async {
            match Connection::open(&env).await {
                Ok(mut connection) => !connection.works().await,
                Err(_) => true,
            }
        };
        assert!(refused.await, "{cap}");
        env.nodes[0].faults().clear();
        assert_eq!(busy.await.unwrap().status, 200, "{cap}");
        let other: Client = client_trusting(&env.file(""));
        let response = other.send(&signed(env.recording("busy-1"), SHANGHAI)).await;
        assert_eq!(response.unwrap().status, 200, "now the first one is idle");
    }
}
