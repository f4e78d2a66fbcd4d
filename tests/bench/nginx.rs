//! The gateway compared with the nginx installed on this machine: the same requests, certificates
//! and nodes; each server has one worker on the same CPU, measured one after the other in short
//! rounds.
//!
//! `cargo bench --bench nginx`, about three minutes; `-- --quick` shows only that it works. Without
//! an `nginx` on the PATH it says so and ends.
//!
//! In most rows the two do not do the same work: where the gateway verifies a signature, validates
//! the body, limits and counts, nginx forwards or looks up bytes, the least that it can do. In the rows
//! with Lua it verifies, judges and limits as well; they need its Lua module.
//!
//! In each round the requests that reached the nodes are counted: all of them where the row says
//! that they are forwarded, none where it says that they are answered from the cache.

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
mod load;
mod node;
mod process;
mod site;

#[path = "nginx/peer.rs"]
mod peer;
#[path = "nginx/table.rs"]
mod table;

use std::sync::Arc;
use std::time::Duration;

use asked::{Effort, asked};
use ccfs_gateway::client::ClientRequest;
use cpu::Cpus;
use jiff::Timestamp;
use load::{Dialer, Feed, Lane, Round};
use node::{DOWNLOAD, Node, urls};
use peer::Job;
use process::Server;
use site::{Gateway, HOST, Site, credential, recording};
use table::Row;

fn main() {
    let Some(effort) = asked() else { return };
    let Some(version) = peer::version() else {
        println!("There is no nginx on the PATH to compare with; nothing was measured.");
        return;
    };
    // Before any thread is started, so that all threads are pinned.
    let cpus = Cpus::share_out();
    println!(
        "ccfs-gateway and {version}, one worker each; {}\n",
        cpu::model()
    );
    cpus.runtime().block_on(compare(&cpus, effort));
}

async fn compare(cpus: &Cpus, effort: Effort) {
    let site = Site::new();
    let stage = Stage {
        effort,
        cpus,
        dialer: Dialer::new(&site),
        site: &site,
        has_lua: peer::has_lua(cpus, &site),
    };
    if !stage.has_lua {
        println!("This nginx cannot run the Lua job: the rows with Lua are left out.");
    }
    let kept = Node::start_many(&site.leaf, 2).await;
    let expired = Node::start_expired(&site.leaf, 2).await;
    table::head();
    stage.forwarded(&expired).await;
    stage.cached(&kept).await;
    stage.downloads(&kept).await;
    println!("{}", table::NOTES);
}

/// Shared state of all comparisons.
struct Stage<'a> {
    effort: Effort,
    cpus: &'a Cpus,
    site: &'a Site,
    dialer: Dialer,
    has_lua: bool,
}

impl Stage<'_> {
    /// Whether the nginx of this machine can do a job.
    fn can(&self, job: Job) -> bool {
        job != Job::Whole || self.has_lua
    }

    /// What cannot be cached.
    async fn forwarded(&self, nodes: &[Node]) {
        for (name, job, protocol) in [
            (
                "small POST, forwarded to a node",
                Job::Forward,
                Protocol::Http1,
            ),
            ("the same over HTTP/2", Job::Forward, Protocol::Http2),
            (WHOLE_JOB, Job::Whole, Protocol::Http1),
        ] {
            if !self.can(job) {
                continue;
            }
            let calls = (0..2_000).map(|call| recording(0, &format!("16377-{call}")));
            let mut pair = self.pair(nodes, job, protocol, calls).await;
            pair[1].must_say("ccfs-gateway; fwd=uri-miss\r\n").await;
            if job == Job::Whole {
                pair[0].must_say("X-Cache: MISS").await;
                pair[0].must_refuse(&forged()).await;
            }
            let reached = Reached::All(nodes);
            let rounds = self.rounds(&mut pair, Work::Requests, reached).await;
            table::print(&Row::of(name, &rounds));
        }
    }

    /// What is answered without a node, on kept and on new connections.
    async fn cached(&self, nodes: &[Node]) {
        for (name, job) in [
            ("small POST, served from the cache", Job::Cache),
            (WHOLE_JOB, Job::Whole),
        ] {
            if !self.can(job) {
                continue;
            }
            let calls = (0..100).map(|call| recording(0, &format!("16377-{call}")));
            let mut pair = self.pair(nodes, job, Protocol::Http1, calls).await;
            for lane in &mut pair {
                lane.once().await;
            }
            pair[0].must_say("X-Cache: HIT").await;
            pair[1].must_say("ccfs-gateway; hit").await;
            let reached = Reached::None(nodes);
            let rounds = self.rounds(&mut pair, Work::Requests, reached).await;
            table::print(&Row::of(name, &rounds));
            if job == Job::Cache {
                let rounds = self.rounds(&mut pair, Work::Connections, reached).await;
                table::print(&Row::of(
                    "new TLS 1.3 connection with one such POST",
                    &rounds,
                ));
            }
        }
    }

    async fn downloads(&self, nodes: &[Node]) {
        let size = self.effort.choose(64 << 20, 1 << 20);
        let download = std::iter::once_with(|| download(size));
        let mut pair = self
            .pair(nodes, Job::Forward, Protocol::Downloads, download)
            .await;
        let reached = Reached::All(nodes);
        let rounds = self.rounds(&mut pair, Work::Requests, reached).await;
        table::print(&Row::per_mebibyte(
            "streamed download of 64 MiB, per MiB",
            &rounds,
        ));
    }

    /// nginx and the gateway in front of the same nodes, with the same requests.
    async fn pair(
        &self,
        nodes: &[Node],
        job: Job,
        protocol: Protocol,
        requests: impl IntoIterator<Item = ClientRequest>,
    ) -> [Lane; 2] {
        let gateway = Gateway {
            nodes: &urls(nodes),
            limits: "idle_timeout = \"10m\"",
            ..Gateway::default()
        };
        let file = self.site.configure("gateway", &gateway);
        let gateway = Server::gateway(self.cpus, &file);
        let nginx = peer::start(self.cpus, self.site, &urls(nodes), job);
        let feed = Feed::new(requests);
        [
            protocol.lane(nginx, &self.dialer, Arc::clone(&feed)).await,
            protocol.lane(gateway, &self.dialer, feed).await,
        ]
    }

    /// Alternates rounds of both servers, after one warm-up round of each.
    async fn rounds(
        &self,
        pair: &mut [Lane; 2],
        work: Work,
        reached: Reached<'_>,
    ) -> Vec<[Round; 2]> {
        let (rounds, time) = self.effort.choose((24, 400), (1, 200));
        let time = Duration::from_millis(time);
        let [nginx, gateway] = pair;
        let mut all = Vec::new();
        for round in 0..=rounds {
            // The order alternates.
            let both = if round % 2 == 0 {
                let first = work.round(nginx, time, reached).await;
                [first, work.round(gateway, time, reached).await]
            } else {
                let first = work.round(gateway, time, reached).await;
                [work.round(nginx, time, reached).await, first]
            };
            all.push(both);
        }
        all.split_off(1)
    }
}

/// The kind of load of a round.
#[derive(Clone, Copy, Debug)]
enum Work {
    Connections,
    Requests,
}

impl Work {
    /// One round. Panics unless as many requests reached the nodes as should.
    async fn round(self, lane: &mut Lane, time: Duration, reached: Reached<'_>) -> Round {
        let before = reached.served();
        let round = match self {
            Self::Connections => lane.round_of_connections(time).await,
            Self::Requests => lane.round(time).await,
        };
        let (asked, served) = (round.latencies.len() as u64, reached.served() - before);
        let is_as_named = match reached {
            // One in a hundred may be tried again.
            Reached::All(_) => (asked..=asked + asked / 100 + 1).contains(&served),
            Reached::None(_) => served == 0,
        };
        assert!(
            is_as_named,
            "of {asked} requests {served} reached a node: {reached:?}"
        );
        round
    }
}

/// Which requests of a row reach these nodes.
#[derive(Clone, Copy, Debug)]
enum Reached<'a> {
    All(&'a [Node]),
    None(&'a [Node]),
}

impl Reached<'_> {
    fn served(self) -> u64 {
        let (Self::All(nodes) | Self::None(nodes)) = self;
        node::served(nodes)
    }
}

/// How clients connect.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
    /// Few at a time, HTTP/1.1.
    Downloads,
}

impl Protocol {
    async fn lane(self, server: Server, dialer: &Dialer, feed: Arc<Feed>) -> Lane {
        match self {
            Self::Http1 => Lane::new(server, dialer, CLIENTS, feed).await,
            Self::Http2 => Lane::http2(server, dialer, CLIENTS, feed).await,
            Self::Downloads => Lane::new(server, dialer, DOWNLOADS, feed).await,
        }
    }
}

/// A request with the signature of another one.
fn forged() -> ClientRequest {
    let other = recording(0, "16377-0");
    let value = other.headers[http::header::AUTHORIZATION].clone();
    recording(0, "16377-1").with_authorization(value)
}

/// A path that CC-FS does not have: forwarded for verified callers, and streamed.
fn download(size: u64) -> ClientRequest {
    let request = ClientRequest::get(&format!("https://{HOST}{DOWNLOAD}{size}")).unwrap();
    request
        .sign(&credential(0), "host", Timestamp::now())
        .unwrap()
}

const WHOLE_JOB: &str = "the same, nginx + Lua verify and judge it too";

const CLIENTS: usize = 48;

/// Concurrent downloads.
const DOWNLOADS: usize = 2;
