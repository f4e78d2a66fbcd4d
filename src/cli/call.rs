//! `call`: signs a request, sends it, and prints the response and how long its URLs are valid.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;

use super::failure::Failure;
use super::secret_key::SecretKey;
use super::signals::shutdown_signal;
use super::values;
use crate::client::{Client, ClientError, ClientResponse, StreamingClientResponse};

mod download;
mod output_file;
mod report;
mod request;
mod url_validity;

use download::DownloadOutcome;
use report::Report;

/// Signs a request, sends it and prints the response
///
/// The response body goes to stdout; status, cache status and the remaining validity of the
/// recording URL go to stderr. Exit code 0 only if the result code is "0", or a file was received.
#[derive(Args, Clone, Debug)]
#[command(disable_version_flag = true, after_help = EXAMPLES)]
pub struct Call {
    /// `https://host:port`; with a path for another interface than the recording URL
    // Validated by `validate`: an error of clap would print the value, and with it a password.
    url: String,
    /// Access key to sign with
    #[arg(long, required_unless_present = "unsigned", requires = "SecretKey")]
    ak: Option<String>,
    #[command(flatten)]
    secret_key: SecretKey,
    /// Send the request unsigned, as for playVoice
    #[arg(long, conflicts_with = "ak")]
    unsigned: bool,
    /// Header fields to sign [default: content-length;content-type;host, or host if there is no body]
    #[arg(long, value_name = "NAMES")]
    sign: Option<String>,
    /// ID of the call whose recording is requested
    #[arg(long, requires_all = ["begin", "end"], conflicts_with = "body")]
    call_id: Option<String>,
    /// Start of the time window, `2021-11-24 08:00:00`
    #[arg(long, requires = "call_id")]
    begin: Option<String>,
    /// End of the time window
    #[arg(long, requires = "call_id")]
    end: Option<String>,
    /// Version member of the body: with 2.0 the times are in the tenant's time zone
    #[arg(long, default_value = "2.0", conflicts_with = "no_version")]
    version: String,
    /// Omit the version member: the times are UTC
    #[arg(long)]
    no_version: bool,
    /// Path and query of another interface
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// File with the request body, sent unchanged
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Method; GET is sent without a body, as for playVoice
    #[arg(long, default_value = "POST")]
    method: Method,
    /// Additional header field, `name: value`; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Request a fresh response, not one from a cache
    #[arg(long)]
    no_cache: bool,
    /// Write a binary response to this file, once it is complete; to a device or FIFO directly; - is
    /// stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Trust the CA certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Accept any server certificate
    #[arg(long)]
    insecure: bool,
    /// PEM file with the client certificate chain, for servers that require one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with the private key of the client certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Print one JSON object: status, headers, body, URLs with their validity, error
    #[arg(long)]
    pub(super) json: bool,
    /// Give up after this long without a response, or without progress of its body
    #[arg(long, default_value = "30s", value_parser = values::parse_timeout)]
    timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  ccfs-gateway call https://127.0.0.1:28443 --ca tls/ca.pem --ak 279a08bbd8d949a0 \\
      --sk-file secrets/279a08bbd8d949a0 --call-id 1637742300-1234 \\
      --begin '2021-11-24 16:00:00' --end '2021-11-24 17:00:00'
  ccfs-gateway call https://127.0.0.1:28443 --insecure --ak AK --sk-env SK \\
      --path /CCFS/resource/ccfs/downloadRecordFile --body request.json -o record.wav";

/// Runs the command.
pub async fn run(args: Call) -> anyhow::Result<ExitCode> {
    let interrupted = shutdown_signal()?;
    let (mut out, mut notes) = (io::stdout(), io::stderr());
    // Dropping the call deletes an incomplete output file.
    let succeeded = tokio::select! {
        result = call(&args, now(), &mut out, &mut notes) => result?,
        () = interrupted => bail!("interrupted"),
    };
    Ok(if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sends the request and prints the response; whether the call succeeded.
async fn call(
    args: &Call,
    now: Timestamp,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<bool> {
    args.validate()?;
    let request = args.request(now)?;
    let client = args.client()?;
    let response = client.send_streaming(&request).await.map_err(with_hint)?;
    let mut report = Report::new(response.status, &response.headers);
    if !args.json {
        report.write_head(notes)?;
    }
    if response.status == StatusCode::UNAUTHORIZED {
        report.help = Some(args.unauthorized_hint(&response.headers));
    }
    let outcome = match &args.output {
        Some(path) => download::save(response, &client, path, args.timeout).await?,
        None => DownloadOutcome::NotBinary(collect_within(response, &client, args.timeout).await?),
    };
    match outcome {
        DownloadOutcome::Written(size) => report.set_written(args.output.as_deref(), size),
        DownloadOutcome::NotBinary(response) => report.set_body(&response, now),
    }
    if args.json {
        report.write_json(out)?;
    } else {
        report.write_text(args.output.as_deref(), out, notes)?;
    }
    Ok(report.succeeded())
}

async fn collect_within(
    response: StreamingClientResponse,
    client: &Client,
    limit: Duration,
) -> anyhow::Result<ClientResponse> {
    let response = tokio::time::timeout(limit, response.collect(client)).await;
    Ok(response.map_err(|_| ClientError::Timeout(limit))??)
}

/// Adds a hint to errors that have a common cause.
fn with_hint(error: ClientError) -> anyhow::Error {
    let hint = match &error {
        ClientError::Certificate(_) => {
            "give the CA certificate with --ca FILE, or accept any certificate with --insecure"
        }
        ClientError::Connect(_, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there: check that the server runs, and its port"
        }
        ClientError::Handshake(_) => "check that the port speaks TLS",
        ClientError::Http(_) if error.to_string().contains("CertificateRequired") => {
            "give a client certificate with --cert FILE and --key FILE"
        }
        ClientError::Timeout(_) => "wait longer with --timeout",
        _ => return error.into(),
    };
    Failure::new(error, hint).into()
}

/// Whether the content type says that the body is binary; CC-FS writes the type with a capital letter.
fn is_binary(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let file = b"application/octet-stream";
    value
        .and_then(|value| value.get(..file.len()))
        .is_some_and(|value| value.eq_ignore_ascii_case(file))
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a header field is written `name: value`")?;
    let name = name
        .parse()
        .map_err(|_| format!("{name:?} is not a field name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the value is not a field value")?;
    Ok((name, value))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the command signs with the time of its start"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
#[cfg(feature = "stand-in")]
mod tests;
