//! Every shell block of a page is run: by a script of `tests/pages/`, by `tests/package.sh`, or by a step of
//! `.ci/run`. What is not run is listed here with its reason.
//!
//! `cargo test --test gateway pages:: -- --ignored` runs the scripts, each in a network of its own, so that the
//! commands keep the ports that the pages name.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use ccfs_gateway::cli::Cli;
use clap::Parser;

use super::{pages, root, words};
use crate::support::read;

/// Blocks that a step of `.ci/run` runs in its own words: page, first words of the block, step.
const STEPS: [(&str, &str, &str); 4] = [
    ("README.md", "cargo run --release -- demo", "demo"),
    ("README.zh-CN.md", "cargo run --release -- demo", "demo"),
    ("README.md", "cargo install --locked cargo-deb", "package"),
    (
        "README.zh-CN.md",
        "cargo install --locked cargo-deb",
        "package",
    ),
];

/// Blocks that nothing runs: page, first words of the block, reason.
const NOT_RUN: [(&str, &str, &str); 4] = [
    (
        "SECURITY.md",
        "cargo +nightly fuzz run",
        "needs nightly Rust and cargo-fuzz; the corpus of each target runs in fuzz::",
    ),
    (
        "deploy/README.md",
        "docker build",
        "needs a Docker daemon; deploy::image:: checks recipe and context",
    ),
    (
        "deploy/README.md",
        "docker compose",
        "needs a Docker daemon; deploy:: checks its configuration",
    ),
    (
        "deploy/README.md",
        "helm install",
        "needs a cluster; `.ci/run kubernetes` renders the chart with such values",
    ),
];

/// The shell blocks of a page, without its indentation.
fn blocks(page: &str) -> Vec<String> {
    let text = read(&root().join(page));
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| block.lines().map(str::trim).collect::<Vec<_>>().join("\n"))
        .collect()
}

/// What the scripts run: page, and the first words of the block.
fn run_by_scripts() -> Vec<(String, String)> {
    let mut scripts = vec![root().join("tests/package.sh")];
    for entry in std::fs::read_dir(root().join("tests/pages")).unwrap() {
        scripts.push(entry.unwrap().path());
    }
    let mut found = Vec::new();
    for script in scripts {
        for line in read(&script).lines() {
            let Some(call) = line
                .split("run ")
                .nth(1)
                .filter(|call| call.contains(".md "))
            else {
                continue;
            };
            let (page, rest) = call.split_once(' ').unwrap();
            let quote = rest.chars().next().unwrap();
            let first = rest.split(quote).nth(1).unwrap();
            found.push((page.to_owned(), first.to_owned()));
        }
    }
    found
}

#[test]
fn every_block_is_run_or_listed_with_its_reason() {
    let mut known: Vec<(String, String)> = run_by_scripts();
    assert!(known.len() > 15, "{known:?}");
    let listed = STEPS.iter().chain(&NOT_RUN);
    known.extend(listed.map(|(page, first, _)| ((*page).to_owned(), (*first).to_owned())));
    let steps = read(&root().join(".ci/run"));
    for (_, _, step) in STEPS {
        assert!(steps.contains(&format!("\n{step}() {{")), "no step {step}");
    }

    let mut unused: BTreeSet<_> = known.iter().cloned().collect();
    for page in pages() {
        let page = page.strip_prefix(root().canonicalize().unwrap()).unwrap();
        let page = page.to_str().unwrap();
        for block in blocks(page) {
            let fits = |(name, first): &&(String, String)| name == page && block.starts_with(first);
            let found = known.iter().find(fits);
            let found = found.unwrap_or_else(|| panic!("{page}: nothing runs\n{block}"));
            unused.remove(found);
        }
    }
    assert!(unused.is_empty(), "no page has these blocks: {unused:?}");
}

/// The code spans of a page outside its blocks.
fn spans(page: &Path) -> Vec<String> {
    let text = read(page);
    let outside: Vec<_> = text.split("```").step_by(2).collect();
    let outside = outside.join("\n");
    let spans = outside.split('`').skip(1).step_by(2);
    spans.map(|span| span.replace('\n', " ")).collect()
}

#[test]
fn every_script_is_run() {
    let here = include_str!("commands.rs");
    let steps = read(&root().join(".ci/run"));
    for entry in std::fs::read_dir(root().join("tests/pages")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_run = here.contains(&format!("run_script(\"{name}\")"))
            || steps.contains(&format!("tests/pages/{name}.sh"));
        assert!(is_run || name == "page", "{name}");
    }
}

#[test]
fn commands_within_sentences_have_arguments_that_exist() {
    let manifest = read(&root().join("Cargo.toml"));
    let mut count = 0;
    for page in pages() {
        for span in spans(&page) {
            if span.contains('…') {
                continue;
            }
            if span.starts_with("ccfs-gateway ") {
                count += 1;
                let parsed = Cli::try_parse_from(words(&span));
                let reason = parsed.err().filter(|it| {
                    !matches!(
                        it.kind(),
                        clap::error::ErrorKind::DisplayVersion
                            | clap::error::ErrorKind::MissingRequiredArgument
                            | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                    )
                });
                assert!(reason.is_none(), "{}: {span}\n{reason:?}", page.display());
            } else if let Some(arguments) = span.strip_prefix("cargo ") {
                count += 1;
                check_cargo(&manifest, arguments).unwrap_or_else(|missing| {
                    panic!("{}: {span}: no {missing}", page.display());
                });
            }
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn files_within_sentences_exist() {
    // `demo --make-files config` makes these.
    let made = ["config/tls", "config/secrets"];
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        // What comes after the heading names files that are gone.
        let text = text.split("\n## Old names").next().unwrap();
        for span in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "deploy/", "config/"]
                .iter()
                .any(|folder| span.starts_with(folder));
            if is_path
                && !span.contains(['…', '*', ' ', '\n', '{'])
                && !page.ends_with("CHANGELOG.md")
            {
                count += 1;
                let exists = root().join(span).exists() || made.contains(&span);
                assert!(exists, "{}: {span}", page.display());
            }
        }
    }
    assert!(count > 80, "{count}");
}

/// Checks that the targets, features, profiles and test modules which cargo's arguments name exist.
fn check_cargo(manifest: &str, arguments: &str) -> Result<(), String> {
    let words: Vec<_> = arguments.split_whitespace().collect();
    for pair in words.windows(2) {
        let section = match pair[0] {
            "--test" => format!("[[test]]\nname = \"{}\"", pair[1]),
            "--bench" => format!("[[bench]]\nname = \"{}\"", pair[1]),
            "--features" => format!("\n{} = [", pair[1]),
            "--profile" => format!("[profile.{}]", pair[1]),
            _ => continue,
        };
        if !manifest.contains(&section) {
            return Err(pair[1].to_owned());
        }
    }
    let filters = words.iter().filter_map(|word| word.strip_suffix("::"));
    for filter in filters {
        let module = filter.replace("::", "/");
        if !root().join(format!("tests/gateway/{module}.rs")).exists() {
            return Err(filter.to_owned());
        }
    }
    Ok(())
}

/// Runs a script of `tests/pages/` in a folder, a network and a process namespace of its own.
fn run_script(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_ccfs-gateway"),
        programs.join("ccfs-gateway"),
    )
    .unwrap();
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        r#"ip link set lo up; . "$ROOT/tests/pages/page.sh"; . "$ROOT/tests/pages/{name}.sh""#
    );
    let output = Command::new("timeout")
        .args([
            "120",
            "unshare",
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
        ])
        .args([
            "--kill-child",
            "--mount-proc",
            "bash",
            "-euo",
            "pipefail",
            "-c",
        ])
        .arg(script)
        .current_dir(folder.path())
        .env("ROOT", root())
        .env("PATH", format!("{}:{path}", programs.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}.sh: {}\n{text}",
        output.status
    );
}

#[test]
#[ignore = "needs Debian's packages curl, jq, iproute2, openssl and python3-yaml"]
fn script_first_steps() {
    run_script("first-steps");
}

#[test]
#[ignore = "needs Debian's packages curl, jq, iproute2, openssl and python3-yaml"]
fn script_example() {
    run_script("example");
}

#[test]
#[ignore = "needs Debian's packages curl, jq, iproute2, openssl and python3-yaml"]
fn script_operation() {
    run_script("operation");
}

#[test]
#[ignore = "needs Debian's packages curl, jq, iproute2, openssl and python3-yaml"]
fn script_keyless() {
    run_script("keyless");
}

#[test]
#[ignore = "needs Debian's packages curl, jq, iproute2, openssl and python3-yaml"]
fn script_migration() {
    run_script("migration");
}

#[test]
#[ignore = "needs Debian's packages curl, jq, iproute2, openssl and python3-yaml"]
fn script_alerts() {
    run_script("alerts");
}
