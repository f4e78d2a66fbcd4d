//! The life of one connection: PROXY header, TLS handshake, then HTTP/1.1 or HTTP/2 as ALPN says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::accept::AcceptedConnection;
use super::connection_limits::ConnectionPermit;
use super::stream::Stream;
use super::{ConnectionInfo, Handler, Settings, http1, http2, proxy_protocol};
use crate::drain::{Phase, Watch};
use crate::metrics::{ConnectionEndReason, HandshakeResult, Shard};

/// What the connections of one listener share on one worker.
#[derive(Debug)]
pub struct ListenerContext<H> {
    /// The listener's name.
    pub name: Arc<str>,
    /// `None` serves plain HTTP/1.1.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who answers.
    pub handler: Arc<H>,
    /// Limits and deadlines.
    pub settings: Arc<Settings>,
    /// The worker's counters.
    pub metrics: Arc<Shard>,
}

/// What one connection has for as long as it lives.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) permit: ConnectionPermit,
    pub(super) drain: Watch,
}

/// Serves one connection to its end, and drops `held` then. Run it as a task of its own on the worker
/// that serves it; awaited in another future, it would take its room twice for every idle connection.
pub fn serve<H: Handler>(
    front: Arc<ListenerContext<H>>,
    accepted: AcceptedConnection,
    mut watch: Watch,
    held: impl Send + 'static,
) -> impl Future<Output = ()> + Send {
    let opening = Box::pin(establish(front.clone(), accepted));
    async move {
        let ready = tokio::select! {
            biased;
            () = watch.reached(Phase::Forced) => None,
            ready = opening => ready,
        };
        let Some((stream, peer, permit)) = ready else {
            return;
        };
        let is_http2 = match &stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        let life = ConnectionContext {
            info: peer,
            permit,
            drain: watch,
        };
        if is_http2 {
            Box::pin(http2::serve(stream, front, life)).await;
        } else {
            Box::pin(http1::serve(stream, front, life)).await;
        }
        drop(held);
    }
}

/// Everything before the first request, in one deadline.
async fn establish<H>(
    front: Arc<ListenerContext<H>>,
    accepted: AcceptedConnection,
) -> Option<(Stream, Arc<ConnectionInfo>, ConnectionPermit)> {
    let permit = accepted.permit;
    let opened = {
        let _handshaking = permit.begin_handshake();
        let hello = negotiate(
            &front,
            accepted.stream,
            accepted.peer_address,
            accepted.expects_proxy_header.then_some(&permit),
        );
        tokio::select! {
            biased;
            () = permit.activity().evicted() => {
                front.metrics.count(ConnectionEndReason::ConnectionLimit);
                return None;
            }
            opened = timeout(front.settings.handshake_timeout, hello) => opened,
        }
    };
    match opened {
        Ok(Ok((stream, peer))) => {
            if peer.tls_version.is_some() {
                front.metrics.count(HandshakeResult::Ok);
            }
            Some((stream, Arc::new(peer), permit))
        }
        Ok(Err(error)) => {
            tracing::debug!(address = %accepted.peer_address, %error, "the handshake failed");
            front.metrics.count(HandshakeResult::Failed);
            None
        }
        Err(_) => {
            front.metrics.count(HandshakeResult::Timeout);
            None
        }
    }
}

async fn negotiate<H>(
    front: &ListenerContext<H>,
    stream: std::net::TcpStream,
    mut address: SocketAddr,
    proxied: Option<&ConnectionPermit>,
) -> io::Result<(Stream, ConnectionInfo)> {
    let mut stream = TcpStream::from_std(stream)?;
    let port = stream.local_addr()?.port();
    if let Some(permit) = proxied {
        address = proxy_protocol::read(&mut stream).await?.unwrap_or(address);
        if !permit.count_for_address(address.ip()) {
            return Err(io::Error::other("the address has too many connections"));
        }
    }
    let (stream, tls) = match &front.tls {
        None => (Stream::Plain(stream), None),
        Some(config) => {
            let stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
            let tls = match stream.get_ref().1.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            };
            (Stream::Tls(Box::new(stream)), Some(tls))
        }
    };
    let peer = ConnectionInfo {
        client_address: address,
        listener: front.name.clone(),
        local_port: port,
        tls_version: tls,
    };
    Ok((stream, peer))
}
