//! One connection: PROXY header, TLS handshake, then HTTP/1.1 or HTTP/2 as ALPN selects.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ProtocolVersion;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::accept::{AcceptedConnection, canonical};
use super::connection_limits::ConnectionPermit;
use super::context::{ConnectionContext, ListenerContext};
use super::stream::Stream;
use super::{ConnectionInfo, Handler, http1, http2, plain_http, proxy_protocol, raw_response};
use crate::drain::{Phase, Watch};
use crate::metrics::{ConnectionEndReason, HandshakeResult};
use crate::tls::{ClientCertificate, TrustError, explain};

/// Serves one connection to its end, then drops `held`.
///
/// Spawn it as a task of its own on the worker that serves it: awaited inside another future it would
/// take its size twice for every idle connection.
pub fn serve<H: Handler>(
    listener: Arc<ListenerContext<H>>,
    accepted: AcceptedConnection,
    mut drain: Watch,
    held: impl Send + 'static,
) -> impl Future<Output = ()> + Send {
    let establishing = Box::pin(establish(listener.clone(), accepted));
    async move {
        let established = tokio::select! {
            biased;
            () = drain.reached(Phase::Forced) => None,
            established = establishing => established,
        };
        let Some((stream, info, permit)) = established else {
            return;
        };
        let is_http2 = stream.alpn_protocol() == Some(b"h2");
        let context = ConnectionContext {
            info,
            permit,
            drain,
        };
        if is_http2 {
            Box::pin(http2::serve(stream, listener, context)).await;
        } else {
            Box::pin(http1::serve(stream, listener, context)).await;
        }
        drop(held);
    }
}

/// Everything before the first request, within one handshake timeout; `None` if it failed.
async fn establish<H: Handler>(
    listener: Arc<ListenerContext<H>>,
    accepted: AcceptedConnection,
) -> Option<(Stream, Arc<ConnectionInfo>, ConnectionPermit)> {
    let permit = accepted.permit;
    let negotiated = {
        let _handshake = permit.begin_handshake();
        let negotiating = negotiate(
            &listener,
            accepted.stream,
            accepted.peer_address,
            accepted.expects_proxy_header.then_some(&permit),
        );
        tokio::select! {
            biased;
            () = permit.activity().evicted() => {
                listener.metrics.count(ConnectionEndReason::ConnectionLimit);
                return None;
            }
            negotiated = timeout(listener.settings.handshake_timeout, negotiating) => negotiated,
        }
    };
    match negotiated {
        Ok(Ok((stream, info))) => {
            if info.tls_version.is_some() {
                listener.metrics.count(HandshakeResult::Ok);
            }
            Some((stream, Arc::new(info), permit))
        }
        // Counted before the response.
        Ok(Err(HandshakeError::PlainHttp)) => None,
        Ok(Err(HandshakeError::Io(error))) => {
            log_failure(&listener.name, accepted.peer_address, &error);
            listener.metrics.count(HandshakeResult::Failed);
            None
        }
        Err(_) => {
            listener.metrics.count(HandshakeResult::Timeout);
            None
        }
    }
}

/// Logs a failed handshake: a refused client certificate as a warning, which the diagnostics limit for
/// each listener, everything else for debugging.
fn log_failure(listener: &str, address: SocketAddr, error: &io::Error) {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = || tls.map_or_else(|| error.to_string(), |tls| explain(tls, "the client"));
    if tls.and_then(TrustError::of).is_some() {
        let reason = reason();
        tracing::warn!(listener, %address, %reason, "client certificate refused");
    } else if tracing::enabled!(tracing::Level::DEBUG) {
        let reason = reason();
        tracing::debug!(listener, %address, %reason, "handshake failed");
    }
}

/// Reads the PROXY header if one is expected (then `proxied` is the permit that is counted for the
/// address it names), and performs the TLS handshake.
async fn negotiate<H: Handler>(
    listener: &ListenerContext<H>,
    stream: std::net::TcpStream,
    mut client_address: SocketAddr,
    proxied: Option<&ConnectionPermit>,
) -> Result<(Stream, ConnectionInfo), HandshakeError> {
    let mut stream = TcpStream::from_std(stream)?;
    let local_port = stream.local_addr()?.port();
    if let Some(permit) = proxied {
        client_address = proxy_protocol::read(&mut stream)
            .await?
            .map_or(client_address, canonical);
        if !permit.count_for_address(client_address.ip()) {
            return Err(io::Error::other("the address has too many connections").into());
        }
    }
    let info = |tls_version| ConnectionInfo {
        client_address,
        listener: listener.name.clone(),
        local_port,
        tls_version,
        client_certificate: None,
    };
    let (stream, info) = match &listener.tls {
        None => (Stream::Plain(stream), info(None)),
        Some(config) => {
            if let Some(response) = plain_http::response(listener, &stream, &info).await? {
                listener.metrics.count(HandshakeResult::PlainHttp);
                let time = listener.settings.linger_timeout;
                raw_response::send(Stream::Plain(stream), response, time).await;
                return Err(HandshakeError::PlainHttp);
            }
            let stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
            let session = stream.get_ref().1;
            let version = match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            };
            let mut info = info(Some(version));
            info.client_certificate = session
                .peer_certificates()
                .map(|chain| Arc::new(ClientCertificate::new(chain.to_vec())));
            (Stream::Tls(Box::new(stream)), info)
        }
    };
    Ok((stream, info))
}

/// Why a handshake failed.
#[derive(Debug)]
enum HandshakeError {
    Io(io::Error),
    /// The client sent HTTP without TLS, and has its response.
    PlainHttp,
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
