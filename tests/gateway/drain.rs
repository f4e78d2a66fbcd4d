//! Shutdown and drain (§8), with real processes and real signals.

use std::net::SocketAddr;
use std::time::Duration;

use ccfs_gateway::stand_in::{Fault, When};
use tokio::net::TcpStream;

use crate::page;
use crate::process::{Process, run_command};
use crate::support::{SHANGHAI, Setup, TestEnv, client_trusting, eventually, signed};

const LONG: Duration = Duration::from_secs(10);

fn setup(server: &str) -> Setup {
    Setup {
        tables: format!(
            "[server]\n{server}\n[telemetry]\nlog_level = \"info\"\naccess_log = \"access.log\""
        ),
        ..Setup::default()
    }
}

/// Sends one request that the node holds, on a connection of its own.
async fn hold_one(process: &Process) -> tokio::task::JoinHandle<Option<(u16, Option<String>)>> {
    process.site.nodes[0]
        .faults()
        .inject(Fault::Hold, When::Always);
    let client = client_trusting(process.site.folder.path());
    let request = signed(process.recording("held-1"), SHANGHAI);
    let held = tokio::spawn(async move {
        let response = client.send(&request).await.ok()?;
        let connection = response.header("connection").map(str::to_owned);
        Some((response.status.as_u16(), connection))
    });
    let node = &process.site.nodes[0];
    assert!(
        node.wait_for_requests("getRecordFileUrlFromObs", 1, LONG)
            .await
    );
    held
}

async fn ready(admin: SocketAddr) -> u16 {
    page::get(admin, "/readyz").await.status
}

#[tokio::test]
async fn a_signal_drains_without_losing_requests() {
    for signal in ["TERM", "INT"] {
        let mut process = Process::start(&setup("drain_delay = \"2s\"")).await;
        assert_eq!(
            process.get_recording("kept-1").await.header("connection"),
            None
        );
        let held = hold_one(&process).await;
        process.signal(signal);
        eventually("it is not ready", async || {
            ready(process.admin).await == 503
        })
        .await;
        // Still served on existing and new connections, with `Connection: close`.
        let kept = process.get_recording("kept-1").await;
        assert_eq!(
            (kept.status.as_u16(), kept.header("connection")),
            (200, Some("close"))
        );
        let new = process.get_recording("kept-1").await;
        assert_eq!(
            (new.status.as_u16(), new.header("connection")),
            (200, Some("close"))
        );
        assert_eq!(page::get(process.admin, "/livez").await.status, 200);
        eventually("the port is closed", async || {
            TcpStream::connect(process.listener).await.is_err()
        })
        .await;
        assert!(process.is_running());
        process.site.nodes[0].faults().clear();
        assert_eq!(held.await.unwrap(), Some((200, Some("close".to_owned()))));
        assert_eq!(process.wait_for_exit().await.code(), Some(0));
        let log = process.site.folder.path().join("access.log");
        assert_eq!(
            crate::support::read(&log).lines().count(),
            4,
            "no line is lost"
        );
    }
}

#[tokio::test]
async fn a_drain_command_drains_like_a_signal() {
    let mut process = Process::start(&setup("drain_delay = \"0s\"")).await;
    let held = hold_one(&process).await;
    let page = page::post(process.admin, "/drain").await;
    assert!((200..300).contains(&page.status));
    eventually("it is not ready", async || {
        ready(process.admin).await == 503
    })
    .await;
    process.site.nodes[0].faults().clear();
    assert_eq!(held.await.unwrap().map(|(status, _)| status), Some(200));
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_exit() {
    let mut process = Process::start(&setup("grace = \"30s\"")).await;
    process.get_recording("idle-1").await;
    let http2 = client_trusting(process.site.folder.path())
        .http2_only()
        .with_idle_connections(1);
    let request = signed(process.recording("idle-1"), SHANGHAI);
    assert_eq!(http2.send(&request).await.unwrap().status, 200);
    process.signal("TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_exits_immediately() {
    let mut process = Process::start(&setup("grace = \"10m\"")).await;
    let held = hold_one(&process).await;
    process.signal("TERM");
    eventually("it is not ready", async || {
        ready(process.admin).await == 503
    })
    .await;
    assert!(process.is_running());
    process.signal("TERM");
    process.wait_for_exit().await;
    assert_eq!(held.await.unwrap(), None);
}

#[tokio::test]
async fn requests_in_flight_have_at_most_the_grace_period() {
    let mut process = Process::start(&setup("grace = \"200ms\"")).await;
    let held = hold_one(&process).await;
    process.signal("TERM");
    process.wait_for_exit().await;
    assert_eq!(held.await.unwrap(), None);
    let text = process.diagnostics();
    let line = text.lines().find(|line| line.contains("drain timed out"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains("WARN") && line.contains("connections=1"),
        "{line}"
    );
}

#[tokio::test]
async fn a_second_instance_fails_with_a_message() {
    let process = Process::start(&setup("")).await;
    let folder = process.site.folder.path();
    let text = crate::support::read(&process.site.file);
    let taken = format!("bind = \"{}\"\ncluster", process.listener);
    let second = text.replace("bind = \"127.0.0.1:0\"\ncluster", &taken);
    assert_ne!(text, second);
    std::fs::write(folder.join("second.toml"), second).unwrap();
    let output = run_command(folder, &["run", "--config", "second.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&process.listener.to_string()), "{text}");
    assert!(
        text.contains("ccfs") && text.to_lowercase().contains("in use"),
        "{text}"
    );
    assert_eq!(
        process.get_recording("first-1").await.status,
        200,
        "the first one keeps serving"
    );
}

#[tokio::test]
async fn the_access_log_is_reopened_on_request() {
    let process = Process::start(&setup("")).await;
    let folder = process.site.folder.path();
    let (log, rotated) = (folder.join("access.log"), folder.join("access.log.1"));
    let lines = |path: &std::path::Path| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .count()
    };
    process.get_recording("rotate-1").await;
    eventually("the first line", async || lines(&log) == 1).await;
    std::fs::rename(&log, &rotated).unwrap();
    process.signal("USR1");
    eventually("the new file", async || log.exists()).await;
    process.get_recording("rotate-2").await;
    eventually("the second line", async || lines(&log) == 1).await;
    assert_eq!(lines(&rotated), 1);
}

/// A drain may begin at any moment of a connection's lifetime, also directly after a response.
#[tokio::test]
async fn no_kept_alive_connection_misses_the_drain() {
    for _ in 0..10 {
        let mut env = TestEnv::start().await;
        let client = client_trusting(&env.file("")).with_idle_connections(1);
        let request = signed(env.recording("kept-1"), SHANGHAI);
        assert_eq!(client.send(&request).await.unwrap().status, 200);
        let end = tokio::time::timeout(LONG / 2, env.shut_down()).await;
        assert!(end.expect("it exits immediately").complete);
    }
}
