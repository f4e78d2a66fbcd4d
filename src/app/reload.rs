//! Applies a new configuration, all or nothing: every step that can fail runs before the first visible
//! change. Keys that cannot change while running keep their values, and are named until the restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::App;
use super::config_diff::{Prepared, PreparedKeys, keep_until_restart};
use super::file_watcher::FileChanges;
use super::listener_setup::{self, ListenerSetup};
use super::port::{BoundSocket, Port};
use super::shared_store_task::SharedStoreTask;
use super::shutdown::{ClosingSocket, DrainingListener};
use crate::admin::{Admin, Reloaded};
use crate::cache::{Purge, PurgeSet};
use crate::config::{Config, KeyChanges, MAX_LISTED, Problem, RefusedFile};
use crate::gateway::Snapshot;
use crate::limit::AddressRateLimiter;
use crate::listener::ListenerContext;
use crate::shared_store::OrderOrigin;

/// Why a reload was started.
#[derive(Debug)]
pub(super) enum ReloadCause {
    /// By SIGHUP or `POST /reload`: the configuration and all its files are read again.
    Requested,
    /// The content of files changed: the text in force is combined with their new content.
    FilesChanged(FileChanges),
}

/// A valid configuration, read but not yet applied.
#[derive(Debug)]
struct LoadedConfig {
    config: Config,
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
        if let ReloadCause::FilesChanged(changes) = &cause {
            tracing::info!(files = ?changes.named, "watched files have changed");
        }
        let result = self.try_reload(&cause).await;
        self.reloads.record(super::now(), &result);
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
        let path = source.clone();
        let changes = match cause {
            ReloadCause::Requested => None,
            ReloadCause::FilesChanged(changes) => Some(changes.clone()),
        };
        let before = self.config.load_full();
        let in_force = before.clone();
        let read = move || load(&path, changes.as_ref(), &in_force);
        let loaded = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| error.to_string())??;
        let mut config = loaded.config;
        let restart_needed = keep_until_restart(&before, &mut config);
        let plans = self.plan_listeners(&config).await?;
        let admin = self.plan_admin(&config)?;
        let current = self.shared.snapshot.load_full();
        let prepare = move || Prepared::new(config, &before, &current);
        let mut prepared = tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|error| error.to_string())?;
        let changes = std::mem::take(&mut prepared.changes);

        // Nothing below can fail.
        let refused_before = self.config.load_full();
        let generation = self.apply_config(prepared, plans, admin);
        let config = self.config.load_full();
        log_refused_files(&refused_before, &config);
        if let Some(watcher) = &mut self.file_watcher {
            watcher.continue_with(&config);
        }
        let unreadable = config.files.iter().filter(|(_, digest)| digest.is_none());
        let unreadable = unreadable.map(|(path, _)| path.clone());
        self.reloads.set_unreadable_files(unreadable.collect());
        Ok(Reloaded {
            restart_needed,
            changes,
            ..Reloaded::new(generation, &config, loaded.warnings)
        })
    }

    /// Applies changes of watched files; logs the result.
    pub(super) async fn on_changed_files(&mut self, mut changes: FileChanges) {
        if let Some(watcher) = &self.file_watcher {
            self.reloads
                .set_unreadable_files(watcher.unreadable_files());
        }
        if !changes.named.is_empty() {
            let cause = ReloadCause::FilesChanged(changes.clone());
            if self.reload(cause).await.is_ok() {
                return;
            }
        }
        match changes.keys.take() {
            Some(keys) => self.apply_key_changes(keys).await,
            None => self
                .file_watcher
                .iter_mut()
                .for_each(super::FileWatcher::resume),
        }
    }

    /// Applies changes of files in `access_keys_dir`. Costs what changed, however many other access keys
    /// there are.
    async fn apply_key_changes(&mut self, changes: KeyChanges) {
        let (before, current) = (self.config.load_full(), self.shared.snapshot.load_full());
        let prepare = {
            let (before, current) = (before.clone(), current.clone());
            move || PreparedKeys::new(&before, &current, &changes)
        };
        // Does not panic.
        let Ok(prepared) = tokio::task::spawn_blocking(prepare).await else {
            return;
        };
        let PreparedKeys {
            config,
            snapshot,
            purges,
            changes,
        } = prepared;
        log_refused_files(&before, &config);
        let config = Arc::new(config);
        if let Some(watcher) = &mut self.file_watcher {
            watcher.continue_with(&config);
        }
        self.config.store(config.clone());
        let Some(snapshot) = snapshot else {
            return;
        };
        let generation = snapshot.generation;
        self.shared.snapshot.store(Arc::new(snapshot));
        tracing::info!(
            generation,
            access_keys = config.access_keys.len(),
            revoked = purges.len(),
            "access keys have changed"
        );
        self.purge(purges, (before, current));
        self.cluster_tasks.reconcile(&self.shared.snapshot.load());
        self.apply_orders();
        let result = Ok(Reloaded {
            restart_needed: self.reloads.restart_needed(),
            changes,
            ..Reloaded::new(generation, &config, Vec::new())
        });
        self.reloads.record(super::now(), &result);
        self.notifier
            .ready(&format!("serving, generation {generation}"));
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
            ..
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
        self.apply_orders();
        generation
    }

    /// Applies the orders of the shared store for access keys that were not configured when they came.
    fn apply_orders(&self) {
        let Some(store) = self.shared.store.load_full() else {
            return;
        };
        let snapshot = self.shared.snapshot.load();
        for order in store.orders() {
            let account = snapshot.account(order.access_key.as_str());
            if account.is_some_and(|account| !account.has_order()) {
                self.shared.apply_order(&order, OrderOrigin::Stored);
            }
        }
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
        });
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last request of the generation"
        )]
        tokio::spawn(drop_when_unused(replaced));
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

/// Loads the configuration from the text in force with changed files, or from the file.
fn load(
    path: &Path,
    changes: Option<&FileChanges>,
    in_force: &Config,
) -> Result<LoadedConfig, String> {
    let loaded = match changes {
        Some(changes) => {
            let keys = changes
                .keys
                .clone()
                .unwrap_or_else(|| in_force.no_key_changes());
            in_force.next_of_text(path, &keys)
        }
        None if path.metadata().is_ok_and(|file| !file.is_file()) => {
            return Err(format!(
                "{} cannot be read again: it is not a regular file",
                path.display()
            ));
        }
        None => in_force.load_next(path),
    };
    let (config, warnings) = loaded.map_err(|error| error.to_string())?;
    let warnings = Problem::summarize(&warnings);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(LoadedConfig { config, warnings })
}

/// Logs each file of access keys that is refused for another reason than before.
fn log_refused_files(before: &Config, after: &Config) {
    let known = before.key_directory.as_deref();
    let Some(directory) = after.key_directory.as_deref() else {
        return;
    };
    if let Some(error) = directory.error()
        && known.is_none_or(|known| known.error() != Some(error))
    {
        tracing::error!(
            error,
            "access_keys_dir cannot be read; all its access keys are kept"
        );
    }
    let is_new = |(name, file): &(&Arc<str>, &Arc<RefusedFile>)| {
        let before = known.and_then(|known| known.refused().get(*name));
        before.is_none_or(|before| before.message != file.message)
    };
    let mut refused = directory.refused().iter().filter(is_new);
    for (_, file) in refused.by_ref().take(MAX_LISTED) {
        let kept: Vec<_> = file.not_yet_revoked.iter().take(MAX_LISTED).collect();
        tracing::error!(
            file = %file.path.display(),
            mistake = file.message,
            not_yet_revoked = file.not_yet_revoked.len(),
            access_keys = ?kept,
            "a file of access keys is refused; what it held before stays in force"
        );
    }
    let omitted = refused.count();
    if omitted > 0 {
        tracing::error!(omitted, "more files of access keys are refused");
    }
}

/// Drops a generation on a thread that serves no requests, once no request holds it: a hundred thousand
/// accounts take milliseconds.
async fn drop_when_unused((config, snapshot): (Arc<Config>, Arc<Snapshot>)) {
    while Arc::strong_count(&snapshot) > 1 {
        tokio::time::sleep(UNUSED_CHECK_INTERVAL).await;
    }
    tokio::task::spawn_blocking(move || drop((config, snapshot)));
}

/// How often it is checked whether the last request of a generation has ended.
const UNUSED_CHECK_INTERVAL: Duration = Duration::from_secs(1);
