//! `audit verify`: checks the chain of an audit log.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::telemetry::{AuditKey, AuditVerifier, Verified};
use crate::words;

/// Checks audit logs
#[derive(Args, Debug)]
pub struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    Verify(Verify),
}

/// Checks the chain of an audit log, and names the first bad line (exit code 1)
///
/// Several files are checked in the order in which they were written, the oldest first. Without a key the
/// chain shows accidents; only with one does it show forgery.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Verify {
    /// The files, the oldest first
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// File with the key: the one of `[telemetry] audit_key_file`
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A line that must be there, from /status or the hourly log: a cut tail shows
    #[arg(long, value_name = "N:HASH", value_parser = parse_head)]
    head: Option<(u64, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn is_json(&self) -> bool {
        let AuditCommand::Verify(verify) = &self.command;
        verify.json
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let AuditCommand::Verify(verify) = &self.command;
        verify.run(out)
    }
}

impl Verify {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let key = match &self.key_file {
            Some(path) => {
                let content = std::fs::read(path);
                let content = content
                    .with_context(|| format!("cannot read the key file {}", path.display()))?;
                Some(AuditKey::new(content))
            }
            None => None,
        };
        let mut verifier = AuditVerifier::new(key, self.head.clone());
        for path in &self.files {
            let cannot = || format!("cannot read {}", path.display());
            let file = File::open(path).with_context(cannot)?;
            if let Err(bad) = verifier.check(BufReader::new(file)).with_context(cannot)? {
                let message = format!("{}:{}: {}", path.display(), bad.line, bad.reason);
                return self.report_bad(out, Some((path, bad.line)), &message);
            }
        }
        let verified = match verifier.finish() {
            Ok(verified) => verified,
            Err(message) => return self.report_bad(out, None, &message),
        };
        self.report_good(out, &verified)?;
        Ok(ExitCode::SUCCESS)
    }

    fn report_good(&self, out: &mut dyn Write, verified: &Verified) -> std::io::Result<()> {
        let head = verified.head.as_ref();
        if self.json {
            let report = json!({
                "valid": true,
                "lines": verified.lines,
                "chains": verified.chains,
                "lost": verified.lost,
                "torn": verified.torn,
                "continues_from": verified.continues_from,
                "head": head.map(|(seq, hash)| json!({ "seq": seq, "hash": hash })),
            });
            return writeln!(out, "{report:#}");
        }
        let Verified { lines, chains, .. } = verified;
        let (lines, chains) = (words::count(*lines, "line"), words::count(*chains, "chain"));
        writeln!(out, "valid: {lines}, {chains}")?;
        if let Some(seq) = verified.continues_from {
            let before = "what came before is in another file";
            writeln!(out, "note: begins with line {seq} of a chain; {before}")?;
        }
        if verified.torn > 0 {
            let torn = verified.torn;
            writeln!(
                out,
                "note: {torn} torn lines, as a full disk or a crash leaves them"
            )?;
        }
        if verified.lost > 0 {
            let lost = verified.lost;
            writeln!(out, "note: {lost} entries were lost, and the log says so")?;
        }
        if let Some((seq, hash)) = head {
            writeln!(out, "head: {seq}:{hash}")?;
        }
        Ok(())
    }

    fn report_bad(
        &self,
        out: &mut dyn Write,
        place: Option<(&PathBuf, u64)>,
        message: &str,
    ) -> anyhow::Result<ExitCode> {
        if self.json {
            let report = json!({
                "valid": false,
                "file": place.map(|(path, _)| path.display().to_string()),
                "line": place.map(|(_, line)| line),
                "error": { "message": message, "help": null },
            });
            writeln!(out, "{report:#}")?;
        } else {
            writeln!(out, "invalid: {message}")?;
        }
        Ok(ExitCode::FAILURE)
    }
}

fn parse_head(text: &str) -> Result<(u64, String), String> {
    let form = "must be N:HASH, such as 17:4f1c…, with 64 lower-case hex digits";
    let (seq, hash) = text.split_once(':').ok_or(form)?;
    let seq = seq.parse().map_err(|_| form)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hash {
        Ok((seq, hash.to_owned()))
    } else {
        Err(form.to_owned())
    }
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway audit verify /var/log/ccfs-gateway/audit.log.1 /var/log/ccfs-gateway/audit.log
  ccfs-gateway audit verify --key-file audit.key --head 4711:9f86d081… audit.log";
