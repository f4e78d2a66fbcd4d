//! The command-line interface. Each command parses its own arguments, runs and returns its exit code.
//! Results go to stdout, diagnostics to stderr. Exit codes: 0 done, 1 failure at run time, 2 bad
//! usage, 78 bad or missing configuration.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};
use jiff::Timestamp;

pub mod audit;
pub mod call;
pub mod check;
mod config_path;
pub mod control;
#[cfg(feature = "stand-in")]
pub mod demo;
mod failure;
pub mod generate;
mod help;
#[cfg(feature = "stand-in")]
pub mod init;
pub mod keys;
pub mod run;
mod secret_key;
mod signals;
pub mod signature;
#[cfg(feature = "stand-in")]
pub mod stand_in;
mod terminal;
#[cfg(feature = "stand-in")]
mod trial;
mod values;

use signature::Streams;

/// A load balancer and caching reverse proxy for CC-FS clusters
///
/// It verifies signatures, normalizes request bodies, answers repeated playback requests from a cache,
/// and balances over the nodes.
#[derive(Debug, Parser)]
#[command(name = "ccfs-gateway", version, long_version = LONG_VERSION, max_term_width = 100)]
#[command(after_help = EXAMPLES, styles = help::STYLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    #[cfg(feature = "stand-in")]
    Init(init::Init),
    #[cfg(feature = "stand-in")]
    Demo(demo::Demo),
    Call(Box<call::Call>),
    Sign(signature::Sign),
    Verify(signature::Verify),
    Explain(signature::Explain),
    #[cfg(feature = "stand-in")]
    StandIn(stand_in::StandInArgs),
    Schema(check::Schema),
    Audit(audit::Audit),
    Status(control::Status),
    Nodes(control::Nodes),
    Top(control::Top),
    Tail(control::Tail),
    Doctor(control::Doctor),
    Reload(control::Reload),
    Drain(control::Drain),
    Purge(control::Purge),
    Keys(keys::Keys),
    Healthcheck(control::Healthcheck),
    Completions(generate::Completions),
    Man(generate::Man),
}

impl Cli {
    /// Runs the command and returns its exit code.
    pub fn run(self) -> ExitCode {
        // rustls picks a default provider by itself only while exactly one is compiled in.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let is_json = self.command.is_json();
        self.command
            .run()
            .unwrap_or_else(|error| report_error(&error, is_json))
    }
}

/// Parses the command line, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    let parsed = help::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    match parsed {
        Ok(cli) => cli.run(),
        Err(error) => {
            let is_json = std::env::args_os().any(|argument| argument == "--json");
            if is_json && error.use_stderr() {
                let _ = writeln!(io::stdout(), "{:#}", failure::usage_to_json(&error));
            } else {
                let _ = error.print();
            }
            // 2 for bad usage, 0 for `--help` and `--version`.
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

impl Command {
    /// Whether the command prints JSON, and so its errors too.
    fn is_json(&self) -> bool {
        match self {
            Self::Audit(audit) => audit.is_json(),
            Self::Call(call) => call.json,
            Self::Check(check) => check.json,
            #[cfg(feature = "stand-in")]
            Self::Demo(demo) => demo.json,
            Self::Doctor(doctor) => doctor.target.json,
            Self::Drain(drain) => drain.target.json,
            Self::Healthcheck(check) => check.target.json,
            Self::Keys(keys) => keys.is_json(),
            Self::Nodes(nodes) => nodes.target.json,
            Self::Purge(purge) => purge.target.json,
            Self::Reload(reload) => reload.target.json,
            Self::Status(status) => status.target.json,
            Self::Tail(tail) => tail.target.json,
            Self::Top(top) => top.target.json,
            Self::Explain(explain) => explain.target.json,
            Self::Verify(verify) => verify.json,
            #[cfg(feature = "stand-in")]
            Self::Init(_) | Self::StandIn(_) => false,
            Self::Completions(_)
            | Self::Man(_)
            | Self::Run(_)
            | Self::Schema(_)
            | Self::Sign(_) => false,
        }
    }

    fn run(self) -> anyhow::Result<ExitCode> {
        let now = now();
        let (mut input, mut out, mut err) = (io::stdin(), io::stdout(), io::stderr());
        let mut streams = Streams {
            stdin: &mut input,
            stdout: &mut out,
            stderr: &mut err,
        };
        match self {
            Self::Sign(sign) => sign.run(now, &mut streams),
            Self::Verify(verify) => verify.run(now, &mut streams),
            Self::Explain(explain) => match explain.live() {
                Some(access_key) => block_on(control::explain_live(
                    &explain.target,
                    access_key,
                    streams.stdout,
                )),
                None => explain.run(now, &mut streams),
            },
            Self::Check(check) => {
                let check = check.styled(terminal::has_colours(&io::stderr()));
                Ok(check.run(streams.stdout, streams.stderr)?)
            }
            Self::Schema(schema) => Ok(schema.run(streams.stdout)?),
            Self::Audit(audit) => audit.run(streams.stdout),
            Self::Status(status) => block_on(status.run(streams.stdout)),
            Self::Nodes(nodes) => block_on(nodes.run(streams.stdout)),
            Self::Top(top) => block_on(top.run(streams.stdout)),
            Self::Tail(tail) => block_on(tail.run()),
            Self::Doctor(doctor) => block_on(doctor.run(now, streams.stdout)),
            Self::Reload(reload) => block_on(reload.run(streams.stdout, streams.stderr)),
            Self::Drain(drain) => block_on(drain.run(streams.stdout)),
            Self::Purge(purge) => block_on(purge.run(streams.stdout, streams.stderr)),
            Self::Keys(keys) => block_on(keys.run(streams.stdout, streams.stderr)),
            Self::Healthcheck(check) => block_on(check.run(streams.stdout)),
            Self::Completions(completions) => completions.run(streams.stdout),
            Self::Man(man) => man.run(streams.stdout),
            Self::Run(run) => block_on(run.run()),
            #[cfg(feature = "stand-in")]
            Self::Init(init) => init.run(streams.stdout),
            #[cfg(feature = "stand-in")]
            Self::Demo(demo) => block_on(demo.run()),
            Self::Call(call) => block_on(call::run(*call)),
            #[cfg(feature = "stand-in")]
            Self::StandIn(args) => block_on(stand_in::run(args)),
        }
    }
}

/// Prints why a command failed, as text on stderr or as JSON on stdout, and returns its exit code.
fn report_error(error: &anyhow::Error, is_json: bool) -> ExitCode {
    let usage = error.downcast_ref::<clap::Error>();
    let is_io = error.downcast_ref::<io::Error>();
    if is_io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // The reader of the output (`head`, a pager) has closed it.
        return ExitCode::SUCCESS;
    }
    let _ = match usage {
        _ if is_json => writeln!(io::stdout(), "{:#}", failure::to_json(error)),
        Some(usage) => usage.print(),
        None => writeln!(io::stderr(), "ccfs-gateway: {error:#}"),
    };
    match usage {
        Some(_) => ExitCode::from(2),
        None => ExitCode::FAILURE,
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the start time of the command"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Exit code for a bad or missing configuration: EX_CONFIG of sysexits.h.
const EX_CONFIG: u8 = 78;

/// Printed by `--version`; `-V` prints the first line. Set by `build.rs`.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILD_COMMIT"),
    "\ntarget: ",
    env!("BUILD_TARGET"),
    "\nfeatures: ",
    env!("BUILD_FEATURES"),
);

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway demo                   # a tour without any setup
  ccfs-gateway init gateway           # a first configuration, and how to try it
  ccfs-gateway check gateway/gateway.toml
  ccfs-gateway run gateway/gateway.toml

Without a file, run and check read $CCFS_GATEWAY_CONFIG, else
/etc/ccfs-gateway/gateway.toml. `ccfs-gateway COMMAND --help` has examples of each.";
