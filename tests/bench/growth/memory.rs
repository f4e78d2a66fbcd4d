//! Memory per idle connection and per cached response.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::load::{Connection, Feed, Lane};
use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::{Gateway, recording, wire};
use crate::{Stage, grouped, row};

/// Measures idle connections that have served one request each.
pub(crate) async fn connections(stage: &Stage) {
    let number = descriptors(stage.effort.choose(2_000, 100));
    let nodes = Node::start_many(&stage.site.leaf, 1).await;
    let gateway = Gateway {
        nodes: &urls(&nodes),
        limits: "idle_timeout = \"10m\"\nmax_connections_per_address = 10000",
        ..Gateway::default()
    };
    let file = stage.site.configure("connections", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let request = wire(&recording(0, "1637742300-27"));
    let _warm = used(stage, &server, WARM, &request).await;
    let before = server.settled().await;
    let _idle = used(stage, &server, number, &request).await;
    let grown = server.settled().await.saturating_sub(before);
    row(
        "memory per idle TLS connection",
        &format!("{} connections, HTTP/1.1", grouped(number)),
        &format!("{:.1} KiB", grown as f64 / number as f64 / 1024.0),
    );
}

async fn used(stage: &Stage, server: &Server, number: usize, request: &[u8]) -> Vec<Connection> {
    let mut connections = Vec::with_capacity(number);
    for _ in 0..number {
        let mut connection = stage.dialer.connect(server.address).await.unwrap();
        connection.exchange(request).await.unwrap();
        connections.push(connection);
    }
    connections
}

/// Measures responses of about 500 bytes.
pub(crate) async fn entries(stage: &Stage) {
    let number = stage.effort.choose(50_000, 500);
    let nodes = Node::start_many(&stage.site.leaf, 2).await;
    let gateway = Gateway {
        nodes: &urls(&nodes),
        cache: "1GiB",
        limits: "idle_timeout = \"10m\"",
        ..Gateway::default()
    };
    let file = stage.site.configure("entries", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let ask = |account: usize| move |call: usize| recording(account, &format!("16377-{call}"));
    let warm = Feed::new((0..number / 10).map(ask(0)));
    let mut lane = Lane::new(server, &stage.dialer, 32, warm).await;
    lane.once().await;
    let before = lane.server.settled().await;
    lane.feed(Feed::new((0..number).map(ask(1))));
    lane.once().await;
    lane.must_say("ccfs-gateway; hit").await;
    let grown = lane.server.settled().await.saturating_sub(before);
    row(
        "memory per cached response",
        &format!("{} responses of 500 bytes", grouped(number)),
        &format!("{:.0} bytes", grown as f64 / number as f64),
    );
}

/// The number of connections that the descriptor limit allows, at most `wanted`.
fn descriptors(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let most = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    wanted.min(most.saturating_sub(200))
}

/// Connections before the measurement, after which code and tables are in memory.
const WARM: usize = 50;
