//! `check` reads and validates all that `run` would; `schema` prints the JSON Schema for editors.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::EX_CONFIG;
use super::config_path::{ConfigPath, NotFound};
use crate::admin::STATUS_SCHEMA;
use crate::app;
use crate::config::{self, Config, MAX_LISTED, Problem, Severity};

mod connect;
mod summary;

use connect::Connections;
use summary::write_summary;

/// Validates a configuration with all its files, and sums it up
///
/// All errors are reported at once, each with its position and the expected value. Exit code 0 if the
/// gateway would start, 78 if not. With --connect every node is tried too: 1 if one cannot be reached or
/// is not trusted.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    #[command(flatten)]
    config: ConfigPath,
    /// List every problem by itself, instead of merging equal ones and stopping after 20
    #[arg(long)]
    all: bool,
    /// Connect to every node, and print what it presents
    #[arg(long)]
    connect: bool,
    /// Print one JSON object: valid, errors, warnings, summary
    #[arg(long)]
    pub(super) json: bool,
    /// Whether problems are printed with the colours of a terminal.
    #[arg(skip)]
    is_styled: bool,
}

/// Prints the JSON Schema of the configuration, for editors
#[derive(Args, Debug, Default)]
#[command(after_help = SCHEMA_EXAMPLES)]
pub struct Schema {
    /// Print the schema of what GET /status answers instead, for programs that read it
    #[arg(long)]
    status: bool,
}

impl Check {
    /// Creates a check of the file at `config`.
    pub fn new(config: PathBuf) -> Self {
        Self {
            config: ConfigPath::given(config),
            all: false,
            connect: false,
            json: false,
            is_styled: false,
        }
    }

    /// Prints problems with the colours of a terminal, if `is_styled`.
    #[must_use]
    pub fn styled(self, is_styled: bool) -> Self {
        Self { is_styled, ..self }
    }

    /// Lists every problem by itself.
    #[must_use]
    pub fn all(self) -> Self {
        Self { all: true, ..self }
    }

    /// Writes the summary to `out`, errors and warnings to `err`; with `--json` everything to `out`.
    pub fn run(&self, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
        let path = match self.config.resolve() {
            Ok(path) => path,
            Err(missing) => return report_missing(&missing, self.json, out, err),
        };
        let (config, warnings) = match Config::load(&path) {
            Ok(loaded) => loaded,
            Err(error) if self.json => {
                let report = self.report(error.problems());
                return write_report(&report, out);
            }
            Err(error) => {
                match (self.all, self.is_styled) {
                    (true, true) => writeln!(err, "{:#}", error.all())?,
                    (true, false) => writeln!(err, "{}", error.all())?,
                    (false, true) => writeln!(err, "{error:#}")?,
                    (false, false) => writeln!(err, "{error}")?,
                }
                return Ok(ExitCode::from(EX_CONFIG));
            }
        };
        match app::preflight(&config) {
            Ok(in_use) if self.json => {
                let mut report = self.report(&warnings);
                report
                    .warnings
                    .extend(in_use.iter().map(|it| plain_json(it, None)));
                let mut summary = Vec::new();
                write_summary(&config, &mut summary)?;
                report.summary = Some(summary);
                report.nodes = self.connections(&config)?;
                write_report(&report, out)
            }
            Ok(in_use) => {
                self.write_warnings(&warnings, &in_use, err)?;
                write_summary(&config, out)?;
                writeln!(out, "configuration is valid")?;
                let Some(connections) = self.connections(&config)? else {
                    return Ok(ExitCode::SUCCESS);
                };
                connections.write(out)?;
                Ok(exit_code(connections.are_trusted()))
            }
            Err(error) if self.json => {
                let mut report = self.report(&warnings);
                report.errors.push(plain_json(&error.to_string(), None));
                write_report(&report, out)
            }
            Err(error) => {
                self.write_warnings(&warnings, &[], err)?;
                writeln!(err, "error: {error}")?;
                Ok(ExitCode::from(EX_CONFIG))
            }
        }
    }

    /// Connects to the nodes if that is demanded.
    fn connections(&self, config: &Config) -> io::Result<Option<Connections>> {
        self.connect.then(|| Connections::open(config)).transpose()
    }

    fn write_warnings(
        &self,
        warnings: &[Problem],
        in_use: &[String],
        err: &mut dyn Write,
    ) -> io::Result<()> {
        let warnings = match (self.all, self.is_styled) {
            (true, true) => warnings.iter().map(|it| format!("{it:#}")).collect(),
            (true, false) => warnings.iter().map(Problem::to_string).collect(),
            (false, true) => Problem::summarize_styled(warnings),
            (false, false) => Problem::summarize(warnings),
        };
        for warning in warnings {
            writeln!(err, "{warning}\n")?;
        }
        for warning in in_use {
            writeln!(err, "warning: {warning}\n")?;
        }
        Ok(())
    }

    /// Returns the report of `problems`: equal ones merged and at most 20 of a kind, unless `--all`.
    fn report(&self, problems: &[Problem]) -> Report {
        let problems = if self.all {
            problems.to_vec()
        } else {
            Problem::merge_equal(problems)
        };
        let listed = if self.all { usize::MAX } else { MAX_LISTED };
        let of = |severity| problems.iter().filter(move |it| it.severity() == severity);
        let json = |severity| of(severity).take(listed).map(problem_json).collect();
        let omitted = of(Severity::Error).skip(listed).map(Problem::count).sum();
        Report {
            errors: json(Severity::Error),
            errors_omitted: omitted,
            warnings: json(Severity::Warning),
            summary: None,
            nodes: None,
        }
    }
}

/// What `--json` prints.
struct Report {
    errors: Vec<Value>,
    errors_omitted: usize,
    warnings: Vec<Value>,
    /// Lines of text; `None` for an invalid configuration.
    summary: Option<Vec<u8>>,
    /// What the nodes present, with `--connect`.
    nodes: Option<Connections>,
}

impl Schema {
    /// Writes the schema to `out`.
    pub fn run(&self, out: &mut dyn Write) -> io::Result<ExitCode> {
        if self.status {
            out.write_all(STATUS_SCHEMA.as_bytes())?;
        } else {
            out.write_all(config::schema().as_bytes())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes the result as one JSON object.
fn write_report(report: &Report, out: &mut dyn Write) -> io::Result<ExitCode> {
    let summary = report.summary.as_deref().map(|text| {
        let text = String::from_utf8_lossy(text);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let is_valid = summary.is_some();
    let mut object = json!({
        "valid": is_valid,
        "errors": report.errors,
        "warnings": report.warnings,
        "summary": summary,
    });
    if report.errors_omitted > 0 {
        object["errors_omitted"] = report.errors_omitted.into();
    }
    if let Some(nodes) = &report.nodes {
        object["nodes"] = nodes.to_json();
    }
    writeln!(out, "{object:#}")?;
    if !is_valid {
        return Ok(ExitCode::from(EX_CONFIG));
    }
    Ok(exit_code(
        report.nodes.as_ref().is_none_or(Connections::are_trusted),
    ))
}

fn exit_code(are_trusted: bool) -> ExitCode {
    if are_trusted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn problem_json(problem: &Problem) -> Value {
    let (line, column) = problem.location().unzip();
    json!({
        "file": problem.path().display().to_string(),
        "line": line,
        "column": column,
        "message": problem.message(),
        "help": Some(problem.help()).filter(|help| !help.is_empty()),
        "count": problem.count(),
    })
}

/// Returns a problem that has no place in a file.
fn plain_json(message: &str, help: Option<&str>) -> Value {
    json!({
        "file": null,
        "line": null,
        "column": null,
        "message": message,
        "help": help,
        "count": 1,
    })
}

/// Reports that there is no configuration file.
fn report_missing(
    missing: &NotFound,
    is_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    if is_json {
        let error = plain_json(NotFound::MESSAGE, Some(NotFound::HELP));
        let report = json!({ "valid": false, "errors": [error], "warnings": [], "summary": null });
        writeln!(out, "{report:#}")?;
    } else {
        writeln!(err, "{missing}")?;
    }
    Ok(ExitCode::from(EX_CONFIG))
}

const SCHEMA_EXAMPLES: &str = "\
Examples:
  ccfs-gateway schema > config.schema.json
  ccfs-gateway schema --status > status.schema.json

Then begin the configuration with
  #:schema ./config.schema.json";

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway check                  # $CCFS_GATEWAY_CONFIG or /etc/ccfs-gateway/gateway.toml
  ccfs-gateway check gateway.toml
  ccfs-gateway check --connect gateway.toml
  ccfs-gateway check --all gateway.toml 2>errors.txt
  ccfs-gateway check --config gateway.toml --json | jq '.errors[].message'";

#[cfg(test)]
mod tests;
