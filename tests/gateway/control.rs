//! The commands `status`, `nodes`, `reload`, `drain` and `healthcheck`.

use std::process::Output;

use serde_json::Value;

use crate::process;
use crate::support::{Setup, TestEnv};

#[tokio::test]
async fn status_and_nodes_are_tables_or_json() {
    let env = TestEnv::start().await;
    env.get_recording("1637742300-27").await;
    let node = env.nodes[0].address().to_string();
    let status = ask(&env, &["status"]).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    for part in ["serving", "generation 1", "LISTENER", &node] {
        assert!(
            status.out.contains(part),
            "{part} is missing in\n{}",
            status.out
        );
    }
    assert_eq!(
        ask(&env, &["status", "--json"]).await.json()["draining"],
        false
    );

    let nodes = ask(&env, &["nodes"]).await;
    let row = nodes.out.lines().nth(1).unwrap();
    assert!(
        row.starts_with("ccfs") && row.contains(&node) && row.contains(" up "),
        "{row}"
    );
    let nodes = ask(&env, &["nodes", "--json"]).await.json();
    assert_eq!(nodes[0]["nodes"][0]["requests"], 1);
}

#[tokio::test]
async fn a_node_is_drained_and_undrained() {
    let env = TestEnv::start().await;
    let name = format!("ccfs/{}", env.nodes[0].address());
    let drained = ask(&env, &["nodes", "--json", "--drain", &name]).await;
    assert_eq!(drained.json()[0]["nodes"][0]["state"], "drained");
    let back = ask(&env, &["nodes", "--json", "--undrain", &name]).await;
    assert_eq!(back.json()[0]["nodes"][0]["state"], "up");
    let unknown = ask(&env, &["nodes", "--drain", "ccfs/10.0.0.1:1"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("no such node"), "{}", unknown.err);
}

#[tokio::test]
async fn a_reload_reports_its_result() {
    let env = TestEnv::start().await;
    let file = env.file("gateway.toml");
    let text = crate::support::read(&file);
    let risky = text.replace("{ ca = \"ca.pem\" }", "{ insecure_skip_verify = true }");
    std::fs::write(&file, risky).unwrap();
    let warned = ask(&env, &["reload"]).await;
    assert_eq!(warned.out, "configuration reloaded: generation 2\n");
    assert!(
        warned.err.contains("insecure_skip_verify = true"),
        "{}",
        warned.err
    );
    let warned = ask(&env, &["reload", "--json"]).await;
    let text_of_it = warned.json()["warnings"][0].as_str().unwrap().to_owned();
    assert!(text_of_it.contains("gateway.toml"), "{text_of_it}");
    std::fs::write(&file, text).unwrap();
    let done = ask(&env, &["reload"]).await;
    assert_eq!(done.err, "");
    assert_eq!(
        (done.code, done.out.as_str()),
        (Some(0), "configuration reloaded: generation 4\n")
    );
    std::fs::write(env.file("gateway.toml"), "nonsense = 1").unwrap();
    let refused = ask(&env, &["reload"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("nonsense"), "{}", refused.err);
    let status = ask(&env, &["status"]).await;
    assert!(status.out.contains("REJECTED"), "{}", status.out);
}

#[tokio::test]
async fn a_drain_ends_readiness() {
    let setup = Setup {
        tables: "[server]\ndrain_delay = \"60s\"".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    assert_eq!(ask(&env, &["healthcheck"]).await.code, Some(0));
    assert_eq!(ask(&env, &["drain"]).await.out, "draining\n");
    let unready = ask(&env, &["healthcheck"]).await;
    assert_eq!(
        (unready.code, unready.out.as_str()),
        (Some(1), "draining\n")
    );
}

#[tokio::test]
async fn a_token_comes_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret-token\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    let file = file.to_str().unwrap();
    let setup = Setup {
        tables: format!("[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = {file:?}"),
        ..Setup::default()
    };
    let env = setup.start().await;
    let without = ask(&env, &["status"]).await;
    assert_eq!(without.code, Some(1));
    for part in ["needed", "[admin] token_file", "--token-file"] {
        assert!(without.err.contains(part), "{}", without.err);
    }
    let other = folder.path().join("other");
    std::fs::write(&other, "another-token").unwrap();
    let wrong = ask(&env, &["status", "--token-file", other.to_str().unwrap()]).await;
    assert_eq!(wrong.code, Some(1));
    for part in ["refused", "[admin] token_file", "--token-file"] {
        assert!(wrong.err.contains(part), "{}", wrong.err);
    }
    assert!(!wrong.err.contains("another-token"), "{}", wrong.err);
    assert_eq!(
        ask(&env, &["status", "--token-file", file]).await.code,
        Some(0)
    );
    assert_eq!(
        ask(&env, &["healthcheck"]).await.code,
        Some(0),
        "needs none"
    );
}

#[tokio::test]
async fn a_purge_reports_its_entries() {
    let env = TestEnv::start().await;
    for call_id in ["1637742300-27", "1637742300-28"] {
        env.get_recording(call_id).await;
    }
    let one = ask(&env, &["purge", "--call-id", "1637742300-27"]).await;
    assert_eq!((one.code, one.out.as_str()), (Some(0), "1 entry purged\n"));
    let all = ask(&env, &["purge", "--all", "--json"]).await.json();
    assert_eq!(
        all,
        serde_json::json!({ "entries": 1, "store": null, "replicas_told": null })
    );
    let empty = ask(&env, &["purge", "--ak", ""]).await;
    assert_eq!(empty.code, Some(2), "an empty key must not mean every key");
}

#[tokio::test]
async fn an_admin_address_needs_no_scheme() {
    let env = TestEnv::start().await;
    let address = env.admin().replace("http://", "");
    let arguments = ["healthcheck", "--admin", &address].map(str::to_owned);
    let output = run(arguments.into()).await;
    assert_eq!((output.code, output.out.as_str()), (Some(0), "ready\n"));
}

#[tokio::test]
async fn an_unreachable_gateway_is_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for command in ["status", "nodes", "reload", "drain", "healthcheck"] {
        let output = run(vec![command.to_owned(), "--admin".to_owned(), url.clone()]).await;
        assert_eq!(output.code, Some(1), "{command}: {output:?}");
        assert!(
            format!("{}{}", output.out, output.err).contains("cannot reach"),
            "{output:?}"
        );
    }
}

#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl CommandOutput {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

pub(crate) async fn ask(env: &TestEnv, arguments: &[&str]) -> CommandOutput {
    let mut all: Vec<_> = arguments.iter().map(|&it| it.to_owned()).collect();
    all.extend(["--admin".to_owned(), env.admin()]);
    run(all).await
}

/// Runs the command with exactly these arguments.
pub(crate) async fn run_with(arguments: &[&str]) -> CommandOutput {
    run(arguments.iter().map(|&it| it.to_owned()).collect()).await
}

/// Runs on a thread of its own, because the queried gateway runs on this one.
async fn run(arguments: Vec<String>) -> CommandOutput {
    let work = move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        process::run_command(&std::env::temp_dir(), &arguments)
    };
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::task::spawn_blocking(work).await.unwrap();
    CommandOutput {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}
