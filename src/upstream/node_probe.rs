//! One connection to each address of a cluster's nodes, for `check --connect`: what a node presents, and
//! whether the gateway would trust it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::dns::{self, NameServers};
use super::failure_reason;
use crate::cluster::{ClusterSettings, NodeAddress};
use crate::task::boxed;
use crate::tls::{CertificateDetails, TrustError};

/// What was found at one address of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeReport {
    /// `host:port`, as configured.
    pub node: String,
    /// The address; `None` if the name cannot be resolved.
    pub address: Option<SocketAddr>,
    /// `1.2` or `1.3`; `None` without a handshake.
    pub tls: Option<&'static str>,
    /// The certificate that the node presented; `None` if there was none.
    pub certificate: Option<CertificateDetails>,
    /// Why the gateway would not use it; `None` if it would.
    pub cause: Option<String>,
    /// What an operator should know although it is accepted.
    pub note: Option<String>,
    /// The time of TCP connection and handshake together.
    pub latency: Option<Duration>,
}

impl NodeReport {
    /// Whether the gateway would use this address.
    pub fn is_trusted(&self) -> bool {
        self.cause.is_none()
    }
}

/// Connects to every address of every node, several at a time, each within the connect timeout. The
/// reports are in the order of the settings.
pub async fn probe_nodes(settings: &ClusterSettings) -> Vec<NodeReport> {
    let limit = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut tasks = JoinSet::new();
    for (index, node) in settings.nodes.iter().enumerate() {
        let (limit, settings, address) = (limit.clone(), settings.clone(), node.address.clone());
        tasks.spawn(boxed(async move {
            let _permit = limit.acquire().await;
            (index, probe_node(&settings, &address).await)
        }));
    }
    let mut reports = tasks.join_all().await;
    reports.sort_by_key(|(index, _)| *index);
    reports
        .into_iter()
        .flat_map(|(_, reports)| reports)
        .collect()
}

async fn probe_node(settings: &ClusterSettings, node: &NodeAddress) -> Vec<NodeReport> {
    let report = NodeReport {
        node: node.to_string(),
        ..NodeReport::default()
    };
    let addresses: Vec<IpAddr> = match node.host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => match dns::resolve(node, &NameServers::System).await {
            Ok(found) => found,
            Err(cause) => {
                let cause = Some(cause);
                return vec![NodeReport { cause, ..report }];
            }
        },
    };
    let mut reports = Vec::new();
    for ip in addresses {
        let address = SocketAddr::new(ip, node.port);
        let mut report = NodeReport {
            address: Some(address),
            ..report.clone()
        };
        let limit = settings.timeouts.connect;
        let probe = probe_address(settings, node, address, &mut report);
        if timeout(limit, probe).await.is_err() {
            report.cause = Some(format!("no TLS handshake in {limit:?} (timeouts.connect)"));
        }
        reports.push(report);
    }
    reports
}

async fn probe_address(
    settings: &ClusterSettings,
    node: &NodeAddress,
    address: SocketAddr,
    report: &mut NodeReport,
) {
    let name = match &settings.server_name {
        Some(name) => name.clone(),
        None => match ServerName::try_from(node.host.to_string()) {
            Ok(name) => name,
            Err(error) => {
                report.cause = Some(error.to_string());
                return;
            }
        },
    };
    let mut tls = ClientConfig::clone(&settings.tls);
    tls.resumption = Resumption::disabled();
    let started = Instant::now();
    let connected = async {
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(tls)).connect(name, tcp).await
    };
    match connected.await {
        Ok(stream) => {
            report.latency = Some(started.elapsed());
            let connection = stream.get_ref().1;
            report.tls = Some(match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            });
            let leaf = connection.peer_certificates().and_then(<[_]>::first);
            report.certificate = leaf.map(|leaf| CertificateDetails::read(leaf));
            report.note = report
                .certificate
                .as_ref()
                .and_then(|it| note(settings, it));
        }
        Err(error) => {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
            let refusal = tls.and_then(TrustError::of);
            report.certificate = refusal.map(|refusal| refusal.presented.clone());
            report.cause = Some(failure_reason::from_connect(&error).into_owned());
        }
    }
}

/// Says what is accepted, but could be better.
fn note(settings: &ClusterSettings, certificate: &CertificateDetails) -> Option<String> {
    let pin = certificate.pin?;
    let vouches_for_others = match certificate.is_authority {
        Some(is_authority) => is_authority,
        None => certificate.is_self_issued,
    };
    if settings.insecure_skip_verify {
        Some(format!("NOT VERIFIED; pins = [\"{pin}\"] would verify it"))
    } else if settings.pins.is_empty() && vouches_for_others {
        Some(format!(
            "this certificate stands in ca, and so vouches for others that its key signs; \
             pins = [\"{pin}\"] would accept it alone"
        ))
    } else {
        None
    }
}

/// Handshakes at a time: a cluster of a hundred nodes that are down takes seven connect timeouts.
const MAX_CONCURRENT: usize = 16;
