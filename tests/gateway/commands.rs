//! Commands as processes (§1): output streams and exit codes.

use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::process::run_command;
use crate::support::{SHANGHAI, Setup, read, secret};

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("exited by itself")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn folder_with_secret() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sk"), secret(SHANGHAI) + "\n").unwrap();
    std::fs::write(folder.path().join("body"), r#"{"callId":"1"}"#).unwrap();
    folder
}

// ---- Usage ----------------------------------------------------------------------------------------

#[test]
fn bad_usage_is_2_with_a_message_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["serve"],
        &["run"],
        &["run", "--config"],
        &["check", "--config", "x", "--nonsense"],
        &["sign", "--ak", "a"],
        &["call"],
        &[
            "call",
            "http://127.0.0.1:1",
            "--ak",
            "a",
            "--sk-file",
            "f",
            "--path",
            "/",
        ],
        &["stand-in", "--bind", "nowhere"],
        &["demo", "--port", "x"],
    ] {
        let output = run_command(folder.path(), arguments);
        assert_eq!(
            (code(&output), out(&output)),
            (2, String::new()),
            "{arguments:?}"
        );
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_is_on_stdout_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let commands = [
        "run", "check", "demo", "call", "sign", "verify", "explain", "stand-in", "schema",
    ];
    for name in commands {
        let output = run_command(folder.path(), &[name, "--help"]);
        assert_eq!(code(&output), 0, "{name}");
        assert!(
            out(&output).contains("Examples:"),
            "{name}:\n{}",
            out(&output)
        );
        assert_eq!(err(&output), "", "{name}");
    }
    let output = run_command(folder.path(), &["--help"]);
    assert!(commands.iter().all(|name| out(&output).contains(name)));
    let version = run_command(folder.path(), &["--version"]);
    assert_eq!(
        out(&version).trim(),
        concat!("ccfs-gateway ", env!("CARGO_PKG_VERSION"))
    );
}

// ---- Configuration --------------------------------------------------------------------------------

#[tokio::test]
async fn a_valid_configuration_is_summarized() {
    let site = Setup::default().prepare().await;
    let output = run_command(site.folder.path(), &["check", "--config", "gateway.toml"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("ccfs") && !out(&output).contains("SECRET"));
}

#[tokio::test]
async fn an_invalid_configuration_is_78_with_every_mistake_at_once() {
    let setup = Setup {
        shanghai: "time_zome = \"x\"".to_owned(),
        berlin: "rate_limit = { per_second = -1 }".to_owned(),
        tables: "[cache]\nmax_size = \"much\"".to_owned(),
        ..Setup::default()
    };
    let site = setup.prepare().await;
    let folder = site.folder.path();
    let run = run_command(folder, &["run", "--config", "gateway.toml"]);
    let check = run_command(folder, &["check", "--config", "gateway.toml"]);
    for output in [&run, &check] {
        assert_eq!((code(output), out(output)), (78, String::new()));
        let text = err(output);
        let line = |text: &str| {
            let text = read(&site.file)
                .lines()
                .position(|line| line.contains(text));
            format!("gateway.toml:{}:", text.unwrap() + 1)
        };
        for place in [line("time_zome"), line("per_second = -1"), line("\"much\"")] {
            assert!(text.contains(&place), "{place} in\n{text}");
        }
        assert!(text.contains("time_zone"), "did you mean:\n{text}");
        assert!(text.contains('^'), "{text}");
    }
}

#[test]
fn a_missing_configuration_is_78() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["run", "check"] {
        let output = run_command(folder.path(), &[name, "--config", "nowhere.toml"]);
        assert_eq!((code(&output), out(&output)), (78, String::new()), "{name}");
        assert!(err(&output).contains("nowhere.toml"), "{}", err(&output));
    }
    let output = run_command(folder.path(), &["check", "--config", "."]);
    assert_eq!(code(&output), 78, "a directory");
}

#[test]
fn the_schema_is_json() {
    let output = run_command(Path::new("."), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(code(&output), 0);
    assert!(schema["properties"]["listeners"].is_object());
}
