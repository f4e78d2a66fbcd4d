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
        &["run", "--config"],
        &["run", "--config", "a", "b"],
        &["check", "--config", "a", "b"],
        &["purge"],
        &["purge", "--all", "--ak", "a"],
        &["completions"],
        &["init"],
        &["man"],
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
        "run",
        "check",
        "init",
        "demo",
        "call",
        "sign",
        "verify",
        "explain",
        "stand-in",
        "schema",
        "status",
        "nodes",
        "top",
        "tail",
        "doctor",
        "reload",
        "drain",
        "purge",
        "healthcheck",
        "completions",
        "man",
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
    let version = out(&run_command(folder.path(), &["--version"]));
    let first = concat!("ccfs-gateway ", env!("CARGO_PKG_VERSION"));
    let lines: Vec<_> = version.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, first), "{version}");
    for (line, name) in lines[1..]
        .iter()
        .zip(["commit: ", "target: ", "features: "])
    {
        assert!(
            line.starts_with(name) && line.len() > name.len(),
            "{version}"
        );
    }
    assert!(version.contains("stand-in"), "{version}");
    let short = run_command(folder.path(), &["-V"]);
    assert_eq!(out(&short).trim(), first);
}

#[test]
fn bad_usage_with_json_is_json_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["check", "--json", "--config", "a", "b"][..],
        &["call", "--json", "http://h", "--unsigned", "--path", "/"],
        &["call", "--json"],
        &["purge", "--json"],
        &["demo", "--json"],
        &["verify", "--json"],
    ] {
        let output = run_command(folder.path(), arguments);
        assert_eq!((code(&output), err(&output)), (2, String::new()));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let message = report["error"]["message"].as_str().unwrap();
        assert!(
            !message.is_empty() && !message.contains("Usage"),
            "{message}"
        );
    }
}

#[test]
fn a_failure_with_json_is_json_on_stdout() {
    let folder = folder_with_secret();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    let url = format!("https://{address}");
    drop(free);
    let call = [
        "call",
        &url,
        "--json",
        "--unsigned",
        "--path",
        "/",
        "--body",
        "body",
    ];
    let verify = [
        "verify",
        "--json",
        "--authorization",
        "auth-v2/a",
        "--path",
        "/",
        "--header",
        "host: h",
    ];
    for (arguments, help) in [
        (&call[..], true),
        (&["status", "--json", "--admin", &address], true),
        (&["nodes", "--json", "--admin", &address], true),
        (&["reload", "--json", "--admin", &address], true),
        (&["drain", "--json", "--admin", &address], true),
        (&["purge", "--all", "--json", "--admin", &address], true),
        (&["healthcheck", "--json", "--admin", &address], true),
        (&[&verify[..], &["--sk-file", "nowhere"]].concat(), false),
    ] {
        let output = run_command(folder.path(), arguments);
        assert_eq!(
            (code(&output), err(&output)),
            (1, String::new()),
            "{arguments:?}"
        );
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["error"]["message"].is_string(), "{report:#}");
        assert_eq!(report["error"]["help"].is_string(), help, "{report:#}");
    }
    let output = run_command(folder.path(), &[&verify[..], &["--sk-file", "sk"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &report["valid"]), (1, &false.into()));
    assert!(report["error"]["message"].is_string(), "{report:#}");
}

// ---- Files for packages ---------------------------------------------------------------------------

#[test]
fn completions_and_manual_pages_cover_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run_command(folder.path(), &["completions", shell]);
        assert_eq!((code(&output), err(&output)), (0, String::new()), "{shell}");
        assert!(out(&output).contains("stand-in"), "{shell}");
    }
    let output = run_command(folder.path(), &["man", "share/man1"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    for page in [
        "ccfs-gateway.1",
        "ccfs-gateway-call.1",
        "ccfs-gateway-stand-in.1",
    ] {
        let text = read(folder.path().join("share/man1").join(page).as_ref());
        assert!(text.contains(".SH"), "{page}");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    let output = run_command(folder.path(), &["man", "file/man1"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("file/man1"), "{}", err(&output));
}

// ---- Configuration --------------------------------------------------------------------------------

#[tokio::test]
async fn a_configuration_is_found_by_argument_flag_or_environment() {
    let site = Setup::default().prepare().await;
    let folder = site.folder.path();
    for arguments in [
        &["check", "gateway.toml"][..],
        &["check", "-c", "gateway.toml"],
    ] {
        let output = run_command(folder, arguments);
        assert_eq!(code(&output), 0, "{}", err(&output));
    }
    let from_environment = |command: &str, path: &str| {
        std::process::Command::new(crate::process::PROGRAM)
            .arg(command)
            .current_dir(folder)
            .env("CCFS_GATEWAY_CONFIG", path)
            .output()
            .unwrap()
    };
    let output = from_environment("check", "gateway.toml");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = from_environment("run", "nowhere.toml");
    assert_eq!(code(&output), 78);
    assert!(err(&output).contains("nowhere.toml"), "{}", err(&output));

    if Path::new("/etc/ccfs-gateway/gateway.toml").exists() {
        return;
    }
    for command in ["run", "check"] {
        let output = from_environment(command, "");
        assert_eq!((code(&output), out(&output)), (78, String::new()));
        for place in ["CCFS_GATEWAY_CONFIG", "/etc/ccfs-gateway/gateway.toml"] {
            assert!(err(&output).contains(place), "{}", err(&output));
        }
    }
}

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
