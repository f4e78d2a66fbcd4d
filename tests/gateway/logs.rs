//! §8: no log keeps the gateway from serving, reloading or ending, whatever happens to its reader.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::page;
use crate::process::{PROGRAM, Process, Reader};
use crate::support::{Setup, eventually, read};

/// Far below the time after which a client gives up, far above the bounds of the shutdown.
const SOON: Duration = Duration::from_secs(8);

/// Lines of the access log that fill any pipe (64 KiB).
const MANY: usize = 300;

fn setup(telemetry: &str) -> Setup {
    Setup {
        tables: format!("[telemetry]\nlog_level = \"info\"\n{telemetry}"),
        ..Setup::default()
    }
}

/// Answers requests, probes, purges and reloads.
async fn assert_serves(process: &Process) {
    for number in 0..MANY {
        let response = process.get_recording("log-1").await;
        assert_eq!(response.status, 200, "request {number}");
    }
    for _ in 0..MANY {
        assert_eq!(
            page::post(process.admin, "/cache/purge?ak=none")
                .await
                .status,
            200
        );
    }
    for _ in 0..2 {
        assert_eq!(page::post(process.admin, "/reload").await.status, 200);
        assert_eq!(page::get(process.admin, "/livez").await.status, 200);
        assert_eq!(process.get_recording("log-2").await.status, 200);
    }
}

async fn assert_ends(process: &mut Process) {
    let begun = Instant::now();
    process.signal("TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

async fn lines(process: &Process, result: &str) -> f64 {
    let sample = format!("access_log_lines_total{{result=\"{result}\"}}");
    page::metric(process.admin, &sample).await
}

#[tokio::test]
async fn a_reader_of_stderr_that_stalls_or_leaves_stops_nothing() {
    for reader in [Reader::Stalls, Reader::Leaves] {
        let setup = setup("access_log = \"stderr\"\n[server]\ngrace = \"1s\"");
        let mut process = Process::start_reading(&setup, reader).await;
        assert_serves(&process).await;
        assert_ends(&mut process).await;
    }
}

#[tokio::test]
async fn lost_diagnostics_are_counted() {
    let setup = setup("access_log = \"off\"");
    let process = Process::start_reading(&setup, Reader::Leaves).await;
    page::post(process.admin, "/cache/purge").await;
    eventually("they are counted", async || {
        let sample = "diagnostics_lines_total{result=\"dropped\"}";
        page::metric(process.admin, sample).await >= 1.0
    })
    .await;
    let written = "diagnostics_lines_total{result=\"written\"}";
    assert!(page::metric(process.admin, written).await >= 1.0);
}

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("access.fifo");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

#[tokio::test]
async fn a_disk_that_hangs_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    // Open for both: the writer can open it, nothing is ever read.
    let reader = OpenOptions::new().read(true).write(true).open(&path);
    let reader = reader.unwrap();
    let mut process = Process::start(&setup(&format!("access_log = {path:?}"))).await;
    assert_serves(&process).await;
    process.signal("USR1");
    assert_eq!(process.get_recording("log-3").await.status, 200);
    assert_ends(&mut process).await;
    let text = process.diagnostics();
    assert!(text.contains("does not accept its last lines"), "{text}");
    drop(reader);
}

#[tokio::test]
async fn a_log_that_does_not_open_is_a_reason_not_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let site = setup(&format!("access_log = {path:?}")).prepare().await;
    let arguments = ["run", "--config", site.file.to_str().unwrap()];
    let output = crate::process::run_command(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("access log") && text.contains("FIFO"),
        "{text}"
    );
}

#[tokio::test]
async fn lines_that_a_full_disk_refuses_are_dropped_and_reported_once_a_minute() {
    let mut process = Process::start(&setup("access_log = \"/dev/full\"")).await;
    assert_serves(&process).await;
    let requests = (MANY + 2) as f64;
    eventually("all are dropped", async || {
        lines(&process, "dropped").await == requests
    })
    .await;
    assert_eq!(lines(&process, "written").await, 0.0);
    let text = process.diagnostics();
    assert_eq!(text.matches("cannot be written").count(), 1, "{text}");
    assert_ends(&mut process).await;
}

#[test]
fn an_early_error_does_not_wait_for_a_full_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'x'; 1 << 16]).unwrap();
    std::fs::write(folder.path().join("wrong.toml"), "nonsense = true").unwrap();
    let begun = Instant::now();
    let status = Command::new(PROGRAM)
        .args(["run", "--config", "wrong.toml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(78));
    assert!(begun.elapsed() < SOON);
    drop(reader);
}

#[tokio::test]
async fn diagnostics_are_json_where_stderr_is_no_terminal() {
    // An empty `log_format` is none: the helper of the tests adds no other.
    let setup = setup("access_log = \"stderr\"\n# log_format");
    let mut process = Process::start(&setup).await;
    assert_eq!(process.get_recording("log-1").await.status, 200);
    let text = read(&process.site.file);
    std::fs::write(&process.site.file, format!("{text}\nnonsense = \"a\nb\"\n")).unwrap();
    assert_eq!(page::post(process.admin, "/reload").await.status, 409);
    assert_ends(&mut process).await;
    eventually("the last line", async || {
        process.diagnostics().contains("shutdown complete")
    })
    .await;
    let text = process.diagnostics();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let diagnostics: Vec<_> = lines
        .iter()
        .filter(|line| line.get("level").is_some())
        .collect();
    assert_eq!(lines.len(), diagnostics.len() + 1, "one access-log line");
    for line in &diagnostics {
        assert!(
            line["time"].is_string() && line["message"].is_string(),
            "{line}"
        );
        assert!(
            line["target"].as_str().unwrap().starts_with("ccfs_gateway"),
            "{line}"
        );
    }
    let refused = diagnostics.iter().find(|line| line["level"] == "ERROR");
    let message = refused.unwrap()["message"].as_str().unwrap();
    assert!(
        message.contains("is rejected") && message.contains('\n'),
        "{message}"
    );
}

#[tokio::test]
async fn characters_that_fool_a_terminal_are_escaped_in_the_access_log() {
    let process = Process::start(&setup("access_log = \"access.log\"")).await;
    let agent = "a\u{85}b\u{9b}c\u{2028}d\u{202e}e\u{2066}f 北京";
    let mut request = process.recording("log-1");
    let value = http::HeaderValue::from_bytes(agent.as_bytes()).unwrap();
    request.headers.insert(http::header::USER_AGENT, value);
    let request = crate::support::signed(request, crate::support::SHANGHAI);
    assert_eq!(process.client.send(&request).await.unwrap().status, 200);
    let file = process.site.folder.path().join("access.log");
    eventually("the line", async || read(&file).lines().count() == 1).await;
    let line = read(&file);
    let line = line.trim_end();
    let raw = line
        .chars()
        .filter(|&c| c.is_control() || agent.contains(c) && !c.is_ascii());
    assert_eq!(raw.collect::<String>(), "北京", "{line:?}");
    assert!(line.contains("\\u202e") && line.contains("北京"), "{line}");
    let json: Value = serde_json::from_str(line).unwrap();
    assert_eq!(json["user_agent.original"], agent);
}
