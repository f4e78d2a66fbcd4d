//! `demo`: the main job with nothing to set up. Throw-away certificates, three stand-in nodes and the
//! gateway as `run` would start it; sample requests, and what became of each; then it serves.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::AdminCommand;
use crate::telemetry;

mod environment;
mod files;
mod steps;

use environment::DemoEnv;
use steps::DemoStep;

/// Shows the whole story on one screen, then serves until Ctrl-C or SIGTERM
///
/// Three stand-in CC-FS nodes and the gateway before them, with throw-away certificates and keys;
/// sample requests, and what became of each of them.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// End after the sample requests: 0 if each did what it should, else 1
    #[arg(long)]
    once: bool,
    /// Port of the gateway [default: 28443, or a free one if that is taken]
    #[arg(long)]
    port: Option<u16>,
    /// Only write the files that DIR/gateway.toml names (throw-away certificates and secrets)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["once", "port"])]
    make_files: Option<PathBuf>,
    /// With --make-files: overwrite files that are there
    #[arg(long, requires = "make_files")]
    force: bool,
}

impl Demo {
    /// Plays the demo.
    ///
    /// # Errors
    /// The gateway or a stand-in cannot start.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout();
        if let Some(directory) = &self.make_files {
            files::make_files(directory, self.force, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        telemetry::init_diagnostics(tracing::Level::ERROR);
        let ended = shutdown_signal()?;
        let mut world = DemoEnv::start(self.port).await?;
        let good = self.run_steps_and_serve(&mut world, ended, &mut out).await;
        // Whatever ended it: the temporary folder goes with the world.
        world.shut_down(AdminCommand::Terminate).await;
        Ok(if good? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Until all is told, or `ended`: did each scene do what it should?
    async fn run_steps_and_serve(
        &self,
        world: &mut DemoEnv,
        ended: impl Future<Output = ()>,
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        let mut ended = std::pin::pin!(ended);
        let good = tokio::select! {
            good = run_steps(world, out) => good?,
            () = &mut ended => return Ok(true),
        };
        if !self.once {
            writeln!(out, "\n{}", world.instructions())?;
            ended.await;
            writeln!(out, "\nending")?;
        }
        Ok(good)
    }
}

/// Plays all scenes: did each do what it should?
async fn run_steps(world: &mut DemoEnv, out: &mut impl Write) -> anyhow::Result<bool> {
    writeln!(out, "{}\n", world.describe())?;
    let mut failed = 0;
    for scene in DemoStep::ALL {
        let shown = scene.run(world).await;
        failed += usize::from(!shown.passed);
        writeln!(out, "{shown}")?;
    }
    if failed > 0 {
        let all = DemoStep::ALL.len();
        writeln!(out, "\n{failed} of {all} did not do what they should")?;
    }
    Ok(failed == 0)
}

/// SIGINT or SIGTERM, from now on.
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway demo                       # then try the call line that it shows
  ccfs-gateway demo --once                # end after the samples
  ccfs-gateway demo --make-files config   # certificates and secrets for config/gateway.toml";
