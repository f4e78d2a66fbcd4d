//! The commands `sign`, `verify`, `explain`, `call`, `stand-in` and `demo` (§1).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::commands::{code, err, folder_with_secret, out};
use crate::process::{PROGRAM, run_command, run_command_with};
use crate::support::{SHANGHAI, TestEnv, eventually, secret};
use ccfs_gateway::stand_in::{Fault, When};

// ---- Signatures -----------------------------------------------------------------------------------

const REQUEST: [&str; 8] = [
    "--path",
    "/CCFS/resource/ccfs/queryBillData",
    "--header",
    "host: 10.1.2.3:28443",
    "--header",
    "content-type: application/json;charset=UTF-8",
    "--body",
    "body",
];

fn sign(folder: &Path, secret: &[&str]) -> Output {
    let request = [&["sign", "--ak", SHANGHAI][..], secret, &REQUEST].concat();
    run_command(folder, &request)
}

#[test]
fn verify_and_explain_accept_the_output_of_sign() {
    let folder = folder_with_secret();
    let folder = folder.path();
    let signed = sign(folder, &["--sk-file", "sk"]);
    assert_eq!(code(&signed), 0, "{}", err(&signed));
    let value = out(&signed);
    let value = value.trim();
    assert!(
        value.starts_with(&format!("auth-v2/{SHANGHAI}/")),
        "{value}"
    );
    let with = |name, value, secret: &[&'static str]| {
        run_command(
            folder,
            &[&[name, "--authorization", value][..], secret, &REQUEST].concat(),
        )
    };
    let right = with("verify", value, &["--sk-file", "sk"]);
    assert_eq!((code(&right), out(&right).trim()), (0, "valid"));
    let mut wrong = value.to_owned();
    wrong.replace_range(wrong.len() - 4.., "0000");
    let wrong = with("verify", &wrong, &["--sk-file", "sk"]);
    assert_eq!(code(&wrong), 1);
    assert!(out(&wrong).starts_with("invalid"), "{}", out(&wrong));

    let explained = with("explain", value, &["--sk-file", "sk"]);
    assert_eq!(code(&explained), 0);
    let text = out(&explained);
    assert!(
        text.contains("10.1.2.3%3A28443") && text.contains("%7B%22callId%22"),
        "{text}"
    );
    assert_eq!(
        code(&with("explain", value, &[])),
        0,
        "without a secret, too"
    );
    assert_eq!(code(&with("explain", "Bearer abc", &[])), 1);
}

#[test]
fn explain_finds_the_first_byte_that_differs() {
    let folder = folder_with_secret();
    let folder = folder.path();
    let value = out(&sign(folder, &["--sk-file", "sk"]));
    let names = "content-type;host";
    let theirs = format!(
        "POST\n/CCFS/resource/ccfs/queryBillData\n{names}\ncontent-type:application%2Fjson%3Bcharset%3DUTF-8\nhost:10.1.2.3%3A28443\n%7B%22callid%22%3A%221%22%7D"
    );
    std::fs::write(folder.join("theirs"), theirs).unwrap();
    let explain = [
        "explain",
        "--authorization",
        value.trim(),
        "--theirs",
        "theirs",
    ];
    let output = run_command(folder, &[&explain[..], &REQUEST].concat());
    let text = out(&output);
    assert!(text.contains("callId") && text.contains("callid"), "{text}");
}

#[test]
fn a_secret_comes_from_a_file_or_the_environment_and_a_body_from_stdin() {
    let folder = folder_with_secret();
    let folder = folder.path();
    let at = ["--timestamp", "2021-11-24T06:25:03Z"];
    let by_file = sign(folder, &[&["--sk-file", "sk"][..], &at].concat());
    let environment = [
        &["sign", "--ak", SHANGHAI, "--sk-env", "CCFS_TEST_SK"][..],
        &at,
        &REQUEST,
    ]
    .concat();
    let by_environment = Command::new(PROGRAM)
        .args(&environment)
        .current_dir(folder)
        .env("CCFS_TEST_SK", secret(SHANGHAI))
        .output()
        .unwrap();
    assert_eq!(out(&by_file), out(&by_environment));
    assert_eq!(
        code(&run_command(folder, &environment)),
        1,
        "no such variable"
    );
    let mut piped = REQUEST;
    piped[7] = "-";
    let piped = [
        &["sign", "--ak", SHANGHAI, "--sk-file", "sk"][..],
        &at,
        &piped,
    ]
    .concat();
    let by_stdin = run_command_with(folder, &piped, br#"{"callId":"1"}"#);
    assert_eq!(out(&by_file), out(&by_stdin));
    assert_eq!(code(&sign(folder, &["--sk-file", "nowhere"])), 1);
    assert_eq!(code(&sign(folder, &[])), 2, "no secret at all");
}

// ---- A client and a node --------------------------------------------------------------------------

/// Runs `call` on a thread of its own with the required flags.
fn call(env: &TestEnv, url: &str, more: &[&str]) -> std::thread::JoinHandle<Output> {
    let folder = env.file("");
    let mut arguments = vec!["call", url, "--ak", SHANGHAI, "--sk-file", SHANGHAI];
    arguments.extend(more);
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    std::thread::spawn(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_command(&folder, &arguments)
    })
}

/// Waits without blocking the runtime that serves the gateway and the nodes.
async fn done(call: std::thread::JoinHandle<Output>) -> Output {
    tokio::task::spawn_blocking(|| call.join().unwrap())
        .await
        .unwrap()
}

const WINDOW: [&str; 4] = [
    "--begin",
    "2021-11-24 16:25:03",
    "--end",
    "2021-11-24 17:25:11",
];

#[tokio::test]
async fn call_prints_the_response_and_the_validity_of_its_url() {
    let env = TestEnv::start().await;
    let with =
        |call_id: &'static str| [&["--ca", "ca.pem", "--call-id", call_id][..], &WINDOW].concat();
    let output = done(call(&env, &env.url(), &with("call-1"))).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let response: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(response["resultCode"], "0");
    assert!(err(&output).contains("valid for"), "{}", err(&output));
    let output = done(call(&env, &env.url(), &with("0000-1"))).await;
    assert_eq!(code(&output), 1, "no data is no success");
    assert!(out(&output).contains("0300012"));
}

#[tokio::test]
async fn call_trusts_no_certificate_by_default() {
    let env = TestEnv::start().await;
    let request = [&["--call-id", "call-2"][..], &WINDOW].concat();
    let output = done(call(&env, &env.url(), &request)).await;
    assert_eq!((code(&output), out(&output)), (1, String::new()));
    assert!(err(&output).contains("certificate"), "{}", err(&output));
    let insecure = [&["--insecure"][..], &request].concat();
    assert_eq!(code(&done(call(&env, &env.url(), &insecure)).await), 0);
    let nobody = done(call(&env, "https://127.0.0.1:1", &insecure)).await;
    assert_eq!(code(&nobody), 1);
}

#[tokio::test]
async fn call_downloads_to_a_file() {
    let env = TestEnv::start().await;
    let body = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"a/64KiB.wav"}}"#;
    std::fs::write(env.file("body"), body).unwrap();
    let path = "/CCFS/resource/ccfs/downloadRecordFile";
    let more = [
        "--ca",
        "ca.pem",
        "--path",
        path,
        "--body",
        "body",
        "-o",
        "record.wav",
    ];
    let output = done(call(&env, &env.url(), &more)).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(
        std::fs::metadata(env.file("record.wav")).unwrap().len(),
        64 * 1024
    );
}

#[tokio::test]
async fn an_interrupted_download_leaves_no_file() {
    let env = TestEnv::start().await;
    for node in &env.nodes {
        node.faults().inject(Fault::HangInBody, When::Always);
    }
    let body = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"a/5MiB.wav"}}"#;
    std::fs::write(env.file("body"), body).unwrap();
    std::fs::write(env.file("record.wav"), "old").unwrap();
    let names = || {
        let entries = std::fs::read_dir(env.file("")).unwrap();
        let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name()).collect();
        names.sort_unstable();
        names
    };
    let before = names();
    let path = "/CCFS/resource/ccfs/downloadRecordFile";
    let mut call = Command::new(PROGRAM)
        .args(["call", &env.url(), "--ca", "ca.pem", "--ak", SHANGHAI])
        .args(["--sk-file", SHANGHAI, "--path", path, "--body", "body"])
        .args(["-o", "record.wav"])
        .current_dir(env.file(""))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the download has begun", async || names() != before).await;
    let sent = Command::new("kill")
        .args(["-INT", &call.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    eventually("it ends", async || call.try_wait().unwrap().is_some()).await;
    assert_eq!(call.wait().unwrap().code(), Some(1));
    assert_eq!(names(), before);
    assert_eq!(std::fs::read(env.file("record.wav")).unwrap(), b"old");
}

#[test]
fn a_stand_in_serves_until_it_gets_a_signal() {
    let folder = folder_with_secret();
    let mut child = Command::new(PROGRAM)
        .args(["stand-in", "--bind", "127.0.0.1:0", "--ak", SHANGHAI])
        .args(["--sk-file", "sk", "--ca-out", "ca.pem"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut first).unwrap();
    let port = first.trim().rsplit(':').next().unwrap();
    let url = format!("https://127.0.0.1:{port}");
    let request = [
        "call",
        &url,
        "--ca",
        "ca.pem",
        "--ak",
        SHANGHAI,
        "--sk-file",
        "sk",
        "--call-id",
        "1-1",
    ];
    let output = run_command(folder.path(), &[&request[..], &WINDOW].concat());
    let sent = Command::new("kill").arg(child.id().to_string()).status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(code(&output), 0, "{first}: {}", err(&output));
}

#[test]
fn a_stand_in_that_cannot_listen_is_1() {
    let folder = folder_with_secret();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = [
        "stand-in",
        "--bind",
        &address,
        "--ak",
        "a",
        "--sk-file",
        "sk",
    ];
    assert_eq!(code(&run_command(folder.path(), &arguments)), 1);
}

// ---- The demo -------------------------------------------------------------------------------------

#[test]
fn the_demo_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &["demo", "--once"]);
    assert_eq!(code(&output), 0, "{}\n{}", out(&output), err(&output));
    let shown = out(&output).to_lowercase();
    for what in [
        "normalized",
        "miss",
        "hit",
        "collapsed",
        "failed over",
        "limited",
        "refused",
        "9 of 9 as expected in ",
    ] {
        assert!(shown.contains(what), "{what} in\n{shown}");
    }
    assert!(
        !shown.contains("signature="),
        "a pre-signed URL's query is a secret:\n{shown}"
    );
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demo_reports_its_steps_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &["demo", "--once", "--json"]);
    assert_eq!(code(&output), 0, "{}\n{}", out(&output), err(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = report["steps"].as_array().unwrap();
    assert!(report["passed"] == true && steps.len() > 5, "{report:#}");
    assert!(
        steps.iter().all(|step| step["passed"] == true),
        "{report:#}"
    );
}

#[tokio::test]
async fn every_node_of_the_demo_is_up_while_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Command::new(PROGRAM)
        .arg("demo")
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut demo = KillOnDrop(demo.unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let admin = lines.find_map(|line| {
        let line = line.unwrap();
        let (_, url) = line.split_once("status page")?;
        Some(url.split('/').nth(2)?.to_owned())
    });
    let arguments = ["nodes", "--json", "--admin", &admin.unwrap()].map(str::to_owned);
    eventually("all nodes are up", async || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = run_command(folder.path(), &arguments);
        let clusters: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let nodes = clusters[0]["nodes"].as_array().unwrap();
        nodes.len() == 3 && nodes.iter().all(|node| node["state"] == "up")
    })
    .await;
    let sent = Command::new("kill").arg(demo.0.id().to_string()).status();
    assert!(sent.unwrap().success());
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_demo_takes_another_port_if_its_own_is_taken() {
    // Binding may fail: then the port is taken by another process, which is equally good.
    let _taken = std::net::TcpListener::bind("127.0.0.1:28443");
    let folder = tempfile::tempdir().unwrap();
    let output = run_command(folder.path(), &["demo", "--once"]);
    assert_eq!(code(&output), 0, "{}\n{}", out(&output), err(&output));
    // Another demo may have used the first port and have ended meanwhile.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let asked = run_command(folder.path(), &["demo", "--once", "--port", &port]);
    assert_eq!(code(&asked), 1, "a requested port is not replaced");
}

/// A child process that is killed and reaped when a test fails before its end.
pub(crate) struct KillOnDrop(pub(crate) std::process::Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
