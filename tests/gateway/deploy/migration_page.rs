//! `deploy/migration.md`: its configurations are valid, its keys exist, and its commands print what they should.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::DEFAULT_SIGNED_FIELDS;
use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::certificates::{CertificateAuthority, SERVER_NAMES as HOSTS};
use jiff::Timestamp;

use super::deploy;
use crate::assertions::{assert_gateway_error, assert_node_response};
use crate::commands::{code, err, out};
use crate::process::PROGRAM;
use crate::support::{BERLIN, SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, read, secret, signed};

/// The first step of the migration is a valid configuration, and the table names existing keys.
#[test]
fn the_migration_page_is_correct() {
    let page = read(&deploy("migration.md"));
    let block = page.split("```toml").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tls")).unwrap();
    let path = |name: &str| folder.path().join("tls").join(name);
    let authority = CertificateAuthority::new().unwrap();
    authority.write_certificate(&path("ccfs-ca.pem")).unwrap();
    let leaf = authority.issue(&HOSTS).unwrap();
    leaf.write(&path("gateway.pem"), &path("gateway.key"))
        .unwrap();
    // The block is indented because it is part of a list.
    let lines: Vec<_> = block.lines().map(str::trim).collect();
    Config::parse(&lines.join("\n"), &folder.path().join("gateway.toml"))
        .unwrap_or_else(|wrong| panic!("{wrong}"));

    let reference = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reference.toml"));
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let ours = rows.skip(1).filter_map(|line| line.split('|').nth(4));
    let keys: BTreeSet<_> = ours
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_lowercase() || c == '_')))
        .filter(|word| word.contains('_'))
        .collect();
    assert!(keys.len() > 15, "{keys:?}");
    for key in keys {
        assert!(reference.contains(key), "{key} is not a key");
    }
}

/// Returns the blocks of a language, without the indentation that they have as part of a list.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1);
    let text = |block: &str| {
        let block = block.split("```").next().unwrap_or_default();
        block
            .lines()
            .map(|line| line.trim().to_owned() + "\n")
            .collect()
    };
    blocks.map(text).collect()
}

/// Runs a command of the page against a gateway, in its folder.
async fn run(env: &TestEnv, command: &str) -> Output {
    let admin = env.bound.admin.unwrap().to_string();
    let command = command.replace("127.0.0.1:9901", &admin);
    let program = match command.split_once(" check") {
        Some(_) => command.replace("check", "check gateway.toml"),
        None => format!("{command} --admin {admin}"),
    };
    let command = if command.starts_with("ccfs-gateway ") {
        program.replace("ccfs-gateway", PROGRAM)
    } else {
        command
    };
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &command])
        .current_dir(env.file("gateway.toml").parent().unwrap());
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
    output.await.unwrap()
}

/// Starts a gateway with the lines that the page adds for the second step.
async fn on_trial(page: &str) -> TestEnv {
    let lines = blocks(page, "toml").swap_remove(1);
    let (listener, limits) = lines.split_once("[limits]").unwrap();
    let (_, listener) = listener.split_once("[listeners.ccfs]\n").unwrap();
    let setup = Setup {
        listener: listener.to_owned(),
        tables: format!("[limits]{limits}"),
        ..Setup::default()
    };
    setup.start().await
}

#[tokio::test]
#[ignore = "needs Debian's packages curl and jq"]
async fn its_commands_lead_from_trial_to_enforcement() {
    let page = read(&deploy("migration.md"));
    let commands = blocks(&page, "sh").swap_remove(0);
    let [list, doctor, log] = commands.trim().lines().collect::<Vec<_>>()[..] else {
        panic!("three commands: {commands}");
    };
    let env = on_trial(&page).await;
    // One client signs with a line end after its secret, one has no configured access key, one sends no time.
    let wrong = Secret::new(format!("{}\n", secret(BERLIN)).into_bytes());
    let wrong = Credential::new(AccessKey::from(BERLIN), vec![wrong], true);
    for call in 0..6 {
        let request = || env.recording(&format!("1637742300-{call}"));
        let request_wrong = request().sign(&wrong, DEFAULT_SIGNED_FIELDS, Timestamp::now());
        for request in [request_wrong.unwrap(), signed(request(), UNKNOWN)] {
            assert_eq!(env.send(&request).await.header("x-gateway-error"), None);
        }
    }
    assert_node_response(&env.get_recording("1637742300-1").await, "0");

    eventually("the list names both, with the mistake", async || {
        let lines = out(&run(&env, list).await);
        let has = |parts: &[&str]| {
            let mut lines = lines.lines();
            lines.any(|line| parts.iter().all(|part| line.contains(part)))
        };
        has(&[BERLIN, "\t6\t127.0.0.1\tsecret-line-end"]) && has(&["\t6\t127.0.0.1\tunknown_key"])
    })
    .await;
    let findings = run(&env, doctor).await;
    assert_eq!(code(&findings), 1, "{}", err(&findings));
    for words in ["clients-refused", "shadow-on", BERLIN] {
        assert!(out(&findings).contains(words), "{}", out(&findings));
    }
    eventually("the log counts them", async || {
        let lines = out(&run(&env, log).await);
        let counted = |reason: &str| {
            let mut lines = lines.lines();
            lines.any(|line| line.trim().starts_with("6 ") && line.ends_with(reason))
        };
        counted("wrong signature") && counted("unknown access key")
    })
    .await;

    // Step 4: the lines go, one after the other.
    let enforcing = page.split("4. **Enforcing.**").nth(1).unwrap();
    let words: Vec<_> = enforcing.split('`').skip(1).step_by(2).collect();
    let orders: Vec<_> = words
        .iter()
        .filter(|it| it.starts_with("ccfs-gateway "))
        .collect();
    assert_eq!(orders, [&"ccfs-gateway check", &"ccfs-gateway reload"]);
    let file = env.file("gateway.toml");
    for key in ["authentication", "validation", "dry_run"] {
        assert!(words.contains(&key), "{key}: {words:?}");
        let text = read(&file);
        let kept = text
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} =")));
        let kept: Vec<_> = kept.collect();
        assert_eq!(kept.len() + 1, text.lines().count(), "{key}");
        std::fs::write(&file, kept.join("\n")).unwrap();
        for order in &orders {
            let output = run(&env, order).await;
            assert_eq!(
                code(&output),
                0,
                "{order}: {}{}",
                out(&output),
                err(&output)
            );
        }
    }
    let refused = env
        .send(&signed(env.recording("1637742300-2"), UNKNOWN))
        .await;
    assert_gateway_error(&refused, 401, "unauthenticated", "GW401");
    assert_node_response(
        &env.send(&signed(env.recording("1637742300-3"), SHANGHAI))
            .await,
        "0",
    );
}
