//! The accept loop. One place accepts for all workers, so that a few long-lived connections spread
//! evenly; it never waits for a client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::connection_limits::{ConnectionLimits, ConnectionPermit};
use crate::drain::{Phase, Watch};

/// A connection on its way to the worker that will serve it.
#[derive(Debug)]
pub struct AcceptedConnection {
    /// Non-blocking.
    pub(super) stream: std::net::TcpStream,
    /// Who connected: the client, or a proxy before it.
    pub(super) peer_address: SocketAddr,
    /// `address` is a proxy whose PROXY header comes first.
    pub(super) expects_proxy_header: bool,
    pub(super) permit: ConnectionPermit,
}

/// Accepts and hands over until the drain closes the listener; then accepts what is queued already,
/// so that no client is reset, and closes. Connections from addresses that `is_proxy` trusts begin
/// with a PROXY header.
///
/// # Errors
///
/// When the socket cannot be prepared. Errors of single connections are survived.
pub async fn accept_loop(
    listener: TcpListener,
    caps: Arc<ConnectionLimits>,
    is_proxy: impl Fn(IpAddr) -> bool,
    hand_over: impl Fn(AcceptedConnection),
    mut watch: Watch,
) -> io::Result<()> {
    // Linux hands these on to accepted sockets: no system call for each connection.
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_INTERVAL)
            .with_interval(KEEPALIVE_INTERVAL),
    )?;
    let take = |stream: std::net::TcpStream, address: SocketAddr| {
        let proxied = is_proxy(address.ip().to_canonical());
        let counted = (!proxied).then(|| address.ip());
        if let Some(permit) = caps.admit(counted) {
            hand_over(AcceptedConnection {
                stream,
                peer_address: address,
                expects_proxy_header: proxied,
                permit,
            });
        }
    };
    let mut trouble = AcceptErrorLog::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = watch.reached(Phase::Closing) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address))) {
            Ok((stream, address)) => take(stream, address),
            Err(error) if is_per_connection(&error) => {}
            Err(error) => {
                trouble.report(&error, &caps);
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    let listener = listener.into_std()?;
    while let Ok((stream, address)) = listener.accept() {
        stream.set_nonblocking(true)?;
        take(stream, address);
    }
    Ok(())
}

/// Accept errors that repeat: no descriptors, no memory.
#[derive(Debug, Default)]
struct AcceptErrorLog {
    last_logged: Option<Instant>,
}

impl AcceptErrorLog {
    fn report(&mut self, error: &io::Error, caps: &ConnectionLimits) {
        // Several: who waits in the queue behind a flood must not wait for each of its connections.
        for _ in 0..EVICTIONS_PER_ERROR {
            if !caps.evict_longest_idle() {
                break;
            }
        }
        let now = Instant::now();
        if self
            .last_logged
            .is_none_or(|last| now - last >= LOG_INTERVAL)
        {
            self.last_logged = Some(now);
            tracing::warn!(%error, "connections cannot be accepted");
        }
    }
}

/// The client gave up before it was accepted: says nothing about the next one.
fn is_per_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A client that vanished is found out after a few of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Long enough not to spin, short enough not to be felt once there is room.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(5);

/// Idle connections that make room at once.
const EVICTIONS_PER_ERROR: usize = 32;

const LOG_INTERVAL: Duration = Duration::from_secs(1);
