//! The files of `deploy/` match the program and each other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::certificates::{
    CertificateAuthority, SERVER_NAMES as HOSTS, write_private_file,
};

use crate::page;
use crate::support::{TestEnv, read};

mod image;
mod migration_page;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

/// Checks a configuration of `deploy/` together with the files that it names, which are elsewhere
/// in this repository.
fn check(name: &str, files: &[(&str, &str)]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = CertificateAuthority::new().unwrap();
    authority.write_certificate(&path("ca")).unwrap();
    let leaf = authority.issue(&HOSTS).unwrap();
    leaf.write(&path("certificate"), &path("key")).unwrap();
    write_private_file(&path("secret"), b"SECRET-0123456789").unwrap();
    let mut text = read(&deploy(name));
    for (named, kind) in files {
        assert!(text.contains(named), "{name} does not name {named}");
        let there = path(kind).display().to_string();
        text = text.replace(&format!("\"{named}\""), &format!("{there:?}"));
    }
    let (config, warnings) =
        Config::parse(&text, &path("gateway.toml")).unwrap_or_else(|wrong| panic!("{wrong}"));
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    config
}

#[test]
fn the_configurations_are_valid() {
    let systemd = check(
        "systemd/gateway.toml",
        &[
            ("tls/gateway.pem", "certificate"),
            ("secrets/gateway.key", "key"),
            ("tls/ccfs-ca.pem", "ca"),
            ("secrets/279a08bbd8d949a0", "secret"),
            ("/var/log/ccfs-gateway/access.log", "access.log"),
        ],
    );
    let socket = read(&deploy("systemd/ccfs-gateway.socket"));
    let listener = &systemd.listeners["ccfs"];
    assert!(socket.contains(&format!("\nListenStream={}\n", listener.bind)));
    assert!(socket.contains("\nFileDescriptorName=ccfs\n"));

    check(
        "compose/gateway.toml",
        &[
            ("/files/tls/gateway.pem", "certificate"),
            ("/files/tls/gateway.key", "key"),
            ("/files/tls/ccfs-ca.pem", "ca"),
            ("/files/secrets/279a08bbd8d949a0", "secret"),
            ("/files/secrets/5c1f0f7d2a6e4b3c", "secret"),
            ("/files/admin-token", "secret"),
        ],
    );

    let at = "/var/run/ccfs-gateway";
    let kubernetes = check(
        "kubernetes/gateway.toml",
        &[
            (&format!("{at}/tls/tls.crt"), "certificate"),
            (&format!("{at}/tls/tls.key"), "key"),
            (&format!("{at}/nodes/ca.crt"), "ca"),
            (&format!("{at}/access-keys/279a08bbd8d949a0"), "secret"),
            (&format!("{at}/admin/token"), "secret"),
        ],
    );
    let manifest = read(&deploy("kubernetes/deployment.yaml"));
    for folder in ["tls", "nodes", "access-keys", "admin"] {
        assert!(
            manifest.contains(&format!("mountPath: {at}/{folder}, readOnly: true")),
            "{folder} is not mounted"
        );
    }
    let port = |name: &str, port: u16| format!("{{ name: {name}, containerPort: {port} }}");
    assert!(manifest.contains(&port("https", kubernetes.listeners["ccfs"].bind.port())));
    assert!(manifest.contains(&port("admin", kubernetes.admin.bind.unwrap().port())));
    // The pod is killed after this time; the drain must fit into it.
    let needed = 5 + kubernetes.server.drain_delay.as_secs() + kubernetes.server.grace.as_secs();
    assert!(manifest.contains("preStop: { sleep: { seconds: 5 } }"));
    let given = number_after(&manifest, "terminationGracePeriodSeconds: ");
    assert!(given > needed, "{given} s for {needed} s");
    let unit = read(&deploy("systemd/ccfs-gateway.service"));
    let given = number_after(&unit, "TimeoutStopSec=");
    assert!(given > systemd.server.grace.as_secs() + systemd.server.drain_delay.as_secs());
}

fn number_after(text: &str, key: &str) -> u64 {
    let rest = text.split(key).nth(1).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Collects every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Metric names in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !is_name(c))
        .filter(|word| word.starts_with("ccfs_gateway_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn alerts_and_dashboard_use_existing_metrics() {
    let env = TestEnv::start().await;
    env.get_recording("1637742300-27").await;
    let page = page::get(env.bound.admin.unwrap(), "/metrics").await;
    let known = metrics(&page.body);
    let declared: BTreeSet<_> = page
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let mut all = Vec::new();
    files(&deploy(""), &mut all);
    let is_picture = |file: &PathBuf| file.extension().is_some_and(|it| it == "png");
    for file in all.iter().filter(|file| !is_picture(file)) {
        for metric in metrics(&read(file)) {
            let family = ["_total", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| metric.strip_suffix(suffix))
                .unwrap_or(&metric);
            assert!(
                known.contains(&metric) || declared.contains(family),
                "{} names {metric}, which /metrics does not show",
                file.display()
            );
        }
    }
}

#[test]
fn every_alert_says_what_to_do_and_the_main_ones_are_tested() {
    let alerts = read(&deploy("prometheus/alerts.yaml"));
    let count = |what: &str| alerts.matches(what).count();
    let rules = count("- alert: ");
    assert!(rules >= 12);
    for part in [
        "\n        annotations:\n",
        "summary: ",
        "description: ",
        "runbook_url: ",
        "labels: { severity: ",
    ] {
        assert_eq!(count(part), rules, "{part:?}");
    }
}

#[test]
fn the_dashboard_is_json_and_its_panels_do_not_overlap() {
    let text = read(&deploy("grafana/ccfs-gateway.json"));
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{}", panel["title"]);
            }
        }
        let is_row = panel["type"] == "row";
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|it| it.len() > 10),
            "{}",
            panel["title"]
        );
        assert_eq!(panel["targets"].is_null(), is_row, "{}", panel["title"]);
    }
}

/// Every file and directory of `deploy/` is mentioned in its README.
#[test]
fn the_pages_mention_every_file() {
    let readme = read(&deploy("README.md"));
    let mut all = Vec::new();
    files(&deploy(""), &mut all);
    for file in all {
        let relative = file.strip_prefix(deploy("")).unwrap();
        let first = relative.components().next().unwrap().as_os_str();
        let first = first.to_str().unwrap();
        assert!(
            first == "README.md" || readme.contains(first),
            "README.md does not mention {first}"
        );
    }
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{text}");
    text
}

#[test]
#[ignore = "needs Debian's package prometheus"]
fn promtool_accepts_the_rules_and_their_tests() {
    succeeds(
        Command::new("promtool")
            .args(["check", "rules"])
            .arg(deploy("prometheus/alerts.yaml")),
    );
    succeeds(
        Command::new("promtool")
            .args(["test", "rules"])
            .arg(deploy("prometheus/alerts.test.yaml")),
    );
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name).display().to_string();
    std::fs::copy(deploy("prometheus/alerts.yaml"), here("alerts.yaml")).unwrap();
    std::fs::write(here("token"), "x").unwrap();
    let text = read(&deploy("compose/prometheus.yml"))
        .replace("/etc/prometheus/alerts.yaml", &here("alerts.yaml"))
        .replace("/files/admin-token", &here("token"));
    std::fs::write(here("prometheus.yml"), text).unwrap();
    succeeds(
        Command::new("promtool")
            .args(["check", "config"])
            .arg(here("prometheus.yml")),
    );
}

#[test]
#[ignore = "needs Debian's package python3-yaml"]
fn every_yaml_file_is_yaml() {
    let mut all = Vec::new();
    files(&deploy(""), &mut all);
    // Templates of Helm become YAML when they are rendered.
    all.retain(|file| !file.starts_with(deploy("helm/templates")));
    all.retain(|file| file.extension().is_some_and(|it| it == "yaml"));
    assert!(all.len() >= 10);
    let script = "import sys, yaml\nfor name in sys.argv[1:]: list(yaml.safe_load_all(open(name)))";
    succeeds(
        Command::new("/usr/bin/python3")
            .args(["-c", script])
            .args(all),
    );
}

/// Copies the units, with `ExecStart` replaced by an existing program.
fn units(folder: &Path) -> PathBuf {
    let program = env!("CARGO_BIN_EXE_ccfs-gateway");
    let version = succeeds(Command::new("systemctl").arg("--version"));
    let knows_notify_reload = number_after(&version, "systemd ") >= 253;
    for name in ["ccfs-gateway.service", "ccfs-gateway.socket"] {
        let mut text =
            read(&deploy("systemd").join(name)).replace("/usr/bin/ccfs-gateway", program);
        if !knows_notify_reload {
            // The change that ccfs-gateway.service.d/systemd-252.conf makes.
            text = text.replace("Type=notify-reload", "Type=notify");
        }
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder.join("ccfs-gateway.service")
}

#[test]
#[ignore = "needs Debian's package systemd"]
fn systemd_accepts_the_units_and_rates_them_safe() {
    let folder = tempfile::tempdir().unwrap();
    let service = units(folder.path());
    let text = succeeds(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&service)
            .arg(folder.path().join("ccfs-gateway.socket")),
    );
    let ours: Vec<_> = text
        .lines()
        .filter(|line| line.contains("ccfs-gateway"))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
    // 0 is fully sandboxed, 10 is unprotected; a service that listens and connects cannot reach 0.
    succeeds(
        Command::new("systemd-analyze")
            .args(["security", "--offline=yes", "--threshold=20"])
            .arg(&service),
    );
}
