//! `run`: serves until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::admin::AdminCommand;
use crate::app::{self, App, ServiceManager};
use crate::config::Config;
use crate::telemetry;

/// Serves until SIGTERM or SIGINT
///
/// SIGTERM and SIGINT drain: requests in flight may finish within `grace`; a second signal stops at
/// once. SIGHUP reloads the configuration. SIGUSR1 reopens the access-log file.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The configuration (TOML)
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Run {
    /// Serves until the drain has completed.
    ///
    /// # Errors
    /// Returns an error if the gateway cannot start.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let manager = ServiceManager::from_environment()?;
        // Core dumps are disabled before the first secret is read.
        let limited = app::set_resource_limits();
        let (config, warnings) = match Config::load(&self.config) {
            Ok(loaded) => loaded,
            Err(diagnosis) => return Ok(super::report_invalid_config(&diagnosis)),
        };
        telemetry::init_diagnostics(config.telemetry.log_level);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if let Err(error) = limited {
            tracing::warn!(%error, "core dumps or open files could not be limited as they should");
        }
        let app = App::bind_with_service_manager(manager, config, Some(self.config))?;
        forward_signals(app.commands())?;
        app.run().await;
        Ok(ExitCode::SUCCESS)
    }
}

/// Forwards signals as admin commands.
fn forward_signals(orders: mpsc::Sender<AdminCommand>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user = signal(SignalKind::user_defined1())?;
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(async move {
        loop {
            let order = tokio::select! {
                _ = terminate.recv() => AdminCommand::Terminate,
                _ = interrupt.recv() => AdminCommand::Terminate,
                // The reload logs its own result.
                _ = hangup.recv() => AdminCommand::Reload(oneshot::channel().0),
                _ = user.recv() => AdminCommand::ReopenLog,
            };
            if orders.send(order).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway run --config config/gateway.toml
  kill -HUP $(pidof ccfs-gateway)     # reload";
