//! The environment of the demo: files in a temporary folder, three stand-in nodes, the gateway.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::player;
use crate::admin::AdminCommand;
use crate::app::{App, BoundAddresses, ShutdownReport, StartError};
use crate::auth::{AccessKey, Credential, Secret};
use crate::cli::control::AdminArgs;
use crate::cli::trial::{ACCESS_KEYS, TrialFiles};
use crate::client::{Client, Trust};
use crate::config::Config;
use crate::stand_in::{self, StandIn, certificates};
use crate::task::boxed;

/// Everything that runs; stopped, and its files deleted, when dropped.
#[derive(Debug)]
pub(super) struct DemoEnv {
    folder: TempDir,
    /// The three nodes.
    pub(super) nodes: Vec<StandIn>,
    /// The credentials, in the order of [`ACCESS_KEYS`].
    pub(super) credentials: Vec<Arc<Credential>>,
    /// A client that trusts the gateway's certificate.
    pub(super) client: Arc<Client>,
    bound: BoundAddresses,
    commands: mpsc::Sender<AdminCommand>,
    gateway: JoinHandle<ShutdownReport>,
}

impl DemoEnv {
    /// Starts everything. Without a port the gateway listens on 28443, or on a free port if that is in
    /// use.
    pub(super) async fn start(port: Option<u16>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("ccfs-gateway-demo-")
            .tempdir()?;
        let files = TrialFiles::new(folder.path(), &ACCESS_KEYS);
        files.write()?;
        player::write_api_key(&files.secret(player::CALLER))?;
        let mut accounts = Vec::new();
        for access_key in ACCESS_KEYS {
            let secret = std::fs::read(files.secret(access_key))?;
            let access_key = AccessKey::from(access_key);
            accounts.push(Arc::new(Credential::new(
                access_key,
                vec![Secret::new(secret)],
                true,
            )));
        }
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let (certificate, key) = files.node();
            let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
            let key = PrivateKeyDer::from_pem_file(key)?;
            let tls = certificates::server_config(chain, key)?;
            let mut settings = stand_in::Settings::new(tls, accounts.clone());
            settings.urls.opens = true;
            nodes.push(StandIn::start(settings).await?);
        }
        let path = folder.path().join("gateway.toml");
        let app = bind_gateway(port, &path, &nodes)?;
        let (bound, orders) = (app.bound_addresses(), app.commands());
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with `World::end`, or the process"
        )]
        let gateway = tokio::spawn(boxed(app.run()));
        let client = Client::new(&Trust::from_pem_file(&files.ca())?)?.with_idle_connections(32);
        Ok(Self {
            folder,
            nodes,
            credentials: accounts,
            client: Arc::new(client),
            bound,
            commands: orders,
            gateway,
        })
    }

    /// Returns the gateway's URL.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// Returns how many recording-URL requests all nodes have received.
    pub(super) fn recording_requests(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.count("getRecordFileUrlFromObs"))
            .sum()
    }

    /// Describes what runs, as names and texts.
    pub(super) fn describe(&self) -> Vec<(&'static str, String)> {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.address()).collect();
        let nodes = nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let [shanghai, berlin] = ACCESS_KEYS;
        vec![
            ("gateway", self.url()),
            (
                "nodes",
                format!("{} (stand-ins for CC-FS)", nodes.join(", ")),
            ),
            (
                "callers",
                format!(
                    "{shanghai} in Asia/Shanghai, {berlin} in Europe/Berlin, at most 1 request/s"
                ),
            ),
        ]
    }

    /// Returns the address of the admin interface.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.bound.admin
    }

    /// Returns the command that asks for a recording.
    pub(super) fn call_command(&self) -> String {
        let files = TrialFiles::new(self.folder.path(), &ACCESS_KEYS);
        files.call_command(&self.url(), "1637742300-99")
    }

    /// Returns the file with the API key of the player.
    pub(super) fn api_key(&self) -> PathBuf {
        TrialFiles::new(self.folder.path(), &ACCESS_KEYS).secret(player::CALLER)
    }

    /// Waits until the gateway uses all nodes again, at most five seconds; whether it does.
    pub(super) async fn wait_for_nodes(&self) -> bool {
        let Some(admin) = self.bound.admin else {
            return false;
        };
        let target = AdminArgs::at(admin);
        for _ in 0..50 {
            let status = target.status().await.unwrap_or_default();
            let nodes = status["clusters"][0]["nodes"].as_array();
            let is_up = |nodes: &Vec<Value>| nodes.iter().all(|node| node["state"] == "up");
            if nodes.is_some_and(is_up) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// Shuts the gateway down and waits for it.
    pub(super) async fn shut_down(self, order: AdminCommand) {
        // Either may have ended already.
        let _ = self.commands.send(order).await;
        let _ = self.gateway.await;
    }

    fn address(&self) -> SocketAddr {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
        self.bound.listeners.values().next().copied().unwrap_or(any)
    }
}

/// Returns the time that requests are signed with.
#[expect(clippy::disallowed_methods, reason = "the demo's client signs now")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// Binds the gateway. A default port that is in use is replaced by a free one; a port that was given
/// by the user is not.
fn bind_gateway(port: Option<u16>, path: &Path, nodes: &[StandIn]) -> anyhow::Result<App> {
    let mut ports = [port.unwrap_or(DEFAULT_PORT), ADMIN_PORT];
    loop {
        std::fs::write(path, gateway_config(ports, nodes)?)?;
        let (config, _) = match Config::load(path) {
            Ok(loaded) => loaded,
            Err(diagnosis) => bail!("the demo's own configuration is invalid:\n{diagnosis}"),
        };
        match App::bind(config, Some(path.to_owned())) {
            Err(StartError::Bind { address, error, .. })
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() != 0
                    && Some(address.port()) != port =>
            {
                let taken = ports.iter_mut().filter(|port| **port == address.port());
                taken.for_each(|port| *port = 0);
            }
            bound => return Ok(bound?),
        }
    }
}

fn gateway_config([port, admin]: [u16; 2], nodes: &[StandIn]) -> anyhow::Result<String> {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|node| format!("{:?}", node.url()))
        .collect();
    let [shanghai, berlin] = ACCESS_KEYS;
    let mut text = String::new();
    write!(
        text,
        r#"
[listeners.ccfs]
bind = "127.0.0.1:{port}"
cluster = "ccfs"
playback = true
tls = {{ certificate = "tls/gateway.pem", private_key = "tls/gateway.key" }}

[clusters.ccfs]
nodes = [{nodes}]
tls = {{ ca = "tls/ccfs-ca.pem" }}
# The node that a step stops is back while the demo still prints.
ejection = {{ base_time = "1s", slow_start = "1s" }}

[access_keys.{shanghai}]
secret_key_file = "secrets/{shanghai}"
time_zone = "Asia/Shanghai"

[access_keys.{berlin}]
secret_key_file = "secrets/{berlin}"
time_zone = "Europe/Berlin"
versionless = "utc"
rate_limit = {{ per_second = 1, burst = 2 }}

[callers.{player}]
access_key = "{shanghai}"
api_key_file = "secrets/{player}"

[admin]
bind = "127.0.0.1:{admin}"

[telemetry]
log_level = "error"
access_log = "off"
"#,
        player = player::CALLER,
        nodes = nodes.join(", ")
    )
    .context("the configuration cannot be written")?;
    Ok(text)
}

const DEFAULT_PORT: u16 = 28443;

const ADMIN_PORT: u16 = 9901;
