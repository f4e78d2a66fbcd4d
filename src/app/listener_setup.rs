//! Builds what a listener needs from the configuration: TLS, limits, trusted proxies.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::ServerConfig;
use rustls::server::ProducesTickets;

use super::handler::GatewayHandler;
use super::workers::Worker;
use crate::admin::Admin;
use crate::config;
use crate::drain::{self, Trigger};
use crate::listener::{
    self, ConnectionLimitSettings, HeadLimits, Http2Settings, ListenerContext, Settings, TlsError,
};
use crate::metrics::Shard;
use crate::tls::{SharedTickets, TicketKey};

/// How connections of one listener are served, on each worker.
#[derive(Debug)]
pub(super) struct ListenerSetup {
    /// One per worker, in the order of the workers.
    pub(super) contexts: Vec<Arc<ListenerContext<GatewayHandler>>>,
    /// Drains the connections served under this listener's name.
    pub(super) connection_drain: Arc<Trigger>,
    trusted_proxies: Vec<IpNet>,
}

impl ListenerSetup {
    /// Builds the setup of one listener for one generation of the configuration.
    pub(super) fn new(
        name: &Arc<str>,
        listener: &config::Listener,
        limits: &config::Limits,
        tickets: &SessionTickets,
        workers: &[Worker],
    ) -> Result<Self, TlsError> {
        let tls = tickets.server_config(&listener.tls, &listener.ticket_keys)?;
        let settings = Arc::new(listener_settings(limits));
        let context = |worker: &Worker| {
            Arc::new(ListenerContext {
                name: name.clone(),
                tls: Some(tls.clone()),
                handler: worker.handler.clone(),
                settings: settings.clone(),
                metrics: worker.metrics.clone(),
            })
        };
        Ok(Self {
            contexts: workers.iter().map(context).collect(),
            connection_drain: Arc::new(drain::channel().0),
            trusted_proxies: listener.proxy_protocol.clone(),
        })
    }

    /// Returns this setup with the drain trigger of `before`, so that connections accepted before and
    /// after a reload drain together.
    pub(super) fn with_connections_of(self, before: &Self) -> Self {
        Self {
            connection_drain: before.connection_drain.clone(),
            ..self
        }
    }

    /// Whether connections from `address` start with a PROXY protocol header.
    pub(super) fn trusts_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Returns the context of the admin interface's connections.
pub(super) fn admin_context(
    admin: Arc<Admin>,
    tls: Option<Arc<ServerConfig>>,
    limits: &config::Limits,
    metrics: Arc<Shard>,
) -> ListenerContext<Admin> {
    ListenerContext {
        name: "admin".into(),
        tls,
        handler: admin,
        settings: Arc::new(listener_settings(limits)),
        metrics,
    }
}

fn listener_settings(limits: &config::Limits) -> Settings {
    Settings {
        head: HeadLimits {
            size: limits.max_header_size,
            fields: limits.max_header_fields,
        },
        handshake_timeout: limits.handshake_timeout,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        park_after: PARK_AFTER,
        max_connection_age: limits.max_connection_age,
        min_send_rate: limits.min_send_rate,
        send_rate_window: limits.send_rate_window,
        max_discarded: limits.max_discarded,
        linger_timeout: limits.linger_timeout,
        http2: Http2Settings {
            max_concurrent_streams: limits.max_concurrent_streams,
            max_resets: limits.http2_max_resets,
            stream_window: limits.http2_stream_window,
            connection_window: limits.http2_connection_window,
            ping_interval: limits.http2_ping_interval,
            goaway_timeout: limits.http2_goaway_timeout,
        },
    }
}

/// The ticket keys of all listeners without `ticket_key_file`. They outlive reloads, so TLS sessions resume across them.
#[derive(Debug)]
pub(super) struct SessionTickets(Arc<dyn ProducesTickets>);

impl SessionTickets {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self(rustls::crypto::aws_lc_rs::Ticketer::new()?))
    }

    /// Builds the TLS configuration of a listener. Without `shared` keys its tickets are of this process.
    pub(super) fn server_config(
        &self,
        tls: &config::ListenerTls,
        shared: &[TicketKey],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        if shared.is_empty() {
            return listener::server_config(tls, self.0.clone());
        }
        listener::server_config(tls, Arc::new(SharedTickets::new(shared)))
    }
}

/// Returns the connection limits of all listeners together.
pub(super) fn listener_limits(limits: &config::Limits) -> ConnectionLimitSettings {
    ConnectionLimitSettings {
        connections: limits.max_connections,
        per_address: limits.max_connections_per_address,
        handshakes: limits.max_handshakes,
    }
}

/// Returns the connection limits of the admin interface. Our choice: enough for some browsers and
/// scrapers, too few to exhaust file descriptors.
pub(super) fn admin_limits() -> ConnectionLimitSettings {
    ConnectionLimitSettings {
        connections: 256,
        per_address: 256,
        handshakes: 64,
    }
}

/// Longer than the gap between two requests of a busy client, and short beside the time for which
/// connections are idle.
const PARK_AFTER: Duration = Duration::from_secs(1);
