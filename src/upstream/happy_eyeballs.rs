//! TCP connections to a node with an address of each family (RFC 8305, 5).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

/// Connects to the first candidate; to the second one as well if the first fails or takes longer than
/// [`ATTEMPT_DELAY`]. The first connection counts.
///
/// # Errors
/// That of the first candidate.
pub(super) async fn connect(candidates: &[SocketAddr]) -> io::Result<TcpStream> {
    let (Some(&first), second) = (candidates.first(), candidates.get(1)) else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let Some(&second) = second else {
        return TcpStream::connect(first).await;
    };
    let first = TcpStream::connect(first);
    tokio::pin!(first);
    let failed = tokio::select! {
        connected = &mut first => match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => Some(error),
        },
        () = sleep(ATTEMPT_DELAY) => None,
    };
    let second = TcpStream::connect(second);
    if let Some(error) = failed {
        return second.await.map_err(|_| error);
    }
    tokio::pin!(second);
    tokio::select! {
        connected = &mut first => match connected {
            Ok(stream) => Ok(stream),
            Err(error) => second.await.map_err(|_| error),
        },
        connected = &mut second => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}

/// RFC 8305, 5: the recommended Connection Attempt Delay.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
