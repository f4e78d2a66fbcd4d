//! The program as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use ccfs_gateway::client::{Client, ClientRequest, ClientResponse, RecordingQuery};

use crate::page;
use crate::support::{BEGIN, END, SHANGHAI, Setup, Site, client_trusting, eventually, signed};

/// A `ccfs-gateway run` process, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) site: Site,
    pub(crate) client: Client,
    /// The address of `[listeners.ccfs]`.
    pub(crate) listener: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    diagnostics: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the process and waits until it is ready. The log level must be at least `info`.
    pub(crate) async fn start(setup: &Setup) -> Self {
        Self::start_reading(setup, Reader::Follows).await
    }

    /// Starts the process with a reader of its standard error that may stop after the start.
    pub(crate) async fn start_reading(setup: &Setup, reader: Reader) -> Self {
        Self::start_site(setup.prepare().await, reader).await
    }

    /// Starts the process with further files, which `write` makes.
    pub(crate) async fn start_with(setup: &Setup, write: impl FnOnce(&Site)) -> Self {
        let site = setup.prepare().await;
        write(&site);
        Self::start_site(site, Reader::Follows).await
    }

    async fn start_site(site: Site, reader: Reader) -> Self {
        let program = std::env::var_os("CCFS_GATEWAY_BIN").unwrap_or_else(|| PROGRAM.into());
        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(&site.file)
            // Makes the system's trust store the authority of the test site.
            .env("SSL_CERT_FILE", site.folder.path().join("ca.pem"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let diagnostics = collect_lines(child.stderr.take().unwrap(), reader);
        let mut process = Self {
            client: client_trusting(site.folder.path()).with_idle_connections(16),
            site,
            listener: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
            diagnostics,
        };
        eventually("it serves", async || process.logged_addresses().is_some()).await;
        (process.listener, process.admin) = process.logged_addresses().unwrap();
        eventually("it is ready", async || {
            page::get(process.admin, "/readyz").await.status == 200
        })
        .await;
        process
    }

    /// The addresses of the listener and of the admin interface, from the log line that reports
    /// them.
    fn logged_addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let text = self.diagnostics();
        let line = text.lines().find(|line| line.contains("serving"))?;
        let mut addresses = line.split("127.0.0.1:").skip(1).map(|rest| {
            let port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
            SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
        });
        Some((addresses.next()?, addresses.last()?))
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.listener)
    }

    /// An unsigned recording-URL request.
    pub(crate) fn recording(&self, call_id: &str) -> ClientRequest {
        let query = RecordingQuery {
            call_id,
            begin: BEGIN,
            end: END,
            version: Some("2.0"),
        };
        ClientRequest::recording(&self.url(), &query).unwrap()
    }

    /// Sends a correctly signed recording-URL request as [`SHANGHAI`].
    pub(crate) async fn get_recording(&self, call_id: &str) -> ClientResponse {
        let request = signed(self.recording(call_id), SHANGHAI);
        self.client.send(&request).await.unwrap()
    }

    /// The output on stderr so far.
    pub(crate) fn diagnostics(&self) -> String {
        self.diagnostics.lock().unwrap().clone()
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([format!("-{name}"), pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the process exits.
    pub(crate) async fn wait_for_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("it exits", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let statm = std::fs::read_to_string(path).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the reader of standard error does once the process serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reader {
    /// Reads on.
    Follows,
    /// Reads no more and keeps the pipe open.
    Stalls,
    /// Closes the pipe.
    Leaves,
}

fn collect_lines(stderr: impl Read + Send + 'static, reader: Reader) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let shared = text.clone();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(Ok(line)) = lines.next() {
            let mut text = shared.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
            drop(text);
            if line.contains("serving") && reader == Reader::Leaves {
                return;
            }
            while line.contains("serving") && reader == Reader::Stalls {
                std::thread::park();
            }
        }
    });
    text
}

/// Runs a command in `folder` until it exits, with empty stdin.
pub(crate) fn run_command(folder: &Path, arguments: &[&str]) -> Output {
    run_command_with(folder, arguments, b"")
}

/// Runs a command until it exits, with `input` on stdin.
pub(crate) fn run_command_with(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may exit before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ccfs-gateway");
