//! A new configuration, all or nothing: everything that can fail comes before the first change that
//! anybody can see. What cannot change while running is refused with a sentence, not ignored.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::App;
use super::file_watcher::Marks;
use super::listener_setup::{self, Serving};
use super::port::{Bound, Port};
use super::shared_store_task::Keeper;
use super::shutdown::{Retired, Socket};
use crate::admin::{Admin, Reloaded};
use crate::auth::AccessKey;
use crate::cache::Purge;
use crate::config::{Account, Config};
use crate::gateway::Snapshot;
use crate::limit::Addresses;
use crate::listener::Front;

/// The configuration file, and its text that is in force: when a key or a certificate changes, what
/// somebody is writing into the file meanwhile is none of our business.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    text: Arc<str>,
}

impl Source {
    pub(super) fn read(path: PathBuf) -> io::Result<Self> {
        let text = std::fs::read_to_string(&path)?.into();
        Ok(Self { path, text })
    }

    /// The files whose content is followed.
    pub(super) fn followed(&self, config: &Config) -> Vec<PathBuf> {
        let files = config.files.iter();
        files.filter(|file| **file != self.path).cloned().collect()
    }
}

/// Why there is a reload.
#[derive(Debug)]
pub(super) enum Cause {
    /// By a signal, or at the admin interface: all is read again.
    Asked,
    /// The content of these files changed: the text in force is taken with what they hold now.
    Files(Vec<PathBuf>),
}

/// A configuration that may be put in force.
#[derive(Debug)]
struct Loaded {
    config: Config,
    source: Source,
    marks: Marks,
    warnings: Vec<String>,
}

/// How a listener of the new configuration comes to its port.
#[derive(Debug)]
struct Plan {
    listener: Arc<str>,
    serving: Serving,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// It has it already.
    Kept,
    /// The other listener goes elsewhere, and leaves the open socket.
    From(Arc<str>),
    /// A new one.
    New(Bound),
}

impl App {
    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// What is wrong; the configuration in force stays.
    pub(super) async fn reload(&mut self, cause: Cause) -> Result<Reloaded, String> {
        self.voice.reloading();
        if let Cause::Files(files) = &cause {
            tracing::info!(?files, "files of the configuration have changed");
        }
        let result = self.try_reload(&cause).await;
        self.reloads.note(super::now(), &result);
        let in_force = self.shared.snapshot.load().generation;
        match &result {
            Ok(Reloaded { generation, .. }) => {
                tracing::info!(generation, "configuration reloaded");
                self.voice.ready(&format!("serving, generation {in_force}"));
            }
            Err(why) => {
                tracing::error!("the new configuration is refused:\n{why}");
                let first = why.lines().next().unwrap_or_default();
                self.voice.ready(&format!(
                    "serving, generation {in_force}; the last reload was refused: {first}"
                ));
            }
        }
        result
    }

    async fn try_reload(&mut self, cause: &Cause) -> Result<Reloaded, String> {
        let source = self
            .source
            .as_ref()
            .ok_or("this gateway was not started from a file")?;
        let path = source.path.clone();
        let text = match cause {
            Cause::Asked => None,
            Cause::Files(_) => Some(source.text.clone()),
        };
        let seen = self.follower.as_ref().map(super::Follower::seen);
        let read = move || load(path, text, &seen.unwrap_or_default());
        let loaded = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| error.to_string())??;
        let before = self.config.load_full();
        unchangeable(&before, &loaded.config)?;
        let plans = self.plan(&loaded.config).await?;
        let admin = self.plan_admin(&loaded.config)?;

        // Nothing below can fail.
        if let Some(follower) = &mut self.follower {
            follower.follow(loaded.marks);
        }
        self.source = Some(loaded.source);
        Ok(Reloaded {
            generation: self.put_in_force(&before, loaded.config, plans, admin),
            warnings: loaded.warnings,
        })
    }

    fn put_in_force(
        &mut self,
        before: &Config,
        config: Config,
        plans: Vec<Plan>,
        admin: Option<Front<Admin>>,
    ) -> u64 {
        self.retired.retain(Retired::lives);
        let current = self.shared.snapshot.load_full();
        let mut snapshot = Snapshot::next(&config, Some(&current));
        // Whoever is still connected to a listener that is gone may finish.
        let gone = self.retired.iter().map(|retired| &retired.listener);
        for listener in gone.chain(self.ports.keys()) {
            snapshot.keep_front(listener, &current);
        }
        let generation = snapshot.generation;
        self.shared.snapshot.store(Arc::new(snapshot));
        if before.limits.per_address != config.limits.per_address {
            let addresses = Addresses::new(config.limits.per_address);
            self.shared.addresses.store(Arc::new(addresses));
        }
        self.caps
            .set_limits(listener_setup::cap_limits(&config.limits));
        self.replace_ports(&config, plans);
        self.show_ports();
        if let (Some(port), Some(front)) = (&self.admin, admin) {
            front.handler.set_token(config.admin.token.clone());
            port.front.store(Arc::new(front));
        }
        if before.shared != config.shared {
            self.keeper = Keeper::start(&self.shared, config.shared.as_ref());
        }
        for access_key in no_longer_trusted(before, &config) {
            let purge = Purge {
                access_key: Some(access_key.clone()),
                call_id: None,
            };
            if let Some(store) = self.shared.store.load_full() {
                store.purge(purge.clone());
            }
            self.shared.cache.purge(purge);
        }
        self.config.store(Arc::new(config));
        self.probes.follow(&self.shared.snapshot.load());
        generation
    }

    /// Opens the sockets that are new, and prepares how each will be served.
    async fn plan(&self, config: &Config) -> Result<Vec<Plan>, String> {
        let keeps = |name: &Arc<str>| {
            let listener = config.listeners.get(name);
            let port = self.ports.get(name);
            listener
                .zip(port)
                .is_some_and(|(listener, port)| port.is_at(listener.bind))
        };
        let mut plans = Vec::new();
        for (name, listener) in &config.listeners {
            let left_by = || {
                let mut left = self.ports.iter().filter(|(other, _)| !keeps(other));
                left.find(|(_, port)| port.local == listener.bind)
            };
            let place = if keeps(name) {
                Place::Kept
            } else if let Some((other, _)) = left_by() {
                Place::From(other.clone())
            } else {
                for retired in &self.retired {
                    retired.make_way(listener.bind).await;
                }
                let bound = self.socket(name, listener.bind);
                Place::New(bound.map_err(|error| error.to_string())?)
            };
            let serving = self.serving(name, listener, &config.limits);
            plans.push(Plan {
                listener: name.clone(),
                serving: serving.map_err(|error| error.to_string())?,
                place,
            });
        }
        Ok(plans)
    }

    fn plan_admin(&self, config: &Config) -> Result<Option<Front<Admin>>, String> {
        let Some(port) = &self.admin else {
            return Ok(None);
        };
        let front = self.admin_front(port.front.load().handler.clone(), config);
        front.map(Some).map_err(|error| error.to_string())
    }

    /// Ports that are gone drain by themselves.
    fn replace_ports(&mut self, config: &Config, plans: Vec<Plan>) {
        let mut old = std::mem::take(&mut self.ports);
        for plan in plans {
            let from = match &plan.place {
                Place::Kept => Some(plan.listener.clone()),
                Place::From(other) => Some(other.clone()),
                Place::New(_) => None,
            };
            let port = from.and_then(|from| Some((old.remove(&from)?, from)));
            let port = match (port, plan.place) {
                (Some((port, _)), Place::Kept) => {
                    let serving = plan.serving.after(&port.serving.load());
                    port.serving.store(Arc::new(serving));
                    port
                }
                (Some((port, from)), _) => {
                    let before = port.serving.swap(Arc::new(plan.serving));
                    let connections = before.connections.clone();
                    self.retired
                        .push(Retired::begin(from, connections, None, &config.server));
                    port
                }
                (None, Place::New(bound)) => {
                    Port::open(bound, plan.serving, self.caps.clone(), &self.workers)
                }
                // Each port is planned for once.
                (None, Place::Kept | Place::From(_)) => continue,
            };
            self.ports.insert(plan.listener, port);
        }
        for (name, port) in old {
            self.manager.sockets.warn_if_kept(&name, port.local);
            let connections = port.serving.load().connections.clone();
            let socket = Some(Socket {
                local: port.local,
                accepting: Arc::new(port.accepting),
            });
            self.retired
                .push(Retired::begin(name, connections, socket, &config.server));
        }
    }
}

/// Reads the configuration, or takes the text that is given, with all files that it names.
fn load(path: PathBuf, text: Option<Arc<str>>, seen: &Marks) -> Result<Loaded, String> {
    let earlier = seen.again();
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
    let source = Source { path, text };
    let marks = Marks::take(&source.followed(&config)).or_earlier(&earlier);
    Ok(Loaded {
        config,
        source,
        marks,
        warnings,
    })
}

/// What needs a restart.
fn unchangeable(before: &Config, after: &Config) -> Result<(), String> {
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
fn no_longer_trusted<'a>(
    before: &'a Config,
    after: &'a Config,
) -> impl Iterator<Item = &'a AccessKey> {
    let lost = |old: &Account, new: &Account| {
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
