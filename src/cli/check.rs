//! `check` reads and validates all that `run` would; `schema` prints the JSON Schema for editors.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::EX_CONFIG;
use super::config_path::{ConfigPath, NotFound};
use crate::app;
use crate::config::{self, Config, MAX_LISTED, Problem, Severity};

mod summary;

use summary::write_summary;

/// Reads and validates a configuration with all its files, and prints a summary
///
/// All errors are reported at once, each with its position and the expected value. Exit code 0 if the
/// gateway would start, 78 if not.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    #[command(flatten)]
    config: ConfigPath,
    /// List every problem by itself, instead of merging equal ones and stopping after 20
    #[arg(long)]
    all: bool,
    /// Print one JSON object: valid, errors, warnings, summary
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints the JSON Schema of the configuration, for editors
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  ccfs-gateway schema > config.schema.json\n\nThen begin the file with\n  #:schema ./config.schema.json"
)]
pub struct Schema {}

impl Check {
    /// Creates a check of the file at `config`.
    pub fn new(config: PathBuf) -> Self {
        Self {
            config: ConfigPath::given(config),
            all: false,
            json: false,
        }
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
            Err(error) if self.all => {
                writeln!(err, "{}", error.all())?;
                return Ok(ExitCode::from(EX_CONFIG));
            }
            Err(error) => {
                writeln!(err, "{error}")?;
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
                write_report(&report, out)
            }
            Ok(in_use) => {
                self.write_warnings(&warnings, &in_use, err)?;
                write_summary(&config, out)?;
                writeln!(out, "configuration is valid")?;
                Ok(ExitCode::SUCCESS)
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

    fn write_warnings(
        &self,
        warnings: &[Problem],
        in_use: &[String],
        err: &mut dyn Write,
    ) -> io::Result<()> {
        let warnings = if self.all {
            warnings.iter().map(Problem::to_string).collect()
        } else {
            Problem::summarize(warnings)
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
}

impl Schema {
    /// Writes the schema to `out`.
    pub fn run(&self, out: &mut dyn Write) -> io::Result<ExitCode> {
        out.write_all(config::schema().as_bytes())?;
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
    writeln!(out, "{object:#}")?;
    Ok(if is_valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EX_CONFIG)
    })
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

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway check                  # $CCFS_GATEWAY_CONFIG or /etc/ccfs-gateway/gateway.toml
  ccfs-gateway check gateway.toml
  ccfs-gateway check --all gateway.toml 2>errors.txt
  ccfs-gateway check --config gateway.toml --json | jq '.errors[].message'";

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a configuration, the text of its file, and the path of it.
    fn configuration() -> (tempfile::TempDir, String, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let account = |ak: &str, zone: &str| {
            format!("[access_keys.{ak}]\nsecret_key_file = \"sk\"\ntime_zone = \"{zone}\"\n")
        };
        let accounts = [
            account("A", "Asia/Shanghai"),
            account("B", "Asia/Shanghai"),
            account("C", "GMT-3:30"),
        ];
        let file = format!(
            "[listeners.l]\nbind = \"127.0.0.1:0\"\ncluster = \"c\"\n\
             tls = {{ certificate = \"g.pem\", private_key = \"g.key\" }}\n\
             [clusters.c]\nnodes = [\"https://h:1\"]\ntls = {{ ca = \"g.pem\" }}\n{}",
            accounts.concat()
        );
        let path = folder.path().join("gateway.toml");
        for (name, text) in [
            ("g.pem", made.cert.pem()),
            ("g.key", made.signing_key.serialize_pem()),
            ("sk", "secret".to_owned()),
            ("gateway.toml", file.clone()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        (folder, file, path)
    }

    #[test]
    fn the_summary_lists_zones_with_their_offsets() {
        let (_folder, _, path) = configuration();
        let mut out = Vec::new();
        Check::new(path).run(&mut out, &mut io::sink()).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains("Asia/Shanghai, now at +08:00: 2 access keys\n"),
            "{out}"
        );
        assert!(out.contains("now at -03:30: 1 access key\n"), "{out}");
    }

    #[test]
    fn the_json_report_has_the_members_of_the_contract() {
        let (_folder, file, path) = configuration();
        let check = Check {
            json: true,
            ..Check::new(path.clone())
        };
        let mut out = Vec::new();
        check.run(&mut out, &mut io::sink()).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&report["valid"], &report["errors"]),
            (&json!(true), &json!([]))
        );
        let summary = report["summary"].as_array().unwrap();
        assert!(
            summary.contains(&json!("cluster c: least-request")),
            "{report:#}"
        );

        std::fs::write(&path, format!("nonsense = 1\n{file}")).unwrap();
        let mut out = Vec::new();
        let code = check.run(&mut out, &mut io::sink()).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (code, &report["valid"]),
            (ExitCode::from(78), &json!(false))
        );
        assert_eq!(report["summary"], Value::Null);
        let error = &report["errors"][0];
        assert_eq!(error["file"], path.to_str().unwrap());
        assert_eq!(
            (&error["line"], &error["column"], &error["count"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert!(
            error["message"].as_str().unwrap().contains("nonsense"),
            "{report:#}"
        );
    }

    #[test]
    fn no_configuration_anywhere_names_both_places() {
        let mut out = Vec::new();
        report_missing(&NotFound, true, &mut out, &mut io::sink()).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        let message = report["errors"][0]["message"].as_str().unwrap();
        for part in ["CCFS_GATEWAY_CONFIG", "/etc/ccfs-gateway/gateway.toml"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(report["errors"][0]["file"], Value::Null);
    }
}
