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

use crate::admin::{Admin, AdminCommand, AdminState, Ports, Reloads};
use crate::cache::Cache;
use crate::cache::singleflight::SingleFlight;
use crate::config::{self, AccessLog, Config};
use crate::drain;
use crate::gateway::{GatewayState, Snapshot};
use crate::limit::AddressRateLimiter;
use crate::listener::{ConnectionLimits, TlsError};
use crate::metrics::{Metrics, Shard};
use crate::telemetry;

mod cluster_tasks;
mod file_watcher;
mod handler;
mod listener_setup;
mod port;
mod preflight;
mod reload;
mod rlimits;
mod shared_store_task;
mod shutdown;
mod socket_activation;
mod systemd;
mod workers;

pub use preflight::preflight;
pub use rlimits::set_resource_limits;
pub use systemd::ServiceManager;

use cluster_tasks::ClusterTasks;
use file_watcher::FileWatcher;
use listener_setup::ListenerSetup;
use port::{AdminPort, Port};
use reload::{ConfigSource, ReloadCause};
use shared_store_task::SharedStoreTask;
use shutdown::DrainingListener;
use systemd::{Notifier, Watchdog};
use workers::Workers;

/// A gateway whose sockets are bound; it serves once [`App::run`] is called.
#[derive(Debug)]
pub struct App {
    config: Arc<ArcSwap<Config>>,
    source: Option<ConfigSource>,
    file_watcher: Option<FileWatcher>,
    shared: Arc<GatewayState>,
    metrics: Arc<Metrics>,
    /// Counters of what happens on no worker.
    control: Arc<Shard>,
    workers: Workers,
    connection_limits: Arc<ConnectionLimits>,
    session_tickets: Arc<listener_setup::SessionTickets>,
    ports: BTreeMap<Arc<str>, Port>,
    /// Taken out by a reload; their last connections may still live.
    draining_listeners: Vec<DrainingListener>,
    admin: Option<AdminPort>,
    drain_state: (drain::Trigger, drain::Watch),
    cluster_tasks: ClusterTasks,
    shared_store_task: Option<SharedStoreTask>,
    commands: (mpsc::Sender<AdminCommand>, mpsc::Receiver<AdminCommand>),
    reloads: Arc<Reloads>,
    open_ports: Arc<Ports>,
    access_log: Option<telemetry::AccessLog>,
    trace_exporter: Option<telemetry::TraceExporter>,
    service_manager: ServiceManager,
    notifier: Notifier,
    watchdog: Option<Watchdog>,
}

/// Where the gateway can be reached; with port 0 in the configuration, the port that was free.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BoundAddresses {
    /// Listeners by name.
    pub listeners: BTreeMap<Arc<str>, SocketAddr>,
    /// The admin interface.
    pub admin: Option<SocketAddr>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShutdownReport {
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
        Self::bind_with_service_manager(ServiceManager::default(), config, source)
    }

    /// The same under a service manager: sockets that it handed over are served on instead of own
    /// ones, and it is told of what happens.
    ///
    /// # Errors
    /// See [`App::bind`]; also a socket that was handed over for another address.
    pub fn bind_with_service_manager(
        manager: ServiceManager,
        config: Config,
        source: Option<PathBuf>,
    ) -> Result<Self, StartError> {
        let source = source.map(|path| ConfigSource::new(path, &config));
        let follower = source
            .as_ref()
            .map(|source| FileWatcher::start(source.watched_files(&config), WATCH_INTERVAL));
        let metrics = Arc::new(Metrics::default());
        let log = open_access_log(&config.telemetry).map_err(StartError::AccessLog)?;
        let shared = Arc::new(GatewayState {
            snapshot: ArcSwap::from_pointee(Snapshot::next(&config, None)),
            cache: Cache::new(config.cache.max_size),
            fetches: SingleFlight::new(),
            address_limiter: ArcSwap::from_pointee(AddressRateLimiter::new(
                config.limits.per_address,
            )),
            store: ArcSwapOption::empty(),
        });
        let control = metrics.add_shard();
        let traces =
            start_trace_exporter(&config.telemetry, &control).map_err(StartError::Traces)?;
        let tickets = listener_setup::SessionTickets::new();
        let mut app = Self {
            file_watcher: follower,
            connection_limits: ConnectionLimits::new(
                listener_setup::listener_limits(&config.limits),
                control.clone(),
            ),
            session_tickets: Arc::new(
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
            draining_listeners: Vec::new(),
            admin: None,
            drain_state: drain::channel(),
            cluster_tasks: ClusterTasks::default(),
            shared_store_task: None,
            commands: mpsc::channel(16),
            reloads: Arc::default(),
            open_ports: Arc::default(),
            access_log: log,
            trace_exporter: traces,
            notifier: manager.notifier(),
            service_manager: manager,
            watchdog: None,
        };
        app.start_listeners()?;
        Ok(app)
    }

    /// How often files are looked at; ten seconds unless this is called.
    #[must_use]
    pub fn with_watch_interval(mut self, period: Duration) -> Self {
        let config = self.config.load();
        self.file_watcher = self
            .source
            .as_ref()
            .map(|source| FileWatcher::start(source.watched_files(&config), period));
        drop(config);
        self
    }

    fn start_listeners(&mut self) -> Result<(), StartError> {
        let config = self.config.load_full();
        let mut ready = Vec::new();
        for (name, listener) in &config.listeners {
            let serving = self.setup_listener(name, listener, &config.limits)?;
            ready.push((
                name.clone(),
                self.bind_listener(name, listener.bind)?,
                serving,
            ));
        }
        self.open_admin(&config)?;
        for (name, bound, serving) in ready {
            let port = Port::open(
                bound,
                serving,
                self.connection_limits.clone(),
                &self.workers,
            );
            self.ports.insert(name, port);
        }
        self.publish_ports();
        self.cluster_tasks.reconcile(&self.shared.snapshot.load());
        self.shared_store_task = SharedStoreTask::start(&self.shared, config.shared.as_ref());
        self.service_manager.sockets.warn_unused(|name| {
            config.listeners.contains_key(name) || name == ADMIN && self.admin.is_some()
        });
        for cluster in config
            .clusters
            .values()
            .filter(|cluster| cluster.insecure_skip_verify)
        {
            tracing::warn!(
                cluster = %cluster.name,
                "INSECURE: certificates of this cluster's nodes are not verified (insecure_skip_verify)"
            );
        }
        Ok(())
    }

    /// Where it can be reached.
    pub fn bound_addresses(&self) -> BoundAddresses {
        BoundAddresses {
            listeners: self
                .ports
                .iter()
                .map(|(name, port)| (name.clone(), port.local_address))
                .collect(),
            admin: self.admin.as_ref().map(|port| port.local_address),
        }
    }

    /// Takes orders, as the admin interface and signals give them.
    pub fn commands(&self) -> mpsc::Sender<AdminCommand> {
        self.commands.0.clone()
    }

    /// Serves until an order ends it; then drains: first the word goes round, after `drain_delay`
    /// the listeners close, and what is in flight has `grace` to finish. A second signal
    /// ([`Order::End`]) ends at once.
    pub async fn run(mut self) -> ShutdownReport {
        let BoundAddresses { listeners, admin } = self.bound_addresses();
        let admin = admin.map(tracing::field::display);
        tracing::info!(?listeners, admin, "serving");
        self.watchdog = self.service_manager.start_watchdog(self.workers.all());
        self.notifier.ready("serving, generation 1");
        let first = loop {
            let order = tokio::select! {
                biased;
                order = self.commands.1.recv() => order,
                changed = file_watcher::changed_files(&mut self.file_watcher) => {
                    // Told of by the reload itself.
                    let _ = self.reload(ReloadCause::FilesChanged(changed)).await;
                    continue;
                }
            };
            match order {
                Some(order @ (AdminCommand::Drain | AdminCommand::Terminate)) => break order,
                // All senders are gone: nobody could ever end it in another way.
                None => break AdminCommand::Terminate,
                Some(AdminCommand::Reload(answer)) => {
                    // Whoever asked may have left meanwhile.
                    let _ = answer.send(self.reload(ReloadCause::Requested).await);
                }
                Some(AdminCommand::ReopenLog) => self
                    .access_log
                    .iter()
                    .for_each(telemetry::AccessLog::reopen),
            }
        };
        self.shut_down(&first).await
    }

    fn bind_listener(&self, name: &str, bind: SocketAddr) -> Result<port::BoundSocket, StartError> {
        let what = format!("listener {name}");
        port::BoundSocket::inherit_or_bind(&what, name, bind, &self.service_manager.sockets)
    }

    fn setup_listener(
        &self,
        name: &Arc<str>,
        listener: &config::Listener,
        limits: &config::Limits,
    ) -> Result<ListenerSetup, StartError> {
        ListenerSetup::new(
            name,
            listener,
            limits,
            &self.session_tickets,
            &self.workers.all(),
        )
        .map_err(|error| StartError::Tls(name.clone(), error))
    }

    /// Tells the admin interface which ports are open.
    fn publish_ports(&self) {
        let open = self
            .ports
            .iter()
            .map(|(name, port)| port.to_open_port(name));
        self.open_ports.store(Arc::new(open.collect()));
    }

    fn open_admin(&mut self, config: &Config) -> Result<(), StartError> {
        let Some(bind) = config.admin.bind else {
            return Ok(());
        };
        let what = "the admin interface";
        let bound =
            port::BoundSocket::inherit_or_bind(what, ADMIN, bind, &self.service_manager.sockets)?;
        let subject = AdminState {
            shared: self.shared.clone(),
            metrics: self.metrics.clone(),
            config: self.config.clone(),
            started: now(),
            drain: self.drain_state.1.clone(),
            commands: self.commands(),
            reloads: self.reloads.clone(),
            ports: self.open_ports.clone(),
        };
        let admin = Admin::new(bound.local_address, config.admin.token.clone(), subject);
        let front = self.admin_context(Arc::new(admin), config)?;
        self.admin = Some(AdminPort::open(bound, front));
        Ok(())
    }

    fn admin_context(
        &self,
        admin: Arc<Admin>,
        config: &Config,
    ) -> Result<crate::listener::ListenerContext<Admin>, StartError> {
        let tls = config.admin.tls.as_ref();
        let tls = tls
            .map(|tls| self.session_tickets.server_config(tls))
            .transpose()
            .map_err(|error| StartError::Tls(ADMIN.into(), error))?;
        Ok(listener_setup::admin_context(
            admin,
            tls,
            &config.limits,
            self.control.clone(),
        ))
    }
}

fn open_access_log(settings: &config::Telemetry) -> io::Result<Option<telemetry::AccessLog>> {
    let destination = match &settings.access_log {
        AccessLog::File(path) => telemetry::Destination::File(path.clone()),
        AccessLog::Off => return Ok(None),
        AccessLog::Stderr => telemetry::Destination::Stderr,
    };
    telemetry::AccessLog::open(destination).map(Some)
}

fn start_trace_exporter(
    settings: &config::Telemetry,
    metrics: &Arc<Shard>,
) -> Result<Option<telemetry::TraceExporter>, telemetry::CollectorError> {
    let endpoint = settings.otlp_endpoint.as_deref();
    let share = telemetry::SampleRatio::new(settings.sample);
    endpoint
        .map(|endpoint| telemetry::TraceExporter::start(endpoint, share, metrics.clone()))
        .transpose()
}

#[expect(clippy::disallowed_methods, reason = "when the program started")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The name of the admin interface where listeners have theirs.
const ADMIN: &str = "admin";

/// Soon enough for a certificate or a revoked key, seldom enough to cost nothing.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);
