//! Accepts and serves connections: PROXY header, TLS, HTTP/1.1 or HTTP/2 by ALPN, under total
//! timeouts, closed gracefully. Generic over the [`Handler`]: does not depend on the gateway or the
//! admin interface.
//!
//! [`accept_loop`] admits connections within the [`ConnectionLimits`] and dispatches each to a worker,
//! where [`serve`] is its task. A request that two HTTP parsers could read differently is rejected
//! before it reaches a handler.

mod accept;
mod body;
mod connection;
mod connection_limits;
mod context;
mod date;
mod deadline;
mod driver;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod http1;
mod http2;
mod incoming;
mod linger;
mod plain_http;
mod proxy_protocol;
mod raw_response;
mod stream;
mod tls;
mod unread_body;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use crate::tls::ClientCertificate;

pub use self::accept::{AcceptedConnection, accept_loop};
pub use self::body::{BodyError, RequestBody};
pub use self::connection::serve;
pub use self::connection_limits::{ConnectionLimitSettings, ConnectionLimits, ConnectionPermit};
pub use self::context::ListenerContext;
pub use self::head::HeadLimits;
pub use self::tls::{TlsError, server_config};

/// Serves the requests of a listener.
pub trait Handler: Send + Sync + 'static {
    /// The body of its responses.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Serves one request. Its target is in origin form, and it has exactly one Host header, over
    /// HTTP/2 too. Must not panic on client input; a panic ends this connection only.
    ///
    /// Returns `impl Future` instead of `async fn`, whose future would store the request twice. The
    /// body must be dropped before the future completes; unread bytes are discarded or the connection
    /// is closed.
    fn handle(
        self: &Arc<Self>,
        connection: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;

    /// Returns the error response to a request that is not legal HTTP, too large or too slow. The
    /// handler logs and counts it.
    fn reject(&self, connection: &Arc<ConnectionInfo>, error: &ProtocolError) -> Response<Bytes>;
}

/// Describes one connection to the handler.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The client's address: from the PROXY header where its sender is trusted, else of the socket.
    pub client_address: SocketAddr,
    /// The listener's name in the configuration.
    pub listener: Arc<str>,
    /// The local port that accepted the connection.
    pub local_port: u16,
    /// `"1.2"`, `"1.3"`, or `None` without TLS.
    pub tls_version: Option<&'static str>,
    /// The certificate that the client presented.
    pub client_certificate: Option<Arc<ClientCertificate>>,
}

/// Why a request was rejected before it reached the handler.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// 408: the head did not arrive within `header_timeout`.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// 400: not legal HTTP; the text names the rule.
    #[error("{0}")]
    Malformed(&'static str),
    /// 405: CONNECT or TRACE. The gateway never tunnels or echoes.
    #[error("this method is not served on any path")]
    MethodNotAllowed,
    /// 431: larger than [`HeadLimits`].
    #[error("the request head is larger than allowed")]
    HeadTooLarge,
}

impl ProtocolError {
    /// Returns the status of the error response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}

/// Limits and timeouts of the connections of one listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Limits of a request head.
    pub head: HeadLimits,
    /// For the PROXY header and the TLS handshake together.
    pub handshake_timeout: Duration,
    /// For a whole request head, from its first byte; for the first head, from the handshake.
    pub header_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Quiet time after which an HTTP/1 connection gives up its buffers until the next byte arrives.
    pub park_after: Duration,
    /// A connection closes after the response that is in flight at this age.
    pub max_connection_age: Duration,
    /// Bytes per second that a client must read while bytes are pending, over `send_rate_window`; 0
    /// disables the check.
    pub min_send_rate: u64,
    /// The window of `min_send_rate`.
    pub send_rate_window: Duration,
    /// Bytes discarded of a body that a handler left unread.
    pub max_discarded: u64,
    /// For discarding such a body, and for a client to read the last response of a connection.
    pub linger_timeout: Duration,
    /// Limits and timeouts of HTTP/2 connections.
    pub http2: Http2Settings,
}

/// Limits and timeouts of HTTP/2 connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Http2Settings {
    /// Concurrent streams of one connection.
    pub max_concurrent_streams: u32,
    /// Streams of one connection that may be reset: by the client before they are accepted, or because
    /// of stream errors.
    pub max_resets: usize,
    /// Receive window of one stream; below 2³¹ (RFC 9113, 6.9.1).
    pub stream_window: u32,
    /// Receive window of the connection; below 2³¹ (RFC 9113, 6.9.1).
    pub connection_window: u32,
    /// Silence after which a PING is sent, and the timeout of its acknowledgement.
    pub ping_interval: Duration,
    /// From GOAWAY, or the last response after it, to the end of the connection.
    pub goaway_timeout: Duration,
}

#[cfg(test)]
mod tests;
