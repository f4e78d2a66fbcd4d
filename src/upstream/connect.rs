//! A new connection to a node: TCP and TLS under one deadline, HTTP/1.1 on top, and the task that
//! drives it until its end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure_reason::{self, Why};
use crate::cluster::{Node, PoolLimits, Settings, Slot};

/// Connects to `node` within the connect deadline, or says why not. The connection ends when `slot` is closed, when
/// it was idle or lived for too long, or when the node ends it.
pub(super) async fn connect(
    node: &Node,
    settings: &Settings,
    slot: Arc<Slot>,
) -> Result<SendRequest<Full<Bytes>>, Why> {
    let connected = AtomicBool::new(false);
    let opening = open(node, settings, &slot, &connected);
    let patience = settings.timeouts.connect;
    match timeout(patience, opening).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(error)) => {
            tracing::debug!(node = %node.name(), %error, "no connection");
            Err(failure_reason::of_io(&error))
        }
        Err(_elapsed) => {
            tracing::debug!(node = %node.name(), "no connection in time");
            Err(if connected.load(Ordering::Relaxed) {
                format!("no TLS handshake in {patience:?}").into()
            } else {
                format!("no connection in {patience:?}").into()
            })
        }
    }
}

async fn open(
    node: &Node,
    settings: &Settings,
    slot: &Arc<Slot>,
    connected: &AtomicBool,
) -> io::Result<SendRequest<Full<Bytes>>> {
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(node.address().host.to_string()).map_err(io::Error::other)?,
    };
    let tcp = TcpStream::connect(node.socket()).await?;
    connected.store(true, Ordering::Relaxed);
    tcp.set_nodelay(true)?;
    // rustls reads 4 KiB at a time; this makes one read of many when a body is large.
    let tcp = BufReader::with_capacity(READ_BUFFER, tcp);
    let tls = TlsConnector::from(settings.tls.clone())
        .connect(name, tcp)
        .await?;
    let slot = slot.clone();
    let io = TokioIo::new(Watched {
        tls,
        slot: slot.clone(),
    });
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .handshake(io)
        .await
        .map_err(io::Error::other)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "one driver per connection; it ends with its slot, at the latest with its node"
    )]
    tokio::spawn(drive(connection, slot, settings.pool));
    Ok(sender)
}

type Connection = http1::Connection<TokioIo<Watched>, Full<Bytes>>;

/// Moves a connection on until it ends. One timer for its whole life, which looks every quarter of
/// the idle timeout whether the connection was used: no request has to move it.
async fn drive(mut connection: Connection, slot: Arc<Slot>, limits: PoolLimits) {
    let oldest = Instant::now() + limits.max_age;
    let pause = limits.idle_timeout / LOOKS;
    let mut look = std::pin::pin!(sleep(pause));
    let (mut uses, mut unused) = (slot.uses(), 0);
    let ended_by_node = std::future::poll_fn(|cx| {
        slot.driven_by(cx.waker());
        loop {
            if slot.is_closed() {
                return Poll::Ready(false);
            }
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            ready!(look.as_mut().poll(cx));
            unused = if slot.uses() == uses { unused + 1 } else { 0 };
            uses = slot.uses();
            if (unused >= LOOKS || Instant::now() >= oldest) && slot.close_idle() {
                return Poll::Ready(false);
            }
            look.as_mut().reset(Instant::now() + pause);
        }
    })
    .await;
    slot.close();
    if !ended_by_node && slot.was_idle() {
        // Told properly, so that the node has no broken connection in its log.
        let mut io = connection.into_parts().io.into_inner();
        let _ = timeout(CLOSING, io.shutdown()).await;
    }
}

/// The stream under HTTP: tells the slot that the node has answered something.
struct Watched {
    tls: TlsStream<BufReader<TcpStream>>,
    slot: Arc<Slot>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.tls).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.slot.mark_answered();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

const READ_BUFFER: usize = 64 * 1024;

/// The largest head of a node's answer.
const MAX_HEAD: usize = 64 * 1024;

/// How often a connection is looked at within the idle timeout.
const LOOKS: u32 = 4;

/// How long a goodbye may take.
const CLOSING: Duration = Duration::from_secs(1);
