//! Accepts, shakes hands, and serves one connection: HTTP/1.1 or HTTP/2 by ALPN, under total
//! deadlines, closed gracefully. Generic over the handler: knows neither the gateway nor the admin
//! interface.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

/// What serves requests.
pub trait Handler: Send + Sync + 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// Answers one request. Never panics on what a client sent; should it panic all the same, only
    /// this connection ends.
    fn handle(
        &self,
        peer: &Arc<Peer>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The envelope for what is not legal HTTP, or too large, or too slow; logged and counted there.
    fn refuse(&self, peer: &Arc<Peer>, violation: &Violation) -> Response<Bytes>;
}

/// Facts about one connection.
#[derive(Debug)]
pub struct Peer {
    /// The client's address (from the PROXY header, where that is trusted).
    pub address: SocketAddr,
    /// The name of the listener.
    pub listener: Arc<str>,
    /// The port it came to.
    pub port: u16,
    /// `"1.2"`, `"1.3"`, or nothing for plain text.
    pub tls: Option<&'static str>,
}

/// A request body as the handler sees it. If it is dropped before its end, a small rest is read and
/// thrown away, so that the connection lives and no left-over byte becomes the next request.
#[derive(Debug)]
pub struct RequestBody(());

/// What is wrong with a head.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// 408: the head did not come in time.
    #[error("the request head did not arrive in time")]
    HeadTimeout,
    /// 400: not legal HTTP; says which rule.
    #[error("{0}")]
    Malformed(&'static str),
    /// 431: larger than allowed.
    #[error("the request head is larger than allowed")]
    TooLarge,
}
