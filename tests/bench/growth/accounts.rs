//! CPU time per cache hit by the number of configured and of active access keys.

use crate::load::{Feed, Lane};
use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::{Gateway, recording};
use crate::{Stage, grouped, row};

pub(crate) async fn measure(stage: &Stage) {
    let cases = stage.effort.choose(
        [(10, 10), (1_000, 1_000), (100_000, 10), (100_000, 10_000)],
        [(10, 10), (100, 100), (1_000, 10), (1_000, 1_000)],
    );
    let nodes = Node::start_many(&stage.site.leaf, 2).await;
    let mut lanes = Vec::new();
    for (configured, asking) in cases {
        lanes.push(lane(stage, &nodes, configured, asking).await);
    }
    let best = stage.best(&mut lanes).await;
    for ((configured, asking), cost) in cases.into_iter().zip(best) {
        let (configured, asking) = (grouped(configured), grouped(asking));
        row(
            "CPU per cache hit",
            &format!("{configured} access keys, {asking} of them active in turn"),
            &format!("{cost:.1} µs"),
        );
    }
}

/// Every active account has one cached response.
async fn lane(stage: &Stage, nodes: &[Node], configured: usize, asking: usize) -> Lane {
    let gateway = Gateway {
        nodes: &urls(nodes),
        keys: configured,
        limits: "idle_timeout = \"10m\"",
        ..Gateway::default()
    };
    let file = stage.site.configure("accounts", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let feed = Feed::new((0..asking).map(|account| recording(account, "1637742300-27")));
    let mut lane = Lane::new(server, &stage.dialer, CLIENTS, feed).await;
    lane.once().await;
    lane.must_say("ccfs-gateway; hit").await;
    lane
}

const CLIENTS: usize = 48;
