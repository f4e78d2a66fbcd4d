//! `doctor`: what is wrong with a running gateway, and what to do.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::AdminArgs;
use super::table::replace_control_chars;
use crate::findings;
use crate::words;

/// Shows what is wrong with a running gateway, and what to do
///
/// Exit code 0 if nothing is worse than a note, else 1. A gateway that cannot be reached is a finding too.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    #[command(flatten)]
    pub(in crate::cli) target: AdminArgs,
}

impl Doctor {
    /// Prints the findings, the worst first.
    ///
    /// # Errors
    /// Returns an error only if the output cannot be written.
    pub async fn run(&self, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let (findings, omitted) = match self.target.status().await {
            Ok(mut status) => {
                let omitted = status["findings_omitted"].as_u64().unwrap_or_default();
                (status["findings"].take(), omitted)
            }
            Err(error) => (self.unreachable(&format!("{error:#}"), now), 0),
        };
        if self.target.json {
            let report = json!({ "findings": findings, "findings_omitted": omitted });
            writeln!(out, "{report:#}")?;
        } else {
            write!(out, "{}", as_text(&findings, omitted, now))?;
        }
        let is_fine = omitted == 0
            && findings
                .as_array()
                .is_some_and(|all| all.iter().all(|it| it["severity"] == "note"));
        Ok(if is_fine {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Returns the finding about a gateway that does not answer.
    fn unreachable(&self, error: &str, now: Timestamp) -> Value {
        let Some(entry) = findings::entry("gateway-unreachable") else {
            return json!([]);
        };
        let finding = findings::Finding {
            entry,
            severity: findings::Severity::Critical,
            subject: findings::Subject::Gateway(self.target.admin.as_str().into()),
            since: now,
            last_seen: now,
            failing: findings::Failing::default(),
            // The advice says what to look at.
            cause: error.lines().next().unwrap_or_default().to_owned(),
            advice: entry.advice.to_owned(),
            details: json!({}),
        };
        json!([finding.to_json()])
    }
}

fn as_text(findings: &Value, omitted: u64, now: Timestamp) -> String {
    let all = findings.as_array().map_or(&[][..], |all| all);
    if all.is_empty() {
        return "nothing is wrong\n".to_owned();
    }
    let mut text = String::new();
    for finding in all {
        let shown = |value: &Value| replace_control_chars(value.as_str().unwrap_or("-"));
        let subject = &finding["subject"];
        let since: Option<Timestamp> = finding["since"].as_str().and_then(|it| it.parse().ok());
        let age = since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "{:<9} {}  {} {}, for {}{}{}",
            shown(&finding["severity"]).to_uppercase(),
            shown(&finding["id"]),
            shown(&subject["kind"]).replace('_', " "),
            shown(&subject["name"]),
            words::duration(age),
            silence(finding, now),
            failing(finding),
        );
        let _ = writeln!(text, "  {}", shown(&finding["cause"]));
        let _ = writeln!(text, "  What to do: {}", shown(&finding["advice"]));
        let _ = writeln!(text, "  More: deploy/{}\n", shown(&finding["runbook"]));
    }
    if omitted > 0 {
        let _ = writeln!(text, "{} more", words::count(omitted, "finding"));
    }
    text
}

/// Says how long ago the last case was, where that is not just now: a finding holds for a minute after it.
fn silence(finding: &Value, now: Timestamp) -> String {
    let last: Option<Timestamp> = finding["last_seen"].as_str().and_then(|it| it.parse().ok());
    let silence = last.map_or(0, |last| now.duration_since(last).as_secs());
    if silence > 10 {
        format!(", last seen {} ago", words::duration(silence))
    } else {
        String::new()
    }
}

/// Formats how much fails, where that is known and not nothing.
fn failing(finding: &Value) -> String {
    let rate = finding["failing_per_second"]
        .as_f64()
        .filter(|&it| it > 0.0);
    let share = finding["failing_share"].as_f64().filter(|&it| it > 0.0);
    let rate = rate.map(|rate| format!("{rate:.1}/s"));
    let share = share.map(|share| format!("{:.0} %", share * 100.0));
    match (rate, share) {
        (None, None) => String::new(),
        (Some(one), None) | (None, Some(one)) => format!(", {one} fail"),
        (Some(rate), Some(share)) => format!(", {rate} ({share}) fail"),
    }
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway doctor
  ccfs-gateway doctor --admin 10.1.2.3:9901 --token-file admin.token --json | jq '.findings[].id'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_printed_with_what_to_do() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        assert_eq!(as_text(&json!([]), 0, now), "nothing is wrong\n");
        let findings = json!([{
            "id": "node-down", "severity": "critical", "since": "2026-01-01T00:00:00Z",
            "last_seen": "2026-01-01T00:59:20Z",
            "subject": { "kind": "node", "name": "ccfs/n:1\u{7}" },
            "failing_per_second": 2.5, "failing_share": 0.5,
            "cause": "refused", "advice": "look", "runbook": "troubleshooting.md#node-down",
        }]);
        let text = as_text(&findings, 2, now);
        for part in [
            "CRITICAL  node-down  node ccfs/n:1",
            ", for 1 h, last seen 40 s ago, 2.5/s (50 %) fail\n",
            "  refused\n  What to do: look\n",
            "2 findings more\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{7}'));
    }
}
