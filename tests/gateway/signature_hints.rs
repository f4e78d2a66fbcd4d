//! The signature doctor (§10): what it tells, and that clients cannot tell that it is there.

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::ClientRequest;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;

use crate::page;
use crate::process::{Process, run_command};
use crate::support::{SHANGHAI, Setup, TestEnv, UNKNOWN, eventually, secret, signed};

fn setup() -> Setup {
    Setup {
        tables: "[admin]\nbind = \"127.0.0.1:0\"\ntoken_file = \"token\"".to_owned(),
        ..Setup::default()
    }
}

fn with_secret(request: ClientRequest, ak: &str, secret: &str) -> ClientRequest {
    let secret = Secret::new(secret.into());
    let credential = std::sync::Arc::new(Credential::new(AccessKey::from(ak), vec![secret], true));
    request
        .sign(
            &credential,
            ccfs_gateway::client::DEFAULT_SIGNED_FIELDS,
            Timestamp::now(),
        )
        .unwrap()
}

async fn get(env: &TestEnv, path: &str, token: &str) -> page::AdminResponse {
    let lines = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    page::exchange(env.bound.admin.unwrap(), &lines).await
}

async fn hints(env: &TestEnv, class: &str) -> f64 {
    let metrics = get(env, "/metrics", "t0ken").await.body;
    let sample = format!("ccfs_gateway_signature_hints_total{{class=\"{class}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap().parse().unwrap()
}

async fn start(tables: &str) -> TestEnv {
    let mut setup = setup();
    setup.tables += &format!("\n{tables}");
    let site = setup.prepare().await;
    let token = site.folder.path().join("token");
    ccfs_gateway::stand_in::certificates::write_private_file(&token, b"t0ken").unwrap();
    TestEnv::with_site(site)
}

#[tokio::test]
async fn a_mistake_is_named_in_metrics_status_and_for_explain() {
    let env = start("").await;
    let request = env.recording("doctor-1");
    let line_end = with_secret(request, SHANGHAI, &format!("{}\n", secret(SHANGHAI)));
    assert_eq!(env.send(&line_end).await.status, 401);
    eventually("the case is worked on", async || {
        hints(&env, "secret-line-end").await == 1.0
    })
    .await;
    let mut status = Value::Null;
    eventually("the findings have it", async || {
        let body = get(&env, "/status", "t0ken").await.body;
        status = serde_json::from_str(&body).unwrap();
        status["claimed_access_keys"][0]["mistake"].is_string()
    })
    .await;
    let claimed = &status["claimed_access_keys"][0];
    assert_eq!(
        (&claimed["access_key"], &claimed["count"]),
        (&SHANGHAI.into(), &1.into())
    );
    let mistake = claimed["mistake"].as_str().unwrap();
    assert!(mistake.starts_with("secret-line-end: "), "{mistake}");
    let live = get(&env, &format!("/signatures/{SHANGHAI}"), "t0ken").await;
    assert_eq!(live.status, 200);
    let live: Value = serde_json::from_str(&live.body).unwrap();
    assert_eq!(
        (&live["ak"], &live["class"]),
        (&SHANGHAI.into(), &"secret-line-end".into())
    );
    assert_eq!(live["names"], "content-length;content-type;host");
    assert!(live["lengths"]["(body)"].as_u64().unwrap() > 50);

    // No case, and no such access key, look the same.
    let none = get(&env, "/signatures/ak-berlin", "t0ken").await;
    let unknown = get(&env, "/signatures/nobody", "t0ken").await;
    assert_eq!((none.status, &none.body), (404, &unknown.body));
    assert_eq!(
        get(&env, &format!("/signatures/{SHANGHAI}"), "wrong")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_clock_in_another_zone_is_named_from_the_head_alone() {
    let env = start("").await;
    let credential = crate::support::credential(SHANGHAI);
    let local = Timestamp::now() + 8.hours();
    let request = env.recording("doctor-2");
    let request = request.sign(&credential, "host", local).unwrap();
    assert_eq!(env.send(&request).await.status, 401);
    eventually("named", async || {
        hints(&env, "timestamp-local").await == 1.0
    })
    .await;
}

#[tokio::test]
async fn without_a_token_live_signatures_are_not_shown() {
    let env = TestEnv::start().await;
    let response = page::get(env.bound.admin.unwrap(), &format!("/signatures/{SHANGHAI}")).await;
    assert_eq!(response.status, 403);
    assert!(response.body.contains("token_file"));
}

#[tokio::test]
async fn the_log_has_one_line_of_its_own_and_explain_prints_the_case() {
    let mut setup = Setup {
        tables: format!(
            "{}\n[telemetry]\nlog_format = \"json\"\nlog_level = \"info\"\naccess_log = \"off\"",
            setup().tables
        ),
        ..Setup::default()
    };
    setup.tables = setup
        .tables
        .replace("token_file = \"token\"", "token_file = \"ak-berlin\"");
    let process = Process::start(&setup).await;
    let bad = with_secret(
        process.recording("doctor-3"),
        SHANGHAI,
        &format!("{} ", secret(SHANGHAI)),
    );
    let id = http::HeaderName::from_static("x-request-id");
    let response = process
        .client
        .send(&bad.with_header(id, "the-request"))
        .await
        .unwrap();
    assert_eq!(response.status, 401);
    eventually("a line", async || {
        process.diagnostics().contains("gw.signature_hint")
    })
    .await;
    let text = process.diagnostics();
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| !line["gw.signature_hint"].is_null())
        .collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["request_id"], &lines[0]["level"]),
        (&"the-request".into(), &"INFO".into())
    );
    assert_eq!(lines[0]["gw.signature_hint"], "secret-blanks");
    assert!(lines[0]["gw.claimed_ak"].is_null() && !text.contains(&secret(SHANGHAI)));
    explain_prints_the_case(&process);
}

fn explain_prints_the_case(process: &Process) {
    let token = process.site.folder.path().join("ak-berlin");
    let admin = format!("http://{}", process.admin);
    let token = token.to_str().unwrap();
    let explain = |ak: &'static str| {
        run_command(
            process.site.folder.path(),
            &[
                "explain",
                "--live",
                ak,
                "--admin",
                &admin,
                "--token-file",
                token,
            ],
        )
    };
    let shown = explain(SHANGHAI);
    assert!(shown.status.success(), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.starts_with("secret-blanks: ") && shown.contains("host"),
        "{shown}"
    );
    assert_eq!(explain("nobody").status.code(), Some(1));
}

/// What a client sees of requests that fail, for an access key that is known and one that is not, is the same
/// in bytes and order, and so is the response that follows.
#[tokio::test]
async fn no_response_differs_nor_the_one_after_it() {
    let env = start("").await;
    let mut seen = Vec::new();
    for ak in [SHANGHAI, UNKNOWN] {
        let id = http::HeaderName::from_static("x-request-id");
        let mut responses = Vec::new();
        for secret_key in [format!("{}\n", secret(ak)), "another".to_owned()] {
            let bad = with_secret(env.recording("same-1"), ak, &secret_key);
            let bad = bad.with_header(id.clone(), "same");
            for request in [
                &bad,
                &signed(
                    env.recording("same-1").with_header(id.clone(), "same"),
                    SHANGHAI,
                ),
            ] {
                let response = env.send(request).await;
                let names: Vec<_> = response
                    .headers
                    .iter()
                    .map(|(name, _)| name.to_string())
                    .collect();
                let value = |name: &str| response.header(name).map(str::to_owned);
                let fields = ["proxy-status", "x-gateway-error", "via"].map(value);
                // A recording's URL is signed anew by each fetch; a failure is the same text.
                let body = (response.status == 401).then(|| response.body.clone());
                responses.push((response.status, names, fields, body));
            }
        }
        seen.push(responses);
    }
    // The first recording is a miss.
    let [known, unknown] = &mut seen[..] else {
        unreachable!("two access keys")
    };
    known.remove(1);
    unknown.remove(1);
    assert_eq!(known, unknown);
}

/// Known and unknown access keys take the same time, and so does the request that follows.
#[tokio::test]
#[ignore = "takes minutes, and needs a quiet machine"]
async fn no_response_takes_another_time_nor_the_one_after_it() {
    const REQUESTS: usize = 20_000;
    let env = start("[limits]\nper_address = { per_second = 1000000, burst = 1000000 }").await;
    env.get_recording("time-1").await;
    let bad = |ak: &str, secret_key: &str| with_secret(env.recording("time-1"), ak, secret_key);
    let line_end = format!("{}\n", secret(SHANGHAI));
    // Each is signed once: the time of the client's own HMAC is not measured.
    let known = bad(SHANGHAI, &line_end);
    let unknown = bad(UNKNOWN, &line_end);
    let right = signed(env.recording("time-1"), SHANGHAI);
    let (mut failed, mut after) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..REQUESTS {
        for (kind, request) in [&known, &unknown].into_iter().enumerate() {
            let began = std::time::Instant::now();
            env.send(request).await;
            failed[kind].push(began.elapsed().as_nanos() as f64);
            let began = std::time::Instant::now();
            env.send(&right).await;
            after[kind].push(began.elapsed().as_nanos() as f64);
        }
    }
    for [known, unknown] in [failed, after] {
        let (median_known, median_unknown) = (median(&known), median(&unknown));
        let p = mann_whitney(&known, &unknown);
        println!("medians {median_known} and {median_unknown} ns, p = {p}");
        assert!((median_known / median_unknown - 1.0).abs() < 0.02);
        assert!(p > 0.01);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The two-sided p of the Mann-Whitney U test, by the normal approximation.
fn mann_whitney(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<_> = one
        .iter()
        .map(|value| (*value, 0))
        .chain(other.iter().map(|value| (*value, 1)))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let ranks: f64 = all
        .iter()
        .enumerate()
        .filter(|(_, (_, kind))| *kind == 0)
        .map(|(rank, _)| rank as f64 + 1.0)
        .sum();
    let (n, m) = (one.len() as f64, other.len() as f64);
    let u = ranks - n * (n + 1.0) / 2.0;
    let z = (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt();
    // Abramowitz and Stegun, 7.1.26.
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    poly * (-x * x).exp()
}

#[test]
fn the_test_of_times_can_fail() {
    let one: Vec<f64> = (0..1000).map(f64::from).collect();
    let shifted: Vec<f64> = one.iter().map(|value| value + 100.0).collect();
    assert!(mann_whitney(&one, &one) > 0.9 && mann_whitney(&one, &shifted) < 0.01);
}
