//! Applies a new configuration, all or nothing: every step that can fail runs before the first visible
//! change. Keys that cannot change while running keep their values, and are named until the restart.

mod key_changes;
mod ports;

use std::path::Path;
use std::sync::Arc;

use super::App;
use super::config_diff::{Prepared, keep_until_restart};
use super::file_watcher::FileChanges;
use super::listener_setup;
use super::shared_store_task::SharedStoreTask;
use super::shutdown::DrainingListener;
use crate::admin::{Admin, Reloaded};
use crate::config::{Config, Problem};
use crate::limit::AddressRateLimiter;
use crate::listener::ListenerContext;
use key_changes::log_refused_files;
use ports::ListenerPlan;

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
