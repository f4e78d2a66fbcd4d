//! Fault run: three stand-in nodes behind a gateway process under constant mixed load, while nodes
//! are killed, hang, stall, return invalid responses, cut connections, slow down and report flow
//! control. One node is healthy at every moment, so no idempotent request may fail, and no other
//! request may reach a node twice.
//!
//! `cargo test --release --test fault_run -- --ignored --nocapture`; `CCFS_FAULT_MINUTES` (10) sets
//! the duration, `CCFS_FAULT_SEED` (1) the sequence of faults.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, prints its figures, and uses clocks"
)]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use ccfs_gateway::stand_in::{AcceptBehavior, Fault, StandIn, When};

#[path = "../gateway/load.rs"]
mod load;
#[path = "../gateway/page.rs"]
#[allow(dead_code, reason = "shared with the scenarios, which use all of it")]
mod page;
#[path = "../gateway/process.rs"]
#[allow(dead_code, reason = "shared with the scenarios, which use all of it")]
mod process;
#[path = "../gateway/support.rs"]
#[allow(dead_code, reason = "shared with the scenarios, which use all of it")]
mod support;

use load::{JOBS, Kind, Load, LoadResult, Target, admin_request};
use process::Process;
use support::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; see the head of its file"]
async fn no_request_is_lost_while_one_node_is_healthy() {
    let minutes = number("CCFS_FAULT_MINUTES", 10.0);
    let mut dice = Dice(number("CCFS_FAULT_SEED", 1.0) as u64);
    let setup = Setup {
        nodes: 3,
        // An attempt at a node that hangs leaves time for the two others.
        cluster: "timeouts = { per_try = \"2s\" }".into(),
        tables: "[cache]\nmax_size = \"4MiB\"\n\
                 [telemetry]\nlog_level = \"info\"\naccess_log = \"off\""
            .into(),
        ..Setup::default()
    };
    let mut process = Process::start(&setup).await;
    let ca = process.site.folder.path().join("ca.pem");
    let target = Target::at(&process.url(), &ca);

    let began = Instant::now();
    let work = Work::start(&target);
    let mut ledger = Ledger::default();
    ledger.watch(&process.site.nodes, WARM_UP).await;
    let before = (process.resident(), files(&process));
    let (mut log, mut rounds) = (HashMap::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    while Instant::now() < end {
        let at = began.elapsed();
        let befell = round(&mut dice, &mut process.site.nodes, &mut ledger).await;
        rounds.push(format!("{at:.1?} {befell:?}"));
        for (_, what) in befell {
            *log.entry(what).or_insert(0u32) += 1;
        }
    }
    let (recordings, downloads, jobs) = work.end().await;
    let after = (process.resident(), files(&process));
    let metrics = admin_request(process.admin, "GET", "/metrics");

    println!("faults: {log:?}");
    println!("memory: {} KiB, then {} KiB", before.0 >> 10, after.0 >> 10);
    println!("open files: {}, then {}", before.1, after.1);
    let (reached, twice) = (ledger.0.len(), ledger.twice());
    println!("jobs that reached a node: {reached}, twice: {twice:?}");
    show(&recordings, &downloads, &jobs, &metrics);
    for tally in [&recordings, &downloads] {
        let first = &tally.failed[..tally.failed.len().min(20)];
        assert!(first.is_empty(), "{first:#?} in {rounds:#?}");
    }
    assert!(twice.is_empty());
    assert!(after.0 < before.0 + (32 << 20), "memory grew");
    assert!(after.1 < before.1 + 64, "descriptors leak");
}

/// The number of open file descriptors.
fn files(process: &Process) -> usize {
    let folder = format!("/proc/{}/fd", process.id());
    std::fs::read_dir(folder).unwrap().count()
}

/// One round: a period with faults, then a period without.
async fn round(dice: &mut Dice, nodes: &mut [StandIn], ledger: &mut Ledger) -> Vec<(usize, What)> {
    let well = dice.below(3);
    let mut befell = Vec::new();
    for (place, of) in [((well + 1) % 3, &GONE[..]), ((well + 2) % 3, &UNWELL)] {
        if dice.often() {
            let what = dice.pick(of);
            what.befall(&mut nodes[place]).await;
            befell.push((place, what));
        }
    }
    let time = dice.between(500, 4000);
    ledger.watch(nodes, time).await;
    for node in &mut *nodes {
        node.faults().clear();
        node.restart().await.unwrap();
    }
    // A request that hung until now has another node to go to, whichever is healthy next.
    let time = dice.between(2500, 3500);
    ledger.watch(nodes, time).await;
    befell
}

fn show(recordings: &LoadResult, downloads: &LoadResult, jobs: &LoadResult, metrics: &str) {
    for (what, tally) in [
        ("recordings", recordings),
        ("downloads", downloads),
        ("jobs", jobs),
    ] {
        println!("{what}: {}", figures(tally));
    }
    let names = ["upstream_retries", "retry_budget_exhausted", "panics"];
    let names = names.map(|name| format!("ccfs_gateway_{name}_total"));
    let lines = metrics.lines();
    for line in lines.filter(|line| names.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
}

/// The load on all interfaces.
struct Work {
    recordings: Load,
    downloads: Load,
    jobs: Vec<Load>,
}

impl Work {
    fn start(target: &Target) -> Self {
        let pause = Duration::from_millis;
        Self {
            recordings: Load::start(target, Kind::Recording, 16, pause(60)),
            downloads: Load::start(target, Kind::Download, 4, pause(60)),
            jobs: JOBS
                .iter()
                .map(|job| Load::start(target, Kind::Job(job), 1, pause(100)))
                .collect(),
        }
    }

    async fn end(self) -> (LoadResult, LoadResult, LoadResult) {
        let (recordings, downloads) = (self.recordings.stop().await, self.downloads.stop().await);
        let mut jobs = LoadResult::default();
        for load in self.jobs {
            let tally = load.stop().await;
            jobs.failed.extend(tally.failed);
            jobs.took.extend(tally.took);
        }
        (recordings, downloads, jobs)
    }
}

fn figures(tally: &LoadResult) -> String {
    let mut took = tally.took.clone();
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    format!(
        "{} requests, {} failed, {} cut after their first byte, p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        took.len(),
        tally.failed.len(),
        tally.cut,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    )
}

/// A fault of one node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum What {
    Busy,
    CloseAfterAnswer,
    CloseBeforeAnswer,
    CloseInBody,
    CloseInHead,
    GarbageHttp,
    GarbageJson,
    Hang,
    Kill,
    Refuse,
    Reset,
    ResetInBody,
    SlowBody,
    SlowHead,
    Stall,
    Unavailable,
}

/// Faults after which a node does not respond at all.
const GONE: [What; 4] = [What::Hang, What::Kill, What::Refuse, What::Stall];

/// Faults after which a node responds wrongly.
const UNWELL: [What; 12] = [
    What::Busy,
    What::CloseAfterAnswer,
    What::CloseBeforeAnswer,
    What::CloseInBody,
    What::CloseInHead,
    What::GarbageHttp,
    What::GarbageJson,
    What::Reset,
    What::ResetInBody,
    What::SlowBody,
    What::SlowHead,
    What::Unavailable,
];

impl What {
    async fn befall(self, node: &mut StandIn) {
        let slow = Duration::from_millis(700);
        let fault = match self {
            Self::Busy => {
                // Not on jobs: flow control lets them move to another node, which is not a
                // duplicate.
                for name in ["getRecordFileUrlFromObs", "downloadRecordFile"] {
                    node.faults()
                        .inject_on(name, Fault::FlowControl, When::Always);
                }
                return;
            }
            Self::Hang => return node.faults().inject_everywhere(Fault::Hang, When::Always),
            Self::Kill => return node.stop().await,
            Self::Refuse => {
                node.stop().await;
                node.restart().await.unwrap();
                return node.faults().set_accept_behavior(AcceptBehavior::Reset);
            }
            Self::Stall => {
                node.stop().await;
                node.restart().await.unwrap();
                return node.faults().set_accept_behavior(AcceptBehavior::Stall);
            }
            Self::CloseAfterAnswer => Fault::CloseAfterResponse,
            Self::CloseBeforeAnswer => Fault::CloseBeforeResponse,
            Self::CloseInBody => Fault::CloseInBody,
            Self::CloseInHead => Fault::CloseInHead,
            Self::GarbageHttp => Fault::GarbageHttp,
            Self::GarbageJson => Fault::GarbageJson,
            Self::Reset => Fault::Reset,
            Self::ResetInBody => Fault::ResetInBody,
            Self::SlowBody => Fault::DelayBody(slow),
            Self::SlowHead => Fault::DelayHead(slow),
            Self::Unavailable => Fault::Status(503),
        };
        // An invalid file is still a file to the gateway; only JSON interfaces detect it.
        if self == Self::GarbageJson {
            node.faults()
                .inject_on("getRecordFileUrlFromObs", fault, When::Always);
        } else {
            node.faults().inject(fault, When::Always);
        }
    }
}

/// The jobs that reached each connection of each node.
#[derive(Default)]
struct Ledger(HashMap<String, HashSet<(usize, u64)>>);

impl Ledger {
    /// Polls the nodes for `time`.
    async fn watch(&mut self, nodes: &[StandIn], time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            self.read(nodes);
        }
    }

    /// Reads the nodes' request history: the last thousand requests, which is more than one second
    /// brings.
    fn read(&mut self, nodes: &[StandIn]) {
        for (place, node) in nodes.iter().enumerate() {
            for request in node.requests() {
                if JOBS.iter().any(|job| request.target.ends_with(job)) {
                    let body = String::from_utf8_lossy(&request.body);
                    let job = format!("{} {body}", request.target);
                    self.0
                        .entry(job)
                        .or_default()
                        .insert((place, request.connection));
                }
            }
        }
    }

    fn twice(&self) -> Vec<&str> {
        let twice = self.0.iter().filter(|(_, seen)| seen.len() > 1);
        twice.map(|(job, _)| job.as_str()).collect()
    }
}

/// A deterministic pseudo-random generator (xorshift).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn below(&mut self, end: usize) -> usize {
        self.throw() as usize % end
    }

    fn pick(&mut self, of: &[What]) -> What {
        of[self.below(of.len())]
    }

    /// True with probability 3/4.
    fn often(&mut self) -> bool {
        self.below(4) > 0
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.throw() % (to - from))
    }
}

fn number(variable: &str, usual: f64) -> f64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// Time until the cache is full and every worker has its connections.
const WARM_UP: Duration = Duration::from_secs(30);
