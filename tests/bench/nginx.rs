//! The gateway compared with the nginx installed on this machine: the same requests, certificates
//! and nodes; each server has one worker on the same CPU, measured one after the other in short
//! rounds.
//!
//! `cargo bench --bench nginx`, about two minutes; `-- --quick` shows only that it works. Without
//! an `nginx` on the PATH it says so and ends.
//!
//! The two do not do the same work: where the gateway verifies a signature, validates the body,
//! limits and counts, nginx forwards or looks up bytes. The gateway's complete work is compared
//! with the least that nginx can do.

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
    };
    let kept = Node::start_many(&site.leaf, 2).await;
    let expired = Node::start_expired(&site.leaf, 2).await;
    table::head();

    let calls = || (0..2_000).map(|call| recording(0, &format!("16377-{call}")));
    let mut pair = stage
        .pair(&expired, peer::Job::Forward, CLIENTS, calls())
        .await;
    pair[1].must_say("ccfs-gateway; fwd=uri-miss\r\n").await;
    let rounds = stage.rounds(&mut pair, Work::Requests).await;
    table::print(&Row::of("small POST, forwarded to a node", &rounds));
    drop(pair);

    let calls = (0..100).map(|call| recording(0, &format!("16377-{call}")));
    let mut pair = stage.pair(&kept, peer::Job::Cache, CLIENTS, calls).await;
    for lane in &mut pair {
        lane.once().await;
    }
    pair[0].must_say("X-Cache: HIT").await;
    pair[1].must_say("ccfs-gateway; hit").await;
    let rounds = stage.rounds(&mut pair, Work::Requests).await;
    table::print(&Row::of("small POST, served from the cache", &rounds));
    let rounds = stage.rounds(&mut pair, Work::Connections).await;
    table::print(&Row::of(
        "new TLS 1.3 connection with one such POST",
        &rounds,
    ));
    drop(pair);

    let size = effort.choose(64 << 20, 1 << 20);
    let download = std::iter::once_with(|| download(size));
    let mut pair = stage
        .pair(&kept, peer::Job::Forward, DOWNLOADS, download)
        .await;
    let rounds = stage.rounds(&mut pair, Work::Requests).await;
    table::print(&Row::per_mebibyte(
        "streamed download of 64 MiB, per MiB",
        &rounds,
    ));
    println!("{}", table::NOTES);
}

/// Shared state of all comparisons.
struct Stage<'a> {
    effort: Effort,
    cpus: &'a Cpus,
    site: &'a Site,
    dialer: Dialer,
}

impl Stage<'_> {
    /// nginx and the gateway in front of the same nodes, with the same requests.
    async fn pair(
        &self,
        nodes: &[Node],
        job: peer::Job,
        clients: usize,
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
            Lane::new(nginx, &self.dialer, clients, Arc::clone(&feed)).await,
            Lane::new(gateway, &self.dialer, clients, feed).await,
        ]
    }

    /// Alternates rounds of both servers, after one warm-up round of each.
    async fn rounds(&self, pair: &mut [Lane; 2], work: Work) -> Vec<[Round; 2]> {
        let (rounds, time) = self.effort.choose((24, 400), (1, 200));
        let time = Duration::from_millis(time);
        let [nginx, gateway] = pair;
        let mut all = Vec::new();
        for round in 0..=rounds {
            // The order alternates.
            let both = if round % 2 == 0 {
                let first = work.round(nginx, time).await;
                [first, work.round(gateway, time).await]
            } else {
                let first = work.round(gateway, time).await;
                [work.round(nginx, time).await, first]
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
    async fn round(self, lane: &mut Lane, time: Duration) -> Round {
        match self {
            Self::Connections => lane.round_of_connections(time).await,
            Self::Requests => lane.round(time).await,
        }
    }
}

/// A path that CC-FS does not have: forwarded for verified callers, and streamed.
fn download(size: u64) -> ClientRequest {
    let request = ClientRequest::get(&format!("https://{HOST}{DOWNLOAD}{size}")).unwrap();
    request
        .sign(&credential(0), "host", Timestamp::now())
        .unwrap()
}

const CLIENTS: usize = 48;

/// Concurrent downloads.
const DOWNLOADS: usize = 2;
