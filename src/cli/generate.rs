//! `completions` and `man`: files that packages install, generated from the definition of the commands.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Prints a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the manual pages of all commands
#[derive(Args, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub struct Man {
    /// Directory for the pages; created if it does not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    /// Writes the script to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ccfs-gateway", &mut script);
        out.write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Man {
    /// Writes one page per command.
    ///
    /// # Errors
    /// Returns an error if the directory or a page cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let directory = self.directory.display();
        let problem = || format!("cannot write the manual pages to {directory}");
        fs::create_dir_all(&self.directory).with_context(problem)?;
        clap_mangen::generate_to(Cli::command(), &self.directory).with_context(problem)?;
        writeln!(out, "the manual pages are in {directory}")?;
        Ok(ExitCode::SUCCESS)
    }
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  ccfs-gateway completions bash > /etc/bash_completion.d/ccfs-gateway
  ccfs-gateway completions zsh > ~/.zfunc/_ccfs-gateway";
const MAN_EXAMPLES: &str = "\
Examples:
  ccfs-gateway man /usr/local/share/man/man1";
