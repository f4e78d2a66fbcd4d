//! `demo`: the main job with nothing to set up. Throw-away certificates, three stand-in nodes and the
//! gateway as `run` would start it; sample requests, and what became of each; then it serves.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::admin::Order;
use crate::telemetry;

mod files;
mod scenes;
mod world;

use scenes::Scene;
use world::World;

/// Shows the whole story on one screen, then serves until Ctrl-C
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
}

impl Demo {
    /// Plays the demo.
    ///
    /// # Errors
    /// The gateway or a stand-in cannot start.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout();
        if let Some(directory) = self.make_files {
            files::make(&directory, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        telemetry::install(tracing::Level::ERROR);
        let mut world = World::start(self.port).await?;
        writeln!(out, "{}\n", world.introduction())?;
        let mut failed = 0;
        for scene in Scene::ALL {
            let shown = scene.play(&mut world).await;
            failed += usize::from(!shown.good);
            writeln!(out, "{shown}")?;
        }
        if failed > 0 {
            writeln!(
                out,
                "\n{failed} of {} did not do what they should",
                Scene::ALL.len()
            )?;
        }
        if !self.once {
            writeln!(out, "\n{}", world.invitation())?;
            tokio::signal::ctrl_c().await?;
            writeln!(out, "\nending")?;
        }
        world.end(Order::End).await;
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway demo                       # then try the call line that it shows
  ccfs-gateway demo --once                # end after the samples
  ccfs-gateway demo --make-files config   # certificates and secrets for config/gateway.toml";
