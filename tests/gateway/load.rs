//! Constant load from many clients, and access to the admin interface.

#![allow(
    dead_code,
    reason = "shared with the fault run; each user needs only a part of it"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ccfs_gateway::client::{Client, ClientError, ClientRequest, RecordingQuery, Trust};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{BEGIN, END, SHANGHAI, TestEnv, signed};

/// The kind of request that a client repeats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A download of 64 KiB.
    Download,
    /// A request that is not idempotent, by the end of its path.
    Job(&'static str),
    /// A recording-URL request, each for another call.
    Recording,
}

/// The interfaces that are not idempotent.
pub(crate) const JOBS: [&str; 5] = [
    "queryBillData",
    "queryAgentOprInfoData",
    "ivr/uploadFile",
    "ivr/deleteFile",
    "requestRecordAnalysis",
];

/// Clients that send requests until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    done: AtomicU64,
    good: AtomicU64,
    tally: Mutex<LoadResult>,
}

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct LoadResult {
    /// Every response that was not 200 with resultCode 0, or not the complete file.
    pub(crate) failed: Vec<String>,
    /// Downloads that were cut off after their first byte in a way that the client can detect.
    pub(crate) cut: usize,
    /// The duration of each request.
    pub(crate) took: Vec<Duration>,
}

impl Load {
    /// Starts `clients` clients that send requests of `kind`, each `pause` after its last response.
    pub(crate) fn start(target: &Target, kind: Kind, clients: usize, pause: Duration) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            shared: Arc::default(),
            clients: JoinSet::new(),
        };
        let started = Instant::now();
        for client in 0..clients {
            let (target, stop, shared) = (target.clone(), load.stop.clone(), load.shared.clone());
            load.clients.spawn(async move {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let began = Instant::now();
                    let failure = target.send(kind, &format!("{client}-{turn}")).await.err();
                    let took = began.elapsed();
                    shared.done.fetch_add(1, Ordering::Relaxed);
                    shared
                        .good
                        .fetch_add(u64::from(failure.is_none()), Ordering::Relaxed);
                    {
                        let mut tally = shared.tally.lock().unwrap();
                        tally.took.push(took);
                        match failure {
                            Some(Failure::Cut) => tally.cut += 1,
                            Some(Failure::Unexpected(what)) => {
                                let at = started.elapsed();
                                tally
                                    .failed
                                    .push(format!("{what} after {took:?}, at {at:.1?}"));
                            }
                            None => {}
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        }
        load
    }

    /// The number of responses so far, and of successful ones among them.
    pub(crate) fn response_counts(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.done), read(&self.shared.good))
    }

    /// Waits for this many further responses.
    pub(crate) async fn wait_for_responses(&self, responses: u64) {
        let enough = self.response_counts().0 + responses;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.response_counts().0 < enough {
            assert!(Instant::now() < deadline, "the load makes no progress");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the clients after their current request.
    pub(crate) async fn stop(mut self) -> LoadResult {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        std::mem::take(&mut *self.shared.tally.lock().unwrap())
    }
}

impl LoadResult {
    /// Panics if any request failed.
    pub(crate) fn assert_nothing_lost(&self, what: &str) {
        let (failed, all) = (self.failed.len(), self.took.len());
        let first = &self.failed[..failed.min(5)];
        assert_eq!(self.cut, 0, "{what}: downloads were cut");
        assert!(failed == 0, "{what}: {failed} of {all} failed: {first:#?}");
    }
}

/// Why a request was not successful.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A download was cut off after its first byte.
    Cut,
    /// An unexpected response or error.
    Unexpected(String),
}

impl Failure {
    fn of(kind: Kind, error: &ClientError) -> Self {
        Self::Unexpected(format!("{kind:?}: {error:?}"))
    }
}

/// A gateway and a client that keeps connections to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    url: String,
    client: Arc<Client>,
}

impl Target {
    /// The gateway of a test environment.
    pub(crate) fn of(env: &TestEnv) -> Self {
        Self::at(&env.url(), &env.file("ca.pem"))
    }

    /// A gateway by its URL, verified against the authority in `ca`.
    pub(crate) fn at(url: &str, ca: &Path) -> Self {
        let client = Client::new(&Trust::from_pem_file(ca).unwrap())
            .unwrap()
            .with_idle_connections(64);
        Self {
            url: url.to_owned(),
            client: Arc::new(client),
        }
    }

    /// Sends one request; the error describes what arrived instead of a success.
    pub(crate) async fn send(&self, kind: Kind, mark: &str) -> Result<(), Failure> {
        let request = signed(self.request(kind, mark), SHANGHAI);
        let wrong = |error: ClientError| Failure::of(kind, &error);
        let response = if kind == Kind::Download {
            let head = self.client.send_streaming(&request).await.map_err(wrong)?;
            let whole = head.collect(&self.client).await;
            whole.map_err(|_cut| Failure::Cut)?
        } else {
            self.client.send(&request).await.map_err(wrong)?
        };
        let code = response.result_code();
        let good = match kind {
            Kind::Download => response.body.len() == 64 * 1024,
            Kind::Job(_) | Kind::Recording => code.as_deref() == Some("0"),
        };
        if good && response.status == 200 {
            return Ok(());
        }
        let error_kind = response.header("x-gateway-error").unwrap_or("node");
        let status = response.status;
        Err(Failure::Unexpected(format!(
            "{kind:?}: {status} {error_kind} {code:?}"
        )))
    }

    fn request(&self, kind: Kind, mark: &str) -> ClientRequest {
        let tail = match kind {
            Kind::Recording => {
                let query = RecordingQuery {
                    call_id: mark,
                    begin: BEGIN,
                    end: END,
                    version: Some("2.0"),
                };
                return ClientRequest::recording(&self.url, &query).unwrap();
            }
            Kind::Download => "downloadRecordFile",
            Kind::Job(tail) => tail,
        };
        self.envelope(tail, &message(kind, mark))
    }

    /// An unsigned POST of `message` in an envelope.
    pub(crate) fn envelope(&self, tail: &str, message: &Value) -> ClientRequest {
        let body = json!({"request": {"version": "2.0"}, "msgBody": message});
        let url = format!("{}/CCFS/resource/ccfs/{tail}", self.url);
        ClientRequest::post(&url, body.to_string()).unwrap()
    }

    /// The client, which keeps connections.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }
}

/// A message that the interface accepts; `mark` makes each request distinct.
fn message(kind: Kind, mark: &str) -> Value {
    match kind {
        Kind::Job("ivr/uploadFile") => json!({"data": "UklGRg==", "fileName": mark}),
        Kind::Job("ivr/deleteFile") => json!({"fileName": format!("Y:/ivr/{mark}.wav")}),
        Kind::Download => json!({"fileName": "Y:/record/size-65536.wav"}),
        _ => json!({
            "beginTime": BEGIN, "endTime": END, "dataType": "call",
            "callBackURL": format!("https://client.example.com/{mark}"),
        }),
    }
}

/// Sends one request to an admin interface; returns the body of the response.
pub(crate) fn admin_request(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nx-ccfs-gateway: 1\r\n\
         accept: application/json\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response).into_owned();
    assert!(
        response.starts_with("HTTP/1.1 200"),
        "{method} {path}: {response}"
    );
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    body.to_owned()
}

/// The first cluster of `/status` of the environment's gateway.
pub(crate) async fn cluster(env: &TestEnv) -> Value {
    let mut status: Value =
        serde_json::from_str(&env_admin_request(env, "GET", "/status").await).unwrap();
    status["clusters"][0].take()
}

/// Sends an admin request without blocking the threads that serve the nodes.
pub(crate) async fn env_admin_request(env: &TestEnv, method: &'static str, path: &str) -> String {
    let (address, path) = (env.bound.admin.unwrap(), path.to_owned());
    tokio::task::spawn_blocking(move || admin_request(address, method, &path))
        .await
        .unwrap()
}

/// The value of a counter of `/metrics`, by name and labels.
pub(crate) fn counter(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in the metrics"));
    value.trim_start_matches("{}").trim().parse().unwrap()
}
