//! What `call` prints about a response, as text or as JSON.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::is_binary;
use super::url_validity::{UrlValidity, validity_lines};
use crate::ccfs;
use crate::client::ClientResponse;

/// The result of a call.
#[derive(Debug)]
pub(super) struct Report {
    status: StatusCode,
    /// The header fields of [`PRINTED`] that the response has.
    headers: Vec<(&'static str, String)>,
    body: Body,
    /// What to do about an error.
    pub(super) help: Option<&'static str>,
}

#[derive(Debug)]
enum Body {
    /// Not read yet.
    None,
    /// Written to a file of this size in bytes.
    Written(Option<String>, u64),
    /// A body in memory, and the URLs of its `resultData`.
    Full {
        bytes: Bytes,
        json: Value,
        is_binary: bool,
        urls: Vec<UrlValidity>,
    },
}

impl Report {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name: &&'static str| {
            let value = headers.get(*name)?.to_str().unwrap_or("?");
            Some((*name, value.to_owned()))
        };
        Self {
            status,
            headers: PRINTED.iter().filter_map(text).collect(),
            body: Body::None,
            help: None,
        }
    }

    pub(super) fn set_written(&mut self, path: Option<&Path>, size: u64) {
        let path = path.map(|path| path.display().to_string());
        self.body = Body::Written(path, size);
    }

    pub(super) fn set_body(&mut self, response: &ClientResponse, now: Timestamp) {
        let urls = ccfs::recording_urls(&response.body).into_iter();
        self.body = Body::Full {
            bytes: response.body.clone(),
            json: response.json(),
            is_binary: is_binary(&response.headers),
            urls: urls.map(|url| UrlValidity::new(url, now)).collect(),
        };
    }

    /// Whether the status is 200 and the result code is "0", or a file was received.
    pub(super) fn succeeded(&self) -> bool {
        self.error().is_none()
    }

    /// Writes the status line and header fields, before the body is read.
    pub(super) fn write_head(&self, notes: &mut impl Write) -> io::Result<()> {
        writeln!(notes, "HTTP {}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(notes, "{name}: {value}")?;
        }
        Ok(())
    }

    /// Writes the body to `out` and everything else but the head to `notes`.
    pub(super) fn write_text(
        &self,
        output: Option<&Path>,
        out: &mut impl Write,
        notes: &mut impl Write,
    ) -> io::Result<()> {
        if let Some(help) = self.help {
            writeln!(notes, "{help}")?;
        }
        match &self.body {
            Body::None => {}
            Body::Written(_, size) => writeln!(notes, "{size} bytes written")?,
            Body::Full {
                bytes,
                json,
                is_binary,
                urls,
            } => {
                out.write_all(bytes)?;
                if !bytes.ends_with(b"\n") && !is_binary {
                    writeln!(out)?;
                }
                if let Some(path) = output {
                    let what = if json.is_null() { "no file" } else { "JSON" };
                    let path = path.display();
                    writeln!(
                        notes,
                        "the response is {what}: nothing was written to {path}"
                    )?;
                }
                for line in validity_lines(urls) {
                    writeln!(notes, "{line}")?;
                }
            }
        }
        Ok(())
    }

    /// Writes one JSON object. A binary body is not included: it is null.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let headers: Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().into()))
            .collect();
        let (body, urls) = match &self.body {
            Body::Full {
                bytes,
                json,
                is_binary,
                urls,
            } => {
                let text = || String::from_utf8_lossy(bytes).into_owned().into();
                let body = match json {
                    Value::Null if *is_binary => Value::Null,
                    Value::Null => text(),
                    json => json.clone(),
                };
                (body, urls.iter().map(UrlValidity::to_json).collect())
            }
            Body::None | Body::Written(..) => (Value::Null, Vec::new()),
        };
        let output = match &self.body {
            Body::Written(path, size) => json!({ "file": path, "bytes": size }),
            Body::None | Body::Full { .. } => Value::Null,
        };
        let mut report = json!({
            "succeeded": self.succeeded(),
            "status": self.status.as_u16(),
            "headers": headers,
            "result_code": body.get("resultCode").cloned(),
            "body": body,
            "urls": urls,
            "output": output,
        });
        if let Some(message) = self.error() {
            report["error"] = json!({ "message": message, "help": self.help });
        }
        writeln!(out, "{report:#}")
    }

    fn error(&self) -> Option<String> {
        let is_ok = self.status == StatusCode::OK;
        match &self.body {
            Body::Written(..) => None,
            Body::Full {
                json, is_binary, ..
            } if is_ok && *is_binary && !json.is_object() => None,
            Body::Full { json, .. } if is_ok => match json["resultCode"].as_str() {
                Some("0") => None,
                Some(code) => {
                    let text = json["resultDesc"].as_str().unwrap_or("no description");
                    Some(format!("result code {code}: {text}"))
                }
                None => Some("the response has no result code".to_owned()),
            },
            Body::None | Body::Full { .. } => Some(format!("HTTP {}", self.status)),
        }
    }
}

/// Names the gateway's own error responses; the gateway removes it from responses of nodes.
pub(super) const GATEWAY_ERROR: &str = "X-Gateway-Error";

/// Header fields that are printed.
const PRINTED: [&str; 5] = [
    GATEWAY_ERROR,
    "Cache-Status",
    "Age",
    "Retry-After",
    "X-Request-Id",
];
