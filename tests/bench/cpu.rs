//! CPU pinning and CPU time, from the scheduler's figures in `/proc`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// One CPU for the measured server, the others for load and nodes, so that neither waits for the
/// other.
#[derive(Clone, Debug)]
pub(crate) struct Cpus {
    server: usize,
    others: Vec<usize>,
    pinned: bool,
}

impl Cpus {
    /// Divides the CPUs available to this process, and pins this process to its share. Without
    /// `taskset` (util-linux) nothing is pinned.
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
            println!("Nothing is pinned: `taskset` is not installed.");
        }
        Self {
            server,
            others: usable,
            pinned,
        }
    }

    /// A command that runs `program` on the server's CPU. Its process id is the program's.
    pub(crate) fn server(&self, program: impl AsRef<Path>) -> Command {
        if !self.pinned {
            return Command::new(program.as_ref());
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &self.server.to_string()]);
        command.arg(program.as_ref());
        command
    }

    /// A command that runs `program` on any CPU.
    pub(crate) fn anywhere(&self, program: impl AsRef<Path>) -> Command {
        if !self.pinned {
            return Command::new(program.as_ref());
        }
        let mut all = self.others.clone();
        all.push(self.server);
        let mut command = Command::new("taskset");
        command.args(["-c", &list(&all)]).arg(program.as_ref());
        command
    }

    /// A runtime for load and nodes, on the other CPUs.
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.others.len().min(MOST_THREADS))
            .enable_all()
            .build()
            .unwrap()
    }
}

/// The CPU time of each thread of a process and of its children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(HashMap<PathBuf, Duration>);

impl Usage {
    /// Reads the current values.
    pub(crate) fn of(process: u32) -> Self {
        let mut usage = Self::default();
        usage.add(process);
        usage
    }

    /// The CPU time since `earlier`. Threads that ended in between are not counted, since the
    /// kernel drops their figures.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let used = |(thread, time): (&PathBuf, &Duration)| {
            let before = earlier.0.get(thread).copied().unwrap_or_default();
            time.saturating_sub(before)
        };
        self.0.iter().map(used).sum()
    }

    fn add(&mut self, process: u32) {
        for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let task = task.unwrap().path();
            // The thread may end between being listed and being read.
            if let Some(time) = time_of(&task) {
                self.0.insert(task, time);
            }
        }
        for child in children_of(process) {
            self.add(child);
        }
    }
}

/// The processor time of the main thread of a process.
pub(crate) fn thread(process: u32) -> Duration {
    time_of(Path::new(&format!("/proc/{process}/task/{process}"))).unwrap()
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() * 1024
}

/// The CPU model name.
pub(crate) fn model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(": "));
    model
        .map_or("an unnamed processor", |(_, model)| model)
        .to_owned()
}

fn time_of(task: &Path) -> Option<Duration> {
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

/// The CPUs of this process, as in `Cpus_allowed_list: 0-3,8`.
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

/// More load than one server on one CPU can handle.
const MOST_THREADS: usize = 3;
