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

use super::failure_reason::{self, FailureReason};
use crate::cluster::{ClusterSettings, ConnectionSlot, Node, PoolLimits};

/// Connects to `node` within the connect deadline, or says why not. The connection ends when `slot` is closed, when
/// it was idle or lived for too long, or when the node ends it.
pub(super) async fn connect(
    node: &Node,
    settings: &ClusterSettings,
    slot: Arc<ConnectionSlot>,
) -> Result<SendRequest<Full<Bytes>>, FailureReason> {
    let connected = AtomicBool::new(false);
    let opening = open(node, settings, &slot, &connected);
    let patience = settings.timeouts.connect;
    match timeout(patience, opening).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(error)) => {
            tracing::debug!(node = %node.name(), %error, "no connection");
            Err(failure_reason::from_io(&error))
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
    settings: &ClusterSettings,
    slot: &Arc<ConnectionSlot>,
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
    let tcp = BufReader::with_capacity(READ_BUFFER_SIZE, tcp);
    let tls = TlsConnector::from(settings.tls.clone())
        .connect(name, tcp)
        .await?;
    let slot = slot.clone();
    let io = TokioIo::new(ObservedStream {
        tls,
        slot: slot.clone(),
    });
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD_SIZE)
        .max_buf_size(MAX_HEAD_SIZE)
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

type Connection = http1::Connection<TokioIo<ObservedStream>, Full<Bytes>>;

/// Moves a connection on until it ends. One timer for its whole life, which looks every quarter of
/// the idle timeout whether the connection was used: no request has to move it.
async fn drive(mut connection: Connection, slot: Arc<ConnectionSlot>, limits: PoolLimits) {
    let oldest = Instant::now() + limits.max_age;
    let pause = limits.idle_timeout / CHECKS_PER_IDLE_TIMEOUT;
    let mut look = std::pin::pin!(sleep(pause));
    let (mut uses, mut unused) = (slot.use_count(), 0);
    let ended_by_node = std::future::poll_fn(|cx| {
        slot.set_driver(cx.waker());
        loop {
            if slot.is_closed() {
                return Poll::Ready(false);
            }
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            ready!(look.as_mut().poll(cx));
            unused = if slot.use_count() == uses {
                unused + 1
            } else {
                0
            };
            uses = slot.use_count();
            if (unused >= CHECKS_PER_IDLE_TIMEOUT || Instant::now() >= oldest) && slot.close_idle()
            {
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
        let _ = timeout(CLOSE_NOTIFY_TIMEOUT, io.shutdown()).await;
    }
}

/// The stream under HTTP: tells the slot that the node has answered something.
struct ObservedStream {
    tls: TlsStream<BufReader<TcpStream>>,
    slot: Arc<ConnectionSlot>,
}

impl AsyncRead for ObservedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.tls).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.slot.mark_response_started();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for ObservedStream {
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

const READ_BUFFER_SIZE: usize = 64 * 1024;

/// The largest head of a node's answer.
const MAX_HEAD_SIZE: usize = 64 * 1024;

/// How often a connection is looked at within the idle timeout.
const CHECKS_PER_IDLE_TIMEOUT: u32 = 4;

/// How long a goodbye may take.
const CLOSE_NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);
