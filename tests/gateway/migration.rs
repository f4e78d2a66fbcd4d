//! A live cluster moves from a plain load balancer to the gateway (§12): with a third of the clients signing
//! wrongly in ten ways, all behind one address, no response of the gateway's own is seen; `/status` names who
//! would be refused and why; then `enforce`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::app::App;
use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{
    Client, ClientRequest, ClientResponse, DEFAULT_SIGNED_FIELDS, RecordingQuery, Trust,
};
use ccfs_gateway::config::Config;
use ccfs_gateway::findings::Timing;
use http::header::{AUTHORIZATION, HOST};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::page;
use crate::support::{
    BEGIN, BERLIN, END, SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, read, secret, signed,
};
use crate::unverified_clients::assert_forwarded_unchanged;

/// The address that all clients know. What stands behind it changes: first a load balancer that passes bytes
/// on, then the gateway.
struct Front {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    _accepts: JoinSet<()>,
}

impl Front {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(target));
        let mut accepts = JoinSet::new();
        let to = target.clone();
        accepts.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let to = *to.lock().unwrap();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            target,
            _accepts: accepts,
        }
    }

    fn move_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }
}

/// A way to sign wrongly: the access key, what `/status` says about it, and what is done to a request.
struct Way {
    ak: &'static str,
    words: &'static str,
    sign: fn(ClientRequest, &str) -> ClientRequest,
}

fn sign_with(request: ClientRequest, ak: &str, secret: &str, now: Timestamp) -> ClientRequest {
    let secret = Secret::new(secret.into());
    let credential = Credential::new(AccessKey::from(ak), vec![secret], true);
    request
        .sign(&credential, DEFAULT_SIGNED_FIELDS, now)
        .unwrap()
}

/// Signs another request than the one that is sent.
fn sign_other(
    request: ClientRequest,
    ak: &str,
    change: impl Fn(&mut ClientRequest),
) -> ClientRequest {
    let mut other = request.clone();
    change(&mut other);
    let other = signed_as(other, ak);
    request.with_authorization(other.headers[AUTHORIZATION].clone())
}

fn signed_as(request: ClientRequest, ak: &str) -> ClientRequest {
    sign_with(request, ak, &secret(ak), Timestamp::now())
}

/// The accounts of the ways that name a configured access key.
const BROKEN: [&str; 7] = [
    "ak-line-end",
    "ak-blanks",
    "ak-host",
    "ak-path",
    "ak-body-end",
    "ak-spaced",
    "ak-clock",
];

const WAYS: [Way; 10] = [
    Way {
        ak: BROKEN[0],
        words: "secret-line-end",
        sign: |request, ak| sign_with(request, ak, &format!("{}\n", secret(ak)), Timestamp::now()),
    },
    Way {
        ak: BROKEN[1],
        words: "secret-blanks",
        sign: |request, ak| sign_with(request, ak, &format!("{} ", secret(ak)), Timestamp::now()),
    },
    Way {
        ak: BROKEN[2],
        words: "host-without-port",
        sign: |request, ak| {
            sign_other(request, ak, |other| {
                other.headers.insert(HOST, "127.0.0.1".parse().unwrap());
            })
        },
    },
    Way {
        ak: BROKEN[3],
        words: "path-without-root",
        sign: |request, ak| {
            sign_other(request, ak, |other| {
                other.target = other.target.replace("/CCFS/", "/");
            })
        },
    },
    Way {
        ak: BROKEN[4],
        words: "body-line-end",
        sign: |request, ak| {
            sign_other(request, ak, |other| {
                other.body = [&other.body[..], b"\n"].concat().into();
            })
        },
    },
    Way {
        ak: BROKEN[5],
        words: "body-spaced",
        sign: |request, ak| {
            sign_other(request, ak, |other| {
                let text = String::from_utf8_lossy(&other.body);
                other.body = text.replace("\":", "\": ").replace(",\"", ", \"").into();
            })
        },
    },
    Way {
        ak: BROKEN[6],
        words: "timestamp-local",
        sign: |request, ak| {
            let local = Timestamp::now() + SignedDuration::from_hours(8);
            sign_with(request, ak, &secret(ak), local)
        },
    },
    Way {
        ak: UNKNOWN,
        words: "unknown_key",
        sign: signed_as,
    },
    Way {
        ak: "",
        words: "missing",
        sign: |mut request, _| {
            request.headers.remove(AUTHORIZATION);
            request
        },
    },
    Way {
        ak: "",
        words: "other_scheme",
        sign: |request, _| request.with_authorization("Bearer something".parse().unwrap()),
    },
];

/// Clients that send one request after the other, each on a new connection.
struct Clients {
    stop: Arc<AtomicBool>,
    /// Requests that the gateway handled, by client.
    moved: Vec<Arc<AtomicU64>>,
    running: JoinSet<Vec<(usize, ClientResponse)>>,
}

impl Clients {
    fn start(front: SocketAddr, ca: &std::path::Path) -> Self {
        let (stop, mut running) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let count = 3 * WAYS.len();
        let moved: Vec<_> = (0..count).map(|_| Arc::<AtomicU64>::default()).collect();
        for number in 0..count {
            let client = Client::new(&Trust::from_pem_file(ca).unwrap()).unwrap();
            let client = client.with_idle_connections(0);
            let (stop, moved) = (stop.clone(), moved[number].clone());
            running.spawn(async move {
                let mut responses = Vec::new();
                for call in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let request = request(front, number, call);
                    let response = client.send(&request).await.unwrap();
                    if response.header("via").is_some() {
                        moved.fetch_add(1, Ordering::Relaxed);
                    }
                    responses.push((number, response));
                }
                responses
            });
        }
        Self {
            stop,
            moved,
            running,
        }
    }

    /// Waits until the gateway has handled two requests of each client.
    async fn are_moved(&self) {
        // With signatures and handshakes of a debug build.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.moved.iter().any(|it| it.load(Ordering::Relaxed) < 2) {
            assert!(tokio::time::Instant::now() < deadline, "not moved");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) -> Vec<(usize, ClientResponse)> {
        self.stop.store(true, Ordering::Relaxed);
        self.running
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

/// The request of a client: every third one signs wrongly.
fn request(front: SocketAddr, number: usize, call: usize) -> ClientRequest {
    let call_id = format!("1637742300-{}{}", number % 7, call % 5);
    let query = RecordingQuery {
        call_id: &call_id,
        begin: BEGIN,
        end: END,
        version: Some("2.0"),
    };
    let request = ClientRequest::recording(&format!("https://{front}"), &query).unwrap();
    match number % 3 {
        0 => signed(request, SHANGHAI),
        1 => signed(request, BERLIN),
        _ => {
            let way = &WAYS[number / 3];
            (way.sign)(request, way.ak)
        }
    }
}

async fn start() -> TestEnv {
    let setup = Setup {
        nodes: 2,
        listener: "authentication = \"shadow\"\nvalidation = \"shadow\"".to_owned(),
        shanghai: "rate_limit = { per_minute = 1 }\nceiling = { per_minute = 1 }\nin_flight = 1"
            .to_owned(),
        accounts: BROKEN
            .map(|ak| (ak, "time_zone = \"Asia/Shanghai\""))
            .into(),
        tables: "[limits]\ndry_run = true\nper_address = { per_minute = 1 }".to_owned(),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    let (config, _) = Config::load(&site.file).unwrap_or_else(|wrong| panic!("{wrong}"));
    let app = App::bind(config, Some(site.file.clone())).unwrap();
    let timing = Timing {
        interval: Duration::from_millis(50),
        minute: Duration::from_secs(2),
    };
    TestEnv::with_app(site, app.with_finding_timing(timing))
}

async fn reload(env: &TestEnv, change: impl FnOnce(String) -> String) {
    let file = env.file("gateway.toml");
    std::fs::write(&file, change(read(&file))).unwrap();
    let (response, result) = oneshot::channel();
    let order = AdminCommand::Reload(response);
    env.commands.send(order).await.unwrap();
    result.await.unwrap().unwrap();
}

/// What would be refused, by access key or, without one, by class: the mistake or the class.
async fn would_be_refused(env: &TestEnv) -> BTreeSet<String> {
    let status: Value = page::get(env.bound.admin.unwrap(), "/status").await.json();
    let list = status["would_be_refused"].as_array().unwrap();
    let words = list.iter().map(|claim| {
        let mistake = claim["mistake"].as_str().unwrap_or_default();
        match mistake.split_once(": ") {
            Some((class, _)) => class.to_owned(),
            None => claim["class"].as_str().unwrap().to_owned(),
        }
    });
    words.collect()
}

/// Waits for a list; meanwhile each of the clients `asking` sends a request.
async fn list_becomes(
    (env, client): (&TestEnv, &Client),
    asking: impl Fn(usize) -> Option<ClientRequest>,
    expected: BTreeSet<String>,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        for number in 0..WAYS.len() {
            if let Some(request) = asking(number) {
                client.send(&request).await.unwrap();
            }
        }
        let list = would_be_refused(env).await;
        if list == expected {
            return;
        }
        let is_late = tokio::time::Instant::now() > deadline;
        assert!(!is_late, "{list:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn words<'a>(ways: impl IntoIterator<Item = &'a Way>) -> BTreeSet<String> {
    ways.into_iter().map(|way| way.words.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_under_load_without_a_401_or_429_of_the_gateway() {
    let env = start().await;
    let front = Front::start(env.nodes[0].address()).await;
    // What the nodes themselves answer to each client.
    let mut answers = BTreeMap::new();
    for number in 0..3 * WAYS.len() {
        let response = env.send(&request(front.address, number, 0)).await;
        assert_eq!(response.header("via"), None);
        answers.insert(number, (response.status, response.result_code()));
    }

    // The address moves under load.
    let clients = Clients::start(front.address, &env.file("ca.pem"));
    front.move_to(env.bound.listeners["ccfs"]);
    clients.are_moved().await;
    let responses = clients.stop().await;
    assert!(responses.len() >= 2 * answers.len());
    for (number, response) in &responses {
        assert_eq!(response.header("x-gateway-error"), None, "{number}");
        let answer = (response.status, response.result_code());
        assert_eq!(answer, answers[number], "client {number}");
    }
    // Not one byte differs at the node.
    let client = env.new_client().with_idle_connections(0);
    for (number, way) in WAYS.iter().enumerate() {
        env.nodes.iter().for_each(|node| node.clear_record());
        let sent = request(front.address, 3 * number + 2, 0);
        client.send(&sent).await.unwrap();
        let got = env.sole_upstream_request();
        assert_forwarded_unchanged(&got, &sent);
        assert_eq!(
            got.header("authorization").is_some(),
            way.words != "missing"
        );
    }

    // `/status` names who would be refused, and why, in the words of the signature doctor.
    let wrong = |number: usize| Some(request(front.address, 3 * number + 2, 1));
    list_becomes((&env, &client), wrong, words(&WAYS)).await;

    // The clients are mended; the unknown access key is configured.
    let table =
        format!("[access_keys.{UNKNOWN}]\nsecret_key_file = \"{UNKNOWN}\"\ntime_zone = \"UTC\"\n");
    reload(&env, |text| format!("{text}\n{table}")).await;
    let right = |number: usize| {
        let way = WAYS.get(number).filter(|way| !way.ak.is_empty())?;
        let request = request(front.address, 3 * number + 2, 2);
        Some(signed_as(request, way.ak))
    };
    list_becomes((&env, &client), right, words(&WAYS[8..])).await;

    // The rest is refused from now on, the others are served as before.
    reload(&env, |text| text.replace("authentication = \"shadow\"", "")).await;
    eventually("nothing is on trial", async || {
        would_be_refused(&env).await.is_empty()
    })
    .await;
    for number in 0..WAYS.len() {
        match right(number) {
            Some(request) => {
                assert_node_response(&client.send(&request).await.unwrap(), "0");
            }
            None => {
                let refused = client.send(&wrong(number).unwrap()).await.unwrap();
                assert_gateway_error(&refused, 401, "unauthenticated", "GW401");
            }
        }
    }
}
