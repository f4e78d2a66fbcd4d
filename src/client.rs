//! A client of CC-FS: HTTP/1.1, or HTTP/2, over TLS. For `call`, the demo and the tests, which also
//! need to be wrong on purpose: every field can be set by hand, `Authorization` too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;

mod connection;
mod error;
mod request;
mod trust;

use connection::Connection;

pub use error::ClientError;
pub use request::{ClientRequest, DEFAULT_SIGNED_FIELDS, RECORDING_PATH, RecordingQuery};
pub use trust::Trust;

/// Sends requests; keeps connections for the next ones if it is told to.
#[derive(Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    /// At most this many idle connections are kept.
    max_idle: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// A client that trusts `trust`, opens a connection per request, and waits 30 seconds at most.
    pub fn new(trust: &Trust) -> Result<Self, ClientError> {
        Ok(Self {
            tls: trust.client_config()?,
            timeout: Duration::from_secs(30),
            max_idle: 0,
            idle: Mutex::default(),
        })
    }

    /// Keeps up to `idle` connections for later requests.
    #[must_use]
    pub fn with_idle_connections(mut self, idle: usize) -> Self {
        self.max_idle = idle;
        self
    }

    /// Waits so long for a whole answer, and for the head of one that streams.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Speaks HTTP/2, and nothing else; with [`Client::keeping`] many requests share a connection.
    #[must_use]
    pub fn http2_only(mut self) -> Self {
        let config = Arc::make_mut(&mut self.tls);
        config.alpn_protocols = vec![b"h2".to_vec()];
        self
    }

    /// Sends a request and reads its whole answer, at most [`LARGEST_ANSWER`].
    pub async fn send(&self, request: &ClientRequest) -> Result<ClientResponse, ClientError> {
        let whole = async { self.dispatch(request).await?.collect(self).await };
        tokio::time::timeout(self.timeout, whole)
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))?
    }

    /// Sends a request and reads the head of its answer.
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
        let mut connection = match self.checkout(request.authority()) {
            Some(connection) => connection,
            None => {
                let connection = Connection::connect(&self.tls, request.authority()).await?;
                self.store_idle(connection.try_share());
                connection
            }
        };
        let (head, body) = connection.send(request).await?.into_parts();
        Ok(StreamingClientResponse {
            status: head.status,
            headers: head.headers,
            body,
            connection,
        })
    }

    /// A kept connection: alone, or beside others over HTTP/2.
    fn checkout(&self, authority: &Authority) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(Connection::is_ready);
        let place = idle
            .iter()
            .rposition(|connection| connection.authority() == authority)?;
        let sibling = idle[place].try_share();
        sibling.or_else(|| Some(idle.swap_remove(place)))
    }

    fn store_idle(&self, connection: Option<Connection>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max_idle {
            idle.extend(connection);
        }
    }

    /// Keeps a connection that is not shared, once it can take another request.
    async fn checkin(&self, mut connection: Connection) {
        if self.max_idle > 0 && connection.try_share().is_none() && connection.ready().await {
            self.store_idle(Some(connection));
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct ClientResponse {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl ClientResponse {
    /// The value of the first field of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `resultCode`, if the body is a JSON object that has one.
    pub fn result_code(&self) -> Option<String> {
        Some(self.json().get("resultCode")?.as_str()?.to_owned())
    }
}

/// An answer whose body is still to be read. Its connection ends with it, unless it is read to the
/// end by [`Streaming::whole`].
#[derive(Debug)]
pub struct StreamingClientResponse {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    body: Incoming,
    connection: Connection,
}

impl StreamingClientResponse {
    /// The next piece of the body; `None` at its end. A body that breaks off is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the rest, at most [`LARGEST_ANSWER`], and gives the connection back to `client`.
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

/// No answer that is read whole is larger: 64 MiB.
pub const MAX_BUFFERED_BODY: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
