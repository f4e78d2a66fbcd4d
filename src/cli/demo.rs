//! `demo`: a complete setup in one process. Creates temporary certificates, starts three stand-in
//! nodes and the gateway as `run` would, sends sample requests, prints their results, then serves.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::signals::shutdown_signal;
use crate::admin::AdminCommand;
use crate::telemetry;

mod environment;
mod load;
mod make_files;
mod player;
mod report;
mod requests;
mod steps;

use environment::DemoEnv;
use load::Load;
use player::Player;
use report::Printer;
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
    /// Keep a realistic load running after the sample requests, 40 requests a second
    #[arg(long, conflicts_with = "once")]
    load: bool,
    /// Port of the gateway [default: 28443, or a free port if that is in use]
    #[arg(long)]
    port: Option<u16>,
    /// Only write the files that DIR/gateway.toml refers to (temporary certificates and secrets)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["once", "load", "port"])]
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
            make_files::make_files(directory, self.force, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        let _diagnostics =
            telemetry::init_diagnostics(tracing::Level::ERROR, Some(telemetry::LogFormat::Text))?;
        let shutdown = shutdown_signal()?;
        let mut printer = Printer::stdout();
        if !self.json {
            printer.progress("making certificates, starting three nodes and the gateway")?;
        }
        let mut env = DemoEnv::start(self.port).await?;
        let passed = self
            .run_steps_and_serve(&mut env, shutdown, &mut printer)
            .await;
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
        printer: &mut Printer<impl Write>,
    ) -> anyhow::Result<bool> {
        let mut shutdown = std::pin::pin!(shutdown);
        let passed = tokio::select! {
            passed = run_steps(env, self.json, printer) => passed?,
            () = &mut shutdown => {
                printer.erase()?;
                return Ok(true);
            }
        };
        if !self.once {
            tokio::select! {
                served = self.serve(env, printer) => served?,
                () = &mut shutdown => {}
            }
            printer.line("shutting down")?;
        }
        Ok(passed)
    }

    /// Shows what to look at next, and serves until it is dropped.
    async fn serve(&self, env: &DemoEnv, printer: &mut Printer<impl Write>) -> anyhow::Result<()> {
        printer.progress("waiting until the node that was killed gets requests again")?;
        let node = if env.wait_for_nodes().await {
            "All three nodes are up, the one that was killed too."
        } else {
            "The node that was killed is not back yet: the page shows it."
        };
        printer.line(node)?;
        printer.line("")?;
        if let Some(admin) = env.admin() {
            printer.facts(&[
                ("status page", format!("http://{admin}/")),
                (
                    "",
                    "what is wrong now and what to do, requests and answers, each node, each access key; \
                     with `demo --load` it moves. Also /status and /metrics"
                        .to_owned(),
                ),
            ])?;
        }
        let player = Player::bind(env).await?;
        printer.facts(&[
            ("player", format!("http://{}/", player.address)),
            (
                "",
                format!(
                    "sign in with {}, and play a recording: the page has links with tickets, from a server that \
                     holds an API key",
                    player.code
                ),
            ),
        ])?;
        let call = env.call_command();
        printer.line("")?;
        printer.command(
            "A request of your own; the second time it is answered from the cache:",
            &call,
        )?;
        printer.line("Ctrl-C stops the demo.")?;
        if self.load {
            let load = Load::new(env);
            let load = load.run(|counts| {
                // A terminal that has gone away ends with the demo.
                let _ = printer.progress(counts);
            });
            tokio::select! {
                () = load => {}
                () = player.serve() => {}
            }
        } else {
            player.serve().await;
        }
        std::future::pending().await
    }
}

/// Runs all steps and prints their results; whether each step had the expected result.
#[expect(
    clippy::disallowed_methods,
    reason = "measures the duration of all steps"
)]
async fn run_steps(
    env: &mut DemoEnv,
    is_json: bool,
    printer: &mut Printer<impl Write>,
) -> anyhow::Result<bool> {
    if !is_json {
        printer.headline(DemoStep::ALL.len(), &env.describe())?;
    }
    let started = Instant::now();
    let mut reports = Vec::new();
    for step in DemoStep::ALL {
        if !is_json {
            printer.progress(step.describe())?;
        }
        let report = step.run(env).await;
        if !is_json {
            printer.row(&report)?;
        }
        reports.push(report);
    }
    let passed = reports.iter().filter(|report| report.passed).count();
    let is_success = passed == reports.len();
    if is_json {
        let steps: Vec<_> = reports.iter().map(StepReport::to_json).collect();
        let report = json!({ "passed": is_success, "steps": steps });
        printer.json(&report)?;
    } else {
        printer.closing(passed, reports.len(), started.elapsed())?;
    }
    Ok(is_success)
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway demo                       # then try the call line that it shows
  ccfs-gateway demo --load                # and look at the status page
  ccfs-gateway demo --once                # exit after the sample requests
  ccfs-gateway demo --make-files config   # certificates and secrets for config/gateway.toml";
