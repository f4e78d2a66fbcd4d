//! `call`: signs a request, sends it, and prints the response and how long its URLs are valid.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use clap::error::ErrorKind;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::secret_key::SecretKey;
use super::values;
use crate::client::{
    Client, ClientError, ClientRequest, DEFAULT_SIGNED_FIELDS, RECORDING_PATH, RecordingQuery,
    StreamingClientResponse, Trust,
};

mod download;
mod url_validity;

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
    /// Header fields to sign [default: content-length;content-type;host, without a body host]
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
    /// Method; GET without a body, as for playVoice
    #[arg(long, default_value = "POST")]
    method: Method,
    /// Additional header field, `name: value`; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = parse_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Request a fresh response, not one from a cache
    #[arg(long)]
    no_cache: bool,
    /// Write a binary response to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Trust the CA certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Accept any server certificate
    #[arg(long)]
    insecure: bool,
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
    let succeeded = call(&args, now(), &mut io::stdout(), &mut io::stderr()).await?;
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
    let client = Client::new(&args.trust()?)?.with_timeout(args.timeout);
    let response = client.send_streaming(&request).await.map_err(with_hint)?;
    print_head(response.status, &response.headers, notes)?;
    if response.status == StatusCode::UNAUTHORIZED {
        writeln!(notes, "{}", args.unauthorized_hint())?;
    }
    let result = match &args.output {
        Some(path) => download::save(response, &client, path, args.timeout).await?,
        None => download::DownloadOutcome::NotBinary(
            collect_within(response, &client, args.timeout).await?,
        ),
    };
    match result {
        download::DownloadOutcome::Written(size) => {
            writeln!(notes, "{size} bytes written")?;
            Ok(true)
        }
        download::DownloadOutcome::NotBinary(response) => {
            out.write_all(&response.body)?;
            if !response.body.ends_with(b"\n") && !is_binary(&response.headers) {
                writeln!(out)?;
            }
            let body: Value = response.json();
            if let Some(path) = &args.output {
                let what = if body.is_null() { "no file" } else { "JSON" };
                let path = path.display();
                writeln!(
                    notes,
                    "the response is {what}: nothing was written to {path}"
                )?;
            }
            for note in url_validity::validity_lines(&body, now) {
                writeln!(notes, "{note}")?;
            }
            let file = args.output.is_none() && is_binary(&response.headers) && !body.is_object();
            let succeeded = file || body.get("resultCode").is_some_and(|code| code == "0");
            Ok(succeeded && response.status == StatusCode::OK)
        }
    }
}

impl Call {
    /// Checks what clap cannot express, or would print.
    fn validate(&self) -> Result<(), clap::Error> {
        let usage = |text: &str| {
            let text = format!("{text}\n\nFor more information, try '--help'.\n");
            Err(clap::Error::raw(ErrorKind::ValueValidation, text))
        };
        let Ok(bare) = ClientRequest::get(&self.url) else {
            return usage("a URL is written https://host:port or https://host:port/path");
        };
        let recording = matches!(bare.path(), "/" | RECORDING_PATH) && self.path.is_none();
        if recording && self.call_id.is_none() && self.body.is_none() {
            return usage(
                "which recording? Give --call-id, --begin and --end, or another interface \
                 with --path or --body",
            );
        }
        if self.ak.is_some() && self.header.iter().any(|(name, _)| name == AUTHORIZATION) {
            return usage(
                "two signatures: omit --ak (and give --unsigned), or the Authorization header",
            );
        }
        Ok(())
    }

    fn unauthorized_hint(&self) -> &'static str {
        if self.ak.is_some() {
            "the signature is not accepted: compare what was signed with `ccfs-gateway explain`"
        } else {
            "not accepted unsigned: give --ak with --sk-file or --sk-env, or compare the \
             Authorization that was given with `ccfs-gateway explain`"
        }
    }

    fn request(&self, now: Timestamp) -> anyhow::Result<ClientRequest> {
        let mut request = match (&self.call_id, &self.body) {
            (Some(call_id), None) => self.recording_request(call_id)?,
            (_, Some(path)) => {
                let body = fs::read(path)
                    .with_context(|| format!("cannot read the body {}", path.display()))?;
                ClientRequest::post(&self.url, body)?
            }
            (None, None) if self.method == Method::GET => ClientRequest::get(&self.url)?,
            (None, None) => ClientRequest::post(&self.url, "")?,
        };
        request.method = self.method.clone();
        if let Some(path) = &self.path {
            request.target.clone_from(path);
        }
        if self.no_cache {
            request = request.with_header(CACHE_CONTROL, "no-cache");
        }
        for (name, value) in &self.header {
            request.headers.insert(name, value.clone());
        }
        let Some(access_key) = &self.ak else {
            return Ok(request);
        };
        let credential = self.secret_key.credential(access_key)?;
        let has_body = request.headers.contains_key(CONTENT_LENGTH);
        let names = match &self.sign {
            Some(names) => names.as_str(),
            None if has_body => DEFAULT_SIGNED_FIELDS,
            None => "host",
        };
        request
            .sign(&credential, names, now)
            .with_context(|| format!("cannot sign over {names}"))
    }

    fn recording_request(&self, call_id: &str) -> Result<ClientRequest, ClientError> {
        let query = RecordingQuery {
            call_id,
            begin: self.begin.as_deref().unwrap_or_default(),
            end: self.end.as_deref().unwrap_or_default(),
            version: (!self.no_version).then_some(self.version.as_str()),
        };
        ClientRequest::recording(&self.url, &query)
    }

    fn trust(&self) -> Result<Trust, ClientError> {
        match &self.ca {
            _ if self.insecure => Ok(Trust::AnyCertificate),
            Some(path) => Trust::from_pem_file(path),
            None => Ok(Trust::system()),
        }
    }
}

async fn collect_within(
    response: StreamingClientResponse,
    client: &Client,
    limit: Duration,
) -> anyhow::Result<crate::client::ClientResponse> {
    let response = tokio::time::timeout(limit, response.collect(client)).await;
    Ok(response.map_err(|_| ClientError::Timeout(limit))??)
}

fn print_head(status: StatusCode, headers: &HeaderMap, notes: &mut impl Write) -> io::Result<()> {
    writeln!(notes, "HTTP {status}")?;
    for name in [
        "X-Gateway-Error",
        "Cache-Status",
        "Age",
        "Retry-After",
        "X-Request-Id",
    ] {
        if let Some(value) = headers.get(name) {
            writeln!(notes, "{name}: {}", value.to_str().unwrap_or("?"))?;
        }
    }
    Ok(())
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
        ClientError::Timeout(_) => "wait longer with --timeout",
        _ => return error.into(),
    };
    anyhow!("{error}\n{hint}")
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

/// Returns the name under which an incomplete download is written.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
