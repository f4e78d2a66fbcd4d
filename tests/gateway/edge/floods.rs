//! HTTP/2 floods frame by frame: each ends its connection or stays harmless, and other clients are
//! unaffected.

use std::time::Duration;

use crate::edge::{Bystander, assert_healthy, valid_request, with_short_timeouts};
use crate::hostile::{FLOODS, GOAWAY, Target, flood};
use crate::page;
use crate::process::Process;
use crate::support::{Setup, TestEnv, eventually};

/// Floods that end the connection.
const DEADLY: &[&str] = &[
    "rapid reset",
    "made you reset",
    "CONTINUATION",
    "empty CONTINUATION",
    "requests with a zero response window",
];

#[tokio::test]
async fn each_flood_is_ended_or_tolerated() {
    let env = with_short_timeouts("max_connection_age = \"3s\"").await;
    for (name, _) in FLOODS {
        let bystander = Bystander::start(&env);
        let mut connection = flood(&env.target(), name, 2_000).await;
        if DEADLY.contains(name) {
            let goodbye = connection.frame(GOAWAY, 0).await;
            println!("{name}: {goodbye:?}");
        }
        connection.time_until_closed().await;
        bystander.assert_served(name).await;
    }
    assert_healthy(&env).await;
}

#[tokio::test]
async fn many_concurrent_floods_are_tolerated() {
    let env: TestEnv = with_short_timeouts("").await;
    let bystander = Bystander::start(&env);
    let mut floods = Vec::new();
    for (name, _) in FLOODS {
        let target = env.target();
        floods.push(tokio::spawn(
            async move { flood(&target, name, 1_000).await },
        ));
    }
    for flood in floods {
        drop(flood.await.unwrap());
    }
    bystander.assert_served("all floods concurrently").await;
    assert_healthy(&env).await;
}

/// Floods that end their connection before any timeout.
const ENDED: &[&str] = &[
    "rapid reset",
    "made you reset",
    "CONTINUATION",
    "empty CONTINUATION",
    "RST_STREAM",
    "empty DATA",
    "DATA of one byte",
    "PING",
    "SETTINGS",
    "empty SETTINGS",
    "unsolicited SETTINGS acknowledgements",
    "WINDOW_UPDATE",
    "PRIORITY",
    "frames of an unknown type",
];

/// A gateway process without access log.
async fn start() -> (Process, Target) {
    let gateway = Process::start(&Setup {
        tables: "[telemetry]\nlog_level = \"info\"\naccess_log = \"off\"".into(),
        ..Setup::default()
    })
    .await;
    let target = Target::new(gateway.listener, &gateway.site.folder.path().join("ca.pem"));
    (gateway, target)
}

#[tokio::test]
async fn each_flood_is_ended_immediately_and_counted_and_costs_no_memory() {
    let (gateway, target) = start().await;
    // This connection stays open during all floods.
    let mut neighbour = target.connect().await;
    let mut resident = 0;
    for round in 0..3 {
        for name in ENDED {
            let before = ended(&gateway, FLOOD).await;
            let mut floods = tokio::task::JoinSet::new();
            for _ in 0..CONNECTIONS {
                let target = target.clone();
                floods.spawn(
                    async move { flood(&target, name, 4_000).await.time_until_closed().await },
                );
            }
            while let Some(took) = floods.join_next().await {
                let took = took.unwrap();
                assert!(took < Duration::from_secs(5), "{name}: {took:?}");
                neighbour.send(&valid_request("1-1")).await;
                let response = neighbour
                    .response()
                    .await
                    .unwrap_or_else(|| panic!("{name}"));
                assert_eq!(response.status, 200, "{name}");
            }
            // A connection is counted after its client has seen the end.
            eventually(name, async || {
                ended(&gateway, FLOOD).await - before == CONNECTIONS
            })
            .await;
        }
        if round == 0 {
            resident = gateway.resident();
        }
    }
    let grown = gateway.resident().saturating_sub(resident);
    println!("grown by {} KiB from {} KiB", grown >> 10, resident >> 10);
    assert!(grown < 8 << 20, "{grown} bytes");
    assert_eq!(ended(&gateway, &["panic"]).await, 0);
}

/// Floods that no rule ends are bounded by what one connection may hold.
#[tokio::test]
async fn tolerated_floods_cost_no_memory() {
    let (gateway, target) = start().await;
    let mut resident = 0;
    for round in 0..4 {
        for (name, _) in FLOODS.iter().filter(|(name, _)| !ENDED.contains(name)) {
            let mut floods = tokio::task::JoinSet::new();
            for _ in 0..CONNECTIONS {
                let target = target.clone();
                floods.spawn(async move { flood(&target, name, 500).await });
            }
            // All connections are open at once, then all are closed.
            floods.join_all().await;
        }
        if round == 0 {
            resident = gateway.resident();
        }
    }
    let grown = gateway.resident().saturating_sub(resident);
    println!("grown by {} KiB from {} KiB", grown >> 10, resident >> 10);
    assert!(resident < 128 << 20, "{resident} bytes");
    assert!(grown < 8 << 20, "{grown} bytes");
}

/// Connections that the gateway ended for one of these reasons.
async fn ended(gateway: &Process, reasons: &[&str]) -> u64 {
    let metrics = page::get(gateway.admin, "/metrics").await.body;
    let counters = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("ccfs_gateway_connections_ended_total{reason=\""))
        .filter_map(|line| line.split_once("\"} "));
    counters
        .filter(|(reason, _)| reasons.contains(reason))
        .map(|(_, count)| count.parse::<u64>().unwrap())
        .sum()
}

/// Reasons for a flood: detected by h2, or by the gateway's own budget.
const FLOOD: &[&str] = &["protocol", "control_flood"];

/// Concurrent floods of one kind.
const CONNECTIONS: u64 = 4;
