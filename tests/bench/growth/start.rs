//! Time from process start to the first response, by the number of access keys.

use std::time::{Duration, Instant};

use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::{Gateway, recording, wire};
use crate::{Stage, grouped, row};

pub(crate) async fn measure(stage: &Stage) {
    let cases = stage
        .effort
        .choose([10, 1_000, 10_000, 100_000], [10, 20, 50, 100]);
    let rounds = stage.effort.choose(5, 1);
    let nodes = Node::start_many(&stage.site.leaf, 1).await;
    let files = cases.map(|keys| {
        let gateway = Gateway {
            nodes: &urls(&nodes),
            keys,
            ..Gateway::default()
        };
        stage.site.configure(&format!("start-{keys}"), &gateway)
    });
    let request = wire(&recording(0, "1637742300-27"));
    let mut best = [Duration::MAX; 4];
    for _ in 0..rounds {
        for (file, best) in files.iter().zip(&mut best) {
            let began = Instant::now();
            let server = Server::gateway(&stage.cpus, file);
            let mut client = stage.dialer.connect(server.address).await.unwrap();
            client.exchange(&request).await.unwrap();
            *best = (*best).min(began.elapsed());
        }
    }
    for (keys, best) in cases.into_iter().zip(best) {
        row(
            "start to the first response",
            &format!("{} access keys", grouped(keys)),
            &format!("{:.0} ms", best.as_secs_f64() * 1e3),
        );
    }
    directory(stage, &nodes, &request).await;
}

/// Complete accounts, each with a zone and a rate, in the files of a directory.
async fn directory(stage: &Stage, nodes: &[Node], request: &[u8]) {
    let cases = stage
        .effort
        .choose([(10_000, 10), (100_000, 100)], [(100, 10), (200, 10)]);
    let rounds = stage.effort.choose(5, 1);
    for (keys, key_files) in cases {
        let gateway = Gateway {
            nodes: &urls(nodes),
            keys,
            key_files,
            ..Gateway::default()
        };
        let file = stage.site.configure(&format!("start-dir-{keys}"), &gateway);
        let (mut best, mut memory) = (Duration::MAX, u64::MAX);
        for round in 0..rounds {
            let began = Instant::now();
            let server = Server::gateway_on_all_cpus(&stage.cpus, &file);
            let mut client = stage.dialer.connect(server.address).await.unwrap();
            client.exchange(request).await.unwrap();
            best = best.min(began.elapsed());
            if round == 0 {
                memory = server.settled().await;
            }
        }
        let with = format!(
            "{} complete access keys in {} files, two CPUs",
            grouped(keys),
            grouped(key_files)
        );
        let start = format!("{:.0} ms", best.as_secs_f64() * 1e3);
        row("start to the first response", &with, &start);
        let few = few_keys(stage, nodes).await;
        let per_key = memory.saturating_sub(few) as f64 / keys as f64;
        row(
            "memory per access key",
            &with,
            &format!("{per_key:.0} bytes"),
        );
    }
}

/// The memory of a gateway with hardly any access keys.
async fn few_keys(stage: &Stage, nodes: &[Node]) -> u64 {
    let gateway = Gateway {
        nodes: &urls(nodes),
        ..Gateway::default()
    };
    let file = stage.site.configure("start-few", &gateway);
    let server = Server::gateway_on_all_cpus(&stage.cpus, &file);
    server.settled().await
}
