//! A stand-in for a CC-FS node: serves TLS, verifies signatures as the CC-FS documentation
//! specifies, returns responses of the real form, and injects the faults of nodes and networks.
//!
//! Used by the demo, the tests, and for writing clients. Its rules are written independently of the
//! gateway's, so that tests compare two implementations; it shares only [`crate::auth`].

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
use crate::task::boxed;

pub mod certificates;
mod connection;
pub mod faults;
mod fields;
pub mod files;
mod flow_limits;
mod head;
mod interfaces;
mod node;
mod object_store;
mod play_token;
mod presign;
mod record;
mod requested;
mod response;
mod response_plan;
mod wire;

pub use faults::{AcceptBehavior, Fault, Faults, When};
pub use flow_limits::{FlowClass, FlowLimit, RateWindow};
pub use node::UNLISTED;
pub use presign::{Packing, UrlForm, UrlStyle};
pub use record::RecordedRequest;

use node::Node;
use presign::Presigner;
use record::Recorder;

/// Settings of a stand-in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address to listen on; port 0 selects a free port. Default: a free port of 127.0.0.1.
    pub bind: SocketAddr,
    /// Its certificate, and the client certificates that it requires; see
    /// [`certificates::server_config`].
    pub tls: Arc<ServerConfig>,
    /// The accepted access keys.
    pub credentials: Vec<Arc<Credential>>,
    /// Maximum difference between a timestamp and the clock, in both directions; `None` disables the
    /// check. Default: 15 minutes.
    pub clock_window: Option<SignedDuration>,
    /// The recording URLs in its responses.
    pub urls: UrlStyle,
    /// How many of the last requests are recorded for [`StandIn::requests`], each with at most 64 KiB of
    /// its body. Default: 1,000.
    pub max_recorded: usize,
}

impl Settings {
    /// Returns the default settings with this certificate and these access keys.
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

/// A running node. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    node: Arc<Node>,
    /// `None` while stopped.
    running: Option<Running>,
}

impl StandIn {
    /// Binds the address and serves.
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

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL by address: `https://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Returns the faults to inject.
    pub fn faults(&self) -> &Faults {
        &self.node.faults
    }

    /// Returns the last requests, at most [`Settings::max_recorded`], in the order of arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.node
            .recorder
            .with_state(|state| state.requests.iter().cloned().collect())
    }

    /// Returns how many requests an interface received, named by the tail of its path, or [`UNLISTED`].
    pub fn count(&self, interface: &str) -> u64 {
        self.node
            .recorder
            .with_state(|state| state.count(interface))
    }

    /// Returns how many requests were rejected for their head or their signature.
    pub fn rejected(&self) -> u64 {
        self.node.recorder.with_state(|state| state.rejected)
    }

    /// Returns how many connections were reused after a response that forbids it, such as
    /// [`Fault::ExtraResponse`].
    pub fn forbidden_reuses(&self) -> u64 {
        self.node
            .recorder
            .with_state(|state| state.forbidden_reuses)
    }

    /// Returns how many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.node.recorder.with_state(|state| state.connections)
    }

    /// Returns how many connections are open.
    pub fn open_connections(&self) -> u64 {
        self.node
            .recorder
            .with_state(|state| state.open_connections)
    }

    /// Clears the recorded requests and their counts.
    pub fn clear_record(&self) {
        self.node.recorder.clear();
    }

    /// Waits until an interface has received at least `count` requests; false if the timeout passes
    /// first. Their faults are chosen by then; their responses may not be sent yet.
    pub async fn wait_for_requests(&self, interface: &str, count: u64, timeout: Duration) -> bool {
        let done = |state: &record::RecorderState| state.count(interface) >= count;
        self.node.recorder.wait(done, timeout).await
    }

    /// Waits until exactly `open` connections are open; false if the timeout passes first.
    pub async fn wait_for_connections(&self, open: u64, timeout: Duration) -> bool {
        let done = |state: &record::RecorderState| state.open_connections == open;
        self.node.recorder.wait(done, timeout).await
    }

    /// Closes the listener and every connection, like a killed process: from here on connections are
    /// refused. Does nothing if the node is stopped.
    pub async fn stop(&mut self) {
        if let Some(Running { tasks, cancel }) = self.running.take() {
            drop(cancel);
            tasks.wait().await;
        }
    }

    /// Listens again on the same port; recorded requests and faults are kept. Does nothing if the node
    /// runs.
    pub async fn restart(&mut self) -> io::Result<()> {
        if self.running.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            self.serve(listener);
        }
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let acceptor = Acceptor {
            listener,
            tls: Arc::clone(&self.tls).into(),
            node: Arc::clone(&self.node),
            tasks: tasks.clone(),
            cancel: cancel.clone(),
        };
        tasks.spawn(boxed(acceptor.accept()));
        tasks.close();
        let cancel = cancel.drop_guard();
        self.running = Some(Running { tasks, cancel });
    }
}

/// The tasks of a running stand-in; dropping `cancel` stops them.
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
            // Usually EMFILE: retry when descriptors may have been closed.
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let connection = connection::serve(Arc::clone(&self.node), stream, self.tls.clone());
            let cancel = self.cancel.clone();
            self.tasks.spawn(boxed(async move {
                let _ = cancel.run_until_cancelled(connection).await;
            }));
        }
    }
}
