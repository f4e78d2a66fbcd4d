//! One connection to the store, its own TLS and log-in, shared by all who ask.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo,
    RedisError, RedisFuture, RedisResult, Value,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;

use super::cluster;
use crate::config;

/// Asks the store; cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    /// All nodes of a cluster.
    Cluster(ClusterConnection),
    /// One server.
    Server(MultiplexedConnection),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster(_) => "Cluster(..)",
            Self::Server(_) => "Server(..)",
        })
    }
}

impl Connection {
    /// From now on, what is published there is pushed.
    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Cluster(cluster) => cluster.subscribe(channel).await,
            Self::Server(server) => server.subscribe(channel).await,
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
            Self::Server(server) => server.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
            Self::Server(server) => server.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Cluster(cluster) => cluster.get_db(),
            Self::Server(server) => server.get_db(),
        }
    }
}

/// A connection that was just made.
pub(super) struct OpenedConnection {
    pub(super) connection: Connection,
    /// Moves the connection on; ends with it.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What the store says unasked.
    pub(super) pushes: mpsc::Receiver<PushInfo>,
    /// Some of it could not be taken: what was purged is no longer known.
    pub(super) push_overflow: Arc<Notify>,
}

/// Connects and logs in; to all nodes if it is a cluster. Has no deadline.
///
/// # Errors
/// Why not, in words for the log and `/status`: none that the store wrote itself.
pub(super) async fn connect(settings: &config::SharedStore) -> Result<OpenedConnection, String> {
    let stream = connect_stream(settings)
        .await
        .map_err(|error| error.to_string())?;
    let (sender, pushes) = mpsc::channel(PUSH_QUEUE_SIZE);
    let lost = Arc::new(Notify::new());
    let losing = lost.clone();
    let push = move |push| {
        sender.try_send(push).map_err(|_| {
            losing.notify_one();
            redis::aio::SendError
        })
    };
    let options = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE_SIZE)
        .set_push_sender(push.clone());
    let info = connection_info(settings);
    let opened = MultiplexedConnection::new_with_config(&info, stream, options).await;
    let (mut server, driver) = opened.map_err(|error| describe_error(&error))?;
    let mut driver: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(driver);
    let is_cluster = tokio::select! {
        is_cluster = cluster::is_cluster_node(&mut server) => is_cluster.map_err(|error| describe_error(&error))?,
        () = &mut driver => return Err("it closed the connection".to_owned()),
    };
    let connection = if is_cluster {
        // The first connection is of no more use; the cluster's own are moved on by their own tasks,
        // which end with it.
        driver = Box::pin(std::future::pending());
        Connection::Cluster(cluster::connect_cluster(settings, info, push).await?)
    } else {
        Connection::Server(server)
    };
    Ok(OpenedConnection {
        connection,
        driver,
        pushes,
        push_overflow: lost,
    })
}

fn connection_info(settings: &config::SharedStore) -> RedisConnectionInfo {
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

async fn connect_stream(settings: &config::SharedStore) -> io::Result<Box<dyn Stream>> {
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
pub(super) fn describe_error(error: &RedisError) -> String {
    let plain = |code: &&str| code.len() <= 16 && code.bytes().all(|it| it.is_ascii_uppercase());
    match error.code().filter(plain) {
        Some(code) => format!("it refuses: {code}"),
        None => error.category().to_owned(),
    }
}

/// For connecting and logging in, and for each word when a connection begins.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Purges that were told and not yet carried out.
const PUSH_QUEUE_SIZE: usize = 1024;

/// Questions that were not yet written; who comes then waits, as long as his patience lasts.
const PIPELINE_SIZE: usize = 1024;
