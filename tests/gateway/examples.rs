//! The examples for callers in `tests/clients/`, each against the gateway and against a node.
//!
//! `cargo test --test gateway examples:: -- --ignored`

use std::path::Path;
use std::process::Command;

use crate::commands::{code, err, out};
use crate::support::{SHANGHAI, TestEnv};

/// Runs an example by a command without its last arguments; it must print a link and play a file.
async fn check(command: &[&str]) {
    let env = TestEnv::start().await;
    let (example, runner) = command.split_last().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(example);
    for url in [env.url(), env.nodes[0].url()] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(runner[0]);
        command
            .args(&runner[1..])
            .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
            .arg(&example)
            .arg(&url)
            .arg(env.file("ca.pem"))
            .arg(SHANGHAI)
            .arg(env.file(SHANGHAI))
            .current_dir(folder.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(code(&output), 0, "{}", err(&output));
        let lines = out(&output);
        let lines: Vec<_> = lines.lines().collect();
        assert!(lines[0].starts_with("link https://"), "{lines:?}");
        assert!(!lines[0].contains('?'), "a link with its secret: {lines:?}");
        let size = std::fs::metadata(folder.path().join("recording.wav")).unwrap();
        assert!(size.len() > 0);
        assert_eq!(lines[1], format!("played {} bytes", size.len()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python 3"]
async fn python() {
    check(&["python3", "recording.py"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package default-jdk-headless"]
async fn java() {
    check(&["java", "Recording.java"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package curl"]
async fn shell() {
    check(&["sh", "recording.sh"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package nodejs"]
async fn javascript() {
    check(&["node", "recording.js"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package golang-go"]
async fn go() {
    check(&["go", "run", "recording.go"]).await;
}
