//! `init`: writes a first configuration, and the files to try it with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::failure::Failure;
use super::trial::{ACCESS_KEYS, TrialFiles, program, quote};

/// Writes a first configuration, with certificates and a secret
///
/// Writes DIR/gateway.toml, whose comments say what to change for nodes, certificates and access keys of
/// your own, and in DIR/tls and DIR/secrets the files that it names. Then prints the commands that serve it
/// in front of stand-in nodes. Never overwrites: if one of its files exists, nothing is written.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// Directory for the files; created if it does not exist, unlike its parent
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Init {
    /// Writes the files and prints the next commands.
    ///
    /// # Errors
    /// Returns an error if a file exists already, in which case nothing is written, or cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let config = self.directory.join("gateway.toml");
        let files = TrialFiles::new(&self.directory, &ACCESS_KEYS[..1]);
        let mut paths = files.paths();
        paths.push(config.clone());
        // A dangling link counts too: writing would follow it.
        paths.retain(|path| path.symlink_metadata().is_ok());
        if !paths.is_empty() {
            let existing: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let existing = existing.join(", ");
            bail!(Failure::new(
                format_args!("nothing was written: these files exist: {existing}"),
                "name another directory, or remove them"
            ));
        }
        files.write()?;
        write_new(&config, CONFIG)?;
        self.print_next_commands(&files, out)?;
        Ok(ExitCode::SUCCESS)
    }

    fn print_next_commands(
        &self,
        files: &TrialFiles<'_>,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        let dir = self.directory.display();
        let config = quote(self.directory.join("gateway.toml"));
        let program = program();
        writeln!(
            out,
            "{dir}/gateway.toml is written, and the files that it names in {dir}/tls and {dir}/secrets.\n"
        )?;
        writeln!(out, "Two stand-in nodes, until Ctrl-C:\n")?;
        write_indented(out, &files.stand_in_command(&NODES))?;
        writeln!(out, "\nThe gateway, in a second terminal:\n")?;
        write_indented(
            out,
            &format!("{program} check {config}\n{program} run {config}"),
        )?;
        writeln!(
            out,
            "\nA request, in a third one; the second time it is answered from the cache:\n"
        )?;
        write_indented(out, &files.call_command(URL, "1637742300-27"))?;
        writeln!(
            out,
            "\nThe status page is http://127.0.0.1:9901/. For your own nodes, certificates and access keys\n\
             follow the comments in {dir}/gateway.toml."
        )
    }
}

fn write_indented(out: &mut dyn Write, command: &str) -> std::io::Result<()> {
    for line in command.lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// Writes a file that must not exist.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let problem = || format!("cannot write {}", path.display());
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(problem)?;
    file.write_all(text.as_bytes()).with_context(problem)
}

/// The configuration; its addresses are those of the commands that are printed.
const CONFIG: &str = include_str!("init/gateway.toml");
const NODES: [&str; 2] = ["127.0.0.1:18443", "127.0.0.1:18444"];
const URL: &str = "https://127.0.0.1:28443";

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway init gateway           # then paste the commands that it prints";

#[cfg(test)]
mod tests;
