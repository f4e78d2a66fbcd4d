//! Who runs where, and what it has used: the scheduler's own figures, from `/proc`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// One processor for the server that is measured, the others for the load and the nodes, so that
/// neither waits for the other.
#[derive(Clone, Debug)]
pub(crate) struct Cpus {
    server: usize,
    others: Vec<usize>,
    pinned: bool,
}

impl Cpus {
    /// Shares out the processors that this process may use, and keeps this process to its own.
    /// Without `taskset` (util-linux) nothing is pinned.
    pub(crate) fn share_out() -> Self {
        let mut usable = usable();
        let server = usable.pop().unwrap();
        if usable.is_empty() {
            usable.push(server);
        }
        let pinned = Command::new("taskset")
            .args(["-a", "-c", "-p", &list(&usable)])
            .arg(std::process::id().to_string())
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !pinned {
            println!("Nothing is pinned: there is no `taskset` here.");
        }
        Self {
            server,
            others: usable,
            pinned,
        }
    }

    /// A command that runs `program` on the server's processor. Its id is the program's.
    pub(crate) fn server(&self, program: impl AsRef<Path>) -> Command {
        if !self.pinned {
            return Command::new(program.as_ref());
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &self.server.to_string()]);
        command.arg(program.as_ref());
        command
    }

    /// A runtime for load and nodes, on the other processors.
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.others.len().min(MOST_THREADS))
            .enable_all()
            .build()
            .unwrap()
    }
}

/// The processor time that a process and its children have used, in all their threads.
pub(crate) fn time_of(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // A thread may end between being listed and being read.
    let own = tasks.filter_map(|task| time_of_task(&task.ok()?.path()));
    let children = children_of(process).into_iter().map(time_of);
    own.chain(children).sum()
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() * 1024
}

/// What the processors call themselves.
pub(crate) fn model() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = told.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(": "));
    model
        .map_or("an unnamed processor", |(_, model)| model)
        .to_owned()
}

fn time_of_task(task: &Path) -> Option<Duration> {
    let schedstat = std::fs::read_to_string(task.join("schedstat")).ok()?;
    let nanoseconds = schedstat.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn children_of(process: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    children
        .split_whitespace()
        .map(|child| child.parse().unwrap())
        .collect()
}

/// The processors of this process, as in `Cpus_allowed_list: 0-3,8`.
fn usable() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().collect()
}

fn list(cpus: &[usize]) -> String {
    let texts: Vec<_> = cpus.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// More load than one server on one processor can take.
const MOST_THREADS: usize = 3;
