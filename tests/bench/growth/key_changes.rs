//! CPU of one access key that is added to a file of a directory with many others, beyond that of the same
//! time without a change.

use std::path::Path;
use std::time::Duration;

use ccfs_gateway::stand_in::certificates::write_private_file;

use crate::node::{Node, urls};
use crate::process::Server;
use crate::site::{Gateway, complete_accounts};
use crate::{Stage, grouped, row};

pub(crate) async fn measure(stage: &Stage) {
    let (keys, key_files) = stage.effort.choose((100_000, 100), (200, 10));
    let nodes = Node::start_many(&stage.site.leaf, 1).await;
    let gateway = Gateway {
        nodes: &urls(&nodes),
        keys,
        key_files,
        ..Gateway::default()
    };
    let file = stage.site.configure("key-changes", &gateway);
    let directory = stage.site.path("key-changes.keys.d");
    write(&directory.join("small.toml"), keys..keys + 10);
    let server = Server::gateway(&stage.cpus, &file);
    tokio::time::sleep(WINDOW).await;
    let per_file = keys / key_files;
    for (name, first, count) in [("00000.toml", 0, per_file), ("small.toml", keys, 10)] {
        let mut costs = Vec::new();
        for round in 0..stage.effort.choose(5, 1) {
            let idle = usage(&server).await;
            // The further access key is added and removed in turn.
            let further = (round + 1) % 2;
            let path = directory.join(name);
            let mut text = complete_accounts(first..first + count);
            text.push_str(&complete_accounts(2 * keys..2 * keys + further));
            write_private_file(&path, text.as_bytes()).unwrap();
            costs.push(usage(&server).await.saturating_sub(idle));
        }
        costs.sort_unstable();
        row(
            "CPU of one access key added or removed",
            &format!(
                "{} access keys, {} of them in its file",
                grouped(keys),
                grouped(count)
            ),
            &format!("{:.1} ms", costs[costs.len() / 2].as_secs_f64() * 1e3),
        );
    }
}

fn write(path: &Path, numbers: std::ops::Range<usize>) {
    write_private_file(path, complete_accounts(numbers).as_bytes()).unwrap();
}

/// The CPU time of a server during a time in which a change is found, settles and is taken.
async fn usage(server: &Server) -> Duration {
    let before = server.usage();
    tokio::time::sleep(WINDOW).await;
    server.usage().since(&before)
}

/// Two intervals of the watcher, so that both windows have the same number of looks.
const WINDOW: Duration = Duration::from_secs(10);
