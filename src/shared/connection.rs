//! One connection to the store, its own TLS and log-in, shared by all who ask.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;

use crate::config;

/// Asks the store; cheap to clone.
pub(super) type Connection = MultiplexedConnection;

/// A connection that was just made.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Moves the connection on; ends with it.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What the store says unasked.
    pub(super) pushes: mpsc::Receiver<PushInfo>,
    /// Some of it could not be taken: what was purged is no longer known.
    pub(super) lost: Arc<Notify>,
}

/// Connects and logs in. Has no deadline.
///
/// # Errors
/// Why not, in words for the log and `/status`: none that the store wrote itself.
pub(super) async fn open(settings: &config::Shared) -> Result<Opened, String> {
    let stream = dial(settings).await.map_err(|error| error.to_string())?;
    let (sender, pushes) = mpsc::channel(PUSHES);
    let lost = Arc::new(Notify::new());
    let losing = lost.clone();
    let options = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE)
        .set_push_sender(move |push| {
            sender.try_send(push).map_err(|_| {
                losing.notify_one();
                redis::aio::SendError
            })
        });
    let info = log_in(settings);
    let opened = MultiplexedConnection::new_with_config(&info, stream, options).await;
    let (connection, driver) = opened.map_err(|error| told(&error))?;
    Ok(Opened {
        connection,
        driver: Box::pin(driver),
        pushes,
        lost,
    })
}

fn log_in(settings: &config::Shared) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(settings.database.into())
        .set_lib_name("ccfs-gateway", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &settings.username {
        info = info.set_username(username);
    }
    let password = settings.password.as_ref();
    if let Some(password) = password.and_then(|it| std::str::from_utf8(it.expose()).ok()) {
        info = info.set_password(password);
    }
    info
}

async fn dial(settings: &config::Shared) -> io::Result<Box<dyn Stream>> {
    let address = &settings.address;
    let tcp = TcpStream::connect((address.host.as_ref(), address.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &settings.tls else {
        return Ok(Box::new(tcp));
    };
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(address.host.to_string()).map_err(io::Error::other)?,
    };
    let stream = TlsConnector::from(tls.client.clone())
        .connect(name, tcp)
        .await?;
    Ok(Box::new(stream))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A fault in words for the log and `/status`: none that the store wrote itself, but for its code.
pub(super) fn told(error: &RedisError) -> String {
    let plain = |code: &&str| code.len() <= 16 && code.bytes().all(|it| it.is_ascii_uppercase());
    match error.code().filter(plain) {
        Some(code) => format!("it refuses: {code}"),
        None => error.category().to_owned(),
    }
}

/// For connecting and logging in, and for each word when a connection begins.
pub(super) const OPENING: Duration = Duration::from_secs(1);

/// Purges that were told and not yet carried out.
const PUSHES: usize = 1024;

/// Questions that were not yet written; who comes then waits, as long as his patience lasts.
const PIPELINE: usize = 1024;
