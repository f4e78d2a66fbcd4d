//! Hundreds of nodes in many clusters: health checks and `/metrics`.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::Gateway;
use crate::{Stage, grouped, row};

pub(crate) async fn measure(stage: &Stage) {
    let (clusters, nodes_each) = stage.effort.choose((50, 10), (2, 2));
    let nodes = Node::start_many(&stage.site.leaf, clusters * nodes_each).await;
    let with = format!("{} nodes in {clusters} clusters", nodes.len());
    let urls = urls(&nodes);
    let mut tables = String::new();
    for (number, urls) in urls.chunks(nodes_each).enumerate().skip(1) {
        writeln!(
            tables,
            "[clusters.c{number:02}]\nnodes = {urls:?}\ntls = {{ ca = \"ca.pem\" }}"
        )
        .unwrap();
    }
    let admin = free_address();
    let gateway = Gateway {
        nodes: &urls[..nodes_each],
        cluster: "",
        tables: &tables,
        admin: &admin.to_string(),
        ..Gateway::default()
    };
    let file = stage.site.configure("many-nodes", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let (before, window) = stage.effort.choose((8, 10), (1, 1));
    tokio::time::sleep(Duration::from_secs(before)).await;
    let usage = server.usage();
    tokio::time::sleep(Duration::from_secs(window)).await;
    let cost = server.usage().since(&usage).as_secs_f64() / window as f64;
    let cost = format!("{:.2} % of a core", cost * 100.0);
    row(
        "CPU of health checks, one per second and node",
        &with,
        &cost,
    );

    let (mut bytes, mut best) = (0, Duration::MAX);
    for _ in 0..10 {
        let started = Instant::now();
        bytes = metrics(admin).await;
        best = best.min(started.elapsed());
    }
    let size = format!(
        "{} KiB in {:.1} ms",
        grouped(bytes / 1024),
        best.as_secs_f64() * 1e3
    );
    row("one scrape of /metrics", &with, &size);
}

/// An address that was free just now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Returns the length of the response.
async fn metrics(admin: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200"));
    response.len()
}
