//! The accept loop. One place accepts for all workers, so that a few long-lived connections spread
//! evenly; it never waits for a client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::connection_limits::{Caps, Permit};
use crate::drain::{Phase, Watch};

/// A connection on its way to the worker that will serve it.
#[derive(Debug)]
pub struct Accepted {
    /// Non-blocking.
    pub(super) stream: std::net::TcpStream,
    /// Who connected: the client, or a proxy before it.
    pub(super) address: SocketAddr,
    /// `address` is a proxy whose PROXY header comes first.
    pub(super) proxied: bool,
    pub(super) permit: Permit,
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
    caps: Arc<Caps>,
    is_proxy: impl Fn(IpAddr) -> bool,
    hand_over: impl Fn(Accepted),
    mut watch: Watch,
) -> io::Result<()> {
    // Linux hands these on to accepted sockets: no system call for each connection.
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE),
    )?;
    let take = |stream: std::net::TcpStream, address: SocketAddr| {
        let proxied = is_proxy(address.ip().to_canonical());
        let counted = (!proxied).then(|| address.ip());
        if let Some(permit) = caps.admit(counted) {
            hand_over(Accepted {
                stream,
                address,
                proxied,
                permit,
            });
        }
    };
    let mut trouble = Trouble::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = watch.reached(Phase::Closing) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address))) {
            Ok((stream, address)) => take(stream, address),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                trouble.report(&error, &caps);
                tokio::time::sleep(BACKOFF).await;
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
struct Trouble {
    logged: Option<Instant>,
}

impl Trouble {
    fn report(&mut self, error: &io::Error, caps: &Caps) {
        // Several: who waits in the queue behind a flood must not wait for each of its connections.
        for _ in 0..EVICTIONS {
            if !caps.evict_one() {
                break;
            }
        }
        let now = Instant::now();
        if self.logged.is_none_or(|last| now - last >= LOG_EVERY) {
            self.logged = Some(now);
            tracing::warn!(%error, "connections cannot be accepted");
        }
    }
}

/// The client gave up before it was accepted: says nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A client that vanished is found out after a few of these.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Long enough not to spin, short enough not to be felt once there is room.
const BACKOFF: Duration = Duration::from_millis(5);

/// Idle connections that make room at once.
const EVICTIONS: usize = 32;

const LOG_EVERY: Duration = Duration::from_secs(1);
