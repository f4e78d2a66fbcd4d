//! One request whose signature did not verify, copied for the doctor.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;

use super::LiveCase;
use crate::auth::{self, AuthError, Credential, Evidence, Mistake, Signable};
use crate::cluster::Cluster;
use crate::telemetry;

/// A case. It holds the signature, so `Debug` omits all that the client sent.
pub(in crate::gateway) struct Case {
    pub(super) request_id: HeaderValue,
    pub(super) client: IpAddr,
    /// The memory that it takes, in bytes.
    pub(super) bytes: usize,
    at: Timestamp,
    error: AuthError,
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    headers: HeaderMap,
    body: Body,
    cluster: Arc<Cluster>,
    listener: (IpAddr, u16),
}

/// What is known of the body.
enum Body {
    /// All of it.
    Whole(Bytes),
    /// Only its length: it is too large, or was not read.
    Length(usize),
}

/// Where a case comes from.
#[derive(Debug)]
pub(in crate::gateway) struct CaseOrigin {
    pub(in crate::gateway) request_id: HeaderValue,
    pub(in crate::gateway) client: IpAddr,
    pub(in crate::gateway) at: Timestamp,
    pub(in crate::gateway) cluster: Arc<Cluster>,
    /// The address of the listener, and the port of the connection.
    pub(in crate::gateway) listener: (IpAddr, u16),
}

impl Case {
    /// Copies a request. Without `body`, it is judged by its head alone.
    pub(in crate::gateway) fn new(
        origin: CaseOrigin,
        head: &Parts,
        body: Option<&Bytes>,
        error: AuthError,
    ) -> Self {
        // Copied, because the values are slices of the whole read buffer.
        let copied = head.headers.iter().filter_map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            Some((name.clone(), value))
        });
        let mut headers = HeaderMap::with_capacity(head.headers.keys_len());
        let mut bytes = size_of::<Self>() + head.uri.path().len();
        for (name, value) in copied {
            bytes += name.as_str().len() + value.len() + size_of::<(HeaderName, HeaderValue)>();
            headers.append(name, value);
        }
        let body = match body {
            Some(body) if body.len() <= MAX_BODY => Body::Whole(Bytes::copy_from_slice(body)),
            body => Body::Length(body.map_or(0, Bytes::len)),
        };
        let query: Option<Box<str>> = head.uri.query().map(Into::into);
        bytes += query.as_deref().map_or(0, str::len);
        if let Body::Whole(body) = &body {
            bytes += body.len();
        }
        Self {
            request_id: origin.request_id,
            client: origin.client,
            bytes,
            at: origin.at,
            error,
            method: head.method.clone(),
            path: head.uri.path().into(),
            query,
            headers,
            body,
            cluster: origin.cluster,
            listener: origin.listener,
        }
    }

    /// Returns the access key that the request claims.
    pub(super) fn claimed(&self) -> Option<&str> {
        auth::claimed_access_key(&self.headers)
    }

    /// Finds the mistake; `None` if the signature is right as it is.
    pub(super) fn mistake(&self, credential: Option<&Credential>) -> Option<Mistake> {
        match self.error {
            AuthError::UnknownKey | AuthError::WrongSignature | AuthError::Disabled => {}
            _ => return Some(auth::mistake_of_head(&self.error)),
        }
        let nodes = &self.cluster.settings().nodes;
        let nodes: Vec<_> = nodes.iter().map(|node| node.address.to_string()).collect();
        let body = match &self.body {
            Body::Whole(body) => Some(body),
            Body::Length(_) => None,
        };
        let evidence = Evidence {
            request: Signable {
                method: self.method.as_str(),
                path: &self.path,
                query: self.query.as_deref(),
                headers: &self.headers,
                body: body.map_or(&[], |body| body),
            },
            has_body: body.is_some(),
            nodes: &nodes,
            listener: self.listener,
        };
        auth::find_mistake(&evidence, credential)
    }

    /// Returns what people are shown of the case.
    pub(super) fn to_live(&self, access_key: &str, mistake: Mistake) -> LiveCase {
        let value = self.headers.get(header::AUTHORIZATION);
        let value = value.and_then(|value| value.to_str().ok());
        let mut parts = value.unwrap_or_default().split('/').skip(2);
        let timestamp = parts.next().unwrap_or_default().to_owned();
        let names = parts.next().unwrap_or_default().to_owned();
        let shown = SHOWN.iter().filter_map(|name| {
            let value = self.headers.get(name)?;
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            Some((name.as_str().to_owned(), value))
        });
        let hidden = self
            .headers
            .keys()
            .filter(|name| !SHOWN.contains(name) && **name != header::AUTHORIZATION);
        let hidden = hidden.map(|name| {
            let lengths = self.headers.get_all(name).iter().map(HeaderValue::len);
            (name.as_str().to_owned(), lengths.sum())
        });
        let body = match &self.body {
            Body::Whole(body) => body.len(),
            Body::Length(length) => *length,
        };
        let mut lengths: std::collections::BTreeMap<String, usize> = hidden.collect();
        lengths.insert("(body)".to_owned(), body);
        if let Some(query) = &self.query {
            lengths.insert("(query)".to_owned(), query.len());
        }
        LiveCase {
            access_key: access_key.into(),
            at: self.at,
            mistake,
            method: self.method.to_string(),
            path: telemetry::shown_path(&self.path).to_owned(),
            names,
            timestamp,
            headers: shown.collect(),
            lengths,
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("request_id", &self.request_id)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The fields whose values are shown.
const SHOWN: [HeaderName; 3] = [header::HOST, header::CONTENT_TYPE, header::CONTENT_LENGTH];

/// A larger body is not kept.
const MAX_BODY: usize = 64 << 10;
