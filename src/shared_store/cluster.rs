//! A store of several nodes: its client finds them, follows what moves, and makes connections of its
//! own.

use std::collections::HashMap;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    TlsCertificates, Value,
};

use super::connection::{CONNECT_TIMEOUT, describe_error};
use crate::config;

/// Is the server a node of a cluster?
pub(super) async fn is_cluster_node(server: &mut MultiplexedConnection) -> RedisResult<bool> {
    let said: HashMap<String, Value> = redis::cmd("HELLO").query_async(server).await?;
    let mode = said.get("mode");
    Ok(match mode {
        Some(Value::BulkString(mode)) => mode == b"cluster",
        Some(Value::SimpleString(mode)) => mode == "cluster",
        _ => false,
    })
}

/// Connects to all nodes.
///
/// # Errors
/// Why not, in words for the log and `/status`.
pub(super) async fn connect_cluster(
    settings: &config::SharedStore,
    log_in: RedisConnectionInfo,
    push: impl AsyncPushSender,
) -> Result<ClusterConnection, String> {
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
        .map_err(|error| describe_error(&error))?
        .set_redis_settings(log_in);
    let mut cluster = ClusterClientBuilder::new([node])
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(CONNECT_TIMEOUT)
        .retries(CLUSTER_RETRIES)
        .push_sender(push);
    if let Some(tls) = &settings.tls {
        if tls.insecure || tls.server_name.is_some() {
            return Err(TLS_UNSUPPORTED.to_owned());
        }
        let own = tls.pem.client_certificate.as_ref();
        cluster = cluster.certs(TlsCertificates {
            client_tls: own.map(|(certificate, key)| ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.expose().to_vec(),
            }),
            root_cert: tls.pem.ca.clone(),
        });
    }
    let cluster = cluster.build().map_err(|error| describe_error(&error))?;
    let connection = cluster.get_async_connection().await;
    connection.map_err(|error| describe_error(&error))
}

const TLS_UNSUPPORTED: &str =
    "it is a cluster: insecure_skip_verify and server_name are not supported there";

/// To follow what has moved; the patience of whoever asks is shorter.
const CLUSTER_RETRIES: u32 = 3;
