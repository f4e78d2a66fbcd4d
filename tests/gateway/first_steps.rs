//! `init` as a new user meets it: what it prints is run as it stands, by a shell.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::commands::{code, err, out};
use crate::process::run_command;
use crate::support::read;

/// A child process that is killed and reaped at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The commands of a printed text: its lines that are indented by two blanks or continue such a line.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace(" \\\n", " ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix("  "));
    lines.map(|line| line.trim().to_owned()).collect()
}

fn shell(folder: &Path, command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec {command}")])
        .current_dir(folder)
        .stdin(Stdio::null());
    shell
}

/// Replaces the fixed port behind `127.0.0.1:`.
fn with_port(text: &str, port: u16, free: &str) -> String {
    text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
}

#[test]
fn what_init_prints_checks_serves_and_calls() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = run_command(folder, &["init", "my gateway"]);
    assert_eq!((code(&made), err(&made)), (0, String::new()));
    let commands = commands(&out(&made));
    let [nodes, check, run, call] = &commands[..] else {
        panic!("{commands:#?}");
    };

    let nodes = with_port(&with_port(nodes, 18443, "0"), 18444, "0");
    let nodes = shell(folder, &nodes).stdout(Stdio::piped()).spawn();
    let mut nodes = Running(nodes.unwrap());
    let mut lines = BufReader::new(nodes.0.stdout.take().unwrap()).lines();
    let file = folder.join("my gateway/gateway.toml");
    let mut config = read(&file);
    for port in [18443, 18444] {
        let address = lines.next().unwrap().unwrap();
        let free = address.rsplit(':').next().unwrap();
        config = with_port(&config, port, free);
    }
    for port in [28443, 9901] {
        config = with_port(&config, port, "0");
    }
    std::fs::write(&file, config).unwrap();

    let checked = shell(folder, check).output().unwrap();
    assert_eq!((code(&checked), err(&checked)), (0, String::new()));
    let gateway = shell(folder, run).stderr(Stdio::piped()).spawn();
    let mut gateway = Running(gateway.unwrap());
    let mut lines = BufReader::new(gateway.0.stderr.take().unwrap()).lines();
    let serving = lines.find_map(|line| line.ok().filter(|line| line.contains("serving")));
    let serving = serving.expect("the line that names the addresses");
    let port = serving.split("127.0.0.1:").nth(1).unwrap();
    let port = port.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let call = with_port(call, 28443, port);
    let called = shell(folder, &call).output().unwrap();
    assert_eq!(code(&called), 0, "{}", err(&called));
    assert!(err(&called).contains("valid for"), "{}", err(&called));
}

#[test]
fn init_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&run_command(folder.path(), &["init", "a"])), 0);
    let before = read(&folder.path().join("a/secrets/279a08bbd8d949a0"));
    let again = run_command(folder.path(), &["init", "a"]);
    assert_eq!((code(&again), out(&again)), (1, String::new()));
    assert!(err(&again).contains("a/gateway.toml"), "{}", err(&again));
    let after = read(&folder.path().join("a/secrets/279a08bbd8d949a0"));
    assert_eq!(before, after);
    let deep = run_command(folder.path(), &["init", "b/c"]);
    assert_eq!(code(&deep), 1);
    assert!(!folder.path().join("b").exists());
}
