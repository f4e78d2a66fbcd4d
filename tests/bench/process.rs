//! Server processes. Each is stopped when its value is dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cpu::{self, Cpus, Usage};

/// A running server process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// The address on which it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `ccfs-gateway run` on a CPU of its own; the gateway serves when this returns.
    pub(crate) fn gateway(cpus: &Cpus, configuration: &Path) -> Self {
        Self::run(cpus.server(program()), configuration)
    }

    /// Starts `ccfs-gateway run` on all CPUs.
    pub(crate) fn gateway_on_all_cpus(cpus: &Cpus, configuration: &Path) -> Self {
        Self::run(cpus.anywhere(program()), configuration)
    }

    fn run(mut command: Command, configuration: &Path) -> Self {
        let mut child = command
            .args(["run", "--config"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = announced(child.stderr.take().unwrap());
        Self { child, address }
    }

    /// Waits until a process listens on `address`. `None` if it exits instead.
    pub(crate) fn listening(mut child: Child, address: SocketAddr) -> Option<Self> {
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { child, address })
    }

    /// The CPU time used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// The processor time of its main thread, which serves no requests.
    pub(crate) fn main_thread(&self) -> Duration {
        cpu::thread(self.child.id())
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&self) {
        let id = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(id, Signal::HUP).unwrap();
    }

    /// The resident memory in bytes, once the allocator has returned unused pages.
    pub(crate) async fn settled(&self) -> u64 {
        let (mut resident, mut steady) = (cpu::resident(self.child.id()), 0);
        for _ in 0..LONGEST_SETTLING {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = cpu::resident(self.child.id());
            steady = if now < resident { 0 } else { steady + 1 };
            resident = now;
            if steady == STEADY {
                break;
            }
        }
        resident
    }
}

/// Sends SIGTERM, since a killed nginx would leave its workers behind.
impl Drop for Server {
    fn drop(&mut self) {
        let asked = Pid::from_raw(self.child.id().cast_signed())
            .is_some_and(|id| kill_process(id, Signal::TERM).is_ok());
        let deadline = Instant::now() + PATIENCE;
        while asked && Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the log line that reports a serving gateway.
fn announced(log: ChildStderr) -> SocketAddr {
    let (mut log, mut text) = (BufReader::new(log), String::new());
    let address = loop {
        let before = text.len();
        assert_ne!(log.read_line(&mut text).unwrap(), 0, "it exited: {text}");
        let line = &text[before..];
        if let Some((_, rest)) = line
            .split_once("127.0.0.1:")
            .filter(|_| line.contains("serving"))
        {
            let port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
            break SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        }
    };
    // Keeps reading, so that the process never blocks on a full pipe.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    address
}

/// The measured program: that of `CCFS_GATEWAY_PROGRAM`, else the one that was built with the bench.
fn program() -> PathBuf {
    std::env::var_os("CCFS_GATEWAY_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_ccfs-gateway").into(), PathBuf::from)
}

/// Time for a server to start or stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// In quarters of a second: quiet connections are parked within two seconds, and jemalloc returns unused
/// memory within another ten, little at first.
const LONGEST_SETTLING: u32 = 60;

/// In quarters of a second without any change.
const STEADY: u32 = 24;
