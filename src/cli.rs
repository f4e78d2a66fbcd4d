//! The command-line interface. Each command parses its own arguments, runs and returns its exit code.
//! Results go to stdout, diagnostics to stderr. Exit codes: 0 done, 1 failure at run time, 2 bad
//! usage, 78 bad or missing configuration.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;

pub mod call;
pub mod check;
pub mod control;
pub mod demo;
pub mod run;
mod secret_key;
pub mod signature;
pub mod stand_in;
mod values;

use signature::Streams;

/// A load balancer and caching reverse proxy for CC-FS clusters: it verifies signatures, normalizes
/// request bodies, answers repeated playback requests from a cache, and balances over the nodes.
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
    Call(Box<call::Call>),
    Sign(signature::Sign),
    Verify(signature::Verify),
    Explain(signature::Explain),
    StandIn(stand_in::StandInArgs),
    Schema(check::Schema),
    Status(control::Status),
    Nodes(control::Nodes),
    Reload(control::Reload),
    Drain(control::Drain),
    Healthcheck(control::Healthcheck),
}

impl Cli {
    /// Runs the command and returns its exit code.
    pub fn run(self) -> ExitCode {
        // rustls picks a default provider by itself only while exactly one is compiled in.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        self.command
            .run()
            .unwrap_or_else(|error| report_error(&error))
    }
}

impl Command {
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
            Self::Explain(explain) => explain.run(now, &mut streams),
            Self::Check(check) => Ok(check.run(streams.stdout, streams.stderr)?),
            Self::Schema(schema) => Ok(schema.run(streams.stdout)?),
            Self::Status(status) => block_on(status.run(streams.stdout)),
            Self::Nodes(nodes) => block_on(nodes.run(streams.stdout)),
            Self::Reload(reload) => block_on(reload.run(streams.stdout, streams.stderr)),
            Self::Drain(drain) => block_on(drain.run(streams.stdout)),
            Self::Healthcheck(check) => block_on(check.run(streams.stdout)),
            Self::Run(run) => block_on(run.run()),
            Self::Demo(demo) => block_on(demo.run()),
            Self::Call(call) => block_on(call::run(*call)),
            Self::StandIn(args) => block_on(stand_in::run(args)),
        }
    }
}

/// Prints why a command failed, and returns its exit code.
fn report_error(error: &anyhow::Error) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        let _ = usage.print();
        return ExitCode::from(2);
    }
    let is_io = error.downcast_ref::<io::Error>();
    if is_io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // The reader of the output (`head`, a pager) has closed it.
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(io::stderr(), "ccfs-gateway: {error:#}");
    ExitCode::FAILURE
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

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway demo                                   # a tour without any setup
  ccfs-gateway check --config config/gateway.toml
  ccfs-gateway run --config config/gateway.toml";
