//! The signature debugger: `sign` creates an Authorization value, `verify` checks one, `explain`
//! prints what was signed, and the first byte that the other side signed differently.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::auth::{AccessKey, AuthError, CanonicalRequest, Claim, Credential};

mod difference;
mod inputs;

#[cfg(test)]
mod tests;

use super::control::AdminArgs;
use super::secret_key::SecretKey;
use inputs::{Request, RequestArgs, UsageError};

/// The standard streams of a command; `stdin` is read for a body named `-`.
#[expect(missing_debug_implementations, reason = "three borrowed streams")]
pub struct Streams<'a> {
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// Standard output, for results.
    pub stdout: &'a mut dyn Write,
    /// Standard error, for diagnostics.
    pub stderr: &'a mut dyn Write,
}

/// Creates the Authorization value of a request
///
/// Signs every given --header, with lower-case names in sorted order; host must be among them.
#[derive(Args, Debug)]
#[command(after_help = SIGN_EXAMPLES)]
pub struct Sign {
    /// The access key (ak) to sign as
    #[arg(long)]
    ak: String,
    #[command(flatten)]
    secret: SecretKey,
    #[command(flatten)]
    request: RequestArgs,
    /// Time of the signature, e.g. 2021-11-24T06:25:03Z [default: now]
    #[arg(long, value_parser = inputs::whole_seconds)]
    timestamp: Option<Timestamp>,
}

/// Checks an Authorization value
///
/// Prints `valid`, or `invalid:` and the reason (exit code 1).
///
/// The age of the signature is printed on stderr, and checked only with --window.
#[derive(Args, Debug)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct Verify {
    /// The value to check
    #[arg(long, value_parser = inputs::authorization)]
    authorization: HeaderValue,
    #[command(flatten)]
    secret: SecretKey,
    #[command(flatten)]
    request: RequestArgs,
    /// Maximum difference between the timestamp and now, in both directions, e.g. 15m; 0s is unlimited
    #[arg(long, value_parser = inputs::window)]
    window: Option<SignedDuration>,
    /// Print one JSON object: valid, signed_at, age_seconds, notes, error
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints what an Authorization value signs, line by line
///
/// With a secret key also prints the expected signature; with --theirs the first byte in which the
/// other side's canonical request differs. The secret key and keys derived from it are never printed.
///
/// With --live, a running gateway names the mistake of the last signature of an access key that did not
/// verify; this needs its admin token.
#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_EXAMPLES)]
#[command(mut_arg("path", |arg| arg.required(false).required_unless_present("live")))]
#[command(mut_arg("headers", |arg| arg.required(false).required_unless_present("live")))]
pub struct Explain {
    /// The value to explain
    #[arg(long, value_parser = inputs::authorization, required_unless_present = "live")]
    authorization: Option<HeaderValue>,
    /// Ask a running gateway about this access key
    #[arg(long, value_name = "AK", conflicts_with_all = ["authorization", "path", "headers", "body", "query", "theirs"])]
    live: Option<String>,
    #[command(flatten)]
    pub(super) target: AdminArgs,
    #[command(flatten)]
    secret: SecretKey,
    #[command(flatten)]
    request: RequestArgs,
    /// File with the exact bytes of the canonical request that the other side signed
    #[arg(long, value_name = "FILE")]
    theirs: Option<std::path::PathBuf>,
}

impl Sign {
    /// Prints the value. `now` is signed unless `--timestamp` was given.
    pub fn run(&self, now: Timestamp, streams: &mut Streams<'_>) -> anyhow::Result<ExitCode> {
        let done = self.print(now, streams);
        inputs::report_usage(done, false, streams)
    }

    fn print(&self, now: Timestamp, streams: &mut Streams<'_>) -> anyhow::Result<ExitCode> {
        let secret = self.secret.read()?;
        let request = self.request.read(streams.stdin)?;
        let names = request.sorted_names();
        let credential = Credential::new(AccessKey::from(self.ak.as_str()), vec![secret], true);
        let timestamp = self.timestamp.unwrap_or(now);
        // A request that cannot be signed is a usage error: it comes from the flags.
        let value = crate::auth::sign(&credential, &names, timestamp, &request.signable())
            .map_err(|error| {
                UsageError::new(format!("cannot sign: {error}{}", in_parentheses(&error)))
            })?;
        print_notes(&notes(&request), streams)?;
        streams.stdout.write_all(value.as_bytes())?;
        writeln!(streams.stdout)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    /// Prints the result of the verification.
    pub fn run(&self, now: Timestamp, streams: &mut Streams<'_>) -> anyhow::Result<ExitCode> {
        let done = self.print(now, streams);
        inputs::report_usage(done, self.json, streams)
    }

    fn print(&self, now: Timestamp, streams: &mut Streams<'_>) -> anyhow::Result<ExitCode> {
        let secret = self.secret.read()?;
        let mut request = self.request.read(streams.stdin)?;
        request
            .headers
            .append(AUTHORIZATION, self.authorization.clone());
        let window = self.window.filter(|window| !window.is_zero());
        let result = Claim::parse(&request.headers, now, window).and_then(|claim| {
            let access_key = AccessKey::from(claim.access_key());
            let credential = Arc::new(Credential::new(access_key, vec![secret], true));
            claim.verify(Some(&credential), &request.signable())?;
            Ok(claim.signed_at())
        });
        let signed_at = match &result {
            Ok(signed_at) => Some(*signed_at),
            Err(_) => Claim::parse(&request.headers, now, None)
                .ok()
                .map(|claim| claim.signed_at()),
        };
        let notes = if result.is_ok() {
            Vec::new()
        } else {
            notes(&request)
        };
        if self.json {
            let mut report = json!({
                "valid": result.is_ok(),
                "signed_at": signed_at.map(|time| time.to_string()),
                "age_seconds": signed_at.map(|time| now.duration_since(time).as_secs()),
                "notes": notes,
            });
            if let Err(error) = &result {
                let help = Some(error_hint(error)).filter(|help| !help.is_empty());
                report["error"] = json!({ "message": error.to_string(), "help": help });
            }
            writeln!(streams.stdout, "{report:#}")?;
        } else {
            match &result {
                Ok(_) => writeln!(streams.stdout, "valid")?,
                Err(error) => {
                    writeln!(streams.stdout, "invalid: {error}{}", in_parentheses(error))?
                }
            }
            if let Some(signed_at) = signed_at {
                writeln!(streams.stderr, "{}", format_age(signed_at, now))?;
            }
            print_notes(&notes, streams)?;
        }
        Ok(match result {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        })
    }
}

impl Explain {
    /// Prints the parts of the value, the canonical request and the first difference.
    pub fn run(&self, now: Timestamp, streams: &mut Streams<'_>) -> anyhow::Result<ExitCode> {
        let done = self.print(now, streams);
        inputs::report_usage(done, self.target.json, streams)
    }

    /// Returns the access key to ask a running gateway about.
    pub fn live(&self) -> Option<&str> {
        self.live.as_deref()
    }

    fn print(&self, now: Timestamp, streams: &mut Streams<'_>) -> anyhow::Result<ExitCode> {
        let Some(authorization) = &self.authorization else {
            return Err(UsageError::new("explain needs --authorization or --live").into());
        };
        let secret = self.secret.read_optional()?;
        let mut request = self.request.read(streams.stdin)?;
        request.headers.append(AUTHORIZATION, authorization.clone());
        let claim = match Claim::parse(&request.headers, now, None) {
            Ok(claim) => claim,
            Err(error) => anyhow::bail!("nothing to explain: {error}{}", in_parentheses(&error)),
        };
        let signable = request.signable();
        let canonical = match CanonicalRequest::new(claim.signed_names(), &signable) {
            Ok(canonical) => canonical.to_bytes(),
            Err(error) => anyhow::bail!("nothing to explain: {error}"),
        };
        let labels = inputs::line_labels(&request, claim.signed_names());

        let out = &mut *streams.stdout;
        writeln!(out, "prefix (the signing key is derived from it):")?;
        writeln!(out, "  {}", claim.prefix())?;
        writeln!(out, "  {}", format_age(claim.signed_at(), now))?;
        writeln!(out, "canonical request ({} bytes):", canonical.len())?;
        difference::write_lines(out, &canonical, &labels)?;
        if let Some(secret) = secret {
            let expected = claim.expected_signature(&secret, &signable)?;
            let given = authorization.as_bytes().trim_ascii_end();
            let result = match given.ends_with(expected.as_bytes()) {
                true => "the same as given",
                false => "not the one given",
            };
            writeln!(out, "expected signature ({result}):")?;
            writeln!(out, "  {}", *expected)?;
        }
        if let Some(path) = &self.theirs {
            let theirs = inputs::read_file(path)?;
            difference::write_first_difference(out, &canonical, &theirs, &labels)?;
        }
        print_notes(&notes(&request), streams)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn format_age(signed_at: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(signed_at);
    let side = if age.is_negative() {
        "ahead of"
    } else {
        "behind"
    };
    format!(
        "signed at {signed_at}, {:#} {side} this clock",
        SignedDuration::from_secs(age.as_secs()).abs()
    )
}

/// Returns the hint for an error, to be appended to its text.
fn in_parentheses(error: &AuthError) -> String {
    match error_hint(error) {
        "" => String::new(),
        hint => format!(" ({hint})"),
    }
}

/// Returns what to do about an error; may be empty.
fn error_hint(error: &AuthError) -> &'static str {
    match error {
        AuthError::SignedFieldMissing(_) => "give each field with one --header 'name: value'",
        AuthError::Malformed("host is not signed") => "give it with --header 'host: …'",
        AuthError::WrongSignature => "`explain` shows what was to be signed",
        AuthError::AmbiguousCertificate
        | AuthError::CallerDisabled
        | AuthError::Disabled
        | AuthError::Malformed(_)
        | AuthError::Missing
        | AuthError::OtherScheme
        | AuthError::RepeatedAuthorization
        | AuthError::RepeatedQueryKey
        | AuthError::SeveralCredentials
        | AuthError::Stale(_)
        | AuthError::UnknownApiKey
        | AuthError::UnknownKey
        | AuthError::WrongAppSignature(_)
        | AuthError::WrongTicket
        | AuthError::WrongToken(_) => "",
    }
}

/// Returns the most common errors of requests that were copied by hand.
fn notes(request: &Request) -> Vec<String> {
    let mut notes = Vec::new();
    let length = request.body.len();
    let declared = request.headers.get(http::header::CONTENT_LENGTH);
    if let Some(declared) = declared.and_then(|value| value.to_str().ok())
        && declared.trim().parse() != Ok(length)
    {
        notes.push(format!(
            "content-length says {declared:?}, the body has {length} bytes"
        ));
    }
    if request.body.ends_with(b"\n") {
        notes.push("the body ends in a line feed, which is signed too".to_owned());
    }
    notes
}

fn print_notes(notes: &[String], streams: &mut Streams<'_>) -> std::io::Result<()> {
    for note in notes {
        writeln!(streams.stderr, "note: {note}")?;
    }
    Ok(())
}

const SIGN_EXAMPLES: &str = "\
Examples:
  ccfs-gateway sign --ak 279a08bbd8d949a0 --sk-file sk.txt \\
      --path /CCFS/resource/ccfs/getRecordFileUrlFromObs \\
      --header 'host: nslb.example.com:28443' --body request.json
  ccfs-gateway sign --ak 279a08bbd8d949a0 --sk-env CCFS_SK --method GET --path '/a?x=1' \\
      --header 'host: 10.1.2.3:8443' --timestamp 2021-11-24T06:25:03Z";

const VERIFY_EXAMPLES: &str = "\
Examples:
  ccfs-gateway verify --authorization \"$VALUE\" --sk-file sk.txt \\
      --path /CCFS/resource/ccfs/getRecordFileUrlFromObs \\
      --header 'host: nslb.example.com:28443' --body request.json --window 15m --json
  … | ccfs-gateway verify --authorization \"$VALUE\" --sk-env CCFS_SK --path /a \\
      --header 'host: 10.1.2.3:8443' --body -";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  ccfs-gateway explain --authorization \"$VALUE\" \\
      --path /CCFS/resource/ccfs/getRecordFileUrlFromObs \\
      --header 'host: nslb.example.com:28443' --body request.json
  the same with the signature it should have, and with what the client's own log says it signed:
  ccfs-gateway explain … --sk-file sk.txt --theirs canonical-of-the-client.txt
  ccfs-gateway explain --live 279a08bbd8d949a0 --token-file admin.token";
