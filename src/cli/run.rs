//! `run`: serves until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::EX_CONFIG;
use super::config_path::ConfigPath;
use crate::admin::AdminCommand;
use crate::app::{self, App, ServiceManager};
use crate::config::{Config, Problem};
use crate::task::boxed;
use crate::telemetry;

/// Serves until SIGTERM or SIGINT
///
/// SIGTERM and SIGINT drain: requests in flight may finish within `grace`; a second signal stops at
/// once. SIGHUP reloads the configuration. SIGUSR1 reopens the access-log file.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    #[command(flatten)]
    config: ConfigPath,
}

impl Run {
    /// Serves until the drain has completed. All errors go to standard error from here: the exit must not wait
    /// for a standard error that is not read.
    ///
    /// # Errors
    /// None; failures are reported by the exit code.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.start().await {
            Ok(code) => Ok(code),
            Err(error) => {
                telemetry::write_stderr(&format!("ccfs-gateway: {error:#}\n"));
                Ok(ExitCode::FAILURE)
            }
        }
    }

    async fn start(self) -> anyhow::Result<ExitCode> {
        let service_manager = ServiceManager::from_environment()?;
        // Core dumps are disabled before the first secret is read.
        let limited = app::set_resource_limits();
        let path = match self.config.resolve() {
            Ok(path) => path,
            Err(missing) => {
                telemetry::write_stderr(&format!("{missing}\n"));
                return Ok(ExitCode::from(EX_CONFIG));
            }
        };
        let (config, warnings) = match Config::load_to_serve(&path) {
            Ok(loaded) => loaded,
            Err(diagnosis) => {
                telemetry::write_stderr(&format!("{diagnosis}\n"));
                return Ok(ExitCode::from(EX_CONFIG));
            }
        };
        let settings = &config.telemetry;
        let _flushed_at_exit =
            telemetry::init_diagnostics(settings.log_level, settings.log_format)?;
        for warning in Problem::summarize(&warnings) {
            tracing::warn!("{warning}");
        }
        if let Err(error) = limited {
            tracing::warn!(%error, "core dumps or open files could not be limited as they should");
        }
        if let Err(error) = serve(service_manager, config, path).await {
            tracing::error!("ccfs-gateway cannot start: {error:#}");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn serve(
    service_manager: ServiceManager,
    config: Config,
    file: PathBuf,
) -> anyhow::Result<()> {
    let app = App::bind_with_service_manager(service_manager, config, Some(file))?;
    forward_signals(app.commands())?;
    app.run().await;
    Ok(())
}

/// Forwards signals as admin commands.
fn forward_signals(commands: mpsc::Sender<AdminCommand>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user = signal(SignalKind::user_defined1())?;
    #[expect(clippy::disallowed_methods, reason = "ends with the process")]
    tokio::spawn(boxed(async move {
        loop {
            let command = tokio::select! {
                _ = terminate.recv() => AdminCommand::Terminate,
                _ = interrupt.recv() => AdminCommand::Terminate,
                // The reload logs its own result.
                _ = hangup.recv() => AdminCommand::Reload(oneshot::channel().0),
                _ = user.recv() => AdminCommand::ReopenLog,
            };
            if commands.send(command).await.is_err() {
                return;
            }
        }
    }));
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway run                    # $CCFS_GATEWAY_CONFIG or /etc/ccfs-gateway/gateway.toml
  ccfs-gateway run gateway.toml
  kill -HUP $(pidof ccfs-gateway)     # reload";
