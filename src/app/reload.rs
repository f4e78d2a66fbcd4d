//! A new configuration, all or nothing: everything that can fail comes before the first change that
//! anybody can see. What cannot change while running is refused with a sentence, not ignored.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::App;
use super::file_watcher::FileDigests;
use super::listener_setup::{self, ListenerSetup};
use super::port::{BoundSocket, Port};
use super::shared_store_task::SharedStoreTask;
use super::shutdown::{ClosingSocket, DrainingListener};
use crate::admin::{Admin, Reloaded};
use crate::auth::AccessKey;
use crate::cache::{Purge, PurgeSet};
use crate::config::{AccountSettings, Config};
use crate::gateway::Snapshot;
use crate::limit::AddressRateLimiter;
use crate::listener::ListenerContext;

/// The configuration file, and its text that is in force: when a key or a certificate changes, what
/// somebody is writing into the file meanwhile is none of our business.
#[derive(Debug)]
pub(super) struct ConfigSource {
    path: PathBuf,
    text: Arc<str>,
}

impl ConfigSource {
    pub(super) fn read(path: PathBuf) -> io::Result<Self> {
        let text = std::fs::read_to_string(&path)?.into();
        Ok(Self { path, text })
    }

    /// The files whose content is followed.
    pub(super) fn watched_files(&self, config: &Config) -> Vec<PathBuf> {
        let files = config.files.iter();
        files.filter(|file| **file != self.path).cloned().collect()
    }
}

/// Why there is a reload.
#[derive(Debug)]
pub(super) enum ReloadCause {
    /// By a signal, or at the admin interface: all is read again.
    Requested,
    /// The content of these files changed: the text in force is taken with what they hold now.
    FilesChanged(Vec<PathBuf>),
}

/// A configuration that may be put in force.
#[derive(Debug)]
struct LoadedConfig {
    config: Config,
    source: ConfigSource,
    digests: FileDigests,
    warnings: Vec<String>,
}

/// What takes longer for more access keys, made on a thread that serves nothing else.
#[derive(Debug)]
struct Prepared {
    config: Config,
    snapshot: Snapshot,
    /// The responses of access keys that are removed, disabled, or have lost one of their secrets.
    purges: Vec<Purge>,
}

impl Prepared {
    fn new(config: Config, before: &Config, current: &Snapshot) -> Self {
        let purges = revoked_access_keys(before, &config).map(|access_key| Purge {
            access_key: Some(access_key.clone()),
            call_id: None,
        });
        Self {
            purges: purges.collect(),
            snapshot: Snapshot::next(&config, Some(current)),
            config,
        }
    }
}

/// How a listener of the new configuration comes to its port.
#[derive(Debug)]
struct ListenerPlan {
    listener: Arc<str>,
    setup: ListenerSetup,
    socket: SocketSource,
}

#[derive(Debug)]
enum SocketSource {
    /// It has it already.
    Kept,
    /// The other listener goes elsewhere, and leaves the open socket.
    TakenFrom(Arc<str>),
    /// A new one.
    New(BoundSocket),
}

impl App {
    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// What is wrong; the configuration in force stays.
    pub(super) async fn reload(&mut self, cause: ReloadCause) -> Result<Reloaded, String> {
        self.notifier.reloading();
        if let ReloadCause::FilesChanged(files) = &cause {
            tracing::info!(?files, "files of the configuration have changed");
        }
        let result = self.try_reload(&cause).await;
        self.reloads.record(super::now(), &result);
        let in_force = self.shared.snapshot.load().generation;
        match &result {
            Ok(Reloaded { generation, .. }) => {
                tracing::info!(generation, "configuration reloaded");
                self.notifier
                    .ready(&format!("serving, generation {in_force}"));
            }
            Err(why) => {
                tracing::error!("the new configuration is refused:\n{why}");
                let first = why.lines().next().unwrap_or_default();
                self.notifier.ready(&format!(
                    "serving, generation {in_force}; the last reload was refused: {first}"
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
        let seen = self
            .file_watcher
            .as_ref()
            .map(super::FileWatcher::known_digests);
        let read = move || load(path, text, &seen.unwrap_or_default());
        let loaded = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| error.to_string())??;
        let before = self.config.load_full();
        require_unchanged(&before, &loaded.config)?;
        let plans = self.plan_listeners(&loaded.config).await?;
        let admin = self.plan_admin(&loaded.config)?;
        let current = self.shared.snapshot.load_full();
        let config = loaded.config;
        let prepare = move || Prepared::new(config, &before, &current);
        let prepared = tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|error| error.to_string())?;

        // Nothing below can fail.
        if let Some(follower) = &mut self.file_watcher {
            follower.reset(loaded.digests);
        }
        self.source = Some(loaded.source);
        Ok(Reloaded {
            generation: self.apply_config(prepared, plans, admin),
            warnings: loaded.warnings,
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
        // Whoever is still connected to a listener that is gone may finish.
        let gone = self
            .draining_listeners
            .iter()
            .map(|retired| &retired.listener);
        for listener in gone.chain(self.ports.keys()) {
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
        if let (Some(port), Some(front)) = (&self.admin, admin) {
            front.handler.set_token(config.admin.token.clone());
            port.context.store(Arc::new(front));
        }
        if before.shared != config.shared {
            self.shared_store_task =
                SharedStoreTask::start(&self.shared, config.shared.as_ref(), &self.control);
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

    /// Opens the sockets that are new, and prepares how each will be served.
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
            let left_by = || {
                let mut left = self.ports.iter().filter(|(other, _)| !keeps(other));
                left.find(|(_, port)| port.local_address == listener.bind)
            };
            let place = if keeps(name) {
                SocketSource::Kept
            } else if let Some((other, _)) = left_by() {
                SocketSource::TakenFrom(other.clone())
            } else {
                for retired in &self.draining_listeners {
                    retired.release_address(listener.bind).await;
                }
                let bound = self.bind_listener(name, listener.bind);
                SocketSource::New(bound.map_err(|error| error.to_string())?)
            };
            let serving = self.setup_listener(name, listener, &config.limits);
            plans.push(ListenerPlan {
                listener: name.clone(),
                setup: serving.map_err(|error| error.to_string())?,
                socket: place,
            });
        }
        Ok(plans)
    }

    fn plan_admin(&self, config: &Config) -> Result<Option<ListenerContext<Admin>>, String> {
        let Some(port) = &self.admin else {
            return Ok(None);
        };
        let front = self.admin_context(port.context.load().handler.clone(), config);
        front.map(Some).map_err(|error| error.to_string())
    }

    /// Ports that are gone drain by themselves.
    fn replace_ports(&mut self, config: &Config, plans: Vec<ListenerPlan>) {
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
                    let serving = plan.setup.with_connections_of(&port.setup.load());
                    port.setup.store(Arc::new(serving));
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
                // Each port is planned for once.
                (None, SocketSource::Kept | SocketSource::TakenFrom(_)) => continue,
            };
            self.ports.insert(plan.listener, port);
        }
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

/// Reads the configuration, or takes the text that is given, with all files that it names.
fn load(path: PathBuf, text: Option<Arc<str>>, seen: &FileDigests) -> Result<LoadedConfig, String> {
    let earlier = seen.reread();
    let text = match text {
        Some(text) => text,
        None => std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?
            .into(),
    };
    let (config, warnings) = Config::parse(&text, &path).map_err(|wrong| wrong.to_string())?;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let source = ConfigSource { path, text };
    let marks = FileDigests::read(&source.watched_files(&config)).prefer_earlier(&earlier);
    Ok(LoadedConfig {
        config,
        source,
        digests: marks,
        warnings,
    })
}

/// What needs a restart.
fn require_unchanged(before: &Config, after: &Config) -> Result<(), String> {
    let changes = [
        (
            before.server.workers != after.server.workers,
            "[server] workers",
        ),
        (
            before.cache.max_size != after.cache.max_size,
            "[cache] max_size",
        ),
        (before.admin.bind != after.admin.bind, "[admin] bind"),
        (
            before.admin.tls.is_some() != after.admin.tls.is_some(),
            "[admin] tls (its certificates can)",
        ),
        (before.telemetry != after.telemetry, "[telemetry]"),
        (
            before.limits.max_answer != after.limits.max_answer
                || before.limits.min_receive_rate != after.limits.min_receive_rate,
            "[limits] max_answer and min_receive_rate",
        ),
    ];
    let changed: Vec<_> = changes
        .into_iter()
        .filter_map(|(changed, key)| changed.then_some(key))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let keys = changed.join(", ");
    Err(format!(
        "{keys} cannot change while running: restart the gateway"
    ))
}

/// Access keys that are gone, switched off, or have lost one of their secrets.
fn revoked_access_keys<'a>(
    before: &'a Config,
    after: &'a Config,
) -> impl Iterator<Item = &'a AccessKey> {
    let lost = |old: &AccountSettings, new: &AccountSettings| {
        !new.credential.enabled()
            || old
                .credential
                .secrets()
                .iter()
                .any(|secret| !new.credential.secrets().contains(secret))
    };
    before
        .access_keys
        .iter()
        .filter_map(move |(access_key, old)| {
            let new = after.access_keys.get(access_key);
            new.is_none_or(|new| lost(old, new)).then_some(access_key)
        })
}
