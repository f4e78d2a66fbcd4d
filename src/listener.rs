//! Accepts, shakes hands, and serves one connection: HTTP/1.1 or HTTP/2 by ALPN, under total
//! deadlines, closed gracefully. Generic over the handler: knows neither the gateway nor the admin
//! interface.
//!
//! [`accept_loop`] admits connections under the [`Caps`] and hands each to a worker, where
//! [`serve`] is its task. No handler ever sees a request that two parsers could read in two ways.

mod accept;
mod body;
mod connection;
mod connection_limits;
mod deadline;
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod http1;
mod http2;
mod linger;
mod proxy_protocol;
mod raw_response;
mod stream;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};

pub use self::accept::{AcceptedConnection, accept_loop};
pub use self::body::{BodyError, RequestBody};
pub use self::connection::{ListenerContext, serve};
pub use self::connection_limits::{ConnectionLimitSettings, ConnectionLimits, ConnectionPermit};
pub use self::head::HeadLimits;
pub use self::tls::{TlsError, server_config};

/// What serves requests.
pub trait Handler: Send + Sync + 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request: its target is in origin form, and its one Host field is there in HTTP/2
    /// too. Never panics on what a client sent; should it panic all the same, only this connection
    /// ends.
    ///
    /// No async function, whose future would hold the request twice. What is left of the body when the
    /// future is ready must have been dropped by then: it is read and thrown away, or the connection
    /// closes.
    fn handle(
        self: &Arc<Self>,
        peer: &Arc<ConnectionInfo>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;

    /// The envelope for what is not legal HTTP, or too large, or too slow; logged and counted there.
    fn reject(&self, peer: &Arc<ConnectionInfo>, violation: &ProtocolError) -> Response<Bytes>;
}

/// Facts about one connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The client's address (from the PROXY header, where that is trusted).
    pub client_address: SocketAddr,
    /// The name of the listener.
    pub listener: Arc<str>,
    /// The port it came to.
    pub local_port: u16,
    /// `"1.2"`, `"1.3"`, or nothing for plain text.
    pub tls_version: Option<&'static str>,
}

/// What is wrong with a head.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// 408: the head did not come in time.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// 400: not legal HTTP; says which rule.
    #[error("{0}")]
    Malformed(&'static str),
    /// 405: CONNECT or TRACE; nothing is ever tunnelled or echoed.
    #[error("this method is not served on any path")]
    MethodNotAllowed,
    /// 431: larger than allowed.
    #[error("the request head is larger than allowed")]
    HeadTooLarge,
}

impl ProtocolError {
    /// The status of the answer to it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}

/// Limits and deadlines of the connections of one listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Size of a request head.
    pub head: HeadLimits,
    /// For a PROXY header and the TLS handshake, together.
    pub handshake_timeout: Duration,
    /// For a whole request head from its first byte; and for the first one from the handshake.
    pub header_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this.
    pub max_connection_age: Duration,
    /// Bytes a second, over any window in which there are bytes to send; 0 is off.
    pub min_send_rate: u64,
    /// That window.
    pub send_rate_window: Duration,
    /// What is read and thrown away of a body that a handler left unread.
    pub max_discarded: u64,
    /// For that, and for a client to take a connection's last answer.
    pub linger_timeout: Duration,
    /// Of HTTP/2 connections.
    pub http2: Http2Settings,
}

/// Limits and deadlines of HTTP/2 connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Http2Settings {
    /// Streams at once of one connection.
    pub max_concurrent_streams: u32,
    /// Streams that are reset before they were looked at, or because of their own errors.
    pub max_resets: usize,
    /// What a client may send ahead on one stream; below 2³¹.
    pub stream_window: u32,
    /// What a client may send ahead on all streams; below 2³¹.
    pub connection_window: u32,
    /// Between two PINGs, and for the answer to one.
    pub ping_interval: Duration,
    /// From GOAWAY, or the last answer after it, to the end of the connection.
    pub goaway_timeout: Duration,
}

#[cfg(test)]
mod tests;
