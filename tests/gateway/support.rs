//! Test environment of the scenarios: stand-in nodes, a gateway as `run` starts it, clients that
//! sign.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ccfs_gateway::admin::AdminCommand;
use ccfs_gateway::app::{App, BoundAddresses, ShutdownReport};
use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{
    Client, ClientRequest, ClientResponse, DEFAULT_SIGNED_FIELDS, RecordingQuery, Trust,
};
use ccfs_gateway::config::Config;
use ccfs_gateway::stand_in::certificates::{
    CertificateAuthority, SERVER_NAMES as HOSTS, write_private_file,
};
use ccfs_gateway::stand_in::{Settings, StandIn, UrlStyle};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Access key of a tenant in China: requests without version are UTC.
pub(crate) const SHANGHAI: &str = "ak-shanghai";
/// Access key of a tenant in Berlin: requests without version are rejected unless a test configures
/// otherwise.
pub(crate) const BERLIN: &str = "ak-berlin";
/// An access key that nodes know and the gateway does not.
pub(crate) const UNKNOWN: &str = "ak-stranger";

/// Begin of a time window that is valid in every zone.
pub(crate) const BEGIN: &str = "2021-11-24 16:25:03";
/// End of that window.
pub(crate) const END: &str = "2021-11-24 17:25:11";

/// The configuration of a scenario as TOML text; each field is appended to its table.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Number of nodes.
    pub(crate) nodes: usize,
    /// Keys of `[listeners.ccfs]`.
    pub(crate) listener: String,
    /// Keys of `[clusters.ccfs]`.
    pub(crate) cluster: String,
    /// Keys of `[access_keys.ak-shanghai]`.
    pub(crate) shanghai: String,
    /// Keys of `[access_keys.ak-berlin]`.
    pub(crate) berlin: String,
    /// Further accounts, known to the nodes too: the access key, and the keys of its table except
    /// the secret.
    pub(crate) accounts: Vec<(&'static str, &'static str)>,
    /// Access keys that nodes know and that have a secret file; their tables are in `tables`.
    pub(crate) unconfigured: Vec<&'static str>,
    /// Access keys with the nodes that do not know them, by their place.
    pub(crate) unknown_at: Vec<(&'static str, usize)>,
    /// Further tables: `[cache]`, `[limits]`, … `{node0}` is replaced by the URL of the first node.
    pub(crate) tables: String,
    /// The form of the URLs that the nodes return.
    pub(crate) urls: UrlStyle,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 1,
            listener: String::new(),
            cluster: String::new(),
            shanghai: String::new(),
            berlin: String::new(),
            accounts: Vec::new(),
            unconfigured: Vec::new(),
            unknown_at: Vec::new(),
            tables: String::new(),
            urls: UrlStyle::default(),
        }
    }
}

/// Nodes and files that a gateway needs, before it is started.
#[derive(Debug)]
pub(crate) struct Site {
    /// The nodes, in the order of the configuration.
    pub(crate) nodes: Vec<StandIn>,
    /// The directory of all files.
    pub(crate) folder: TempDir,
    /// The configuration file.
    pub(crate) file: PathBuf,
}

/// A running gateway in front of its nodes. Everything stops when it is dropped.
#[derive(Debug)]
pub(crate) struct TestEnv {
    /// The nodes, in the order of the configuration.
    pub(crate) nodes: Vec<StandIn>,
    /// A client that trusts the gateway and keeps connections alive.
    pub(crate) client: Client,
    /// The addresses on which the gateway listens.
    pub(crate) bound: BoundAddresses,
    /// Sends commands to the gateway.
    pub(crate) commands: mpsc::Sender<AdminCommand>,
    /// Completes when the gateway has shut down.
    pub(crate) gateway: JoinHandle<ShutdownReport>,
    folder: TempDir,
}

impl Setup {
    /// Starts the nodes and the gateway.
    pub(crate) async fn start(&self) -> TestEnv {
        TestEnv::with_site(self.prepare().await)
    }

    /// Starts the nodes and writes every file that the gateway needs.
    pub(crate) async fn prepare(&self) -> Site {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let authority = CertificateAuthority::new().unwrap();
        authority.write_certificate(&path("ca.pem")).unwrap();
        let leaf = authority.issue(&HOSTS).unwrap();
        leaf.write(&path("leaf.pem"), &path("leaf.key")).unwrap();
        for ak in self.all_access_keys() {
            write_private_file(&path(ak), secret(ak).as_bytes()).unwrap();
        }
        let mut nodes = Vec::new();
        for place in 0..self.nodes {
            let accounts = self
                .all_access_keys()
                .filter(|ak| !self.unknown_at.contains(&(*ak, place)))
                .map(credential)
                .collect();
            let mut settings = Settings::new(leaf.server_config().unwrap(), accounts);
            settings.urls = self.urls;
            nodes.push(StandIn::start(settings).await.unwrap());
        }
        let file = path("gateway.toml");
        std::fs::write(&file, self.configuration(&nodes)).unwrap();
        Site {
            nodes,
            folder,
            file,
        }
    }

    /// Every access key that the nodes know.
    fn all_access_keys(&self) -> impl Iterator<Item = &'static str> {
        let further = self.accounts.iter().map(|(ak, _)| *ak);
        let known = self.unconfigured.iter().copied();
        [SHANGHAI, BERLIN, UNKNOWN]
            .into_iter()
            .chain(further)
            .chain(known)
    }

    /// The text of the configuration file.
    pub(crate) fn configuration(&self, nodes: &[StandIn]) -> String {
        let urls: Vec<_> = nodes
            .iter()
            .map(|node| format!("{:?}", node.url()))
            .collect();
        let Self {
            listener,
            cluster,
            shanghai,
            berlin,
            ..
        } = self;
        let mut tables = self.tables.clone();
        for (ak, keys) in &self.accounts {
            tables += &format!("\n[access_keys.{ak}]\nsecret_key_file = \"{ak}\"\n{keys}\n");
        }
        for (number, url) in urls.iter().enumerate() {
            tables = tables.replace(&format!("{{node{number}}}"), url.trim_matches('"'));
        }
        let routed = if listener.contains("routes") {
            ""
        } else {
            "cluster = \"ccfs\""
        };
        let unless_given = |table, text| if tables.contains(table) { "" } else { text };
        let admin = unless_given("[admin]", "[admin]\nbind = \"127.0.0.1:0\"");
        let telemetry = unless_given(
            "[telemetry]",
            "[telemetry]\nlog_format = \"text\"\nlog_level = \"error\"\naccess_log = \"access.log\"",
        );
        // The tests read diagnostics as text, unless they ask for JSON.
        if !tables.contains("log_format") {
            tables = tables.replace("[telemetry]", "[telemetry]\nlog_format = \"text\"");
        }
        format!(
            r#"
[listeners.ccfs]
bind = "127.0.0.1:0"
{routed}
tls = {{ certificate = "leaf.pem", private_key = "leaf.key" }}
{listener}

[clusters.ccfs]
nodes = [{urls}]
tls = {{ ca = "ca.pem" }}
{cluster}

[access_keys.{SHANGHAI}]
secret_key_file = "{SHANGHAI}"
time_zone = "Asia/Shanghai"
{shanghai}

[access_keys.{BERLIN}]
secret_key_file = "{BERLIN}"
time_zone = "Europe/Berlin"
{berlin}

{tables}
{admin}
{telemetry}
"#,
            urls = urls.join(", ")
        )
    }
}

impl TestEnv {
    /// Starts one node and a gateway with default settings.
    pub(crate) async fn start() -> Self {
        Setup::default().start().await
    }

    /// Starts a gateway on a prepared site.
    pub(crate) fn with_site(site: Site) -> Self {
        let (config, _) = Config::load(&site.file).unwrap_or_else(|wrong| panic!("{wrong}"));
        let app = App::bind(config, Some(site.file.clone())).unwrap();
        Self::with_app(site, app)
    }

    /// Runs a gateway that was made for a site.
    pub(crate) fn with_app(site: Site, app: App) -> Self {
        let Site { nodes, folder, .. } = site;
        let (bound, orders) = (app.bound_addresses(), app.commands());
        Self {
            nodes,
            client: client_trusting(folder.path()).with_idle_connections(128),
            bound,
            commands: orders,
            gateway: tokio::spawn(app.run()),
            folder,
        }
    }

    /// Starts a further gateway with the same configuration, in front of the same nodes.
    pub(crate) fn replica(&self) -> Self {
        let file = self.file("gateway.toml");
        let (config, _) = Config::load(&file).unwrap_or_else(|wrong| panic!("{wrong}"));
        let app = App::bind(config, Some(file)).unwrap();
        let (bound, orders) = (app.bound_addresses(), app.commands());
        Self {
            nodes: Vec::new(),
            client: client_trusting(self.folder.path()).with_idle_connections(128),
            bound,
            commands: orders,
            gateway: tokio::spawn(app.run()),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The gateway's URL, `https://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.bound.listeners["ccfs"])
    }

    /// The URL of the admin interface, `http://127.0.0.1:port`.
    pub(crate) fn admin(&self) -> String {
        format!("http://{}", self.bound.admin.unwrap())
    }

    /// The path of a file in the gateway's directory: `gateway.toml`, `ca.pem`, `access.log`, …
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An unsigned recording-URL request with version 2.0.
    pub(crate) fn recording(&self, call_id: &str) -> ClientRequest {
        let query = RecordingQuery {
            call_id,
            begin: BEGIN,
            end: END,
            version: Some("2.0"),
        };
        ClientRequest::recording(&self.url(), &query).unwrap()
    }

    /// An unsigned POST of `body` to the recording-URL interface.
    pub(crate) fn post(&self, body: impl Into<String>) -> ClientRequest {
        ClientRequest::post(&self.url(), body.into()).unwrap()
    }

    /// An unsigned POST of `body` to another CC-FS interface, by the end of its path.
    pub(crate) fn post_to(&self, tail: &str, body: impl Into<String>) -> ClientRequest {
        let url = format!("{}/CCFS/resource/ccfs/{tail}", self.url());
        ClientRequest::post(&url, body.into()).unwrap()
    }

    /// Sends a correctly signed recording-URL request as [`SHANGHAI`].
    pub(crate) async fn get_recording(&self, call_id: &str) -> ClientResponse {
        self.send(&signed(self.recording(call_id), SHANGHAI)).await
    }

    /// Sends a request; panics if no response arrives.
    pub(crate) async fn send(&self, request: &ClientRequest) -> ClientResponse {
        self.client.send(request).await.unwrap()
    }

    /// The number of recording-URL requests that have reached a node.
    pub(crate) fn recording_fetches(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.count("getRecordFileUrlFromObs"))
            .sum()
    }

    /// Shuts the gateway down gracefully.
    pub(crate) async fn shut_down(&mut self) -> ShutdownReport {
        self.commands.send(AdminCommand::Terminate).await.unwrap();
        (&mut self.gateway).await.unwrap()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        self.gateway.abort();
    }
}

/// A client that trusts the authority in `folder`.
pub(crate) fn client_trusting(folder: &Path) -> Client {
    Client::new(&Trust::from_pem_file(&folder.join("ca.pem")).unwrap()).unwrap()
}

/// Signs correctly with the current time, over the header names of Huawei's sample.
pub(crate) fn signed(request: ClientRequest, ak: &str) -> ClientRequest {
    request
        .sign(&credential(ak), DEFAULT_SIGNED_FIELDS, Timestamp::now())
        .unwrap()
}

/// The credential of an access key of the tests.
pub(crate) fn credential(ak: &str) -> Arc<Credential> {
    let secret = Secret::new(secret(ak).into_bytes());
    Arc::new(Credential::new(AccessKey::from(ak), vec![secret], true))
}

/// The secret key of an access key.
pub(crate) fn secret(ak: &str) -> String {
    format!("SECRET-of-{ak}-0123456789abcdef")
}

/// The content of a file.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Waits until `condition` holds; panics after ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within 10 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, content: &[u8]) {
    write_private_file(path, content).unwrap();
}
