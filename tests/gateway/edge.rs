//! The listener under invalid, slow, excessive and malicious traffic; other clients must stay
//! unaffected.

mod descriptors;
mod downgrade;
mod early_response;
mod fairness;
mod floods;
mod rejections;
mod slow;
mod smuggling;
mod unresponsive_node;

use std::time::Duration;

use ccfs_gateway::auth::{self, Signable};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::hostile::Target;
use crate::support::{BEGIN, END, SHANGHAI, Setup, TestEnv, credential, signed};

impl TestEnv {
    /// The address and trust for raw connections.
    pub(crate) fn target(&self) -> Target {
        Target::new(self.bound.listeners["ccfs"], &self.file("ca.pem"))
    }

    /// The sum of all counters with this name whose labels contain `label`.
    pub(crate) async fn metric_sum(&self, name: &str, label: &str) -> u64 {
        let mut stream = TcpStream::connect(self.bound.admin.unwrap()).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let name = format!("ccfs_gateway_{name}");
        text.lines()
            .filter(|line| line.starts_with(&name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// A gateway whose timeouts are all one second.
async fn with_short_timeouts(limits: &str) -> TestEnv {
    let tables = format!(
        "[limits]\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\nhandshake_timeout = \"1s\"\n\
         idle_timeout = \"1s\"\nsend_rate_window = \"1s\"\nhttp2_goaway_timeout = \"1s\"\n{limits}"
    );
    let setup = Setup {
        tables,
        ..Setup::default()
    };
    setup.start().await
}

/// A valid, correctly signed recording-URL request in HTTP/1.1.
pub(crate) fn valid_request(call_id: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"callId":"{call_id}","beginTime":"{BEGIN}","endTime":"{END}","version":"2.0"}}"#
    );
    post(
        "/CCFS/resource/ccfs/getRecordFileUrlFromObs",
        body.as_bytes(),
    )
}

/// A correctly signed POST.
fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1"));
    let request = Signable {
        method: "POST",
        path,
        query: None,
        headers: &headers,
        body,
    };
    let value = auth::sign(&credential(SHANGHAI), "host", Timestamp::now(), &request).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nAuthorization: {}\r\n\r\n",
        body.len(),
        value.to_str().unwrap()
    );
    [head.as_bytes(), body].concat()
}

/// A well-behaved client that repeats a recording-URL request, each time on a new connection.
struct Bystander(JoinHandle<Vec<Duration>>, tokio::sync::oneshot::Sender<()>);

impl Bystander {
    fn start(env: &TestEnv) -> Self {
        let target = env.target();
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut waits = Vec::new();
            let mut stopping = false;
            while !stopping || waits.len() < 10 {
                stopping |= ended.try_recv().is_ok();
                let start = Instant::now();
                let mut connection = target.connect().await;
                connection.send(&valid_request("1-1")).await;
                let response = connection.response().await.expect("a response");
                waits.push(start.elapsed());
                assert_eq!(response.status, 200, "{response:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            waits
        });
        Self(task, end)
    }

    /// Asserts that the 90th percentile of the response time was below 250 ms and that every
    /// request got a response. The maximum is not asserted: other load on the machine may cause it.
    async fn assert_served(self, during: &str) {
        let _ = self.1.send(());
        let mut waits = self.0.await.unwrap();
        waits.sort_unstable();
        let usual = waits[waits.len() * 9 / 10];
        let worst = waits[waits.len() - 1];
        println!(
            "during {during}: {} responses, p90 {usual:?}, maximum {worst:?}",
            waits.len()
        );
        assert!(
            usual < Duration::from_millis(250),
            "during {during}: {usual:?}"
        );
    }
}

/// Asserts that the gateway still serves and that no task has panicked.
async fn assert_healthy(env: &TestEnv) {
    assert!(!env.gateway.is_finished());
    let response = env.send(&signed(env.recording("is-well"), SHANGHAI)).await;
    assert_eq!(response.status, 200);
    assert_eq!(env.metric_sum("connections_ended", "panic").await, 0);
}

/// The table of limits in `config/README.md` equals the one in `config/reference.toml`.
#[test]
fn every_limit_is_documented() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = std::fs::read_to_string(root.join("config/reference.toml")).unwrap();
    let readme = std::fs::read_to_string(root.join("config/README.md")).unwrap();
    let (_, limits) = reference.split_once("\n[limits]\n").unwrap();
    let limits = limits
        .lines()
        .take_while(|line| !line.starts_with("# ----"))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "));
    let (_, table) = readme.split_once("\n## Limits\n").unwrap();
    let documented = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.rsplit_once(" |"))
        .filter_map(|(row, _)| row.split_once("` | `"))
        .filter_map(|(key, rest)| Some((key, rest.split_once("` | ")?.0)));
    assert_eq!(documented.collect::<Vec<_>>(), limits.collect::<Vec<_>>());
}
