//! The composition root: binds every socket, wires every part, runs until told to end, and ends in
//! order. Nothing is wired anywhere else.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::admin::{Admin, Order, Ports, Reloads, Subject};
use crate::cache::Cache;
use crate::cache::singleflight::Flights;
use crate::config::{self, AccessLog, Config};
use crate::drain;
use crate::gateway::{Shared, Snapshot};
use crate::limit::Addresses;
use crate::listener::{Caps, TlsError};
use crate::metrics::{Metrics, Shard};
use crate::telemetry;

mod cluster_tasks;
mod file_watcher;
mod handler;
mod listener_setup;
mod port;
mod reload;
mod rlimits;
mod shared_store_task;
mod shutdown;
mod socket_activation;
mod systemd;
mod workers;

pub use rlimits::set_resource_limits;
pub use systemd::Manager;

use cluster_tasks::Probes;
use file_watcher::Follower;
use listener_setup::Serving;
use port::{AdminPort, Port};
use reload::{Cause, Source};
use shared_store_task::Keeper;
use shutdown::Retired;
use systemd::{Voice, Watchdog};
use workers::Workers;

/// A gateway whose sockets are bound; it serves once [`App::run`] is called.
#[derive(Debug)]
pub struct App {
    config: Arc<ArcSwap<Config>>,
    source: Option<Source>,
    follower: Option<Follower>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    /// Counters of what happens on no worker.
    control: Arc<Shard>,
    workers: Workers,
    caps: Arc<Caps>,
    tickets: Arc<listener_setup::Tickets>,
    ports: BTreeMap<Arc<str>, Port>,
    /// Taken out by a reload; their last connections may still live.
    retired: Vec<Retired>,
    admin: Option<AdminPort>,
    announced: (drain::Trigger, drain::Watch),
    probes: Probes,
    keeper: Option<Keeper>,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    reloads: Arc<Reloads>,
    open_ports: Arc<Ports>,
    log: Option<telemetry::AccessLog>,
    traces: Option<telemetry::Exporter>,
    manager: Manager,
    voice: Voice,
    watchdog: Option<Watchdog>,
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
    #[error("{what} cannot listen on {address}: {error}")]
    Bind {
        /// Whose socket.
        what: String,
        /// Where.
        address: SocketAddr,
        /// Why not. Its text stands in this one's: it is not its source.
        error: io::Error,
    },
    /// The configuration file, a second time.
    #[error("the configuration cannot be read: {0}")]
    Source(io::Error),
    /// The access log.
    #[error("the access log cannot be opened: {0}")]
    AccessLog(io::Error),
    /// The collector of traces.
    #[error("traces cannot be exported: {0}")]
    Traces(telemetry::CollectorError),
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
        Self::bind_under(Manager::default(), config, source)
    }

    /// The same under a service manager: sockets that it handed over are served on instead of own
    /// ones, and it is told of what happens.
    ///
    /// # Errors
    /// See [`App::bind`]; also a socket that was handed over for another address.
    pub fn bind_under(
        manager: Manager,
        config: Config,
        source: Option<PathBuf>,
    ) -> Result<Self, StartError> {
        let source = source.map(Source::read).transpose();
        let source = source.map_err(StartError::Source)?;
        let follower = source
            .as_ref()
            .map(|source| Follower::start(source.followed(&config), FOLLOW_EVERY));
        let metrics = Arc::new(Metrics::default());
        let log = open_log(&config.telemetry).map_err(StartError::AccessLog)?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot::next(&config, None)),
            cache: Cache::new(config.cache.max_size),
            flights: Flights::new(),
            addresses: ArcSwap::from_pointee(Addresses::new(config.limits.per_address)),
            store: ArcSwapOption::empty(),
        });
        let control = metrics.shard();
        let traces = open_traces(&config.telemetry, &control).map_err(StartError::Traces)?;
        let tickets = listener_setup::Tickets::new();
        let mut app = Self {
            follower,
            caps: Caps::new(listener_setup::cap_limits(&config.limits), control.clone()),
            tickets: Arc::new(
                tickets.map_err(|error| StartError::Tls("(any)".into(), error.into()))?,
            ),
            workers: Workers::start(&config, &shared, &metrics, log.as_ref(), traces.as_ref())
                .map_err(StartError::Worker)?,
            config: Arc::new(ArcSwap::from_pointee(config)),
            source,
            shared,
            metrics,
            control,
            ports: BTreeMap::new(),
            retired: Vec::new(),
            admin: None,
            announced: drain::channel(),
            probes: Probes::default(),
            keeper: None,
            orders: mpsc::channel(16),
            reloads: Arc::default(),
            open_ports: Arc::default(),
            log,
            traces,
            voice: manager.voice(),
            manager,
            watchdog: None,
        };
        app.open_all()?;
        Ok(app)
    }

    /// How often files are looked at; ten seconds unless this is called.
    #[must_use]
    pub fn following_every(mut self, period: Duration) -> Self {
        let config = self.config.load();
        self.follower = self
            .source
            .as_ref()
            .map(|source| Follower::start(source.followed(&config), period));
        drop(config);
        self
    }

    fn open_all(&mut self) -> Result<(), StartError> {
        let config = self.config.load_full();
        let mut ready = Vec::new();
        for (name, listener) in &config.listeners {
            let serving = self.serving(name, listener, &config.limits)?;
            ready.push((name.clone(), self.socket(name, listener.bind)?, serving));
        }
        self.open_admin(&config)?;
        for (name, bound, serving) in ready {
            let port = Port::open(bound, serving, self.caps.clone(), &self.workers);
            self.ports.insert(name, port);
        }
        self.show_ports();
        self.probes.follow(&self.shared.snapshot.load());
        self.keeper = Keeper::start(&self.shared, config.shared.as_ref());
        self.manager.sockets.warn_of_unused(|name| {
            config.listeners.contains_key(name) || name == ADMIN && self.admin.is_some()
        });
        for cluster in config.clusters.values().filter(|cluster| cluster.insecure) {
            tracing::warn!(
                cluster = %cluster.name,
                "INSECURE: certificates of this cluster's nodes are not verified (insecure_skip_verify)"
            );
        }
        Ok(())
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
    /// the listeners close, and what is in flight has `grace` to finish. A second signal
    /// ([`Order::End`]) ends at once.
    pub async fn run(mut self) -> Report {
        let Bound { listeners, admin } = self.bound();
        let admin = admin.map(tracing::field::display);
        tracing::info!(?listeners, admin, "serving");
        self.watchdog = self.manager.watch(self.workers.all());
        self.voice.ready("serving, generation 1");
        let first = loop {
            let order = tokio::select! {
                biased;
                order = self.orders.1.recv() => order,
                changed = file_watcher::changed(&mut self.follower) => {
                    // Told of by the reload itself.
                    let _ = self.reload(Cause::Files(changed)).await;
                    continue;
                }
            };
            match order {
                Some(order @ (Order::Drain | Order::End)) => break order,
                // All senders are gone: nobody could ever end it in another way.
                None => break Order::End,
                Some(Order::Reload(answer)) => {
                    // Whoever asked may have left meanwhile.
                    let _ = answer.send(self.reload(Cause::Asked).await);
                }
                Some(Order::ReopenLog) => self.log.iter().for_each(telemetry::AccessLog::reopen),
            }
        };
        self.end(&first).await
    }

    fn socket(&self, name: &str, bind: SocketAddr) -> Result<port::Bound, StartError> {
        let what = format!("listener {name}");
        port::Bound::take(&what, name, bind, &self.manager.sockets)
    }

    fn serving(
        &self,
        name: &Arc<str>,
        listener: &config::Listener,
        limits: &config::Limits,
    ) -> Result<Serving, StartError> {
        Serving::new(name, listener, limits, &self.tickets, &self.workers.all())
            .map_err(|error| StartError::Tls(name.clone(), error))
    }

    /// Tells the admin interface which ports are open.
    fn show_ports(&self) {
        let open = self.ports.iter().map(|(name, port)| port.shown(name));
        self.open_ports.store(Arc::new(open.collect()));
    }

    fn open_admin(&mut self, config: &Config) -> Result<(), StartError> {
        let Some(bind) = config.admin.bind else {
            return Ok(());
        };
        let what = "the admin interface";
        let bound = port::Bound::take(what, ADMIN, bind, &self.manager.sockets)?;
        let subject = Subject {
            shared: self.shared.clone(),
            metrics: self.metrics.clone(),
            config: self.config.clone(),
            started: now(),
            drain: self.announced.1.clone(),
            orders: self.orders(),
            reloads: self.reloads.clone(),
            ports: self.open_ports.clone(),
        };
        let admin = Admin::new(bound.local, config.admin.token.clone(), subject);
        let front = self.admin_front(Arc::new(admin), config)?;
        self.admin = Some(AdminPort::open(bound, front));
        Ok(())
    }

    fn admin_front(
        &self,
        admin: Arc<Admin>,
        config: &Config,
    ) -> Result<crate::listener::Front<Admin>, StartError> {
        let tls = config.admin.tls.as_ref();
        let tls = tls
            .map(|tls| self.tickets.server_config(tls))
            .transpose()
            .map_err(|error| StartError::Tls(ADMIN.into(), error))?;
        Ok(listener_setup::admin_front(
            admin,
            tls,
            &config.limits,
            self.control.clone(),
        ))
    }
}

fn open_log(settings: &config::Telemetry) -> io::Result<Option<telemetry::AccessLog>> {
    let destination = match &settings.access_log {
        AccessLog::File(path) => telemetry::Destination::File(path.clone()),
        AccessLog::Off => return Ok(None),
        AccessLog::Stderr => telemetry::Destination::Stderr,
    };
    telemetry::AccessLog::open(destination).map(Some)
}

fn open_traces(
    settings: &config::Telemetry,
    metrics: &Arc<Shard>,
) -> Result<Option<telemetry::Exporter>, telemetry::CollectorError> {
    let endpoint = settings.otlp_endpoint.as_deref();
    let share = telemetry::Share::of(settings.sample);
    endpoint
        .map(|endpoint| telemetry::Exporter::start(endpoint, share, metrics.clone()))
        .transpose()
}

#[expect(clippy::disallowed_methods, reason = "when the program started")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The name of the admin interface where listeners have theirs.
const ADMIN: &str = "admin";

/// Soon enough for a certificate or a revoked key, seldom enough to cost nothing.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);
