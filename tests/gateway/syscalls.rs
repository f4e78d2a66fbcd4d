//! System calls of the gateway per request; the bounds are part of the contract.
//!
//! Every system call of every thread of the program is counted (reads and writes of both sides,
//! event waits, futexes, clocks, timers, the allocator's) by `strace -f -c`, attached while no
//! request is in flight and detached when all are answered. The program runs as users start it,
//! with one worker and all timeouts armed; only health checks are off, since no request pays for
//! them. Each client waits for a response before it sends the next request. With 64 of them the
//! worker is always busy. Traced calls are slow, which makes batches larger and leaves what each
//! request costs by itself. That holds while clients and nodes, which are in this process, keep up:
//! the program must be built with the same profile. With one client the worker is idle after each
//! write, and waits for events; with four that is so in part.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ccfs_gateway::stand_in::UrlStyle;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::edge::valid_request;
use crate::hostile::{RawConnection, Target};
use crate::process::Process;
use crate::support::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package strace"]
async fn a_hit_of_a_busy_worker_needs_a_read_and_a_write() {
    assert_hit(64, 2.1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package strace"]
async fn a_forwarded_request_of_a_busy_worker_needs_two_of_each() {
    assert_forwarded(64, 4.2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package strace"]
async fn a_hit_of_an_idle_worker_needs_a_wait_more() {
    for (clients, bound) in [(1, 3.5), (4, 3.3)] {
        assert_hit(clients, bound).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Debian's package strace"]
async fn a_forwarded_request_of_an_idle_worker_needs_two_waits_more() {
    for (clients, bound) in [(1, 6.3), (4, 5.8)] {
        assert_forwarded(clients, bound).await;
    }
}

async fn assert_hit(clients: usize, bound: f64) {
    let load = Load {
        clients,
        verdict: "; hit; ",
        bound,
    };
    let calls = load.per_request(UrlStyle::default()).await;
    assert!(
        calls <= bound,
        "{calls:.3} system calls per hit, {clients} clients"
    );
}

async fn assert_forwarded(clients: usize, bound: f64) {
    let expired = UrlStyle {
        lifetime: Duration::ZERO,
        ..UrlStyle::default()
    };
    let load = Load {
        clients,
        verdict: "; fwd=uri-miss\r\n",
        bound,
    };
    let calls = load.per_request(expired).await;
    assert!(
        calls <= bound,
        "{calls:.3} system calls per forwarded request, {clients} clients"
    );
}

/// What is counted.
struct Load {
    /// Concurrent connections.
    clients: usize,
    /// The cache status of every response.
    verdict: &'static str,
    /// Calls per request below which counting ends.
    bound: f64,
}

impl Load {
    /// The calls per request over many requests: the minimum of several windows, as soon as one is
    /// within the bound. Other load on the machine only adds event waits.
    async fn per_request(&self, urls: UrlStyle) -> f64 {
        let _alone = ALONE.lock().await;
        let setup = Setup {
            cluster: "health_check = { enabled = false }".into(),
            shanghai: "ceiling = { per_second = 1000000, burst = 1000000 }".into(),
            tables:
                "[telemetry]\nlog_level = \"info\"\naccess_log = \"off\"\n[server]\nworkers = 1"
                    .into(),
            urls,
            ..Setup::default()
        };
        let gateway = Process::start(&setup).await;
        let target = Target::new(gateway.listener, &gateway.site.folder.path().join("ca.pem"));
        let mut clients = Vec::new();
        for number in 0..self.clients {
            clients.push(Client {
                line: target.connect().await,
                request: valid_request(&format!("1-{number}")),
            });
        }
        // The first response of each client may be one that is stored.
        let clients = ask(clients, 1, "; fwd=").await;
        let mut clients = ask(clients, WARM_UP, self.verdict).await;
        let turns = REQUESTS / self.clients;
        let mut least = f64::INFINITY;
        for _ in 0..WINDOWS {
            let trace = Trace::attach(gateway.id());
            clients = ask(clients, turns, self.verdict).await;
            let summary = trace.detach();
            println!("{summary}");
            least = least.min(total(&summary) as f64 / REQUESTS as f64);
            if least <= self.bound {
                break;
            }
        }
        least
    }
}

/// A connection and the request that it repeats.
struct Client {
    line: RawConnection,
    request: Vec<u8>,
}

/// Each client sends `turns` requests, all clients concurrently.
async fn ask(clients: Vec<Client>, turns: usize, verdict: &'static str) -> Vec<Client> {
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            for _ in 0..turns {
                assert!(client.line.send(&client.request).await);
                let reply = client.line.response().await.unwrap();
                assert!(
                    reply.status == 200 && reply.head.contains(verdict),
                    "{reply:?}"
                );
            }
            client
        });
    }
    tasks.join_all().await
}

/// `strace` attached to a process. Dropping it kills strace, which detaches it.
struct Trace {
    child: Child,
    folder: TempDir,
}

impl Trace {
    /// Starts counting.
    fn attach(process: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("strace")
            .args(["-f", "-c", "-p", &process.to_string(), "-o"])
            .arg(folder.path().join("summary"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("strace cannot be run: {error}"));
        let mut trace = Self { child, folder };
        let mut stderr = BufReader::new(trace.child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        // strace prints "Process 1 attached with 2 threads" once all threads are attached.
        assert!(
            line.contains(" attached"),
            "strace may not attach (ptrace is forbidden?): {line}"
        );
        // Keeps reading, so that the process never blocks on a full pipe.
        std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
        trace
    }

    /// Stops counting; returns strace's summary.
    fn detach(mut self) -> String {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(id, Signal::INT).unwrap();
        self.child.wait().unwrap();
        std::fs::read_to_string(self.summary()).unwrap()
    }

    fn summary(&self) -> PathBuf {
        self.folder.path().join("summary")
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of calls in the last line of a summary: `100.00    0.012345           1     12345
/// 67 total`.
fn total(summary: &str) -> u64 {
    let line = summary.lines().find(|line| line.ends_with(" total"));
    let line = line.unwrap_or_else(|| panic!("no total: {summary}"));
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// Requests of each client before counting starts: all upstream connections exist then.
const WARM_UP: usize = 5;

/// Requests that are counted in one window.
const REQUESTS: usize = 64 * 60;

/// Maximum number of windows.
const WINDOWS: usize = 4;

/// Serializes the tests of this file: each needs the whole machine.
static ALONE: Mutex<()> = Mutex::const_new(());
