//! The life of one connection: PROXY header, TLS handshake, then HTTP/1.1 or HTTP/2 as ALPN says.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::accept::Accepted;
use super::connection_limits::Permit;
use super::stream::Stream;
use super::{Handler, Peer, Settings, http1, http2, proxy_protocol};
use crate::drain::{Phase, Watch};
use crate::metrics::{ConnectionEnded, Handshake, Shard};

/// What the connections of one listener share on one worker.
#[derive(Debug)]
pub struct Front<H> {
    /// The listener's name.
    pub listener: Arc<str>,
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
pub(super) struct Life {
    pub(super) peer: Arc<Peer>,
    pub(super) permit: Permit,
    pub(super) watch: Watch,
}

/// Serves one connection to its end, and drops `held` then. Run it as a task of its own on the worker
/// that serves it; awaited in another future, it would take its room twice for every idle connection.
pub fn serve<H: Handler>(
    front: Arc<Front<H>>,
    accepted: Accepted,
    mut watch: Watch,
    held: impl Send + 'static,
) -> impl Future<Output = ()> + Send {
    let opening = Box::pin(open(front.clone(), accepted));
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
        let life = Life {
            peer,
            permit,
            watch,
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
async fn open<H>(front: Arc<Front<H>>, accepted: Accepted) -> Option<(Stream, Arc<Peer>, Permit)> {
    let permit = accepted.permit;
    let opened = {
        let _handshaking = permit.handshake();
        let hello = hello(
            &front,
            accepted.stream,
            accepted.address,
            accepted.proxied.then_some(&permit),
        );
        tokio::select! {
            biased;
            () = permit.pulse().evicted() => {
                front.metrics.count(ConnectionEnded::Cap);
                return None;
            }
            opened = timeout(front.settings.handshake_timeout, hello) => opened,
        }
    };
    match opened {
        Ok(Ok((stream, peer))) => {
            if peer.tls.is_some() {
                front.metrics.count(Handshake::Ok);
            }
            Some((stream, Arc::new(peer), permit))
        }
        Ok(Err(error)) => {
            tracing::debug!(address = %accepted.address, %error, "the handshake failed");
            front.metrics.count(Handshake::Failed);
            None
        }
        Err(_) => {
            front.metrics.count(Handshake::Timeout);
            None
        }
    }
}

async fn hello<H>(
    front: &Front<H>,
    stream: std::net::TcpStream,
    mut address: SocketAddr,
    proxied: Option<&Permit>,
) -> io::Result<(Stream, Peer)> {
    let mut stream = TcpStream::from_std(stream)?;
    let port = stream.local_addr()?.port();
    if let Some(permit) = proxied {
        address = proxy_protocol::read(&mut stream).await?.unwrap_or(address);
        if !permit.charge(address.ip()) {
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
    let peer = Peer {
        address,
        listener: front.listener.clone(),
        port,
        tls,
    };
    Ok((stream, peer))
}
