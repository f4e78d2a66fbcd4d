//! `call`: signs a request, sends it, shows what came back and how long it is good for.

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

/// Signs a request, sends it and shows the answer
///
/// The answer goes to stdout; status, cache verdict and the remaining life of the recording URL go
/// to stderr. Exit code 0 only if the result code is "0", or a file came.
#[derive(Args, Clone, Debug)]
#[command(disable_version_flag = true, after_help = EXAMPLES)]
pub struct Call {
    /// `https://host:port`; with a path for another interface than the recording URL
    // Judged by `check`: clap would show what it refuses, and with it a password.
    url: String,
    /// Access key to sign with
    #[arg(long, required_unless_present = "unsigned", requires = "SecretKey")]
    ak: Option<String>,
    #[command(flatten)]
    secret_key: SecretKey,
    /// Do not sign, as for playVoice
    #[arg(long, conflicts_with = "ak")]
    unsigned: bool,
    /// Fields to sign [default: content-length;content-type;host, without a body host]
    #[arg(long, value_name = "NAMES")]
    sign: Option<String>,
    /// Call whose recording is wanted
    #[arg(long, requires_all = ["begin", "end"], conflicts_with = "body")]
    call_id: Option<String>,
    /// Begin of the time window, `2021-11-24 08:00:00`
    #[arg(long, requires = "call_id")]
    begin: Option<String>,
    /// End of the time window
    #[arg(long, requires = "call_id")]
    end: Option<String>,
    /// Version to ask for: with 2.0 the times are those of the tenant
    #[arg(long, default_value = "2.0", conflicts_with = "no_version")]
    version: String,
    /// Send no version: the times are UTC
    #[arg(long)]
    no_version: bool,
    /// Path and query of another interface
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// File with the request body, sent as it is
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Method; GET without a body, as for playVoice
    #[arg(long, default_value = "POST")]
    method: Method,
    /// Further field, `name: value`; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Ask for a fresh answer, not one from a cache
    #[arg(long)]
    no_cache: bool,
    /// Write a binary answer to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Trust the authorities of this PEM file instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    insecure: bool,
    /// Give up if nothing comes for so long
    #[arg(long, default_value = "30s", value_parser = values::wait)]
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

/// Did it what it should?
async fn call(
    args: &Call,
    now: Timestamp,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<bool> {
    args.validate()?;
    let request = args.request(now)?;
    let client = Client::new(&args.trust()?)?.with_timeout(args.timeout);
    let answer = client.send_streaming(&request).await.map_err(with_hint)?;
    print_head(answer.status, &answer.headers, notes)?;
    if answer.status == StatusCode::UNAUTHORIZED {
        writeln!(notes, "{}", args.unauthorized_hint())?;
    }
    let result = match &args.output {
        Some(path) => download::save(answer, &client, path, args.timeout).await?,
        None => download::DownloadOutcome::NotBinary(
            collect_within(answer, &client, args.timeout).await?,
        ),
    };
    match result {
        download::DownloadOutcome::Written(size) => {
            writeln!(notes, "{size} bytes written")?;
            Ok(true)
        }
        download::DownloadOutcome::NotBinary(answer) => {
            out.write_all(&answer.body)?;
            if !answer.body.ends_with(b"\n") && !is_binary(&answer.headers) {
                writeln!(out)?;
            }
            let body: Value = answer.json();
            if let Some(path) = &args.output {
                let what = if body.is_null() { "no file" } else { "JSON" };
                let path = path.display();
                writeln!(notes, "the answer is {what}: nothing was written to {path}")?;
            }
            for note in url_validity::validity_lines(&body, now) {
                writeln!(notes, "{note}")?;
            }
            let file = args.output.is_none() && is_binary(&answer.headers) && !body.is_object();
            let succeeded = file || body.get("resultCode").is_some_and(|code| code == "0");
            Ok(succeeded && answer.status == StatusCode::OK)
        }
    }
}

impl Call {
    /// What clap cannot see, or would show.
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
                "two signatures: leave out --ak (and say --unsigned), or the Authorization field",
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
    answer: StreamingClientResponse,
    client: &Client,
    limit: Duration,
) -> anyhow::Result<crate::client::ClientResponse> {
    let whole = tokio::time::timeout(limit, answer.collect(client)).await;
    Ok(whole.map_err(|_| ClientError::Timeout(limit))??)
}

fn print_head(status: StatusCode, fields: &HeaderMap, notes: &mut impl Write) -> io::Result<()> {
    writeln!(notes, "HTTP {status}")?;
    for name in [
        "X-Gateway-Error",
        "Cache-Status",
        "Age",
        "Retry-After",
        "X-Request-Id",
    ] {
        if let Some(value) = fields.get(name) {
            writeln!(notes, "{name}: {}", value.to_str().unwrap_or("?"))?;
        }
    }
    Ok(())
}

/// Says what to do about the failures that have an ordinary cause.
fn with_hint(error: ClientError) -> anyhow::Error {
    let hint = match &error {
        ClientError::Certificate(_) => {
            "give the authority that issued it with --ca FILE, or accept any with --insecure"
        }
        ClientError::Connect(_, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is it running, and is the port right?"
        }
        ClientError::Handshake(_) => "is this a port that speaks TLS?",
        ClientError::Timeout(_) => "wait longer with --timeout",
        _ => return error.into(),
    };
    anyhow!("{error}\n{hint}")
}

/// CC-FS writes the type with a capital letter.
fn is_binary(fields: &HeaderMap) -> bool {
    let value = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let file = b"application/octet-stream";
    value
        .and_then(|value| value.get(..file.len()))
        .is_some_and(|value| value.eq_ignore_ascii_case(file))
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a field is written `name: value`")?;
    let name = name
        .parse()
        .map_err(|_| format!("{name:?} is no field name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the value is no field value")?;
    Ok((name, value))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the command signs with the time of its start"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The name of a file while it is not whole.
fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests;
