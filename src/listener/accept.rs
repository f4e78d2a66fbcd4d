//! The accept loop. One task accepts for all workers, so that a few long-lived connections spread
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

/// An accepted connection, before it is dispatched to the worker that serves it.
#[derive(Debug)]
pub struct AcceptedConnection {
    /// In non-blocking mode.
    pub(super) stream: std::net::TcpStream,
    /// The address of the socket's other end: the client, or a proxy in front of it.
    pub(super) peer_address: SocketAddr,
    /// The peer is a trusted proxy, whose PROXY header comes first.
    pub(super) expects_proxy_header: bool,
    pub(super) permit: ConnectionPermit,
}

/// Accepts and dispatches connections until the drain reaches [`Phase::Closing`]; then accepts the
/// backlog, so that no client is reset, and closes. Connections from addresses for which `is_proxy` is
/// true begin with a PROXY header.
///
/// # Errors
///
/// If the socket cannot be configured. Accept errors are logged and retried.
pub async fn accept_loop(
    listener: TcpListener,
    limits: Arc<ConnectionLimits>,
    is_proxy: impl Fn(IpAddr) -> bool,
    dispatch: impl Fn(AcceptedConnection),
    mut drain: Watch,
) -> io::Result<()> {
    // Accepted sockets inherit these on Linux, which saves a system call per connection.
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_INTERVAL)
            .with_interval(KEEPALIVE_INTERVAL),
    )?;
    let admit = |stream: std::net::TcpStream, address: SocketAddr| {
        let address = canonical(address);
        let proxied = is_proxy(address.ip().to_canonical());
        let counted = (!proxied).then(|| address.ip());
        if let Some(permit) = limits.admit(counted) {
            dispatch(AcceptedConnection {
                stream,
                peer_address: address,
                expects_proxy_header: proxied,
                permit,
            });
        }
    };
    let mut error_log = AcceptErrorLog::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.reached(Phase::Closing) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address))) {
            Ok((stream, address)) => admit(stream, address),
            Err(error) if is_per_connection(&error) => {}
            Err(error) => {
                error_log.report(&error, &limits);
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    let listener = listener.into_std()?;
    while let Ok((stream, address)) = listener.accept() {
        stream.set_nonblocking(true)?;
        admit(stream, address);
    }
    Ok(())
}

/// Returns an IPv4-mapped IPv6 address, as a `[::]` socket reports it, as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // Keeps the scope of a link-local address.
        IpAddr::V6(_) => address,
    }
}

/// Handles accept errors that repeat, such as EMFILE and ENOMEM.
#[derive(Debug, Default)]
struct AcceptErrorLog {
    last_logged: Option<Instant>,
}

impl AcceptErrorLog {
    fn report(&mut self, error: &io::Error, limits: &ConnectionLimits) {
        // Several at once: a client queued behind a flood must not wait for each of its connections.
        for _ in 0..EVICTIONS_PER_ERROR {
            if !limits.evict_longest_idle() {
                break;
            }
        }
        let now = Instant::now();
        if self
            .last_logged
            .is_none_or(|last| now - last >= LOG_INTERVAL)
        {
            self.last_logged = Some(now);
            tracing::warn!(%error, "accept failed");
        }
    }
}

/// Whether the error concerns only the connection that was being accepted (its client has gone).
fn is_per_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Bytes that the kernel accepts before it has sent them (TCP_NOTSENT_LOWAT); bounds kernel memory too.
/// What the socket takes is how the send rate of a client is measured: by default it takes up to 4 MB at
/// once and is writable again only when a third of that is free, so that a client at 8 KiB/s shows no
/// progress for minutes. Measured at 8 KiB/s over loopback, the least progress in any 30 s: 0 bytes by
/// default, 217 KB with 128 KiB, 119 KB with 32 KiB or less (the receiver opens its window in steps),
/// which is below the 120 KiB that 4 KiB/s demand.
const MAX_UNSENT: u32 = 128 * 1024;

/// TCP keep-alive of accepted sockets. A dead client is detected after the kernel's number of probes
/// (`tcp_keepalive_probes`, 9).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Pause after an accept error: avoids a busy loop, and is short beside a handshake.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(5);

/// Idle connections evicted per accept error.
const EVICTIONS_PER_ERROR: usize = 32;

/// Accept errors are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
