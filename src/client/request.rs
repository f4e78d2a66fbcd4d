//! A request to CC-FS, signed or unsigned, valid or invalid.

use std::fmt;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::ClientError;
use crate::auth::{self, AuthError, Credential, Signable};

/// A request as it is sent. Its fields may be changed before and after it is signed.
#[derive(Clone)]
pub struct ClientRequest {
    /// The method.
    pub method: Method,
    /// The raw path and query.
    pub target: String,
    /// All header fields: `Host`, and for a body `Content-Type` and `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    authority: Authority,
}

impl ClientRequest {
    /// Creates a POST of JSON to `https://host:port/path`; without a path, to the recording-URL interface.
    pub fn post(url: &str, body: impl Into<Bytes>) -> Result<Self, ClientError> {
        let body = body.into();
        let mut request = Self::new(Method::POST, url)?;
        if request.target == "/" {
            request.target = RECORDING_PATH.to_owned();
        }
        let length = HeaderValue::from(body.len());
        request
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(JSON_CONTENT_TYPE));
        request.headers.insert(CONTENT_LENGTH, length);
        request.body = body;
        Ok(request)
    }

    /// Creates a GET.
    pub fn get(url: &str) -> Result<Self, ClientError> {
        Self::new(Method::GET, url)
    }

    /// Creates a recording-URL request.
    pub fn recording(url: &str, query: &RecordingQuery<'_>) -> Result<Self, ClientError> {
        Self::post(url, query.to_json().to_string())
    }

    /// Creates a request of any method, with `Host` and no other header field.
    pub fn new(method: Method, url: &str) -> Result<Self, ClientError> {
        // Errors show neither the query nor the userinfo: both may hold secrets.
        let shown = url.split('?').next().and_then(|url| url.rsplit('@').next());
        let invalid = || ClientError::InvalidUrl(shown.unwrap_or_default().to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?.clone();
        if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
            return Err(invalid());
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?;
        Ok(Self {
            method,
            target: target.to_owned(),
            headers: HeaderMap::from_iter([(HOST, host)]),
            body: Bytes::new(),
            authority,
        })
    }

    /// Sets a header field and replaces earlier values.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// Signs the current request with the fields in `names`, e.g. [`DEFAULT_SIGNED_FIELDS`].
    pub fn sign(
        mut self,
        credential: &Credential,
        names: &str,
        timestamp: Timestamp,
    ) -> Result<Self, AuthError> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let signable = Signable {
            method: self.method.as_str(),
            path,
            query,
            headers: &self.headers,
            body: &self.body,
        };
        let authorization = auth::sign(credential, names, timestamp, &signable)?;
        self.headers.insert(AUTHORIZATION, authorization);
        Ok(self)
    }

    /// Sets the `Authorization` value, valid or not.
    #[must_use]
    pub fn with_authorization(mut self, mut authorization: HeaderValue) -> Self {
        authorization.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, authorization);
        self
    }

    /// Returns the authority that the request is sent to, which may differ from `Host`.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Parameters of the recording-URL interface.
#[derive(Clone, Copy, Debug)]
pub struct RecordingQuery<'a> {
    /// ID of the call.
    pub call_id: &'a str,
    /// Start of the time window, `yyyy-MM-dd HH:mm:ss`.
    pub begin: &'a str,
    /// End of the time window.
    pub end: &'a str,
    /// `2.0`: the times are in the tenant's time zone. `None`: no version member, the times are UTC.
    pub version: Option<&'a str>,
}

impl RecordingQuery<'_> {
    fn to_json(self) -> Value {
        let mut body = json!({
            "callId": self.call_id, "beginTime": self.begin, "endTime": self.end,
        });
        if let Some(version) = self.version {
            body["version"] = version.into();
        }
        body
    }
}

/// Path of the recording-URL interface.
pub const RECORDING_PATH: &str = "/CCFS/resource/ccfs/getRecordFileUrlFromObs";

/// The header fields that Huawei's sample code signs.
pub const DEFAULT_SIGNED_FIELDS: &str = "content-length;content-type;host";

const JSON_CONTENT_TYPE: &str = "application/json;charset=UTF-8";
