//! Soak test: a real gateway under mixed load and malicious clients (`CCFS_SOAK_MINUTES`, 20 if
//! unset). Afterwards memory, descriptors and threads of the process are back at their initial
//! level.
//!
//! `cargo test --release --test soak -- --ignored --nocapture`

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a test fails by panicking, uses clocks and tasks, prints its figures, and shares parts of the scenarios"
)]

#[path = "../gateway/hostile.rs"]
mod hostile;
#[path = "../gateway/page.rs"]
mod page;
#[path = "../gateway/process.rs"]
mod process;
#[path = "../gateway/support.rs"]
mod support;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ccfs_gateway::client::ClientRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::hostile::{FLOODS, Target, flood};
use self::process::Process;
use self::support::{SHANGHAI, Setup, UNKNOWN, client_trusting, signed};

/// Resource usage of the process.
#[derive(Clone, Copy, Debug)]
struct Level {
    resident: u64,
    descriptors: usize,
    threads: usize,
}

impl Level {
    fn of(gateway: &Process) -> Self {
        let process = std::path::PathBuf::from(format!("/proc/{}", gateway.id()));
        let entries = |name: &str| std::fs::read_dir(process.join(name)).unwrap().count();
        Self {
            resident: gateway.resident(),
            descriptors: entries("fd"),
            threads: entries("task"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.resident as f64 / f64::from(1 << 20);
        let (descriptors, threads) = (self.descriptors, self.threads);
        write!(
            f,
            "{mebibytes:.1} MiB, {descriptors} descriptors, {threads} threads"
        )
    }
}

/// Counters of the load.
#[derive(Debug, Default)]
struct Done {
    over: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    downloaded: AtomicU64,
    refused: AtomicU64,
    attacks: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for 20 minutes"]
async fn resources_return_to_their_initial_level() {
    let minutes = std::env::var("CCFS_SOAK_MINUTES").map_or(20.0, |text| text.parse().unwrap());
    let mut gateway = Process::start(&setup()).await;
    let target = Target::new(gateway.listener, &gateway.site.folder.path().join("ca.pem"));
    // The first round fills pools, tables and the allocator's arenas.
    run(&gateway, &target, Duration::from_secs(30)).await;
    calm(&gateway).await;
    let before = Level::of(&gateway);
    println!("before: {before}");
    let done = run(&gateway, &target, Duration::from_secs_f64(minutes * 60.0)).await;
    println!("{done:?}");
    println!("at the end of the load: {}", Level::of(&gateway));
    calm(&gateway).await;
    let after = Level::of(&gateway);
    println!("after {minutes} minutes: {after}");
    let metrics = page::get(gateway.admin, "/metrics").await.body;
    for line in metrics
        .lines()
        .filter(|line| line.contains("connections_ended_total{"))
    {
        println!("{line}");
    }
    assert!(gateway.is_running());
    assert!(
        !gateway.diagnostics().contains("panic"),
        "{}",
        gateway.diagnostics()
    );
    assert!(after.resident < before.resident + (32 << 20), "memory");
    assert!(after.descriptors <= before.descriptors + 16, "descriptors");
    assert!(after.threads <= before.threads + 2, "threads");
    assert_eq!(done.failed.load(Relaxed), 0, "valid requests that failed");
}

fn setup() -> Setup {
    let limits = "header_timeout = \"2s\"\nidle_timeout = \"5s\"\nhandshake_timeout = \"2s\"\n\
                  send_rate_window = \"3s\"\nhttp2_goaway_timeout = \"2s\"";
    Setup {
        nodes: 2,
        tables: format!(
            "[limits]\n{limits}\n[cache]\nmax_size = \"4MiB\"\n\
             [telemetry]\nlog_level = \"info\"\naccess_log = \"off\""
        ),
        ..Setup::default()
    }
}

/// Waits until every connection timeout has passed.
async fn calm(gateway: &Process) {
    sleep(Duration::from_secs(12)).await;
    assert_eq!(gateway.get_recording("after-all").await.status, 200);
}

/// Runs all kinds of load concurrently for `time`.
async fn run(gateway: &Process, target: &Target, time: Duration) -> Arc<Done> {
    let done = Arc::new(Done::default());
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        tasks.spawn(ask(gateway.url(), gateway.client(), number, done.clone()));
    }
    tasks.spawn(download(gateway.url(), gateway.client(), done.clone()));
    tasks.spawn(pretend(gateway.url(), gateway.client(), done.clone()));
    tasks.spawn(hold(target.clone(), done.clone()));
    tasks.spawn(inundate(target.clone(), done.clone()));
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_secs(60).min(end - Instant::now())).await;
        println!("{:?} left: {}", end - Instant::now(), Level::of(gateway));
    }
    done.over.store(true, Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    done
}

/// Requests recording URLs, some of them repeatedly, with pauses.
async fn ask(url: String, client: ccfs_gateway::client::Client, seed: u64, done: Arc<Done>) {
    let mut number = seed;
    while !done.over.load(Relaxed) {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1 + seed);
        let choice = number >> 33;
        let call_id = if choice.is_multiple_of(4) {
            choice
        } else {
            choice % 100
        };
        let query = ccfs_gateway::client::RecordingQuery {
            call_id: &call_id.to_string(),
            begin: support::BEGIN,
            end: support::END,
            version: Some("2.0"),
        };
        let request = signed(ClientRequest::recording(&url, &query).unwrap(), SHANGHAI);
        match client.send(&request).await {
            Ok(response) if response.status == 200 => done.answered.fetch_add(1, Relaxed),
            other => {
                println!("{other:?}");
                done.failed.fetch_add(1, Relaxed)
            }
        };
        sleep(Duration::from_millis(choice % 20)).await;
    }
}

/// Downloads a file; every second download is abandoned halfway.
async fn download(url: String, client: ccfs_gateway::client::Client, done: Arc<Done>) {
    let path = format!("{url}/CCFS/resource/ccfs/downloadRecord");
    let body = r#"{"request":{"version":"2.0"},"msgBody":{"fileName":"size-4194304.wav"}}"#;
    let mut whole = false;
    while !done.over.load(Relaxed) {
        whole = !whole;
        let request = signed(ClientRequest::post(&path, body).unwrap(), SHANGHAI);
        let mut response = client.send_streaming(&request).await.unwrap();
        let mut bytes = 0;
        while whole || bytes < 1 << 20 {
            match response.chunk().await {
                Ok(Some(piece)) => bytes += piece.len() as u64,
                Ok(None) => break,
                Err(error) => panic!("{error}"),
            }
        }
        done.downloaded.fetch_add(bytes, Relaxed);
        sleep(Duration::from_millis(200)).await;
    }
}

/// Sends unknown access keys and wrong signatures.
async fn pretend(url: String, client: ccfs_gateway::client::Client, done: Arc<Done>) {
    let path = format!("{url}/CCFS/resource/ccfs/getRecordFileUrlFromObs");
    while !done.over.load(Relaxed) {
        let request = ClientRequest::post(&path, "{}").unwrap();
        match client.send(&signed(request, UNKNOWN)).await {
            Ok(response) => assert!([401, 429].contains(&response.status.as_u16())),
            Err(error) => println!("{error}"),
        }
        done.refused.fetch_add(1, Relaxed);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Opens connections that stay silent, or send half a head.
async fn hold(target: Target, done: Arc<Done>) {
    let mut held = std::collections::VecDeque::new();
    while !done.over.load(Relaxed) {
        let silent = TcpStream::connect(target.address).await.unwrap();
        let mut connection = target.connect().await;
        connection
            .send(b"POST /CCFS/ HTTP/1.1\r\nHost: h\r\nX")
            .await;
        held.push_back((silent, connection));
        if held.len() > 200 {
            held.pop_front();
        }
        done.attacks.fetch_add(2, Relaxed);
        sleep(Duration::from_millis(40)).await;
    }
}

/// Sends one HTTP/2 flood after the other; their connections stay open for a while.
async fn inundate(target: Target, done: Arc<Done>) {
    let mut connections = std::collections::VecDeque::new();
    for (name, _) in FLOODS.iter().cycle() {
        if done.over.load(Relaxed) {
            return;
        }
        if let Ok(connection) = timeout(Duration::from_secs(10), flood(&target, name, 1_000)).await
        {
            connections.push_back(connection);
        }
        if connections.len() > 20 {
            connections.pop_front();
        }
        done.attacks.fetch_add(1, Relaxed);
        sleep(Duration::from_millis(100)).await;
    }
}

impl Process {
    /// A new client of the process.
    fn client(&self) -> ccfs_gateway::client::Client {
        client_trusting(self.site.folder.path()).with_idle_connections(4)
    }
}
