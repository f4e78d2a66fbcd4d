//! The composition root: binds every socket, wires all components, serves until shutdown, and drains.
//! Components are wired only here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::{AdminCommand, FindingsList, Journal, Ports, Reloads};
use crate::config::{self, Config};
use crate::drain;
use crate::findings::Timing;
use crate::gateway::GatewayState;
use crate::listener::ConnectionLimits;
use crate::metrics::{Metrics, Shard};
use crate::telemetry;

mod admin_port;
mod cache_expiry;
mod cluster_tasks;
mod command_loop;
mod config_changes;
mod config_diff;
mod error;
mod file_watcher;
mod handler;
mod listener_setup;
mod notifier;
mod port;
mod preflight;
mod reload;
mod rlimits;
mod shared_store_task;
mod shutdown;
mod signature_doctor;
mod socket_activation;
mod systemd;
mod telemetry_setup;
mod workers;

pub use error::StartError;
pub use preflight::preflight;
pub use rlimits::set_resource_limits;
pub use systemd::ServiceManager;

use admin_port::AdminPort;
use cluster_tasks::ClusterTasks;
use file_watcher::FileWatcher;
use listener_setup::ListenerSetup;
use notifier::Notifier;
use port::Port;
use shared_store_task::SharedStoreTask;
use shutdown::DrainingListener;
use signature_doctor::DoctorThread;
use systemd::Watchdog;
use workers::{Destinations, Workers};

/// A gateway whose sockets are bound; it serves once [`App::run`] is called.
#[derive(Debug)]
pub struct App {
    config: Arc<ArcSwap<Config>>,
    /// The configuration file.
    source: Option<PathBuf>,
    file_watcher: Option<FileWatcher>,
    shared: Arc<GatewayState>,
    metrics: Arc<Metrics>,
    /// Counters of everything that runs outside the workers.
    control: Arc<Shard>,
    workers: Workers,
    connection_limits: Arc<ConnectionLimits>,
    session_tickets: Arc<listener_setup::SessionTickets>,
    ports: BTreeMap<Arc<str>, Port>,
    /// Listeners removed or moved by a reload that still have open connections.
    draining_listeners: Vec<DrainingListener>,
    admin: Option<AdminPort>,
    /// Past `Serving` from the start of the shutdown; the admin interface reads it for `/readyz`.
    drain_state: (drain::Trigger, drain::Watch),
    cluster_tasks: ClusterTasks,
    _cache_expiry: AbortOnDropHandle<()>,
    shared_store_task: Option<SharedStoreTask>,
    commands: (mpsc::Sender<AdminCommand>, mpsc::Receiver<AdminCommand>),
    reloads: Arc<Reloads>,
    open_ports: Arc<Ports>,
    started: Timestamp,
    findings: Arc<FindingsList>,
    journal: Arc<Journal>,
    findings_task: Option<AbortOnDropHandle<()>>,
    access_log: Option<telemetry::AccessLog>,
    audit_log: Option<telemetry::AuditLog>,
    trace_exporter: Option<telemetry::TraceExporter>,
    tail: Arc<telemetry::Tail>,
    /// Ends with the app.
    _doctor: DoctorThread,
    service_manager: ServiceManager,
    notifier: Notifier,
    watchdog: Option<Watchdog>,
}

/// The addresses the gateway listens on. Port 0 in the configuration is replaced by the assigned port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BoundAddresses {
    /// Listeners by name.
    pub listeners: BTreeMap<Arc<str>, SocketAddr>,
    /// The admin interface.
    pub admin: Option<SocketAddr>,
}

/// The result of a shutdown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShutdownReport {
    /// False if connections were closed before their requests finished.
    pub complete: bool,
}

impl App {
    /// Binds all sockets and starts the workers. A reload reads the configuration from `source`.
    ///
    /// Must be called inside a tokio runtime, which runs the admin interface, the cluster tasks and the
    /// drain.
    ///
    /// # Errors
    /// A socket, file or thread could not be opened or started. Nothing stays bound in that case.
    pub fn bind(config: Config, source: Option<PathBuf>) -> Result<Self, StartError> {
        Self::bind_with_service_manager(ServiceManager::default(), config, source)
    }

    /// Like [`App::bind`], under a service manager: inherited sockets replace sockets of our own, and
    /// state changes are notified.
    ///
    /// # Errors
    /// See [`App::bind`]; also when an inherited socket has another address than its listener.
    pub fn bind_with_service_manager(
        manager: ServiceManager,
        config: Config,
        source: Option<PathBuf>,
    ) -> Result<Self, StartError> {
        let follower = source
            .as_ref()
            .map(|_| FileWatcher::start(&config, WATCH_INTERVAL));
        let metrics = Arc::new(Metrics::default());
        let shared = Arc::new(GatewayState::new(&config));
        let control = metrics.add_shard();
        let (log, audit, traces) = telemetry_setup::open(&config, &control)?;
        let tail = Arc::default();
        let destinations = Destinations {
            access_log: log.as_ref(),
            audit: audit.as_ref(),
            traces: traces.as_ref(),
            tail: &tail,
        };
        let doctor = DoctorThread::start(&shared, control.clone()).map_err(StartError::Worker)?;
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
            workers: Workers::start(&config, &shared, &metrics, destinations)
                .map_err(StartError::Worker)?,
            config: Arc::new(ArcSwap::from_pointee(config)),
            source,
            _cache_expiry: cache_expiry::start(&shared),
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
            started: now(),
            findings: Arc::default(),
            journal: Arc::default(),
            findings_task: None,
            access_log: log,
            audit_log: audit,
            trace_exporter: traces,
            tail,
            _doctor: doctor,
            notifier: manager.notifier(),
            service_manager: manager,
            watchdog: None,
        };
        app.start_listeners()?;
        app.start_findings(Timing::default());
        Ok(app)
    }

    /// Sets the windows of the findings; for tests, which cannot wait a minute.
    #[must_use]
    pub fn with_finding_timing(mut self, timing: Timing) -> Self {
        self.start_findings(timing);
        self
    }

    /// Sets how often watched files are looked at; the default is 5 s.
    #[must_use]
    pub fn with_watch_interval(mut self, period: Duration) -> Self {
        let config = self.config.load();
        self.file_watcher = self
            .source
            .as_ref()
            .map(|_| FileWatcher::start(&config, period));
        drop(config);
        self
    }

    fn start_listeners(&mut self) -> Result<(), StartError> {
        let config = self.config.load_full();
        let mut ready = Vec::new();
        for (name, listener) in &config.listeners {
            let setup = self.setup_listener(name, listener, &config.limits)?;
            ready.push((
                name.clone(),
                self.bind_listener(name, listener.bind)?,
                setup,
            ));
        }
        self.open_admin(&config)?;
        for (name, bound, setup) in ready {
            let port = Port::open(bound, setup, self.connection_limits.clone(), &self.workers);
            self.ports.insert(name, port);
        }
        self.publish_ports();
        self.cluster_tasks.reconcile(&self.shared.snapshot.load());
        cluster_tasks::log_node_histograms(&config);
        self.shared_store_task =
            SharedStoreTask::start(&self.shared, config.shared.as_ref(), &self.control);
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

    /// Returns the addresses of all open sockets.
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

    /// Returns the counters of all parts.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Returns a sender for commands; the admin interface and the signal handler use it.
    pub fn commands(&self) -> mpsc::Sender<AdminCommand> {
        self.commands.0.clone()
    }

    /// Reopens the access log and the audit log, after a rotation.
    fn reopen_logs(&self) {
        self.access_log
            .iter()
            .for_each(telemetry::AccessLog::reopen);
        self.audit_log.iter().for_each(telemetry::AuditLog::reopen);
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

    /// Publishes the open ports to the admin interface.
    fn publish_ports(&self) {
        let open = self
            .ports
            .iter()
            .map(|(name, port)| port.to_open_port(name));
        self.open_ports.store(Arc::new(open.collect()));
    }
}

#[expect(clippy::disallowed_methods, reason = "start time and reload times")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The admin interface's name among the listeners: in logs, errors and `FileDescriptorName=`.
const ADMIN: &str = "admin";

/// How often watched files are looked at. A revoked key or a renewed certificate takes effect within ten
/// seconds, with the time that a changed file is given to settle; looking costs a few microseconds per
/// file.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
