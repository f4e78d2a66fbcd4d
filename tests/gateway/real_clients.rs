//! Real HTTP clients over HTTP/1.1 and HTTP/2: curl, Java's HttpClient, Node.js, Python's httpx, Go's
//! net/http. Each sends the same requests and must report the same statuses: a recording-URL request
//! with `Expect: 100-continue` where the client supports it, HEAD of errors, and rejected uploads.
//! Their sources are in `tests/clients/`.
//!
//! `cargo test --test gateway real_clients:: -- --ignored`

use std::path::{Path, PathBuf};
use std::process::Command;

use ccfs_gateway::client::ClientRequest;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST};

use crate::support::{SHANGHAI, Setup, TestEnv, signed};

mod callers;

/// A request of the list, and what the client must report.
struct Case {
    name: String,
    request: ClientRequest,
    expects_continue: bool,
    status: u16,
}

impl Case {
    fn new(name: impl Into<String>, request: ClientRequest, status: u16) -> Self {
        Self {
            name: name.into(),
            request,
            expects_continue: false,
            status,
        }
    }

    fn with_expect(mut self) -> Self {
        self.expects_continue = true;
        self
    }

    /// The URL, the file of the body if there is one, and the headers that no client sets itself.
    fn parts(&self, env: &TestEnv, dir: &Path) -> (String, Option<PathBuf>, Vec<String>) {
        let body = (!self.request.body.is_empty()).then(|| dir.join(&self.name));
        if let Some(file) = &body {
            std::fs::write(file, &self.request.body).unwrap();
        }
        let headers = self.request.headers.iter();
        let headers = headers.filter(|(name, _)| ![HOST, CONTENT_LENGTH].contains(name));
        let headers = headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let url = format!("{}{}", env.url(), self.request.target);
        (url, body, headers.collect())
    }

    /// Whether a client's line (name, status, bytes of the body, HTTP version) is as it must be.
    fn matches(&self, line: &str, version: &str) -> bool {
        let columns: Vec<_> = line.split('\t').collect();
        let [name, status, bytes, spoken] = columns[..] else {
            return false;
        };
        let has_body = self.request.method != Method::HEAD;
        name == self.name
            && status == self.status.to_string()
            && (bytes != "0") == has_body
            && spoken == version
    }
}

/// A client that reads the requests from a file.
#[derive(Clone, Copy)]
enum Script {
    Go,
    Java,
    Node,
    Python,
}

impl Script {
    fn command(self, version: &str, ca: &Path, requests: &Path) -> Command {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let mut command = match self {
            Self::Go => {
                let mut command = Command::new("go");
                let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
                command.env("GOCACHE", cache).arg("run");
                command.arg(sources.join("client.go"));
                command
            }
            Self::Java => {
                let mut command = Command::new("java");
                command.arg(sources.join("Client.java"));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.env("NODE_EXTRA_CA_CERTS", ca);
                command.arg(sources.join("client.js"));
                command
            }
            Self::Python => {
                // Debian's own interpreter: another `python3` on the PATH does not see Debian's modules.
                let mut command = Command::new("/usr/bin/python3");
                command.arg(sources.join("client.py"));
                command
            }
        };
        command.arg(version).arg(ca).arg(requests);
        command
    }
}

/// The requests of every client, several times: some failures depend on timing. Names of uploads that
/// are rejected before their end begin with [`REJECTED_EARLY`].
fn cases(env: &TestEnv) -> Vec<Case> {
    let recording = |name: String| Case::new(name, signed(env.recording("1-1"), SHANGHAI), 200);
    let head = |path: &str| ClientRequest::new(Method::HEAD, &format!("{}{path}", env.url()));
    let upload = |size: usize| env.post_to("ivr/uploadFile", "x".repeat(size));
    let forged = |size: usize| {
        let request = signed(env.recording("1-1"), SHANGHAI);
        upload(size).with_authorization(request.headers[AUTHORIZATION].clone())
    };
    let mut cases = Vec::new();
    for round in 0..ROUNDS {
        let named = |name: &str| format!("{name}-{round}");
        cases.extend([
            recording(named("recording-with-expect")).with_expect(),
            Case::new(
                named("head-405"),
                head("/CCFS/resource/ccfs/getRecordFileUrlFromObs").unwrap(),
                405,
            ),
            recording(named("recording-after-405")),
            Case::new(
                named("head-401"),
                head("/CCFS/resource/ccfs/none").unwrap(),
                401,
            ),
            Case::new(named("early-401-of-3-mb"), upload(3_000_000), 401),
            recording(named("recording-after-401")),
            Case::new(named("early-401-of-6-mb"), upload(6_000_000), 401),
            Case::new(named("forged-401-of-3-mb"), forged(3_000_000), 401),
            Case::new(
                named("early-413-of-3-mb"),
                env.post("x".repeat(3_000_000)),
                413,
            ),
            recording(named("recording-after-413")),
            Case::new(
                named("early-413-of-6-mb"),
                env.post("x".repeat(6_000_000)),
                413,
            ),
        ]);
    }
    cases
}

/// Failures are charged to the address of all clients here.
async fn env() -> TestEnv {
    let setup = Setup {
        tables: "[limits]\nper_address = { per_second = 1000, burst = 1000 }".into(),
        ..Setup::default()
    };
    setup.start().await
}

/// Lets a client send the requests; panics if it reports anything else than it must.
async fn check(script: Script, version: &'static str) {
    let env = env().await;
    check_cases(script, version, &cases(&env), &env).await;
}

async fn check_cases(script: Script, version: &'static str, cases: &[Case], env: &TestEnv) {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for case in cases {
        let (url, body, headers) = case.parts(env, dir.path());
        let method = &case.request.method;
        let expect = if case.expects_continue { "expect" } else { "-" };
        let body = body.map_or("-".into(), |file| file.display().to_string());
        let fixed = format!("{}\t{method}\t{url}\t{expect}\t{body}", case.name);
        lines.push([&[fixed], &headers[..]].concat().join("\t"));
    }
    let requests = dir.path().join("requests.tsv");
    std::fs::write(&requests, lines.join("\n") + "\n").unwrap();
    let mut command = script.command(version, &env.file("ca.pem"), &requests);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let reported = String::from_utf8_lossy(&output.stdout);
    assert_reported(cases, reported.lines(), version);
    assert!(output.status.success(), "{output:?}");
}

/// Lets curl send the requests, each in a process of its own.
async fn check_curl(flag: &'static str, version: &'static str, cases: &[Case], env: &TestEnv) {
    let dir = tempfile::tempdir().unwrap();
    let mut reported = Vec::new();
    for case in cases {
        let (url, body, headers) = case.parts(env, dir.path());
        let mut command = Command::new("curl");
        command.args([flag, "--silent", "--show-error", "--max-time", "10"]);
        command.arg("--cacert").arg(env.file("ca.pem"));
        command.arg("--output").arg(dir.path().join("response"));
        command.args([
            "--write-out",
            "%{http_code}\\t%{size_download}\\t%{http_version}",
        ]);
        for header in headers {
            command.args(["--header", &header]);
        }
        if case.request.method == Method::HEAD {
            command.arg("--head");
        }
        if let Some(file) = body {
            let expect = if case.expects_continue {
                "Expect: 100-continue"
            } else {
                "Expect:"
            };
            command.args(["--header", expect]);
            command.args(["--data-binary", &format!("@{}", file.display())]);
        }
        command.arg(url);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let (out, error) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        let mut line = format!("{}\t{}", case.name, String::from_utf8_lossy(&out));
        if !output.status.success() {
            line += &format!("\t{}", error.trim());
        }
        reported.push(line);
    }
    assert_reported(cases, reported.iter().map(String::as_str), version);
}

fn assert_reported<'a>(cases: &[Case], lines: impl Iterator<Item = &'a str>, version: &str) {
    let lines: Vec<_> = lines.collect();
    let of = |case: &Case| {
        let prefix = format!("{}\t", case.name);
        lines.iter().find(|line| line.starts_with(&prefix))
    };
    let wrong: Vec<_> = cases
        .iter()
        .filter(|case| !of(case).is_some_and(|line| case.matches(line, version)))
        .map(|case| (case.name.as_str(), case.status, of(case)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        cases.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package curl"]
async fn curl_over_http1() {
    let env = env().await;
    check_curl("--http1.1", "1.1", &cases(&env), &env).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package curl"]
async fn curl_over_http2() {
    let env = env().await;
    check_curl("--http2", "2", &cases(&env), &env).await;
}

/// Debian's curl offers `http/1.0` by ALPN for this flag, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package curl"]
async fn curl_over_http1_0() {
    let env = env().await;
    let recording = signed(env.recording("1-1"), SHANGHAI);
    let unsigned = env.recording("1-1");
    let cases = [
        Case::new("recording", recording, 200),
        Case::new("unsigned", unsigned, 401),
    ];
    check_curl("--http1.0", "1", &cases, &env).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package default-jdk-headless"]
async fn java_over_http1() {
    check(Script::Java, "1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package default-jdk-headless"]
async fn java_over_http2() {
    let env = env().await;
    let mut cases = cases(&env);
    // Before JDK 21 this client processes no frame while it waits for send window (JDK-8293786).
    cases.retain(|case| !case.name.starts_with(REJECTED_EARLY));
    check_cases(Script::Java, "2", &cases, &env).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package nodejs"]
async fn node_fetch_over_http1() {
    check(Script::Node, "1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package nodejs"]
async fn node_over_http2() {
    check(Script::Node, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's packages python3-httpx and python3-h2"]
async fn httpx_over_http1() {
    check(Script::Python, "1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's packages python3-httpx and python3-h2"]
async fn httpx_over_http2() {
    let env = env().await;
    let mut cases = cases(&env);
    // httpcore waits for send window whatever else arrives on the stream.
    cases.retain(|case| !case.name.starts_with(REJECTED_EARLY));
    check_cases(Script::Python, "2", &cases, &env).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package golang-go"]
async fn go_over_http1() {
    check(Script::Go, "1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package golang-go"]
async fn go_over_http2() {
    check(Script::Go, "2").await;
}

const ROUNDS: usize = 3;

const REJECTED_EARLY: &str = "early-";
