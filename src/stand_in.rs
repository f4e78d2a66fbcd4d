//! A stand-in for a CC-FS node: over TLS, as strict about signatures as the facts say, with answers
//! of the real form, and able to fail in all the ways that nodes and networks do.
//!
//! For the demo, the tests and whoever writes a client. It is an independent judge: of the gateway
//! it uses only [`crate::auth`].

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::auth::Credential;

pub mod certificates;
mod connection;
pub mod faults;
mod fields;
pub mod files;
mod head;
mod interfaces;
mod lock;
mod node;
mod play_token;
mod presign;
mod record;
mod requested;
mod response;
mod wire;

pub use faults::{AcceptBehavior, Fault, Faults, When};
pub use node::UNLISTED;
pub use presign::{Packing, UrlForm, UrlStyle};
pub use record::RecordedRequest;

use node::Node;
use presign::Presigner;
use record::Recorder;

/// How a stand-in is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one. Default: a free port of 127.0.0.1.
    pub bind: SocketAddr,
    /// Its certificate, and whose it wants to see; see [`certificates::server_config`].
    pub tls: Arc<ServerConfig>,
    /// Who may ask.
    pub credentials: Vec<Arc<Credential>>,
    /// How far a timestamp may be from its clock, each way; `None` is unchecked. Default: 15 minutes.
    pub clock_window: Option<SignedDuration>,
    /// Which URLs it answers.
    pub urls: UrlStyle,
    /// How many of the last requests [`StandIn::requests`] shows, each with at most 64 KiB of its
    /// body. Default: 1,000.
    pub max_recorded: usize,
}

impl Settings {
    /// The defaults, with this certificate, for these callers.
    pub fn new(tls: Arc<ServerConfig>, credentials: Vec<Arc<Credential>>) -> Self {
        Self {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls,
            credentials,
            clock_window: Some(SignedDuration::from_mins(15)),
            urls: UrlStyle::default(),
            max_recorded: 1_000,
        }
    }
}

/// A running node. It stops, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    node: Arc<Node>,
    /// `None` while stopped.
    running: Option<Running>,
}

impl StandIn {
    /// Listens and serves.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.bind).await?;
        let address = listener.local_addr()?;
        let keys: HashMap<_, _> = settings
            .credentials
            .into_iter()
            .map(|credential| (credential.access_key().as_str().to_owned(), credential))
            .collect();
        let node = Node {
            keys,
            clock_window: settings.clock_window,
            urls: settings.urls,
            presigner: Presigner::new(address.port()),
            recorder: Recorder::new(settings.max_recorded),
            faults: Faults::new(),
        };
        let mut stand_in = Self {
            address,
            tls: settings.tls,
            node: Arc::new(node),
            running: None,
        };
        stand_in.serve(listener);
        Ok(stand_in)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, by address: `https://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.node.faults
    }

    /// The last requests, at most [`Settings::keep`], the latest last.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.node
            .recorder
            .with_state(|state| state.requests.iter().cloned().collect())
    }

    /// How many requests came to an interface, named by the tail of its path, or to [`UNLISTED`].
    pub fn count(&self, interface: &str) -> u64 {
        self.node
            .recorder
            .with_state(|state| state.count(interface))
    }

    /// How many requests were refused for their head or their signature.
    pub fn rejected(&self) -> u64 {
        self.node.recorder.with_state(|state| state.rejected)
    }

    /// How many connections were used again after an answer that forbids it ([`Fault::Surplus`] and
    /// its like).
    pub fn forbidden_reuses(&self) -> u64 {
        self.node
            .recorder
            .with_state(|state| state.forbidden_reuses)
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.node.recorder.with_state(|state| state.connections)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> u64 {
        self.node
            .recorder
            .with_state(|state| state.open_connections)
    }

    /// Forgets the requests and their counts.
    pub fn clear_record(&self) {
        self.node.recorder.clear();
    }

    /// Waits until at least `count` requests came to an interface; false if they did not by the
    /// deadline. They have come, and their faults are drawn; they need not be answered.
    pub async fn wait_for_requests(&self, interface: &str, count: u64, deadline: Duration) -> bool {
        let done = |state: &record::RecorderState| state.count(interface) >= count;
        self.node.recorder.wait(done, deadline).await
    }

    /// Waits until exactly `open` connections are open; false if that was not so by the deadline.
    pub async fn wait_for_connections(&self, open: u64, deadline: Duration) -> bool {
        let done = |state: &record::RecorderState| state.open_connections == open;
        self.node.recorder.wait(done, deadline).await
    }

    /// Closes the port and every connection, as a process that is killed: from here on connections
    /// are refused. What does not run stays as it is.
    pub async fn stop(&mut self) {
        if let Some(Running { tasks, cancel: end }) = self.running.take() {
            drop(end);
            tasks.wait().await;
        }
    }

    /// Listens again on the same port; record and faults live on. What runs stays as it is.
    pub async fn restart(&mut self) -> io::Result<()> {
        if self.running.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            self.serve(listener);
        }
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let acceptor = Acceptor {
            listener,
            tls: Arc::clone(&self.tls).into(),
            node: Arc::clone(&self.node),
            tasks: tasks.clone(),
            cancel: end.clone(),
        };
        tasks.spawn(acceptor.accept());
        tasks.close();
        let end = end.drop_guard();
        self.running = Some(Running { tasks, cancel: end });
    }
}

/// The tasks of a running stand-in, and what ends them when it is dropped.
#[derive(Debug)]
struct Running {
    tasks: TaskTracker,
    cancel: DropGuard,
}

struct Acceptor {
    listener: TcpListener,
    tls: TlsAcceptor,
    node: Arc<Node>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Acceptor {
    async fn accept(self) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.cancel.cancelled() => return,
            };
            // Out of descriptors, mostly: some will be free soon.
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let serving = connection::serve(Arc::clone(&self.node), stream, self.tls.clone());
            let end = self.cancel.clone();
            self.tasks.spawn(async move {
                let _ = end.run_until_cancelled(serving).await;
            });
        }
    }
}
