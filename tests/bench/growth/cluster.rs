//! CPU time per forwarded request and of health checks by the number of nodes.

use std::time::Duration;

use crate::load::{Feed, Lane};
use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::{Gateway, recording};
use crate::{Stage, row};

pub(crate) async fn measure(stage: &Stage) {
    let cases = stage.effort.choose([1, 10, 500], [1, 2, 4]);
    let [.., most] = cases;
    let nodes = Node::start_expired(&stage.site.leaf, most).await;
    let mut lanes = Vec::new();
    for number in cases {
        lanes.push(lane(stage, &nodes[..number]).await);
    }
    let best = stage.best(&mut lanes).await;
    drop(lanes);
    for (number, cost) in cases.into_iter().zip(best) {
        row(
            "CPU per forwarded request",
            &with(number),
            &format!("{cost:.1} µs"),
        );
    }
    for number in &cases[..2] {
        let number = *number;
        let cost = checks(stage, &nodes[..number]).await;
        row(
            "CPU of health checks, one per second and node",
            &with(number),
            &format!("{:.2} % of a core", cost * 100.0),
        );
    }
}

fn with(nodes: usize) -> String {
    match nodes {
        1 => "1 node".to_owned(),
        number => format!("{number} nodes"),
    }
}

/// The responses cannot be cached, so that every request is forwarded.
async fn lane(stage: &Stage, nodes: &[Node]) -> Lane {
    let gateway = Gateway {
        nodes: &urls(nodes),
        cluster: "health_check = { enabled = false }\npool = { idle_timeout = \"10m\" }",
        limits: "idle_timeout = \"10m\"",
        ..Gateway::default()
    };
    let file = stage.site.configure("cluster", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let calls = (0..1_000).map(|call| recording(0, &format!("16377-{call}")));
    let mut lane = Lane::new(server, &stage.dialer, CLIENTS, Feed::new(calls)).await;
    lane.must_say(FORWARDED).await;
    lane
}

/// The share of a CPU that a gateway without load uses for health checks.
async fn checks(stage: &Stage, nodes: &[Node]) -> f64 {
    let gateway = Gateway {
        nodes: &urls(nodes),
        cluster: "",
        ..Gateway::default()
    };
    let file = stage.site.configure("checks", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let (before, window) = stage.effort.choose((3, 4), (1, 1));
    tokio::time::sleep(Duration::from_secs(before)).await;
    let before = server.usage();
    tokio::time::sleep(Duration::from_secs(window)).await;
    server.usage().since(&before).as_secs_f64() / window as f64
}

/// The cache status of a forwarded response that is not stored.
const FORWARDED: &str = "ccfs-gateway; fwd=uri-miss\r\n";

const CLIENTS: usize = 48;
