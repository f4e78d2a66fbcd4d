//! Serves the commands of the admin interface and of signals. A command to stop never waits for another
//! one, such as a reload from a disk that hangs.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::reload::ReloadCause;
use super::{App, BoundAddresses, ShutdownReport, file_watcher};
use crate::admin::AdminCommand;

impl App {
    /// Serves until [`AdminCommand::Drain`] or [`AdminCommand::Terminate`], then shuts down in the order
    /// that the module `shutdown` documents.
    pub async fn run(mut self) -> ShutdownReport {
        let BoundAddresses { listeners, admin } = self.bound_addresses();
        let listeners: Vec<_> = listeners
            .iter()
            .map(|(name, address)| format!("{name}={address}"))
            .collect();
        let listeners = listeners.join(", ");
        let admin = admin.map(tracing::field::display);
        tracing::info!(listeners, admin, "serving");
        self.watchdog = self.service_manager.start_watchdog(self.workers.all());
        self.notifier.ready("serving, generation 1");
        // The sender is kept: without any, the end of all signals would count as a command.
        let (_sender, mut commands) = std::mem::replace(&mut self.commands, mpsc::channel(1));
        let mut deferred = VecDeque::new();
        let first = loop {
            let command = match deferred.pop_front() {
                Some(command) => command,
                None => tokio::select! {
                    biased;
                    command = commands.recv() => command.unwrap_or(AdminCommand::Terminate),
                    changes = file_watcher::changes(&mut self.file_watcher) => {
                        let work = self.on_changed_files(changes);
                        if let Err(command) = unless_stopped(work, &mut commands, &mut deferred).await {
                            break command;
                        }
                        continue;
                    }
                },
            };
            match command {
                command @ (AdminCommand::Drain | AdminCommand::Terminate) => break command,
                AdminCommand::Reload(reply) => {
                    let cause = ReloadCause::Requested;
                    let work = self.reload(cause);
                    match unless_stopped(work, &mut commands, &mut deferred).await {
                        // The caller may have disconnected.
                        Ok(result) => drop(reply.send(result)),
                        Err(command) => break command,
                    }
                }
                AdminCommand::ReopenLog => self.reopen_logs(),
            }
        };
        // Dropping the replies of deferred reloads tells their callers that the gateway is shutting down.
        drop(deferred);
        self.shut_down(&first, commands).await
    }
}

/// Carries out a reload; one that waits for a disk is given up for the command to stop, which is returned.
/// Other commands wait meanwhile.
async fn unless_stopped<T>(
    reload: impl Future<Output = T>,
    commands: &mut mpsc::Receiver<AdminCommand>,
    deferred: &mut VecDeque<AdminCommand>,
) -> Result<T, AdminCommand> {
    let stopped = async {
        loop {
            match commands.recv().await.unwrap_or(AdminCommand::Terminate) {
                command @ (AdminCommand::Drain | AdminCommand::Terminate) => return command,
                AdminCommand::Reload(reply) if deferred.len() >= MAX_DEFERRED => {
                    let _ = reply.send(Err("too many reloads are waiting".to_owned()));
                }
                AdminCommand::ReopenLog if deferred.len() >= MAX_DEFERRED => {}
                other => deferred.push_back(other),
            }
        }
    };
    tokio::select! {
        // Until it has read everything, a reload changes nothing.
        result = reload => Ok(result),
        command = stopped => Err(command),
    }
}

/// Commands that wait for a running reload. Our choice: more than people and tools send at once.
const MAX_DEFERRED: usize = 16;
