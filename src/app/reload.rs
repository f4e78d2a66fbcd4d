//! A new configuration, all or nothing: everything that can fail comes before the first change that
//! anybody can see. What cannot change while running is refused with a sentence, not ignored.

use std::sync::Arc;

use super::serving::{self, Serving};
use super::{App, Port};
use crate::auth::AccessKey;
use crate::cache::Purge;
use crate::config::{Account, Config};
use crate::drain::Phase;
use crate::gateway::Snapshot;
use crate::limit::Addresses;

impl App {
    /// Reads the configuration again and puts it in force; returns the new generation.
    ///
    /// # Errors
    /// What is wrong; the configuration in force stays.
    pub(super) fn reload(&mut self) -> Result<u64, String> {
        let result = self.try_reload();
        self.reloads.note(super::now(), &result);
        match &result {
            Ok(generation) => tracing::info!(generation, "configuration reloaded"),
            Err(why) => tracing::error!("the new configuration is refused:\n{why}"),
        }
        result
    }

    fn try_reload(&mut self) -> Result<u64, String> {
        let source = self
            .source
            .as_ref()
            .ok_or("this gateway was not started from a file")?;
        let (config, warnings) = Config::load(source).map_err(|wrong| wrong.to_string())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let before = self.config.load_full();
        unchangeable(&before, &config)?;
        let (opened, served) = self.prepare(&config)?;

        // Nothing below can fail.
        let snapshot = Snapshot::next(&config, Some(&self.shared.snapshot.load()));
        let generation = snapshot.generation;
        self.shared.snapshot.store(Arc::new(snapshot));
        if before.limits.per_address != config.limits.per_address {
            let addresses = Addresses::new(config.limits.per_address);
            self.shared.addresses.store(Arc::new(addresses));
        }
        self.caps.set_limits(serving::cap_limits(&config.limits));
        for (port, serving) in served {
            port.store(Arc::new(serving));
        }
        self.replace_ports(&config, opened);
        self.show_ports();
        for access_key in no_longer_trusted(&before, &config) {
            let purge = Purge {
                access_key: Some(access_key.clone()),
                call_id: None,
            };
            self.shared.cache.purge(purge);
        }
        self.config.store(Arc::new(config));
        self.probe_clusters();
        Ok(generation)
    }

    /// Opens the ports that are new, and prepares how the kept ones will be served.
    #[expect(clippy::type_complexity, reason = "the two halves of one preparation")]
    fn prepare(
        &self,
        config: &Config,
    ) -> Result<
        (
            Vec<(Arc<str>, Port)>,
            Vec<(Arc<arc_swap::ArcSwap<Serving>>, Serving)>,
        ),
        String,
    > {
        let (mut opened, mut served) = (Vec::new(), Vec::new());
        for (name, listener) in &config.listeners {
            match self
                .ports
                .get(name)
                .filter(|port| port.bind == listener.bind)
            {
                Some(port) => {
                    let serving = self
                        .serving(name, listener, &config.limits)
                        .map_err(|error| format!("TLS of listener {name}: {error}"))?;
                    served.push((port.serving.clone(), serving));
                }
                None => {
                    let port = self
                        .open(name, listener, &config.limits)
                        .map_err(|error| error.to_string())?;
                    opened.push((name.clone(), port));
                }
            }
        }
        Ok((opened, served))
    }

    /// Ports that are gone, or moved, drain by themselves.
    fn replace_ports(&mut self, config: &Config, opened: Vec<(Arc<str>, Port)>) {
        self.retired.retain(|port| !port.drain.is_over());
        let gone: Vec<_> = self
            .ports
            .keys()
            .filter(|name| !config.listeners.contains_key(*name))
            .cloned()
            .collect();
        let mut old: Vec<_> = gone
            .iter()
            .filter_map(|name| self.ports.remove(name))
            .collect();
        for (name, port) in opened {
            old.extend(self.ports.insert(name, port));
        }
        for port in old {
            port.drain.advance(Phase::Closing);
            self.retired.push(port);
        }
    }
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
            before.admin.token != after.admin.token,
            "[admin] token_file",
        ),
        (before.telemetry != after.telemetry, "[telemetry]"),
        (
            before.limits.max_answer != after.limits.max_answer
                || before.limits.min_receive_rate != after.limits.min_receive_rate,
            "[limits] max_answer and min_receive_rate",
        ),
    ];
    match changes.into_iter().find(|(changed, _)| *changed) {
        Some((_, key)) => Err(format!(
            "{key} cannot change while running: restart the gateway"
        )),
        None => Ok(()),
    }
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
