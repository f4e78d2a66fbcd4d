//! The commands. Each reads its own arguments, does its work and says how it ended; results go to
//! stdout, diagnostics to stderr. Exit codes: 0 done, 1 failure at run time, 2 bad usage, 78 bad or
//! missing configuration.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod call;
pub mod check;
pub mod client;
pub mod demo;
pub mod run;
pub mod signature;
pub mod stand_in;

/// A front for CC-FS clusters that understands the requests it carries: it verifies signatures,
/// normalizes bodies, answers repeated playback requests from a cache, and balances over the nodes.
#[derive(Debug, Parser)]
#[command(name = "ccfs-gateway", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Demo(demo::Demo),
    Call(call::Call),
    Sign(signature::Sign),
    Verify(signature::Verify),
    Explain(signature::Explain),
    StandIn(stand_in::StandInArgs),
    Schema(check::Schema),
}
