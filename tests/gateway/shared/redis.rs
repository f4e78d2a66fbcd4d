//! A real store: Debian's `redis-server` on a free port.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::support::eventually;

/// A running server, stopped when dropped.
#[derive(Debug)]
pub(super) struct Redis {
    child: Child,
    pub(super) port: u16,
    folder: TempDir,
    options: Vec<String>,
}

impl Redis {
    pub(super) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts the server with these command-line options.
    pub(super) async fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        // Another process may take the port before the server binds it.
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(port, folder.path(), &options);
            if is_there(&mut child, port).await {
                return Self {
                    child,
                    port,
                    folder,
                    options,
                };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = std::fs::read_to_string(folder.path().join("log"));
        panic!("redis-server does not start: {log:?}");
    }

    /// Kills the server without saving.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the server again on the same port.
    pub(super) async fn start_again(&mut self) {
        self.child = spawn(self.port, self.folder.path(), &self.options);
        assert!(is_there(&mut self.child, self.port).await);
    }

    /// Stops or continues the process; its connections stay open.
    pub(super) fn hang(&self, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }

    pub(super) async fn connect(&self) -> MultiplexedConnection {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let client = redis::Client::open(url).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Every key with its serialized value.
    pub(super) async fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut store = self.connect().await;
        let keys: Vec<Vec<u8>> = ask(&mut store, &["KEYS", "*"]).await;
        let mut all = Vec::new();
        for key in keys {
            let mut get = redis::cmd("DUMP");
            let value: Vec<u8> = get.arg(&key).query_async(&mut store).await.unwrap();
            all.push((key, value));
        }
        all
    }

    /// The keys of all cached responses.
    pub(super) async fn response_keys(&self) -> Vec<String> {
        ask(
            &mut self.connect().await,
            &["KEYS", "ccfs-gateway:answer:*"],
        )
        .await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a cluster of three nodes and waits until it is ready.
pub(super) async fn cluster() -> [Redis; 3] {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        nodes.push((Redis::with(&options).await, bus));
    }
    let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
    for ((node, _), (from, to)) in nodes.iter().zip(slots) {
        let mut node = node.connect().await;
        let _: () = ask(&mut node, &["CLUSTER", "ADDSLOTSRANGE", from, to]).await;
    }
    let mut first = nodes[0].0.connect().await;
    for (node, bus) in &nodes[1..] {
        let port = node.port.to_string();
        let _: () = ask(&mut first, &["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
    }
    for (node, _) in &nodes {
        let mut node = node.connect().await;
        eventually("the cluster is ready", async || {
            let info: String = ask(&mut node, &["CLUSTER", "INFO"]).await;
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
    nodes.try_into().unwrap()
}

/// Sends one command of text arguments.
pub(super) async fn ask<T: redis::FromRedisValue>(
    store: &mut MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(store).await.unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Replaces `{port}` in the options by the port. A TLS port disables the plain one.
fn spawn(port: u16, folder: &Path, options: &[String]) -> Child {
    let tls = options.iter().any(|option| option == "--tls-port");
    let plain = if tls { 0 } else { port };
    let options = options
        .iter()
        .map(|it| it.replace("{port}", &port.to_string()));
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &plain.to_string()])
        .args(options)
        .current_dir(folder)
        .stdout(std::fs::File::create(folder.join("log")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

async fn is_there(child: &mut Child, port: u16) -> bool {
    for _ in 0..500 {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Forwards connections, as a name or a virtual address that follows the primary does: a change
/// concerns new connections alone.
pub(super) struct Forwarder {
    pub(super) port: u16,
    target: Arc<AtomicU16>,
    task: tokio::task::JoinHandle<()>,
}

impl Forwarder {
    pub(super) async fn start(target: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let current = target.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let port = current.load(Ordering::Relaxed);
                connections.spawn(async move {
                    let address = ("127.0.0.1", port);
                    let Ok(mut server) = tokio::net::TcpStream::connect(address).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, target, task }
    }

    pub(super) fn forward_to(&self, target: u16) {
        self.target.store(target, Ordering::Relaxed);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
