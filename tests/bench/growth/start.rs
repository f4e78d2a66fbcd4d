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
}
