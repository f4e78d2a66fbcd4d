//! A client of CC-FS: HTTP/1.1 over TLS, one request at a time. For `call`, the demo and the tests,
//! which also need to be wrong on purpose: every field can be set by hand, `Authorization` too.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

mod error;
mod request;
mod trust;

pub use error::ClientError;
pub use request::{NAMES, RECORDING_PATH, RecordingQuery, SignedRequest};
pub use trust::Trust;

/// Sends requests; keeps connections for the next ones if it is told to.
#[derive(Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    /// At most this many idle connections are kept.
    keep: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// A client that trusts `trust`, opens a connection per request, and waits 30 seconds at most.
    pub fn new(trust: &Trust) -> Result<Self, ClientError> {
        Ok(Self {
            tls: trust.client_config()?,
            timeout: Duration::from_secs(30),
            keep: 0,
            idle: Mutex::default(),
        })
    }

    /// Keeps up to `idle` connections for later requests.
    #[must_use]
    pub fn keeping(mut self, idle: usize) -> Self {
        self.keep = idle;
        self
    }

    /// Waits so long for a whole answer, and for the head of one that streams.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends a request and reads its whole answer, at most [`LARGEST_ANSWER`].
    pub async fn send(&self, request: &SignedRequest) -> Result<Answer, ClientError> {
        let whole = async { self.exchange(request).await?.whole(self).await };
        tokio::time::timeout(self.timeout, whole)
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))?
    }

    /// Sends a request and reads the head of its answer.
    pub async fn open(&self, request: &SignedRequest) -> Result<Streaming, ClientError> {
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .map_err(|_| ClientError::Timeout(self.timeout))?
    }

    async fn exchange(&self, request: &SignedRequest) -> Result<Streaming, ClientError> {
        let mut connection = match self.take(request.authority()) {
            Some(connection) => connection,
            None => self.connect(request.authority()).await?,
        };
        let response = connection.sender.send_request(request.to_http()?).await?;
        let (head, body) = response.into_parts();
        Ok(Streaming {
            status: head.status,
            headers: head.headers,
            body,
            connection,
        })
    }

    async fn connect(&self, authority: &Authority) -> Result<Connection, ClientError> {
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(443));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ClientError::Address(authority.to_string()))?;
        let connected = TcpStream::connect((host, port)).await;
        let stream =
            connected.map_err(|error| ClientError::Connect(authority.to_string(), error))?;
        let _ = stream.set_nodelay(true);
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(ClientError::of_handshake)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        let task = TaskTracker::new().spawn(async move {
            // What went wrong is what the request sees.
            let _ = driver.await;
        });
        Ok(Connection {
            authority: authority.clone(),
            sender,
            _driver: AbortOnDropHandle::new(task),
        })
    }

    fn take(&self, authority: &Authority) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| connection.sender.is_ready());
        let place = idle
            .iter()
            .rposition(|connection| connection.authority == *authority)?;
        Some(idle.swap_remove(place))
    }

    async fn put(&self, mut connection: Connection) {
        if self.keep == 0 || connection.sender.ready().await.is_err() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.keep {
            idle.push(connection);
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
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
pub struct Streaming {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    body: Incoming,
    connection: Connection,
}

impl Streaming {
    /// The next piece of the body; `None` at its end. A body that breaks off is an error.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Reads the rest, at most [`LARGEST_ANSWER`], and gives the connection back to `client`.
    pub async fn whole(self, client: &Client) -> Result<Answer, ClientError> {
        let body = Limited::new(self.body, LARGEST_ANSWER).collect().await;
        let body = body.map_err(ClientError::of_body)?.to_bytes();
        client.put(self.connection).await;
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body,
        })
    }
}

/// No answer that is read whole is larger: 64 MiB.
pub const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

#[derive(Debug)]
struct Connection {
    authority: Authority,
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl SignedRequest {
    fn to_http(&self) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self
            .target
            .parse()
            .map_err(|_| ClientError::Address(self.path().to_owned()))?;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
