//! From configuration to what a listener needs: TLS, limits, trusted proxies.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::ServerConfig;
use rustls::server::ProducesTickets;

use crate::config;
use crate::listener::{self, CapLimits, Settings};

/// How connections of one port are served.
#[derive(Debug)]
pub(super) struct Serving {
    /// `None` for plain text, which only the admin interface speaks.
    pub(super) tls: Option<Arc<ServerConfig>>,
    proxies: Vec<IpNet>,
    limits: config::Limits,
}

impl Serving {
    /// For a listener.
    pub(super) fn new(
        listener: &config::Listener,
        limits: &config::Limits,
        tickets: &Tickets,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: Some(listener::server_config(&listener.tls, tickets.0.clone())?),
            proxies: listener.proxy_protocol.clone(),
            limits: limits.clone(),
        })
    }

    /// For the admin interface.
    pub(super) fn admin(
        tls: Option<&config::ListenerTls>,
        limits: &config::Limits,
        tickets: &Tickets,
    ) -> Result<Self, rustls::Error> {
        let tls = tls.map(|tls| listener::server_config(tls, tickets.0.clone())).transpose()?;
        Ok(Self { tls, proxies: Vec::new(), limits: limits.clone() })
    }

    /// Does a PROXY header come first from there?
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }
}

/// The one source of session tickets: sessions survive reloads.
#[derive(Debug)]
pub(super) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self(rustls::crypto::aws_lc_rs::Ticketer::new()?))
    }
}

/// Caps of all listeners together.
pub(super) fn cap_limits(limits: &config::Limits) -> CapLimits {
    CapLimits {
        connections: limits.max_connections,
        per_address: limits.max_connections_per_address,
        handshakes: limits.max_handshakes,
    }
}

/// Caps of the admin interface: few people, some scrapers.
pub(super) fn admin_caps() -> CapLimits {
    CapLimits { connections: 256, per_address: 256, handshakes: 64 }
}
