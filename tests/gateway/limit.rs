//! §6: who is charged for what, and what happens at each cap.

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

/// Sends what `next` makes until it is refused; gives back how many were served, and the refusal.
async fn until_refused(
    world: &TestEnv,
    next: impl Fn(usize) -> ClientRequest,
) -> (usize, ClientResponse) {
    for n in 0..50 {
        let answer = world.send(&next(n)).await;
        if ![200, 401].contains(&answer.status.as_u16()) {
            return (n, answer);
        }
    }
    panic!("nothing is refused");
}

#[track_caller]
fn assert_limited(answer: &ClientResponse, code: &str) {
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("x-gateway-error"), Some("rate-limited"));
    assert_eq!(answer.result_code().as_deref(), Some(code));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[track_caller]
fn assert_overloaded(answer: &ClientResponse) {
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("x-gateway-error"), Some("overloaded"));
    assert_eq!(answer.result_code().as_deref(), Some("GW503"));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1);
}

fn forged(world: &TestEnv, call_id: &str) -> ClientRequest {
    let right = signed(world.recording(call_id), SHANGHAI);
    let value = right.headers["authorization"].to_str().unwrap();
    let wrong = format!("{}{}", &value[..value.len() - 4], "0000");
    right.clone().with_authorization(wrong.parse().unwrap())
}

// ---- The budget of an ak --------------------------------------------------------------------------

#[tokio::test]
async fn misses_are_charged_and_hits_are_not() {
    let world = shanghai("rate_limit = { per_second = 1, burst = 3 }")
        .start()
        .await;
    let miss = |n| signed(world.recording(&format!("miss-{n}")), SHANGHAI);
    let (served, refused) = until_refused(&world, miss).await;
    assert!((3..=5).contains(&served), "{served}");
    assert_limited(&refused, "0300009");
    let policy = refused.header("ratelimit-policy").unwrap();
    assert!(policy.contains("q=3") && policy.contains("w=3"), "{policy}");
    let state = refused.header("ratelimit").unwrap();
    assert!(state.contains("r=0") && state.contains("t=1"), "{state}");
    for _ in 0..20 {
        assert_eq!(
            world.get_recording("miss-0").await.status,
            200,
            "hits are free"
        );
    }
    let other = signed(world.recording("miss-0"), BERLIN);
    assert_eq!(
        world.send(&other).await.status,
        200,
        "another ak has its own"
    );
    assert_eq!(
        world.recording_fetches(),
        served as u64 + 1,
        "no node saw the refused one"
    );
}

#[tokio::test]
async fn refusals_of_the_validation_table_are_not_charged() {
    let world = shanghai("rate_limit = { per_second = 1, burst = 2 }")
        .start()
        .await;
    for _ in 0..20 {
        let answer = world.send(&signed(world.post("{}"), SHANGHAI)).await;
        assert_eq!(answer.result_code().as_deref(), Some("0300001"));
    }
    assert_eq!(world.get_recording("valid-1").await.status, 200);
    assert_eq!(world.get_recording("valid-2").await.status, 200);
}

#[tokio::test]
async fn one_fetch_is_charged_once_for_all_who_wait() {
    let world = Arc::new(
        shanghai("rate_limit = { per_second = 1, burst = 1 }")
            .start()
            .await,
    );
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
    let mut asks = JoinSet::new();
    for _ in 0..10 {
        let world = world.clone();
        asks.spawn(async move { world.get_recording("wait-1").await });
    }
    wait_for_in_flight(&world, 10.0).await;
    world.nodes[0].faults().clear();
    for answer in asks.join_all().await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(world.recording_fetches(), 1);
}

#[tokio::test]
async fn hits_cost_where_they_are_not_free() {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 1, burst = 3 }".to_owned(),
        ..limits("hits_are_free = false")
    };
    let world = setup.start().await;
    let hit = |_| signed(world.recording("hit-1"), SHANGHAI);
    let (served, refused) = until_refused(&world, hit).await;
    assert!((3..=5).contains(&served), "{served}");
    assert_limited(&refused, "0300009");
    // Every verified request: also one that the validation table refuses.
    let invalid = |_| signed(world.post("{}"), SHANGHAI);
    assert_limited(&until_refused(&world, invalid).await.1, "0300009");
}

#[tokio::test]
async fn a_download_over_the_budget_has_the_code_of_downloads() {
    let world = shanghai("rate_limit = { per_second = 1, burst = 1 }")
        .start()
        .await;
    for interface in ["downloadRecordFile", "downloadBillFile", "ivr/downloadFile"] {
        let download = |_| signed(world.post_to(interface, FILE), SHANGHAI);
        assert_limited(&until_refused(&world, download).await.1, "0300008");
    }
    let query = |_| signed(world.post_to("requestPlayVoice", FILE), SHANGHAI);
    assert_limited(&until_refused(&world, query).await.1, "0300009");
}

#[tokio::test]
async fn the_ceiling_counts_every_verified_request() {
    let keys = "ceiling = { per_second = 1, burst = 4 }";
    for what in ["hit", "invalid", "download"] {
        let world = shanghai(keys).start().await;
        let request = |_| match what {
            "hit" => signed(world.recording("ceiling-1"), SHANGHAI),
            "invalid" => signed(world.post("{}"), SHANGHAI),
            _ => signed(world.post_to("downloadRecordFile", FILE), SHANGHAI),
        };
        let (served, refused) = until_refused(&world, request).await;
        assert!((4..=6).contains(&served), "{what}: {served}");
        let code = if what == "download" {
            "0300008"
        } else {
            "0300009"
        };
        assert_limited(&refused, code);
    }
}

// ---- At once --------------------------------------------------------------------------------------

#[tokio::test]
async fn an_account_has_so_many_requests_at_once() {
    let world = Arc::new(shanghai("in_flight = 1").start().await);
    let busy = hold_one(&world).await;
    let refused = world.get_recording("second-1").await;
    assert_limited(&refused, "0300009");
    let download = signed(world.post_to("downloadRecordFile", FILE), SHANGHAI);
    assert_limited(&world.send(&download).await, "0300008");
    let invalid = signed(world.post("{}"), BERLIN);
    assert_eq!(
        world.send(&invalid).await.status,
        200,
        "another ak has its own"
    );
    world.nodes[0].faults().clear();
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(
        world.get_recording("second-1").await.status,
        200,
        "the place is free again"
    );
}

#[tokio::test]
async fn the_gateway_has_so_many_requests_at_once() {
    let world = Arc::new(limits("max_in_flight = 1").start().await);
    let busy = hold_one(&world).await;
    for ak in [SHANGHAI, BERLIN] {
        let second = signed(world.recording("second-1"), ak);
        assert_overloaded(&world.send(&second).await);
    }
    let stranger = signed(world.recording("second-1"), UNKNOWN);
    assert_eq!(world.send(&stranger).await.status, 401, "he takes no place");
    world.nodes[0].faults().clear();
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(world.get_recording("second-1").await.status, 200);
}

#[tokio::test]
async fn who_does_not_verify_keeps_nobody_out() {
    let world = limits("max_in_flight = 1\nclock_window = \"0s\"")
        .start()
        .await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let mut stranger = Connection::open(&world).await.unwrap();
        let body_to_come = b"POST /CCFS/resource/ccfs/getRecordFileUrlFromObs HTTP/1.1\r\n\
            Host: h\r\nContent-Length: 1000\r\n\
            Authorization: auth-v2/nobody/2026-01-01T00:00:00Z/host/";
        stranger.0.write_all(body_to_come).await.unwrap();
        stranger.0.write_all(&[b'0'; 64]).await.unwrap();
        stranger.0.write_all(b"\r\n\r\n").await.unwrap();
        strangers.push(stranger);
    }
    assert_eq!(world.get_recording("served-1").await.status, 200);
}

#[tokio::test]
async fn a_fetch_counts_for_its_caller_until_it_ends() {
    let world = Arc::new(shanghai("in_flight = 1").start().await);
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
    let asking = world.clone();
    let gone = tokio::spawn(async move { asking.get_recording("abandoned-1").await });
    let node = &world.nodes[0];
    assert!(
        node.wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    gone.abort();
    let _ = gone.await;
    wait_for_in_flight(&world, 0.0).await;
    assert_limited(&world.get_recording("second-1").await, "0300009");
    node.faults().clear();
    eventually("the fetch has ended", async || {
        world.get_recording("second-1").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn bodies_have_so_much_memory_together() {
    let setup =
        limits("max_body_size = \"1KiB\"\nmax_upload_size = \"1KiB\"\nmax_buffered = \"1KiB\"");
    let world = Arc::new(setup.start().await);
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
    let large = |call_id: &str| {
        let padding = "x".repeat(600);
        let body = format!(
            r#"{{"callId":"{call_id}","beginTime":"2021-11-24 16:25:03","endTime":"2021-11-24 17:25:11","version":"2.0","padding":"{padding}"}}"#
        );
        signed(world.post(body), SHANGHAI)
    };
    let (first, second) = (large("large-1"), large("large-2"));
    let busy = tokio::spawn({
        let world = world.clone();
        async move { world.send(&first).await }
    });
    assert!(
        world.nodes[0]
            .wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    assert_overloaded(&world.send(&second).await);
    world.nodes[0].faults().clear();
    assert_eq!(busy.await.unwrap().status, 200);
    eventually("the memory is given back", async || {
        world.send(&second).await.status == 200
    })
    .await;
}

/// One request of [`SHANGHAI`] that its node holds.
async fn hold_one(world: &Arc<TestEnv>) -> tokio::task::JoinHandle<ClientResponse> {
    world.nodes[0].faults().inject(Fault::Hold, When::Always);
    let asking = world.clone();
    let busy = tokio::spawn(async move { asking.get_recording("busy-1").await });
    assert!(
        world.nodes[0]
            .wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    busy
}

async fn wait_for_in_flight(world: &TestEnv, count: f64) {
    let admin = world.bound.admin.unwrap();
    eventually("so many are inside", async || {
        page::metric(admin, "inflight_requests").await == count
    })
    .await;
}

// ---- Addresses ------------------------------------------------------------------------------------

const TIGHT: &str = "per_address = { per_second = 1, burst = 3 }";

#[tokio::test]
async fn failures_use_up_the_address_and_nothing_that_verifies_is_refused() {
    let world = limits(TIGHT).start().await;
    world.get_recording("nat-1").await;
    let wrong = |n: usize| match n % 4 {
        0 => forged(&world, "nat-1"),
        1 => signed(world.recording("nat-1"), UNKNOWN),
        2 => world.recording("nat-1"),
        _ => world
            .recording("nat-1")
            .with_authorization("Bearer abc".parse().unwrap()),
    };
    let (failures, refused) = until_refused(&world, wrong).await;
    assert!((3..=5).contains(&failures), "{failures}");
    assert_limited(&refused, "0300009");
    assert_eq!(refused.header("connection"), Some("close"));
    for n in 0..4 {
        let again = world.send(&wrong(n)).await;
        assert_eq!(again.status, 429, "however it is wrong");
        let right = world.get_recording(&format!("nat-{n}")).await;
        assert_eq!(
            right.status, 200,
            "a neighbour behind the same address is served"
        );
    }
}

#[tokio::test]
async fn what_verifies_is_not_charged_to_its_address() {
    let world = limits(TIGHT).start().await;
    for n in 0..10 {
        assert_eq!(world.get_recording(&format!("right-{n}")).await.status, 200);
    }
    assert_eq!(world.send(&forged(&world, "right-1")).await.status, 401);
}

#[tokio::test]
async fn unauthenticated_interfaces_are_charged_to_the_address() {
    let world = limits(TIGHT).start().await;
    let url = format!(
        "{}/CCFS/resource/ccfs/playVoice?t=1&version=2.0&st=abc",
        world.url()
    );
    let (served, refused) = until_refused(&world, |_| ClientRequest::get(&url).unwrap()).await;
    assert!((3..=5).contains(&served), "{served}");
    assert_limited(&refused, "0300008");
}

// ---- Connections ----------------------------------------------------------------------------------

/// A connection of which the test knows when it ends.
struct Connection(TlsStream<TcpStream>);

impl Connection {
    async fn open(world: &TestEnv) -> std::io::Result<Self> {
        let trust = Trust::from_pem_file(&world.file("ca.pem")).unwrap();
        let tls = TlsConnector::from(trust.client_config().unwrap());
        let address: SocketAddr = world.bound.listeners["ccfs"];
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Ok(Self(tls.connect(name, stream).await?))
    }

    /// Asks for something that is refused at once; is the connection still good?
    async fn works(&mut self) -> bool {
        let head = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut answer = [0; 4096];
        self.0.write_all(head).await.is_ok() && matches!(self.0.read(&mut answer).await, Ok(1..))
    }

    /// Waits until the other side ends it.
    async fn ended(&mut self) -> bool {
        let end = self.0.read_u8();
        tokio::time::timeout(LONG, end)
            .await
            .is_ok_and(|read| read.is_err())
    }
}

#[tokio::test]
async fn over_a_cap_of_connections_the_longest_idle_one_goes() {
    for cap in ["max_connections = 2", "max_connections_per_address = 2"] {
        let world = limits(cap).start().await;
        let mut first = Connection::open(&world).await.unwrap();
        assert!(first.works().await);
        let mut second = Connection::open(&world).await.unwrap();
        assert!(second.works().await);
        let mut third = Connection::open(&world).await.unwrap();
        assert!(third.works().await, "{cap}");
        assert!(first.ended().await, "{cap}");
        assert!(second.works().await && third.works().await, "{cap}");
    }
}

#[tokio::test]
async fn over_a_cap_of_busy_connections_the_new_one_goes() {
    for cap in ["max_connections = 1", "max_connections_per_address = 1"] {
        let world = Arc::new(limits(cap).start().await);
        let busy = hold_one(&world).await;
        let refused = async {
            match Connection::open(&world).await {
                Ok(mut connection) => !connection.works().await,
                Err(_) => true,
            }
        };
        assert!(refused.await, "{cap}");
        world.nodes[0].faults().clear();
        assert_eq!(busy.await.unwrap().status, 200, "{cap}");
        let other: Client = client_trusting(&world.file(""));
        let answer = other
            .send(&signed(world.recording("busy-1"), SHANGHAI))
            .await;
        assert_eq!(answer.unwrap().status, 200, "now the first one is idle");
    }
}
