//! The flags that describe a request, and their parsers.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};

use super::Streams;
use crate::auth::Signable;
use crate::cli::failure;
use crate::cli::values::parse_duration;

/// Flags that describe a request as it is on the wire.
#[derive(Args, Debug)]
pub(super) struct RequestArgs {
    /// The method
    #[arg(long, default_value = "POST")]
    method: Method,
    /// The raw path, as sent; may include a ?query
    #[arg(long, required = true)]
    path: Option<String>,
    /// The raw query, as sent
    #[arg(long)]
    query: Option<String>,
    /// Header field; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", required = true, value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// File with the exact bytes of the body; - is stdin [default: no body]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

impl RequestArgs {
    pub(super) fn read(&self, input: &mut dyn Read) -> anyhow::Result<Request> {
        let path = self.path.as_deref().unwrap_or_default();
        let (path, query) = match (path.split_once('?'), &self.query) {
            (Some(_), Some(_)) => {
                return Err(UsageError::new("two queries: one in --path, one in --query").into());
            }
            (Some((path, query)), None) => (path, Some(query)),
            (None, query) => (path, query.as_deref()),
        };
        let query = query.map(|query| query.strip_prefix('?').unwrap_or(query));
        if !path.starts_with('/') {
            return Err(UsageError::new("--path must begin with a slash").into());
        }
        for (flag, text) in [("path", path), ("query", query.unwrap_or_default())] {
            if !text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
            {
                let text = "cannot be sent: no whitespace, no #, ASCII only";
                return Err(UsageError::new(format!("the {flag} {text}")).into());
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let body = match &self.body {
            None => Vec::new(),
            Some(path) if path.as_os_str() == "-" => {
                let mut body = Vec::new();
                input.read_to_end(&mut body).context("cannot read stdin")?;
                body
            }
            Some(path) => read_file(path)?,
        };
        Ok(Request {
            method: self.method.clone(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers,
            body,
        })
    }
}

/// A complete request.
pub(super) struct Request {
    method: Method,
    path: String,
    query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn signable(&self) -> Signable<'_> {
        Signable {
            method: self.method.as_str(),
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// Returns all field names, sorted and joined as in an auth-v2 value.
    pub(super) fn sorted_names(&self) -> String {
        let mut names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names.join(";")
    }
}

/// Returns the label of each line of the canonical request; `names` is the list of signed fields.
pub(super) fn line_labels(request: &Request, names: &str) -> Vec<&'static str> {
    let has_parameters = request
        .query
        .as_deref()
        .is_some_and(|query| query.split('&').any(|pair| !pair.is_empty()));
    let mut labels = vec!["method", "path"];
    if has_parameters {
        labels.push("query");
    }
    labels.push("names");
    labels.extend(names.split(';').map(|_| "field"));
    labels.push("body");
    labels
}

/// A usage error that clap cannot detect: exit code 2.
#[derive(Debug)]
pub(super) struct UsageError(String);

impl UsageError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Prints a [`UsageError`], or an error of clap, and returns exit code 2. The text goes to stderr, JSON to
/// stdout.
pub(super) fn report_usage(
    done: anyhow::Result<ExitCode>,
    is_json: bool,
    streams: &mut Streams<'_>,
) -> anyhow::Result<ExitCode> {
    match done {
        Err(error) if is_json && (error.is::<UsageError>() || error.is::<clap::Error>()) => {
            writeln!(streams.stdout, "{:#}", failure::to_json(&error))?;
            Ok(ExitCode::from(2))
        }
        Err(error) if error.is::<UsageError>() => {
            writeln!(
                streams.stderr,
                "error: {error}\n\nFor more information, try '--help'."
            )?;
            Ok(ExitCode::from(2))
        }
        Err(error) if error.is::<clap::Error>() => {
            write!(streams.stderr, "{error}")?;
            Ok(ExitCode::from(2))
        }
        done => done,
    }
}

pub(super) fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Parses `15m`.
pub(super) fn window(text: &str) -> Result<SignedDuration, String> {
    let window = parse_duration(text)?;
    SignedDuration::try_from(window).map_err(|_| "is too long".to_owned())
}

/// Parses `yyyy-MM-ddTHH:mm:ssZ`; auth-v2 timestamps have no fractions of a second.
pub(super) fn whole_seconds(text: &str) -> Result<Timestamp, String> {
    let time: Timestamp = text.parse().map_err(|_| "not like 2021-11-24T06:25:03Z")?;
    if time.subsec_nanosecond() == 0 {
        Ok(time)
    } else {
        Err("fractions of a second are not signed".into())
    }
}

/// Parses the value, or a whole `Authorization: …` line as copied from a log.
pub(super) fn authorization(text: &str) -> Result<HeaderValue, String> {
    let value = match text.split_once(':') {
        Some((name, value)) if name.eq_ignore_ascii_case("authorization") => value,
        _ => text,
    };
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| "not a field value")?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("not like 'name: value'")?;
    let name = name.trim().parse().map_err(|_| "not a field name")?;
    let value = HeaderValue::from_bytes(value.trim().as_bytes());
    Ok((name, value.map_err(|_| "not a field value")?))
}
