//! The request and the client that the flags describe.

use std::fs;

use anyhow::Context;
use clap::error::ErrorKind;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH};
use http::{HeaderMap, Method};
use jiff::Timestamp;

use super::Call;
use super::report::GATEWAY_ERROR;
use crate::client::{
    Client, ClientCertificate, ClientError, ClientRequest, DEFAULT_SIGNED_FIELDS, RECORDING_PATH,
    RecordingQuery, Trust,
};

impl Call {
    /// Checks what clap cannot express, or would print.
    pub(super) fn validate(&self) -> Result<(), clap::Error> {
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

    /// Returns what to do about a 401. The gateway names itself in `X-Gateway-Error`; without it a node
    /// rejected the request, and the client may be right.
    pub(super) fn unauthorized_hint(&self, headers: &HeaderMap) -> &'static str {
        match (headers.contains_key(GATEWAY_ERROR), self.ak.is_some()) {
            (true, true) => {
                "the gateway rejected the signature: compare what was signed with \
                 `ccfs-gateway explain`"
            }
            (true, false) => {
                "the gateway rejected the unsigned request: give --ak with --sk-file or --sk-env, or \
                 compare the given Authorization with `ccfs-gateway explain`"
            }
            (false, _) => {
                "a node rejected the request, not the gateway (no X-Gateway-Error): check the key and \
                 the clock of the node; if the URL is that of a node, compare what was signed with \
                 `ccfs-gateway explain`"
            }
        }
    }

    pub(super) fn request(&self, now: Timestamp) -> anyhow::Result<ClientRequest> {
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

    /// Creates the client with the trusted CAs and the client certificate of the flags.
    pub(super) fn client(&self) -> Result<Client, ClientError> {
        let trust = match &self.ca {
            _ if self.insecure => Trust::AnyCertificate,
            Some(path) => Trust::from_pem_file(path)?,
            None => Trust::system(),
        };
        let client = Client::new(&trust)?.with_timeout(self.timeout);
        match (&self.cert, &self.key) {
            (Some(chain), Some(key)) => {
                Ok(client.with_certificate(&ClientCertificate::from_pem_files(chain, key)?))
            }
            _ => Ok(client),
        }
    }
}
