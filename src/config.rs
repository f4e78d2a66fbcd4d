//! The validated configuration, made of domain types: a [`Config`] cannot be wrong. The file as
//! written, its defaults and its diagnostics are in the submodules; nobody below knows this module.

mod diagnose;
mod document;
mod file;
mod named_file;
mod nearest;
mod redacted;
mod report;
mod resolve;
mod schema;
mod secrets;
mod shared_store;
mod spanned;
mod structure;
mod units;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::sign::CertifiedKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use diagnose::{ConfigError, Problem, Severity};
pub use named_file::read_named_file;
pub use schema::schema;
pub use shared_store::{SharedStore, StorePem, StoreSecret, StoreTls};

use crate::auth::{AccessKey, Credential};
use crate::ccfs::Tenant;
use crate::cluster;
use crate::telemetry::LogFormat;

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Inbound ports by name; at least one.
    pub listeners: BTreeMap<Arc<str>, Listener>,
    /// Clusters by name; every name that a route uses is here.
    pub clusters: BTreeMap<Arc<str>, cluster::ClusterSettings>,
    /// Developer accounts.
    pub access_keys: HashMap<AccessKey, AccountSettings>,
    /// The answer cache.
    pub cache: Cache,
    /// Limits of the whole gateway.
    pub limits: Limits,
    /// The store that replicas share, if there is one.
    pub shared: Option<SharedStore>,
    /// The admin listener.
    pub admin: Admin,
    /// Log, access log, traces.
    pub telemetry: Telemetry,
    /// Workers and the end.
    pub server: Server,
    /// Every file that was read for it: itself, keys, secrets, certificates. If the content of one
    /// changes, the configuration is out of date.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// Reads and validates the file at `path` and all files that it names. Returns the warnings
    /// too; a failure tells every mistake at once.
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates are judged as of now, when the files are read"
    )]
    pub fn load(path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => resolve::resolve(&text, path, SystemTime::now()),
            Err(error) => Err(resolve::unreadable_file(path, &error)),
        }
    }

    /// Like [`Config::load`] for a text that is said to stand in a file at `path`.
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates are judged as of now, when the files are read"
    )]
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        resolve::resolve(text, path, SystemTime::now())
    }

    /// The effective configuration, defaults included, as JSON in the form of the file; where a
    /// secret would stand it says only that there is one.
    pub fn redacted(&self) -> serde_json::Value {
        redacted::redact(self)
    }
}

/// An inbound port.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Path prefixes (ending in `/`) and the cluster behind each, longest first. `cluster = "x"` in
    /// the file is the one prefix `/`.
    pub routes: Vec<(String, Arc<str>)>,
    /// Certificates.
    pub tls: ListenerTls,
    /// What becomes of callers with an unknown ak or another scheme.
    pub unknown_clients: UnknownClients,
    /// What becomes of paths that the table of interfaces does not list.
    pub unknown_paths: UnknownPaths,
    /// What becomes of invalid bodies.
    pub validation: Validation,
    /// Networks whose connections begin with a PROXY header; empty: none.
    pub proxy_protocol: Vec<IpNet>,
}

/// Certificates of a listener, loaded and matched with their keys.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Chosen by SNI, the first for no or an unknown name; at least one.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// The files they came from, in the same order.
    pub certificate_files: Vec<CertificateFiles>,
    /// Roots for client certificates.
    pub client_ca: Option<Arc<RootCertStore>>,
    /// What they revoked; with any, a client certificate whose revocation is unknown is refused.
    pub client_crls: Vec<Crl>,
    /// With `client_ca`: must a client have a certificate?
    pub client_auth: ClientAuth,
}

/// A certificate revocation list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crl {
    /// As it was signed.
    pub der: CertificateRevocationListDer<'static>,
    /// When it ends to hold; `None` if it does not say it, or the year is beyond all reckoning.
    pub next_update: Option<Timestamp>,
}

/// The two files of one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM key.
    pub private_key: PathBuf,
}

/// Must a client have a certificate?
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// It may.
    Optional,
    /// It must.
    #[default]
    Required,
}

/// What becomes of callers with an unknown ak or another scheme.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownClients {
    /// Forwarded byte-identical on the interfaces of the table.
    Forward,
    /// 401.
    #[default]
    Reject,
}

/// What becomes of paths that the table of interfaces does not list.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPaths {
    /// Forwarded byte-identical for verified callers.
    #[default]
    Forward,
    /// 404.
    Reject,
}

/// What becomes of invalid bodies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validation {
    /// Answered as CC-FS would.
    #[default]
    Enforce,
    /// Bodies are not looked at.
    Off,
    /// Logged, counted, forwarded as they came.
    Shadow,
}

/// One developer account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// The ak and its secrets.
    pub credential: Arc<Credential>,
    /// Zone, and how versionless requests are meant.
    pub tenant: Tenant,
    /// What may make a node work; `None` is unlimited.
    pub rate_limit: Option<Rate>,
    /// What may reach the gateway at all, answered or not; `None` is unlimited.
    pub ceiling: Option<Rate>,
    /// Requests at once, at least 1.
    pub in_flight: usize,
}

/// A rate with its burst.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Requests a second, on the long run; at least 1.
    pub per_second: u32,
    /// Requests at once; at least 1.
    pub burst: u32,
}

/// The answer cache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cache {
    /// Bytes; 0 is off.
    pub max_size: u64,
    /// No cached answer has less life left than this.
    pub expiry_margin: Duration,
    /// What a URL must be good for to be given out while nodes fail.
    pub minimum_life: Duration,
    /// May an entry inside the margin answer when nodes fail?
    pub stale_if_error: bool,
    /// How long "no data yet" is held; zero is off.
    pub negative_ttl: Duration,
    /// resultCodes that mean success.
    pub success_codes: Vec<String>,
}

/// Limits of the whole gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// How far a signature's time may be off, each way; `None` is unchecked.
    pub clock_window: Option<Duration>,
    /// Do hits cost nothing?
    pub hits_are_free: bool,
    /// Failures and unauthenticated requests per client address.
    pub per_address: Rate,
    /// Requests at once.
    pub max_in_flight: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address (IPv6: /64).
    pub max_connections_per_address: usize,
    /// Handshakes at once.
    pub max_handshakes: usize,
    /// Body of a table interface.
    pub max_body_size: usize,
    /// Body of uploads and unlisted paths.
    pub max_upload_size: usize,
    /// All buffered request bodies together.
    pub max_buffered: usize,
    /// A node's JSON answer.
    pub max_answer: usize,
    /// Total, for a request body.
    pub body_timeout: Duration,
    /// Total, for a request head.
    pub header_timeout: Duration,
    /// Total, for a TLS handshake (and a PROXY header before it).
    pub handshake_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// A connection takes no new request after this.
    pub max_connection_age: Duration,
    /// Toward a client that reads, bytes a second.
    pub min_send_rate: u64,
    /// The time over which that is judged.
    pub send_rate_window: Duration,
    /// From a node that streams, bytes a second.
    pub min_receive_rate: u64,
    /// Bytes of a request head; above is 431.
    pub max_header_size: usize,
    /// Fields of a request head; above is 431.
    pub max_header_fields: usize,
    /// Streams at once of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Streams that were reset unserved, or for their own errors, of one HTTP/2 connection.
    pub http2_max_resets: usize,
    /// What a client may send ahead on one stream; at most 2³¹ − 1.
    pub http2_stream_window: u32,
    /// What a client may send ahead on one HTTP/2 connection; at most 2³¹ − 1.
    pub http2_connection_window: u32,
    /// Between two PINGs, and for the answer to one.
    pub http2_ping_interval: Duration,
    /// From GOAWAY, or the last answer after it, to the end of the connection.
    pub http2_goaway_timeout: Duration,
    /// Of a request body after an early answer.
    pub max_discarded: u64,
    /// For that, and for a client to take a connection's last answer.
    pub linger_timeout: Duration,
}

/// The admin listener.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// Where it listens; `None` is off.
    pub bind: Option<SocketAddr>,
    /// Needed on any address but loopback.
    pub token: Option<Arc<AdminToken>>,
    /// TLS, for addresses outside this machine.
    pub tls: Option<ListenerTls>,
}

/// A bearer token; never printed, compared in constant time.
#[derive(Clone, Eq, PartialEq)]
pub struct AdminToken(zeroize::Zeroizing<String>);

impl AdminToken {
    /// Takes the token's text, not empty.
    pub fn new(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }

    /// Is `presented` the token? Constant time for equal lengths.
    pub fn matches(&self, presented: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), presented).is_ok()
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// Log, access log, traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// `error` to `trace`.
    pub log_level: tracing::Level,
    /// The format of the log; `None` is JSON unless standard error is a terminal.
    pub log_format: Option<LogFormat>,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// The collector of OpenTelemetry traces, `http://host:port` or `https://host:port`; `None`
    /// records no trace.
    pub otlp_endpoint: Option<String>,
    /// The share of the traces begun here that is recorded, from 0 to 1.
    pub sample: f64,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AccessLog {
    /// Appended to a file; reopened on SIGUSR1.
    File(PathBuf),
    /// Nowhere.
    Off,
    /// Standard error.
    #[default]
    Stderr,
}

/// Workers and the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Threads that serve; at least 1.
    pub workers: usize,
    /// From "not ready" to closing the listeners.
    pub drain_delay: Duration,
    /// For requests in flight after that.
    pub grace: Duration,
}

#[cfg(test)]
mod tests;
