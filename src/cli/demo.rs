//! `demo`: a complete setup in one process. Creates temporary certificates, starts three stand-in
//! nodes and the gateway as `run` would, sends sample requests, prints their results, then serves.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::signals::shutdown_signal;
use crate::admin::AdminCommand;
use crate::telemetry;

mod environment;
mod files;
mod requests;
mod steps;

use environment::DemoEnv;
use steps::{DemoStep, StepReport};

/// Runs a complete demo setup, then serves until Ctrl-C or SIGTERM
///
/// Starts three stand-in CC-FS nodes and the gateway in front of them, with temporary certificates
/// and keys, sends sample requests, and prints the result of each.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// Exit after the sample requests: 0 if each had the expected result, else 1
    #[arg(long)]
    once: bool,
    /// With --once: print one JSON object: passed, steps
    #[arg(long, requires = "once")]
    pub(super) json: bool,
    /// Port of the gateway [default: 28443, or a free port if that is in use]
    #[arg(long)]
    port: Option<u16>,
    /// Only write the files that DIR/gateway.toml refers to (temporary certificates and secrets)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["once", "port"])]
    make_files: Option<PathBuf>,
    /// With --make-files: overwrite existing files
    #[arg(long, requires = "make_files")]
    force: bool,
}

impl Demo {
    /// Runs the demo.
    ///
    /// # Errors
    /// Returns an error if the gateway or a stand-in cannot start.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout();
        if let Some(directory) = &self.make_files {
            files::make_files(directory, self.force, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        let _diagnostics =
            telemetry::init_diagnostics(tracing::Level::ERROR, Some(telemetry::LogFormat::Text))?;
        let shutdown = shutdown_signal()?;
        let mut env = DemoEnv::start(self.port).await?;
        let passed = self.run_steps_and_serve(&mut env, shutdown, &mut out).await;
        // Also after an error: the temporary folder is deleted together with the environment.
        env.shut_down(AdminCommand::Terminate).await;
        Ok(if passed? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Runs all steps and then serves, until `shutdown`; whether each step had the expected result.
    async fn run_steps_and_serve(
        &self,
        env: &mut DemoEnv,
        shutdown: impl Future<Output = ()>,
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        let mut shutdown = std::pin::pin!(shutdown);
        let passed = tokio::select! {
            passed = run_steps(env, self.json, out) => passed?,
            () = &mut shutdown => return Ok(true),
        };
        if !self.once {
            writeln!(out, "\n{}", env.instructions())?;
            shutdown.await;
            writeln!(out, "\nshutting down")?;
        }
        Ok(passed)
    }
}

/// Runs all steps and prints their results; whether each step had the expected result.
async fn run_steps(env: &mut DemoEnv, is_json: bool, out: &mut impl Write) -> anyhow::Result<bool> {
    if !is_json {
        writeln!(out, "{}\n", env.describe())?;
    }
    let mut reports = Vec::new();
    for step in DemoStep::ALL {
        let report = step.run(env).await;
        if !is_json {
            writeln!(out, "{report}")?;
        }
        reports.push(report);
    }
    let failed = reports.iter().filter(|report| !report.passed).count();
    if is_json {
        let steps: Vec<_> = reports.iter().map(StepReport::to_json).collect();
        writeln!(
            out,
            "{:#}",
            json!({ "passed": failed == 0, "steps": steps })
        )?;
    } else if failed > 0 {
        writeln!(out, "\n{failed} of {} steps failed", reports.len())?;
    }
    Ok(failed == 0)
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway demo                       # then try the call line that it shows
  ccfs-gateway demo --once                # exit after the sample requests
  ccfs-gateway demo --make-files config   # certificates and secrets for config/gateway.toml";
