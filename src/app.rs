//! The composition root: binds every socket, wires every part, runs until told to end, and ends in
//! order. Nothing is wired anywhere else.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::admin::{Admin, Order, Ports, Reloads, Subject};
use crate::auth::Credential;
use crate::cache::Cache;
use crate::cluster::Cluster;
use crate::config::{self, AccessLog, Config};
use crate::drain::{self, Phase};
use crate::flight::Flights;
use crate::gateway::{Shared, Snapshot};
use crate::limit::Addresses;
use crate::listener::{Caps, TlsError};
use crate::metrics::Metrics;
use crate::telemetry;
use crate::upstream::watch_cluster;

mod port;
mod reload;
mod serving;
mod workers;

use port::{AdminPort, Port};
use serving::Serving;
use workers::Workers;

/// A gateway whose sockets are bound; it serves once [`App::run`] is called.
#[derive(Debug)]
pub struct App {
    config: Arc<ArcSwap<Config>>,
    source: Option<PathBuf>,
    shared: Arc<Shared>,
    workers: Workers,
    caps: Arc<Caps>,
    tickets: Arc<serving::Tickets>,
    ports: BTreeMap<Arc<str>, Port>,
    /// Taken out by a reload; their last connections may still live.
    retired: Vec<Port>,
    admin: Option<AdminPort>,
    announced: (drain::Trigger, drain::Watch),
    probes: Vec<Probe>,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    reloads: Arc<Reloads>,
    open_ports: Arc<Ports>,
    log: Option<telemetry::AccessLog>,
}

/// The background task of one cluster; ends when dropped.
#[derive(Debug)]
struct Probe {
    cluster: Arc<Cluster>,
    task: JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the gateway can be reached; with port 0 in the configuration, the port that was free.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bound {
    /// Listeners by name.
    pub listeners: BTreeMap<Arc<str>, SocketAddr>,
    /// The admin interface.
    pub admin: Option<SocketAddr>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// False if connections had to be dropped when their time was over.
    pub complete: bool,
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket.
    #[error("{what} cannot listen on {address}: {source}")]
    Bind {
        /// Whose socket.
        what: String,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The access log.
    #[error("the access log cannot be opened: {0}")]
    AccessLog(io::Error),
    /// TLS.
    #[error("TLS of listener {0} cannot be set up: {1}")]
    Tls(Arc<str>, TlsError),
    /// The threads.
    #[error("a worker thread cannot be started: {0}")]
    Worker(io::Error),
}

impl App {
    /// Binds all sockets and starts the workers. `source` is where a reload reads the configuration.
    ///
    /// Needs a tokio runtime around it: admin, probes and the drain live there.
    ///
    /// # Errors
    /// A socket, file or thread that cannot be had; nothing stays bound then.
    pub fn bind(config: Config, source: Option<PathBuf>) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::default());
        let log = open_log(&config.telemetry).map_err(StartError::AccessLog)?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::next(&config, None)),
            cache: Cache::new(config.cache.max_size),
            flights: Flights::new(),
            addresses: ArcSwap::from_pointee(Addresses::new(config.limits.per_address)),
        });
        let control = metrics.shard();
        let caps = Caps::new(serving::cap_limits(&config.limits), control.clone());
        let tickets = Arc::new(
            serving::Tickets::new()
                .map_err(|error| StartError::Tls("(any)".into(), error.into()))?,
        );
        let workers =
            Workers::start(&config, &shared, &metrics, log.as_ref()).map_err(StartError::Worker)?;
        let orders = mpsc::channel(16);
        let announced = drain::channel();
        let mut app = Self {
            config: Arc::new(ArcSwap::from_pointee(config)),
            source,
            shared,
            workers,
            caps,
            tickets,
            ports: BTreeMap::new(),
            retired: Vec::new(),
            admin: None,
            announced,
            probes: Vec::new(),
            orders,
            reloads: Arc::default(),
            open_ports: Arc::default(),
            log,
        };
        let config = app.config.load_full();
        for (name, listener) in &config.listeners {
            let port = app.open(name, listener, &config.limits)?;
            app.ports.insert(name.clone(), port);
        }
        app.show_ports();
        app.open_admin(&config, metrics, control)?;
        app.probe_clusters();
        for cluster in config.clusters.values().filter(|cluster| cluster.insecure) {
            tracing::warn!(
                cluster = %cluster.name,
                "INSECURE: certificates of this cluster's nodes are not verified (insecure_skip_verify)"
            );
        }
        Ok(app)
    }

    /// Where it can be reached.
    pub fn bound(&self) -> Bound {
        Bound {
            listeners: self
                .ports
                .iter()
                .map(|(name, port)| (name.clone(), port.local))
                .collect(),
            admin: self.admin.as_ref().map(|port| port.local),
        }
    }

    /// Takes orders, as the admin interface and signals give them.
    pub fn orders(&self) -> mpsc::Sender<Order> {
        self.orders.0.clone()
    }

    /// Serves until an order ends it; then drains: first the word goes round, after `drain_delay`
    /// the listeners close, and what is in flight has `grace` to finish. A second [`Order::End`]
    /// ends at once.
    pub async fn run(mut self) -> Report {
        tracing::info!(listeners = ?self.bound().listeners, admin = ?self.bound().admin, "serving");
        while let Some(order) = self.orders.1.recv().await {
            match order {
                Order::Drain | Order::End => break,
                Order::Reload(answer) => {
                    // Whoever asked may have left meanwhile.
                    let _ = answer.send(self.reload());
                }
                Order::ReopenLog => self.log.iter().for_each(telemetry::AccessLog::reopen),
            }
        }
        self.end().await
    }

    async fn end(mut self) -> Report {
        let server = self.config.load().server.clone();
        tracing::info!(?server.drain_delay, ?server.grace, "draining");
        self.advance(Phase::Announced);
        let mut orders = self.orders.1;
        let mut at_once = std::pin::pin!(async move {
            while let Some(order) = orders.recv().await {
                if matches!(order, Order::End) {
                    return;
                }
            }
        });
        let mut ports: Vec<_> = std::mem::take(&mut self.ports).into_values().collect();
        ports.append(&mut self.retired);
        let all = async {
            for port in &ports {
                port.drain.all_gone().await;
            }
        };
        let finished = async {
            tokio::time::sleep(server.drain_delay).await;
            ports
                .iter()
                .for_each(|port| port.drain.advance(Phase::Closing));
            tokio::time::timeout(server.grace, all).await.is_ok()
        };
        let complete = tokio::select! {
            complete = finished => complete,
            () = &mut at_once => false,
        };
        ports
            .iter()
            .for_each(|port| port.drain.advance(Phase::Forced));
        self.probes.clear();
        if let Some(port) = self.admin.take() {
            port.drain.advance(Phase::Closing);
            let _ = tokio::time::timeout(FORCED, port.drain.all_gone()).await;
        }
        self.workers.stop();
        tracing::info!(complete, "ended");
        Report { complete }
    }

    fn advance(&self, phase: Phase) {
        self.announced.0.advance(phase);
        self.ports
            .values()
            .for_each(|port| port.drain.advance(phase));
    }

    fn open(
        &self,
        name: &Arc<str>,
        listener: &config::Listener,
        limits: &config::Limits,
    ) -> Result<Port, StartError> {
        let serving = self
            .serving(name, listener, limits)
            .map_err(|error| StartError::Tls(name.clone(), error))?;
        Port::open(
            name,
            listener.bind,
            serving,
            self.caps.clone(),
            &self.workers,
        )
    }

    fn serving(
        &self,
        name: &Arc<str>,
        listener: &config::Listener,
        limits: &config::Limits,
    ) -> Result<Serving, TlsError> {
        Serving::new(name, listener, limits, &self.tickets, &self.workers.all())
    }

    /// Tells the admin interface which ports are open.
    fn show_ports(&self) {
        let open = self.ports.iter().map(|(name, port)| port.shown(name));
        self.open_ports.store(Arc::new(open.collect()));
    }

    fn open_admin(
        &mut self,
        config: &Config,
        metrics: Arc<Metrics>,
        control: Arc<crate::metrics::Shard>,
    ) -> Result<(), StartError> {
        let Some(bind) = config.admin.bind else {
            return Ok(());
        };
        let socket = port::listen("the admin interface", bind)?;
        let local = socket.local_addr().unwrap_or(bind);
        let subject = Subject {
            shared: self.shared.clone(),
            metrics,
            config: self.config.clone(),
            started: now(),
            drain: self.announced.1.clone(),
            orders: self.orders(),
            reloads: self.reloads.clone(),
            ports: self.open_ports.clone(),
        };
        let admin = Admin::new(local, config.admin.token.clone(), subject);
        let tls = config.admin.tls.as_ref();
        let tls = tls
            .map(|tls| self.tickets.server_config(tls))
            .transpose()
            .map_err(|error| StartError::Tls("admin".into(), error))?;
        let front = serving::admin_front(admin, tls, &config.limits, control);
        self.admin = Some(AdminPort::open(socket, local, front));
        Ok(())
    }

    /// Starts the tasks of clusters that have none, and ends those of clusters that are gone.
    fn probe_clusters(&mut self) {
        let snapshot = self.shared.snapshot.load_full();
        let is_current = |cluster: &Arc<_>| {
            snapshot
                .clusters()
                .values()
                .any(|current| Arc::ptr_eq(current, cluster))
        };
        self.probes.retain(|probe| is_current(&probe.cluster));
        for cluster in snapshot.clusters().values() {
            if !self
                .probes
                .iter()
                .any(|probe| Arc::ptr_eq(&probe.cluster, cluster))
            {
                let watch = watch_cluster(cluster.clone(), signer(cluster, &snapshot));
                #[expect(clippy::disallowed_methods, reason = "ends with its `Probe`")]
                let task = tokio::spawn(watch);
                self.probes.push(Probe {
                    cluster: cluster.clone(),
                    task,
                });
            }
        }
    }
}

/// Who signs the health checks of a cluster, where they are signed.
fn signer(cluster: &Cluster, snapshot: &Snapshot) -> Option<Arc<Credential>> {
    let check = cluster.settings().health_check.as_ref()?.signed.as_ref()?;
    Some(snapshot.account(&check.access_key)?.credential.clone())
}

fn open_log(settings: &config::Telemetry) -> io::Result<Option<telemetry::AccessLog>> {
    let destination = match &settings.access_log {
        AccessLog::File(path) => telemetry::Destination::File(path.clone()),
        AccessLog::Off => return Ok(None),
        AccessLog::Stderr => telemetry::Destination::Stderr,
    };
    telemetry::AccessLog::open(destination).map(Some)
}

#[expect(clippy::disallowed_methods, reason = "when the program started")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// How long dropping what is left may take.
const FORCED: Duration = Duration::from_secs(1);
