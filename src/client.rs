//! A client of CC-FS over TLS: HTTP/1.1 or HTTP/2. Used by `call`, the demo and the tests. Requests may
//! be malformed on purpose: every header field can be set by hand, `Authorization` included.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rustls::ClientConfig;

mod connection;
mod error;
mod request;
mod trust;

use connection::Connection;

pub use error::ClientError;
pub use request::{ClientRequest, DEFAULT_SIGNED_FIELDS, RECORDING_PATH, RecordingQuery};
pub use trust::{ClientCertificate, Trust};

/// Sends requests; reuses connections if [`Client::with_idle_connections`] was called.
#[derive(Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    /// Maximum number of idle connections; 0 opens a connection per request.
    max_idle: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// Creates a client that opens a connection per request, with a timeout of 30 seconds.
    pub fn new(trust: &Trust) -> Result<Self, ClientError> {
        Ok(Self {
            tls: trust.client_config()?,
            timeout: Duration::from_secs(30),
            max_idle: 0,
            idle: Mutex::default(),
        })
    }

    /// Sets how many idle connections are kept for later requests.
    #[must_use]
    pub fn with_idle_connections(mut self, idle: usize) -> Self {
        self.max_idle = idle;
        self
    }

    /// Sets the timeout for a complete response, or for the head of a streaming one.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Offers HTTP/2 alone; with [`Client::with_idle_connections`] concurrent requests share a connection.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        let config = Arc::make_mut(&mut self.tls);
        config.alpn_protocols = vec![b"h2".to_vec()];
        self
    }

    /// Presents a client certificate to servers that request one.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &ClientCertificate) -> Self {
        certificate.present_in(Arc::make_mut(&mut self.tls));
        self
    }

    /// Sends a request and reads the complete response, at most [`MAX_BUFFERED_BODY`] bytes of body.
    pub async fn send(&self, request: &ClientRequest) -> Result<ClientResponse, ClientError> {
        let response = async { self.dispatch(request).await?.collect(self).await };
        tokio::time::timeout(self.timeout, response)
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))?
    }

    /// Sends a request and reads the head of the response.
    pub async fn send_streaming(
        &self,
        request: &ClientRequest,
    ) -> Result<StreamingClientResponse, ClientError> {
        tokio::time::timeout(self.timeout, self.dispatch(request))
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))?
    }

    async fn dispatch(
        &self,
        request: &ClientRequest,
    ) -> Result<StreamingClientResponse, ClientError> {
        let reused = match self.checkout(request.authority()) {
            None => None,
            Some(mut connection) => match connection.send(request).await {
                // The server closes the connection, or its GOAWAY is on the way.
                Err(error) if error.is_unprocessed() => None,
                sent => Some((connection, sent?)),
            },
        };
        let (connection, response) = match reused {
            Some(sent) => sent,
            None => {
                let mut connection = Connection::connect(&self.tls, request.authority()).await?;
                self.store_idle(connection.try_share());
                let response = connection.send(request).await?;
                (connection, response)
            }
        };
        let (head, body) = response.into_parts();
        Ok(StreamingClientResponse {
            status: head.status,
            headers: head.headers,
            body,
            connection,
        })
    }

    /// Returns an idle HTTP/1.1 connection, or another handle of a shared HTTP/2 connection.
    fn checkout(&self, authority: &Authority) -> Option<Connection> {
        let mut idle = self.idle.lock();
        idle.retain(Connection::is_ready);
        let index = idle
            .iter()
            .rposition(|connection| connection.authority() == authority)?;
        let shared = idle[index].try_share();
        shared.or_else(|| Some(idle.swap_remove(index)))
    }

    fn store_idle(&self, connection: Option<Connection>) {
        let mut idle = self.idle.lock();
        if idle.len() < self.max_idle {
            idle.extend(connection);
        }
    }

    /// Returns an HTTP/1.1 connection to the idle list, once it can take another request.
    async fn checkin(&self, mut connection: Connection) {
        if self.max_idle > 0 && connection.try_share().is_none() && connection.ready().await {
            self.store_idle(Some(connection));
        }
    }
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct ClientResponse {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl ClientResponse {
    /// Returns the value of the first field of this name, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body as JSON; null if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the `resultCode`, if the body is a JSON object with one.
    pub fn result_code(&self) -> Option<String> {
        Some(self.json().get("resultCode")?.as_str()?.to_owned())
    }
}

/// A response whose body is not yet read. Dropping it closes its HTTP/1.1 connection, unless the body
/// was read to its end by [`StreamingClientResponse::collect`].
#[derive(Debug)]
pub struct StreamingClientResponse {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    body: Incoming,
    connection: Connection,
}

impl StreamingClientResponse {
    /// Returns the next chunk of the body; `None` at its end.
    ///
    /// # Errors
    /// Returns an error if the body is cut off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the remaining body, at most [`MAX_BUFFERED_BODY`] bytes, and returns the connection to
    /// `client`.
    pub async fn collect(self, client: &Client) -> Result<ClientResponse, ClientError> {
        let body = Limited::new(self.body, MAX_BUFFERED_BODY).collect().await;
        let body = body.map_err(ClientError::from_body)?.to_bytes();
        client.checkin(self.connection).await;
        Ok(ClientResponse {
            status: self.status,
            headers: self.headers,
            body,
        })
    }
}

/// Limit of a body that is read into memory: 64 times the default of `[limits] max_answer`, so that
/// tests can exceed every limit of the gateway.
pub const MAX_BUFFERED_BODY: usize = 64 * 1024 * 1024;

#[cfg(test)]
#[cfg(feature = "stand-in")]
mod tests;
