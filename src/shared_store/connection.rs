//! One connection to the shared store with its own TLS and login, multiplexed by all tasks. A Redis
//! Cluster is detected by `HELLO`; its client then finds the other nodes, follows slots that move,
//! and makes connections of its own.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use redis::aio::{AsyncPushSender, ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisFuture, RedisResult, TlsCertificates,
    Value,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;

use super::encryption::KEY_PREFIX;
use super::session_error::SessionError;
use crate::config;
use crate::metrics::SharedStoreDisconnect;
use crate::tls::explain;

/// Sends commands to the store; cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    /// All nodes of a cluster.
    Cluster(ClusterConnection),
    /// A single server.
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
    /// Subscribes to a channel; its messages arrive as [`OpenedConnection::pushes`].
    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Cluster(cluster) => cluster.subscribe(channel).await,
            Self::Server(server) => server.subscribe(channel).await,
        }
    }
}

impl Connection {
    /// Checks that the store accepts commands. A single server has to accept a write: a replica would
    /// answer PING. The client of a cluster finds the nodes that accept writes by itself.
    pub(super) async fn check(&self) -> RedisResult<()> {
        let mut store = self.clone();
        if matches!(self, Self::Cluster(_)) {
            return redis::cmd("PING").exec_async(&mut store).await;
        }
        let mut set = redis::cmd("SET");
        set.arg(format!("{KEY_PREFIX}check"))
            .arg(1)
            .arg("PX")
            .arg(1000);
        match set.exec_async(&mut store).await {
            // The user lacks this right; the error does not concern the server itself.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            result => result,
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

/// A connection that was just established.
pub(super) struct OpenedConnection {
    pub(super) connection: Connection,
    /// Drives the IO of the connection; completes when the connection ends.
    pub(super) driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The messages of subscribed channels.
    pub(super) pushes: mpsc::Receiver<PushInfo>,
    /// Notified when a message was dropped because `pushes` is full: purges may have been missed.
    pub(super) push_overflow: Arc<Notify>,
}

/// Connects and logs in; to all nodes if the store is a cluster. Has no deadline.
///
/// # Errors
/// The reason why there is no connection.
pub(super) async fn connect(
    settings: &config::SharedStore,
) -> Result<OpenedConnection, SessionError> {
    let stream = connect_stream(settings)
        .await
        .map_err(|error| connect_error(&describe(&error)))?;
    let (sender, pushes) = mpsc::channel(PUSH_QUEUE_SIZE);
    let push_overflow = Arc::new(Notify::new());
    let overflow = push_overflow.clone();
    let push = move |push| {
        sender.try_send(push).map_err(|_| {
            overflow.notify_one();
            redis::aio::SendError
        })
    };
    let options = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE_SIZE)
        .set_push_sender(push.clone());
    let info = connection_info(settings);
    let opened = MultiplexedConnection::new_with_config(&info, stream, options).await;
    let (mut server, driver) = opened.map_err(|error| SessionError::from(&error))?;
    let mut driver: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(driver);
    let is_cluster = tokio::select! {
        is_cluster = is_cluster_node(&mut server) => is_cluster.map_err(|error| SessionError::from(&error))?,
        () = &mut driver => return Err(SessionError::closed()),
    };
    let connection = if is_cluster {
        // The cluster client makes its own connections, with driver tasks that end with it. The first
        // connection is dropped.
        driver = Box::pin(std::future::pending());
        Connection::Cluster(connect_cluster(settings, info, push).await?)
    } else {
        Connection::Server(server)
    };
    Ok(OpenedConnection {
        connection,
        driver,
        pushes,
        push_overflow,
    })
}

/// Says why no connection was made.
fn describe(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.map_or_else(|| error.to_string(), |tls| explain(tls, "the store"))
}

fn connect_error(reason: &str) -> SessionError {
    SessionError::new(SharedStoreDisconnect::Connect, reason)
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

/// Whether the server is a node of a cluster.
async fn is_cluster_node(server: &mut MultiplexedConnection) -> RedisResult<bool> {
    let properties: HashMap<String, Value> = redis::cmd("HELLO").query_async(server).await?;
    let mode = properties.get("mode");
    Ok(match mode {
        Some(Value::BulkString(mode)) => mode == b"cluster",
        Some(Value::SimpleString(mode)) => mode == "cluster",
        _ => false,
    })
}

/// Connects to all nodes of a cluster.
async fn connect_cluster(
    settings: &config::SharedStore,
    info: RedisConnectionInfo,
    push: impl AsyncPushSender,
) -> Result<ClusterConnection, SessionError> {
    let (host, port) = (settings.address.host.to_string(), settings.address.port);
    let address = match &settings.tls {
        None => ConnectionAddr::Tcp(host, port),
        Some(_) => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    let node = address.into_connection_info();
    let node = node
        .map_err(|error| SessionError::from(&error))?
        .set_redis_settings(info);
    let mut builder = ClusterClientBuilder::new([node])
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(CONNECT_TIMEOUT)
        .retries(CLUSTER_RETRIES)
        .push_sender(push);
    if let Some(tls) = &settings.tls {
        if tls.insecure || tls.is_pinned || tls.server_name.is_some() {
            return Err(connect_error(TLS_UNSUPPORTED));
        }
        let client_certificate = tls.pem.client_certificate.as_ref();
        builder = builder.certs(TlsCertificates {
            client_tls: client_certificate.map(|(certificate, key)| ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.expose().to_vec(),
            }),
            root_cert: tls.pem.ca.clone(),
        });
    }
    let client = builder
        .build()
        .map_err(|error| SessionError::from(&error))?;
    let connection = client.get_async_connection().await;
    connection.map_err(|error| SessionError::from(&error))
}

const TLS_UNSUPPORTED: &str =
    "it is a cluster: insecure_skip_verify, pins and server_name are not supported there";

/// The timeout for connecting with login, and for each command while a session begins. Longer than any
/// request waits for the store, shorter than operators wait for a purge.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Retries of the cluster client after a slot has moved. The wait budget of a request is shorter than
/// all of them together.
const CLUSTER_RETRIES: u32 = 3;

/// Messages of other replicas that wait to be applied: twice as many as a purge log holds.
pub(super) const PUSH_QUEUE_SIZE: usize = 1024;

/// Commands that wait to be written. Once it is full, requests wait within their budget.
const PIPELINE_SIZE: usize = 1024;
