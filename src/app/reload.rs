//! Applies a new configuration, all or nothing: every step that can fail runs before the first visible
//! change. Keys that cannot change while running keep their values, and are named until the restart.

use std::path::PathBuf;
use std::sync::Arc;

use super::App;
use super::config_diff::{Prepared, keep_until_restart};
use super::file_watcher::FileDigests;
use super::listener_setup::{self, ListenerSetup};
use super::port::{BoundSocket, Port};
use super::shared_store_task::SharedStoreTask;
use super::shutdown::{ClosingSocket, DrainingListener};
use crate::admin::{Admin, Reloaded};
use crate::cache::{Purge, PurgeSet};
use crate::config::{Config, Problem};
use crate::gateway::Snapshot;
use crate::limit::AddressRateLimiter;
use crate::listener::ListenerContext;

/// The configuration file and its text in force. A reload caused by a changed key or certificate uses
/// this text, because the file itself may be half edited.
#[derive(Debug)]
pub(super) struct ConfigSource {
    path: PathBuf,
    text: Arc<str>,
}

impl ConfigSource {
    /// Where `config` was loaded from, with the text that was read then.
    pub(super) fn new(path: PathBuf, config: &Config) -> Self {
        let text = config.text.get().clone();
        Self { path, text }
    }

    /// Returns the path as text.
    pub(super) fn name(&self) -> Arc<str> {
        self.path.display().to_string().into()
    }

    /// Returns the files whose content is watched: all that the configuration names, but not itself.
    pub(super) fn watched_files(&self, config: &Config) -> Vec<PathBuf> {
        let files = config.files.iter();
        files.filter(|file| **file != self.path).cloned().collect()
    }
}

/// Why a reload was started.
#[derive(Debug)]
pub(super) enum ReloadCause {
    /// By SIGHUP or `POST /reload`: the configuration and all its files are read again.
    Requested,
    /// The content of these files changed: the text in force is combined with their new content.
    FilesChanged(Vec<PathBuf>),
}

/// A valid configuration, read but not yet applied.
#[derive(Debug)]
struct LoadedConfig {
    config: Config,
    source: ConfigSource,
    digests: FileDigests,
    warnings: Vec<String>,
}

/// How a listener of the new configuration gets its port.
#[derive(Debug)]
struct ListenerPlan {
    listener: Arc<str>,
    setup: ListenerSetup,
    socket: SocketSource,
}

#[derive(Debug)]
enum SocketSource {
    /// The listener keeps its open port.
    Kept,
    /// Another listener moves to a new address and leaves its open socket to this one.
    TakenFrom(Arc<str>),
    /// A newly opened socket.
    New(BoundSocket),
}

impl App {
    /// Reads the configuration again and applies it.
    ///
    /// # Errors
    /// All mistakes, rendered for people; the configuration in force stays.
    pub(super) async fn reload(&mut self, cause: ReloadCause) -> Result<Reloaded, String> {
        self.notifier.reloading();
        if let ReloadCause::FilesChanged(files) = &cause {
            tracing::info!(?files, "watched files have changed");
        }
        let result = self.try_reload(&cause).await;
        self.reloads.record(super::now(), &result);
        if let Some(watcher) = &self.file_watcher {
            let unreadable = watcher.known_digests().unreadable();
            self.reloads.set_unreadable_files(unreadable);
        }
        let in_force = self.shared.snapshot.load().generation;
        match &result {
            Ok(done) => {
                let generation = done.generation;
                tracing::info!(generation, "configuration reloaded");
                if !done.restart_needed.is_empty() {
                    let keys = done.restart_needed.join(", ");
                    tracing::warn!(keys, "changed keys take effect only after a restart");
                }
                self.notifier
                    .ready(&format!("serving, generation {in_force}"));
            }
            Err(error) => {
                tracing::error!("the new configuration is rejected:\n{error}");
                let first = error.lines().next().unwrap_or_default();
                self.notifier.ready(&format!(
                    "serving, generation {in_force}; the last reload was rejected: {first}"
                ));
            }
        }
        result
    }

    async fn try_reload(&mut self, cause: &ReloadCause) -> Result<Reloaded, String> {
        let source = self
            .source
            .as_ref()
            .ok_or("this gateway was not started from a file")?;
        let path = source.path.clone();
        let text = match cause {
            ReloadCause::Requested => None,
            ReloadCause::FilesChanged(_) => Some(source.text.clone()),
        };
        let known = self
            .file_watcher
            .as_ref()
            .map(super::FileWatcher::known_digests);
        let read = move || load(path, text, &known.unwrap_or_default());
        let loaded = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| error.to_string())??;
        let before = self.config.load_full();
        let mut config = loaded.config;
        let restart_needed = keep_until_restart(&before, &mut config);
        let plans = self.plan_listeners(&config).await?;
        let admin = self.plan_admin(&config)?;
        let current = self.shared.snapshot.load_full();
        let prepare = move || Prepared::new(config, &before, &current);
        let prepared = tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|error| error.to_string())?;

        // Nothing below can fail.
        if let Some(watcher) = &mut self.file_watcher {
            watcher.reset(loaded.digests);
        }
        self.source = Some(loaded.source);
        Ok(Reloaded {
            generation: self.apply_config(prepared, plans, admin),
            warnings: loaded.warnings,
            restart_needed,
        })
    }

    fn apply_config(
        &mut self,
        prepared: Prepared,
        plans: Vec<ListenerPlan>,
        admin: Option<ListenerContext<Admin>>,
    ) -> u64 {
        self.draining_listeners.retain(DrainingListener::is_active);
        let Prepared {
            config,
            mut snapshot,
            purges,
        } = prepared;
        let before = self.config.load_full();
        let current = self.shared.snapshot.load_full();
        // Connections of removed listeners finish under the policy they were accepted with.
        let draining = self
            .draining_listeners
            .iter()
            .map(|draining| &draining.listener);
        for listener in draining.chain(self.ports.keys()) {
            snapshot.retain_listener_policy(listener, &current);
        }
        let generation = snapshot.generation;
        self.shared.snapshot.store(Arc::new(snapshot));
        if before.limits.per_address != config.limits.per_address {
            let addresses = AddressRateLimiter::new(config.limits.per_address);
            self.shared.address_limiter.store(Arc::new(addresses));
        }
        self.connection_limits
            .set_settings(listener_setup::listener_limits(&config.limits));
        self.replace_ports(&config, plans);
        self.publish_ports();
        if let (Some(port), Some(context)) = (&self.admin, admin) {
            context.handler.set_token(config.admin.token.clone());
            port.context.store(Arc::new(context));
        }
        if before.shared != config.shared {
            self.shared_store_task =
                SharedStoreTask::start(&self.shared, config.shared.as_ref(), &self.control);
        }
        if before.has_node_histograms() != config.has_node_histograms() {
            super::cluster_tasks::log_node_histograms(&config);
        }
        self.config.store(Arc::new(config));
        self.purge(purges, (before, current));
        self.cluster_tasks.reconcile(&self.shared.snapshot.load());
        generation
    }

    /// Purges responses in all replicas. They are not served from now on; one pass over the cache removes
    /// them on a thread of its own, which also drops what the reload has `replaced`.
    fn purge(&self, purges: Vec<Purge>, replaced: (Arc<Config>, Arc<Snapshot>)) {
        if let Some(store) = self.shared.store.load_full() {
            store.purge(purges.iter().cloned());
        }
        let set: PurgeSet = purges.into_iter().collect();
        if !set.is_empty() {
            self.shared.begin_purge(set);
        }
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || {
            shared.cache.sweep();
            drop(replaced);
        });
    }

    /// Opens new sockets and prepares the setup of every listener.
    async fn plan_listeners(&self, config: &Config) -> Result<Vec<ListenerPlan>, String> {
        let keeps = |name: &Arc<str>| {
            let listener = config.listeners.get(name);
            let port = self.ports.get(name);
            listener
                .zip(port)
                .is_some_and(|(listener, port)| port.matches_bind(listener.bind))
        };
        let mut plans = Vec::new();
        for (name, listener) in &config.listeners {
            let vacated_by = || {
                let mut vacated = self.ports.iter().filter(|(other, _)| !keeps(other));
                vacated.find(|(_, port)| port.local_address == listener.bind)
            };
            let socket = if keeps(name) {
                SocketSource::Kept
            } else if let Some((other, _)) = vacated_by() {
                SocketSource::TakenFrom(other.clone())
            } else {
                for draining in &self.draining_listeners {
                    draining.release_address(listener.bind).await;
                }
                let bound = self.bind_listener(name, listener.bind);
                SocketSource::New(bound.map_err(|error| error.to_string())?)
            };
            let setup = self.setup_listener(name, listener, &config.limits);
            plans.push(ListenerPlan {
                listener: name.clone(),
                setup: setup.map_err(|error| error.to_string())?,
                socket,
            });
        }
        Ok(plans)
    }

    /// Replaces the open ports; removed ports drain in tasks of their own.
    fn replace_ports(&mut self, config: &Config, plans: Vec<ListenerPlan>) {
        // Every listener of the new configuration gets its port.
        let mut old = std::mem::take(&mut self.ports);
        for plan in plans {
            let from = match &plan.socket {
                SocketSource::Kept => Some(plan.listener.clone()),
                SocketSource::TakenFrom(other) => Some(other.clone()),
                SocketSource::New(_) => None,
            };
            let port = from.and_then(|from| Some((old.remove(&from)?, from)));
            let port = match (port, plan.socket) {
                (Some((port, _)), SocketSource::Kept) => {
                    let setup = plan.setup.with_connections_of(&port.setup.load());
                    port.setup.store(Arc::new(setup));
                    port
                }
                (Some((port, from)), _) => {
                    let before = port.setup.swap(Arc::new(plan.setup));
                    let connections = before.connection_drain.clone();
                    self.draining_listeners.push(DrainingListener::start(
                        from,
                        connections,
                        None,
                        &config.server,
                    ));
                    port
                }
                (None, SocketSource::New(bound)) => Port::open(
                    bound,
                    plan.setup,
                    self.connection_limits.clone(),
                    &self.workers,
                ),
                // Unreachable: each port is planned for once.
                (None, SocketSource::Kept | SocketSource::TakenFrom(_)) => continue,
            };
            self.ports.insert(plan.listener, port);
        }
        // The remaining ports belong to removed listeners.
        for (name, port) in old {
            self.service_manager
                .sockets
                .warn_if_still_open(&name, port.local_address);
            let connections = port.setup.load().connection_drain.clone();
            let socket = Some(ClosingSocket {
                local_address: port.local_address,
                accept_drain: Arc::new(port.accept_drain),
            });
            self.draining_listeners.push(DrainingListener::start(
                name,
                connections,
                socket,
                &config.server,
            ));
        }
    }
}

/// Loads the configuration from `text`, or from the file if there is none, with all files it names.
///
/// `known` holds the digests of the last watch interval: a file that changed since then keeps its old
/// digest, so that the watcher reports the change if this load missed it.
fn load(
    path: PathBuf,
    text: Option<Arc<str>>,
    known: &FileDigests,
) -> Result<LoadedConfig, String> {
    let earlier = known.reread();
    let loaded = match text {
        Some(text) => Config::parse(&text, &path),
        None if path.metadata().is_ok_and(|file| !file.is_file()) => {
            return Err(format!(
                "{} cannot be read again: it is not a regular file",
                path.display()
            ));
        }
        None => Config::load(&path),
    };
    let (config, warnings) = loaded.map_err(|error| error.to_string())?;
    let warnings = Problem::summarize(&warnings);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let source = ConfigSource::new(path, &config);
    let digests = FileDigests::read(&source.watched_files(&config)).prefer_earlier(&earlier);
    Ok(LoadedConfig {
        config,
        source,
        digests,
        warnings,
    })
}
