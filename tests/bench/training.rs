//! The work by which a profile-guided build is trained: `deploy/profile` runs it against an instrumented
//! gateway (`CCFS_GATEWAY_PROGRAM`), which writes its profile when it ends.
//!
//! `cargo bench --bench training`, about half a minute; `-- --quick` shows only that it works. Of ten
//! requests about six are cached hits, three are forwarded and one is refused; over HTTP/1.1 and HTTP/2, beside
//! uploads, downloads, and connections with full and resumed handshakes. The access log is written.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a bench fails by panicking, prints, uses clocks and tasks, and shares parts with other benches"
)]

mod asked;
mod cpu;
mod node;
mod process;
mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use asked::{Effort, asked};
use ccfs_gateway::client::{Client, ClientRequest, Trust};
use cpu::Cpus;
use http::{Method, StatusCode};
use jiff::Timestamp;
use node::{DOWNLOAD, Node, urls};
use process::Server;
use site::{Gateway, Site, credential, recording_at};
use tokio::task::JoinSet;

fn main() {
    let Some(effort) = asked() else { return };
    let cpus = Cpus::share_out();
    cpus.runtime().block_on(train(&cpus, effort));
}

async fn train(cpus: &Cpus, effort: Effort) {
    let site = Site::new();
    let nodes = Node::start_many(&site.leaf, 3).await;
    let log = site.path("access.log");
    let gateway = Gateway {
        nodes: &urls(&nodes),
        access_log: log.to_str().unwrap(),
        limits: "per_address = { per_second = 1000000, burst = 1000000 }",
        ..Gateway::default()
    };
    let server = Server::gateway(cpus, &site.configure("training", &gateway));
    let work = Arc::new(Work {
        url: format!("https://{}", server.address),
        trust: Trust::from_pem_file(&site.path("ca.pem")).unwrap(),
        end: Instant::now() + Duration::from_secs(effort.choose(25, 1)),
        counts: Counts::default(),
    });
    let mut clients = JoinSet::new();
    for number in 0..PERSISTENT {
        let client = work.client().with_idle_connections(1);
        let (work, client) = (work.clone(), Arc::new(client));
        clients.spawn(async move { work.mix(&client, number).await });
    }
    // Each of these is one connection with several streams at a time.
    for connection in 0..HTTP2_CONNECTIONS {
        let client = work.client().http2_only().with_idle_connections(1);
        let client = Arc::new(client);
        work.send(&client, &work.recording(0, "first"), StatusCode::OK)
            .await;
        for number in 0..STREAMS {
            let (work, client) = (work.clone(), client.clone());
            clients.spawn(async move {
                work.mix(&client, PERSISTENT + connection * STREAMS + number)
                    .await
            });
        }
    }
    let transfers = work.clone();
    clients.spawn(async move { transfers.transfers().await });
    let connections = work.clone();
    clients.spawn(async move { connections.connections().await });
    clients.join_all().await;
    println!("{:?}", work.counts);
    assert!(work.counts.are_balanced(effort), "the mix is not as named");
}

/// What all clients share.
struct Work {
    url: String,
    trust: Trust,
    end: Instant,
    counts: Counts,
}

/// Requests by kind.
#[derive(Debug, Default)]
struct Counts {
    hits: AtomicUsize,
    forwarded: AtomicUsize,
    refused: AtomicUsize,
    connections: AtomicUsize,
    transfers: AtomicUsize,
}

impl Work {
    fn client(&self) -> Client {
        Client::new(&self.trust).unwrap()
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    async fn send(&self, client: &Client, request: &ClientRequest, expected: StatusCode) {
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status, expected);
        let state = response.header("cache-status").unwrap_or_default();
        let counts = &self.counts;
        let count = if expected != StatusCode::OK {
            &counts.refused
        } else if state.contains("; hit") {
            &counts.hits
        } else {
            &counts.forwarded
        };
        count.fetch_add(1, Relaxed);
    }

    fn recording(&self, account: usize, call_id: &str) -> ClientRequest {
        recording_at(&self.url, account, call_id)
    }

    /// A request of another interface, which is streamed.
    fn streamed(&self, method: Method, size: u64, body: &'static [u8]) -> ClientRequest {
        let url = format!("{}{DOWNLOAD}{size}", self.url);
        let mut request = ClientRequest::new(method, &url).unwrap();
        request.body = body.into();
        request
            .sign(&credential(0), "host", Timestamp::now())
            .unwrap()
    }

    /// One client: mostly calls that were asked for before.
    async fn mix(&self, client: &Client, number: usize) {
        for turn in 0.. {
            if self.is_over() {
                return;
            }
            let known = self.recording(turn % 5, &format!("known-{}", turn % 40));
            match turn % 20 {
                3 => {
                    let other = self.recording(1, "another body");
                    let value = other.headers[http::header::AUTHORIZATION].clone();
                    let wrong = known.with_authorization(value);
                    self.send(client, &wrong, StatusCode::UNAUTHORIZED).await;
                }
                7 => {
                    let stranger = self.recording(1_000_000, "known-1");
                    self.send(client, &stranger, StatusCode::UNAUTHORIZED).await;
                }
                turn_of_20 if turn_of_20 % 3 == 0 => {
                    let new = self.recording(turn % 5, &format!("new-{number}-{turn}"));
                    self.send(client, &new, StatusCode::OK).await;
                }
                _ => self.send(client, &known, StatusCode::OK).await,
            }
        }
    }

    /// Downloads and uploads, one after the other.
    async fn transfers(&self) {
        let client = self.client().with_idle_connections(1);
        while !self.is_over() {
            let download = self.streamed(Method::GET, 4 << 20, b"");
            let upload = self.streamed(Method::POST, 100, &UPLOAD);
            for request in [&download, &upload] {
                let response = client.send(request).await.unwrap();
                assert_eq!(response.status, StatusCode::OK);
                self.counts.transfers.fetch_add(1, Relaxed);
            }
        }
    }

    /// New connections: one with a full handshake, three resumed.
    async fn connections(&self) {
        while !self.is_over() {
            let client = self.client();
            for call in 0..4 {
                let request = self.recording(0, &format!("known-{call}"));
                self.send(&client, &request, StatusCode::OK).await;
                self.counts.connections.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Counts {
    /// Whether every kind of work was done, in about the proportion that the profile is for.
    fn are_balanced(&self, effort: Effort) -> bool {
        let [hits, forwarded, refused, connections, transfers] = [
            &self.hits,
            &self.forwarded,
            &self.refused,
            &self.connections,
            &self.transfers,
        ]
        .map(|count| count.load(Relaxed));
        let requests = hits + forwarded + refused;
        let between = |part: usize, low: usize, high: usize| {
            requests * low <= part * 100 && part * 100 <= requests * high
        };
        effort == Effort::Quick
            || between(hits, 45, 75)
                && between(forwarded, 20, 45)
                && between(refused, 7, 12)
                && connections > 0
                && transfers > 0
    }
}

const PERSISTENT: usize = 24;

const HTTP2_CONNECTIONS: usize = 3;

const STREAMS: usize = 4;

static UPLOAD: [u8; 1 << 20] = [b'x'; 1 << 20];
