//! A reload that replaces the secrets of 10,000 access keys, all of which have cached responses: the
//! CPU that it takes, how much of it on the main thread, and what a request waits meanwhile.

use std::time::{Duration, Instant};

use crate::load::{Connection, Feed, Lane};
use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::{Gateway, recording, wire};
use crate::{Stage, grouped, row};

pub(crate) async fn measure(stage: &Stage) {
    let (keys, entries) = stage.effort.choose((10_000, 50_000), (20, 100));
    let nodes = Node::start_many(&stage.site.leaf, 2).await;
    let gateway = Gateway {
        nodes: &urls(&nodes),
        // The last one keeps its secret.
        keys: keys + 1,
        cache: "1GiB",
        limits: "idle_timeout = \"10m\"",
        ..Gateway::default()
    };
    let file = stage.site.configure("rotation", &gateway);
    let server = Server::gateway(&stage.cpus, &file);
    let requests = (0..entries).map(|n| recording(n % keys, &format!("16377-{n}")));
    let mut lane = Lane::new(server, &stage.dialer, CLIENTS, Feed::new(requests)).await;
    lane.once().await;
    lane.must_say("ccfs-gateway; hit").await;

    let bystander = wire(&recording(keys, "16377-0"));
    let mut connection = stage.dialer.connect(lane.server.address).await.unwrap();
    connection.exchange(&bystander).await.unwrap();
    let quiet = slowest(&mut connection, &bystander, QUIET).await;

    stage.site.rotate(&file, keys);
    let (before, main_before) = (lane.server.usage(), lane.server.main_thread());
    lane.server.reload();
    let busy = slowest(&mut connection, &bystander, QUIET).await;
    let cpu = lane.server.usage().since(&before);
    let main = lane.server.main_thread().saturating_sub(main_before);
    let idle = load_alone(&lane.server, &mut connection, &bystander).await;
    // The old secrets are no longer valid: the new generation is in force.
    assert!(
        connection
            .exchange(&wire(&recording(0, "16377-0")))
            .await
            .is_err()
    );

    let with = format!(
        "{} access keys rotated, {} cached responses",
        grouped(keys),
        grouped(entries)
    );
    let milliseconds = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    row(
        "CPU of a reload",
        &with,
        &milliseconds(cpu.saturating_sub(idle)),
    );
    row("of it on the main thread", &with, &milliseconds(main));
    row(
        "slowest request meanwhile",
        &with,
        &format!(
            "{} ({} without a reload)",
            milliseconds(busy),
            milliseconds(quiet)
        ),
    );
}

/// The slowest of the requests that are sent one after the other, with a pause, for so long.
async fn slowest(connection: &mut Connection, request: &[u8], time: Duration) -> Duration {
    let end = Instant::now() + time;
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        let began = Instant::now();
        connection.exchange(request).await.unwrap();
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    slowest
}

/// The CPU of the same load without a reload.
async fn load_alone(server: &Server, connection: &mut Connection, request: &[u8]) -> Duration {
    let before = server.usage();
    slowest(connection, request, QUIET).await;
    server.usage().since(&before)
}

/// Long enough for the reload and the pass over the cache to end.
const QUIET: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(1);

const CLIENTS: usize = 48;
