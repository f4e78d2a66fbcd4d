//! `/metrics`: valid OpenMetrics with correct values.

use std::collections::{BTreeMap, BTreeSet};

use crate::page;
use crate::support::{Setup, TestEnv, eventually};

#[tokio::test]
async fn the_exposition_is_valid_and_has_every_family() {
    let env = traffic().await;
    let response = page::get(env.bound.admin.unwrap(), "/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.header("content-type"), Some(kind));
    let families = Exposition::read(&response.body).families;
    let missing: Vec<_> = FAMILIES
        .iter()
        .filter(|(name, kind)| {
            families.get(&format!("ccfs_gateway_{name}")) != Some(&(*kind).to_owned())
        })
        .collect();
    assert!(
        missing.is_empty(),
        "missing or of another type: {missing:?}"
    );
}

#[tokio::test]
async fn a_request_is_counted_by_listener_cluster_and_node() {
    let env = traffic().await;
    let admin = env.bound.admin.unwrap();
    let node = env.nodes[0].address();
    let page = page::get(admin, "/metrics").await;
    let exposition = Exposition::read(&page.body);
    let route = r#"listener="ccfs",cluster="ccfs""#;
    for (sample, value) in [
        (
            format!(r#"requests_total{{{route},outcome="node",code_class="2xx"}}"#),
            1.0,
        ),
        (
            format!(r#"requests_total{{{route},outcome="cached",code_class="2xx"}}"#),
            2.0,
        ),
        (
            r#"requests_total{listener="ccfs",cluster="",outcome="malformed",code_class="4xx"}"#
                .to_owned(),
            1.0,
        ),
        (
            r#"request_duration_seconds_count{cluster="ccfs",cache="hit"}"#.to_owned(),
            2.0,
        ),
        (
            format!(r#"upstream_requests_total{{cluster="ccfs",node="{node}",result="ok"}}"#),
            1.0,
        ),
        (
            format!(r#"upstream_duration_seconds_count{{cluster="ccfs",node="{node}"}}"#),
            1.0,
        ),
        (
            r#"upstream_result_codes_total{cluster="ccfs",class="success"}"#.to_owned(),
            1.0,
        ),
        (
            r#"ratelimit_decisions_total{limiter="access_key",decision="allowed",source="local"}"#
                .to_owned(),
            1.0,
        ),
        ("config_last_reload_success".to_owned(), 1.0),
        ("draining".to_owned(), 0.0),
    ] {
        let found = exposition.samples.get(&format!("ccfs_gateway_{sample}"));
        assert_eq!(found, Some(&value), "{sample}");
    }
}

#[tokio::test]
async fn a_rejected_reload_is_counted_and_a_valid_one_recovers() {
    let env = TestEnv::start().await;
    let admin = env.bound.admin.unwrap();
    let file = env.file("gateway.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{good}\n[nonsense]\n")).unwrap();
    assert_eq!(page::post(admin, "/reload").await.status, 409);
    assert_eq!(page::metric(admin, "config_last_reload_success").await, 0.0);
    let refused = r#"config_reloads_total{result="refused"}"#;
    assert_eq!(page::metric(admin, refused).await, 1.0);
    let shown = page::get(admin, "/status").await.json();
    let error = shown["reloads"]["last"]["error"].as_str().unwrap();
    assert!(error.contains("nonsense"), "{error}");

    std::fs::write(&file, good).unwrap();
    assert_eq!(page::post(admin, "/reload").await.status, 200);
    assert_eq!(page::metric(admin, "config_last_reload_success").await, 1.0);
    let done = r#"config_reloads_total{result="ok"}"#;
    assert_eq!(page::metric(admin, done).await, 1.0);
}

#[tokio::test]
#[ignore = "needs Debian's prometheus"]
async fn prometheus_itself_scrapes_it() {
    let env = traffic().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    let admin = env.bound.admin.unwrap();
    let scrape = format!(
        "scrape_configs: [{{ job_name: ccfs, scrape_interval: 1s, static_configs: [{{ targets: ['{admin}'] }}] }}]"
    );
    std::fs::write(&file, scrape).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut prometheus = std::process::Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().display()))
        .arg(format!("--web.listen-address={address}"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("Debian's prometheus");
    let hits = "/api/v1/query?query=ccfs_gateway_cache_requests_total%7Bstatus=%22hit%22%7D";
    eventually("the hits are there", async || {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return false;
        }
        let response = page::get(address, hits).await;
        response
            .body
            .contains(r#"ccfs_gateway_cache_requests_total"#)
            && response.body.contains(r#","2"]"#)
    })
    .await;
    let _ = prometheus.kill();
    let _ = prometheus.wait();
}

/// Traffic of one fetch, two hits and one malformed head.
async fn traffic() -> TestEnv {
    let setup = Setup {
        shanghai: "rate_limit = { per_second = 50, burst = 100 }".to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    for _ in 0..3 {
        env.get_recording("1637742300-27").await;
    }
    let mut twice = env.post("{}");
    twice.target = "/a/../b".to_owned();
    env.send(&twice).await;
    env
}

/// The series must exist, otherwise an alert on `node_up == 0` stays silent.
#[tokio::test]
async fn a_node_whose_name_was_never_resolved_is_not_up() {
    let setup = Setup {
        tables:
            "[clusters.named]\nnodes = [\"https://nobody.invalid:8443\"]\ntls = { ca = \"ca.pem\" }"
                .to_owned(),
        ..Setup::default()
    };
    let env = setup.start().await;
    let admin = env.bound.admin.unwrap();
    let status = page::get(admin, "/status").await;
    let status: serde_json::Value = serde_json::from_str(&status.body).unwrap();
    let node = &status["clusters"][1]["nodes"][0];
    assert_eq!(node["state"], "unresolved", "{status:#}");
    assert!(node["socket"].is_null());
    let metrics = page::get(admin, "/metrics").await.body;
    let expected = "ccfs_gateway_node_up{cluster=\"named\",node=\"nobody.invalid:8443\"} 0\n";
    assert!(metrics.contains(expected), "{metrics}");
}

/// The metric families of the contract with their types.
const FAMILIES: &[(&str, &str)] = &[
    ("build", "info"),
    ("config_reloads", "counter"),
    ("config_last_reload_success", "gauge"),
    ("config_last_reload_timestamp_seconds", "gauge"),
    ("tls_cert_not_after_timestamp_seconds", "gauge"),
    ("tls_crl_next_update_timestamp_seconds", "gauge"),
    ("connections", "gauge"),
    ("handshakes", "counter"),
    ("requests", "counter"),
    ("request_duration_seconds", "histogram"),
    ("auth", "counter"),
    ("caller_auth", "counter"),
    ("audit_lines", "counter"),
    ("signature_hints", "counter"),
    ("validation_rejects", "counter"),
    ("cache_requests", "counter"),
    ("cache_entries", "gauge"),
    ("cache_weight_bytes", "gauge"),
    ("cache_refresh", "counter"),
    ("coalesced_waiters", "gauge"),
    ("prefer_waiters", "gauge"),
    ("ratelimit_decisions", "counter"),
    ("ratelimit_keys", "gauge"),
    ("upstream_requests", "counter"),
    ("upstream_duration_seconds", "histogram"),
    ("upstream_result_codes", "counter"),
    ("upstream_retries", "counter"),
    ("retry_budget_exhausted", "counter"),
    ("upstream_in_flight", "gauge"),
    ("upstream_node_certificate_not_after_seconds", "gauge"),
    ("upstream_ceiling", "gauge"),
    ("flow_control_waiters", "gauge"),
    ("node_clock_offset_seconds", "gauge"),
    ("node_up", "gauge"),
    ("node_ejected", "gauge"),
    ("cluster_panic", "gauge"),
    ("inflight_requests", "gauge"),
    ("shed", "counter"),
    ("panics", "counter"),
    ("findings", "gauge"),
    ("draining", "gauge"),
    ("trace_spans", "counter"),
];

/// An exposition that was validated against the OpenMetrics text format 1.0.0.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// The type of each family.
    pub(crate) families: BTreeMap<String, String>,
    /// Values by name and labels.
    pub(crate) samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Parses an exposition; panics if it is not valid.
    pub(crate) fn read(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("ends with # EOF");
        let mut read = Self::default();
        let mut family = String::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let [word, name, rest] = [(); 3].map(|()| words.next().unwrap_or_default());
                assert!(["HELP", "TYPE", "UNIT"].contains(&word), "{line}");
                if word == "TYPE" {
                    let before = read.families.insert(name.to_owned(), rest.to_owned());
                    assert_eq!(before, None, "{name} appears twice");
                }
                if word == "UNIT" {
                    assert!(name.ends_with(&format!("_{rest}")), "{line}");
                }
                family = name.to_owned();
            } else {
                read.sample(line, &family);
            }
        }
        read.check_histograms();
        read
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a name and a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        let kind = self
            .families
            .get(family)
            .unwrap_or_else(|| panic!("{line}: no TYPE"));
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            _ => panic!("{line}: type {kind}"),
        };
        let suffix = name
            .strip_prefix(family)
            .unwrap_or_else(|| panic!("{line} in {family}"));
        assert!(suffixes.contains(&suffix), "{line} in {family}, a {kind}");
        assert!(kind == "gauge" || value >= 0.0, "{line}");
        check_labels(series.strip_prefix(name).unwrap());
        let before = self.samples.insert(series.to_owned(), value);
        assert_eq!(before, None, "{series} appears twice");
    }

    /// Buckets are cumulative, and the last one equals the count.
    fn check_histograms(&self) {
        for (series, count) in &self.samples {
            let Some((name, labels)) = series.split_once("_count{") else {
                continue;
            };
            let mut bounds: Vec<_> = self
                .samples
                .iter()
                .filter_map(|(other, value)| {
                    let (bucket, rest) = other.split_once("_bucket{")?;
                    let (bound, rest) = take_bound(rest);
                    (bucket == name && rest == labels).then_some((bound, *value))
                })
                .collect();
            bounds.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            assert!(
                bounds.is_sorted_by(|(_, one), (_, other)| one <= other),
                "{series}"
            );
            assert_eq!(bounds.last(), Some(&(f64::INFINITY, *count)), "{series}");
        }
    }
}

/// Splits the `le` label off a bucket's labels.
fn take_bound(labels: &str) -> (f64, String) {
    let inside = labels.trim_end_matches('}');
    let (bound, others): (Vec<_>, Vec<_>) = inside
        .split(',')
        .partition(|label| label.starts_with("le="));
    let bound = bound[0].trim_start_matches("le=").trim_matches('"');
    (bound.parse().unwrap(), format!("{}}}", others.join(",")))
}

fn check_labels(labels: &str) {
    if labels.is_empty() {
        return;
    }
    let inside = labels
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inside.unwrap_or_else(|| panic!("{labels}"));
    assert!(!rest.is_empty(), "braces around nothing");
    let mut names = BTreeSet::new();
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        let legal = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(!name.is_empty() && name.chars().all(legal), "{labels}");
        assert!(names.insert(name), "{labels}: {name} twice");
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let after = &after[end.unwrap_or_else(|| panic!("{labels}")) + 1..];
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                assert_eq!(after, "", "{labels}");
                return;
            }
        }
    }
}
