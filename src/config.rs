//! The validated configuration, made of domain types: every value of a [`Config`] is within its range,
//! and all names in it refer to something that exists. The file format, the defaults and the
//! diagnostics are in the submodules. No module of a lower layer uses this one.

mod callers;
mod diagnostics;
mod document;
mod file;
mod key_directory;
mod key_file;
mod limit_origins;
mod named_file;
mod node_histograms;
mod permissions;
mod problem;
mod rate;
mod redacted;
mod resolve;
mod schema;
pub(crate) mod secret_text;
mod secrets;
mod shared_store;
mod spanned;
mod structure;
mod suggestion;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use jiff::Timestamp;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::sign::CertifiedKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use callers::{CallerSettings, pinned_keys};
pub use diagnostics::Severity;
pub use key_directory::{
    AccountSource, ContestedKey, KeyChanges, KeyDirectory, ReadRecord, RefusedFile, list_key_files,
};
pub use limit_origins::{LimitOrigin, LimitOrigins};
pub use named_file::{FileDigest, digest_named_file, read_named_file};
pub use node_histograms::NodeHistograms;
pub use problem::{ConfigError, MAX_LISTED, Problem};
pub use rate::{Period, Rate};
pub use resolve::TableDigest;
pub use schema::schema;
pub use shared_store::{SharedStore, StorePem, StoreSecret, StoreTls};

use crate::auth::{AccessKey, Credential};
use crate::ccfs::Tenant;
use crate::cluster;
use crate::encoding;
use crate::sharded_map::ShardedMap;
use crate::telemetry::{AuditKey, LogFormat};
use crate::tls::{Authorities, TicketKey};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners by name; at least one.
    pub listeners: BTreeMap<Arc<str>, Listener>,
    /// Clusters by name; every name that a route uses is here.
    pub clusters: BTreeMap<Arc<str>, cluster::ClusterSettings>,
    /// Developer accounts.
    pub access_keys: AccessKeys,
    /// The callers without a secret key, by name.
    pub callers: BTreeMap<Arc<str>, Arc<CallerSettings>>,
    /// The plans by name.
    pub plans: BTreeMap<Arc<str>, Plan>,
    /// The file of `access_keys_file`, if a change of it can be taken by itself.
    key_file: Option<key_file::KeyFile>,
    /// The files of `access_keys_dir`; `None` without it.
    pub key_directory: Option<Arc<KeyDirectory>>,
    /// The response cache.
    pub cache: Cache,
    /// Limits of the whole gateway.
    pub limits: Limits,
    /// The store shared by all replicas; `None` is off.
    pub shared: Option<SharedStore>,
    /// The admin listener.
    pub admin: Admin,
    /// Log, access log, traces.
    pub telemetry: Telemetry,
    /// Worker threads and graceful shutdown.
    pub server: Server,
    /// All files that it names and their content when they were read, other than those of
    /// `key_directory`: access keys, secrets, certificates. When the content of one changes, the
    /// configuration is out of date.
    pub files: Arc<BTreeMap<PathBuf, Option<FileDigest>>>,
    /// The text that it was parsed from. Never read a second time: the file can be a pipe, or change
    /// meanwhile.
    pub text: ConfigText,
}

/// The text of a configuration file; only its length is shown in `Debug`.
#[derive(Clone)]
pub struct ConfigText(Arc<str>);

impl ConfigText {
    /// Returns the text.
    pub fn get(&self) -> &Arc<str> {
        &self.0
    }
}

impl std::fmt::Debug for ConfigText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigText({} bytes)", self.0.len())
    }
}

impl Config {
    /// Reads and validates the file at `path` and all files that it names. Returns the warnings as well.
    ///
    /// # Errors
    /// All mistakes of all files at once.
    pub fn load(path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        Self::read(path, resolve::KeyFiles::Checked)
    }

    /// Like [`Config::load`], but files of `access_keys_dir` with mistakes are refused by themselves: the
    /// gateway starts without their access keys.
    ///
    /// # Errors
    /// All mistakes of all other files, and of all if no file of the directory is good.
    pub fn load_to_serve(path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        Self::read(path, resolve::KeyFiles::Served)
    }

    /// Like [`Config::load_to_serve`] for the generation after `self`: files of `access_keys_dir` with
    /// mistakes keep their last good access keys.
    ///
    /// # Errors
    /// All mistakes of all other files at once.
    pub fn load_next(&self, path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        Self::read(path, resolve::KeyFiles::Reloaded(self))
    }

    /// Like [`Config::load_next`], with the text in force and these changes of `access_keys_dir`.
    ///
    /// # Errors
    /// All mistakes of all other files at once.
    pub fn next_of_text(
        &self,
        path: &Path,
        changes: &KeyChanges,
    ) -> Result<(Self, Vec<Problem>), ConfigError> {
        let key_files = resolve::KeyFiles::Changed(self, changes);
        Self::resolve(&self.text.0, path, key_files)
    }

    /// Like [`Config::load`], for a text that was read from `path`. Relative paths in it are resolved
    /// against the directory of `path`.
    ///
    /// # Errors
    /// All mistakes of all files at once.
    pub fn parse(text: &str, path: &Path) -> Result<(Self, Vec<Problem>), ConfigError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self::resolve(text, path, resolve::KeyFiles::Checked)
    }

    fn read(
        path: &Path,
        key_files: resolve::KeyFiles<'_>,
    ) -> Result<(Self, Vec<Problem>), ConfigError> {
        let bytes = match named_file::read_once(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let help = "give the path of a readable TOML file with --config";
                return Err(resolve::unreadable_file(path, &error.to_string(), help));
            }
        };
        match encoding::decode(&bytes) {
            Ok(text) => Self::resolve(text, path, key_files),
            Err(error) => {
                let help = "save it as UTF-8: editors have this under \"Save as\" or \"Encoding\"";
                Err(resolve::unreadable_file(path, &error.to_string(), help))
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the validity of certificates is checked when the files are read"
    )]
    fn resolve(
        text: &str,
        path: &Path,
        key_files: resolve::KeyFiles<'_>,
    ) -> Result<(Self, Vec<Problem>), ConfigError> {
        resolve::resolve(text, path, SystemTime::now(), key_files)
    }

    /// Returns the effective configuration, defaults included, as JSON in the structure of the file.
    /// Secrets are replaced by a placeholder.
    pub fn redacted(&self) -> serde_json::Value {
        redacted::redact(self)
    }

    /// As [`Config::redacted`], with null in place of the access keys.
    pub fn redacted_settings(&self) -> serde_json::Value {
        redacted::redact_settings(self)
    }
}

/// A listening address and how its requests are routed.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address it listens on; port 0 takes a free port.
    pub bind: SocketAddr,
    /// Path prefixes (ending in `/`) and the cluster of each, longest first. `cluster = "x"` in the file
    /// is the single prefix `/`.
    pub routes: Vec<(String, Arc<str>)>,
    /// Certificates.
    pub tls: ListenerTls,
    /// Requests whose Authorization does not verify.
    pub authentication: Authentication,
    /// Requests with an unknown ak or another authentication scheme.
    pub unknown_clients: UnknownClients,
    /// Requests to paths that are not in the table of interfaces.
    pub unknown_paths: UnknownPaths,
    /// Whether the file itself says `unknown_paths = "forward"`: only then does shadow authentication
    /// forward such paths unverified.
    pub is_forward_written: bool,
    /// Requests with an invalid body.
    pub validation: Validation,
    /// How long a ticket for a link that plays opens it; `None` serves no links.
    pub playback: Option<Duration>,
    /// Networks whose connections begin with a PROXY protocol header. Empty if PROXY protocol is off.
    pub proxy_protocol: Vec<IpNet>,
    /// Keys of session tickets that all gateways share, at most three. Empty: the process has its own.
    pub ticket_keys: Vec<TicketKey>,
    /// When the file of the first of them, which issues, was written.
    pub ticket_key_since: Option<Timestamp>,
}

/// Certificates of a listener, loaded and checked against their private keys.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Selected by SNI; the first one also serves clients without SNI or with an unknown name. At least
    /// one.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// The files of `certificates`, in the same order.
    pub certificate_files: Vec<CertificateFiles>,
    /// Trusted client certificates and their authorities; `None` requests no client certificate.
    pub client_ca: Option<Arc<Authorities>>,
    /// CRLs of these authorities. If there is any, a client certificate whose revocation status is
    /// unknown is rejected.
    pub client_crls: Vec<Crl>,
    /// Whether a client certificate is required; only used with `client_ca`.
    pub client_auth: ClientAuth,
}

/// A certificate revocation list (RFC 5280, 5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crl {
    /// The signed DER encoding.
    pub der: CertificateRevocationListDer<'static>,
    /// The `thisUpdate` field; `None` if it is out of the range of [`Timestamp`].
    pub this_update: Option<Timestamp>,
    /// The `nextUpdate` field; `None` if it is absent or out of the range of [`Timestamp`].
    pub next_update: Option<Timestamp>,
}

/// The files of one certificate and its private key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// PEM certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub private_key: PathBuf,
}

/// Whether a client certificate is required.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// A client without a certificate is accepted.
    Optional,
    /// A client without a certificate is rejected in the handshake.
    #[default]
    Required,
}

/// Which responses carry the fields of draft-ietf-httpapi-ratelimit-headers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateLimitFields {
    /// Those to requests that were charged, and every 429 of a rate.
    #[default]
    Charged,
    /// Every 429 of a rate.
    Refused,
    /// None.
    Off,
}

/// How requests are handled whose Authorization does not verify.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// Rejected with 401.
    #[default]
    Enforce,
    /// Counted, logged, and forwarded byte-identical and uncached.
    Shadow,
}

/// How requests with an unknown ak or another authentication scheme are handled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownClients {
    /// Forwarded unverified and byte-identical, on the interfaces of the table only.
    Forward,
    /// Rejected with 401.
    #[default]
    Reject,
}

/// How requests to paths outside the table of interfaces are handled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownPaths {
    /// Forwarded byte-identical for verified callers.
    #[default]
    Forward,
    /// Rejected with 404.
    Reject,
}

/// How requests with an invalid body are handled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validation {
    /// Rejected with the response that CC-FS gives.
    #[default]
    Enforce,
    /// Bodies are not parsed.
    Off,
    /// Logged, counted, and forwarded unchanged.
    Shadow,
}

/// The settings of one access key (developer account).
#[derive(Clone, Debug, PartialEq)]
pub struct AccountSettings {
    /// The access key and its secret keys.
    pub credential: Arc<Credential>,
    /// The time zone, and how times of requests without `version` are interpreted.
    pub tenant: Tenant,
    /// Rate of requests that reach a node; `None` is unlimited.
    pub rate_limit: Option<Rate>,
    /// Rate of all verified requests, cache hits included; `None` is unlimited.
    pub ceiling: Option<Rate>,
    /// Concurrent requests, at least 1.
    pub in_flight: usize,
    /// Where the limits are written.
    pub origins: LimitOrigins,
    /// The name of its plan.
    pub plan: Option<Arc<str>>,
    /// A name for people.
    pub name: Option<Arc<str>>,
    /// When it can be used.
    pub validity: Validity,
    /// What stands in its own table, with its secrets.
    pub own_table: TableDigest,
    /// The file of its table.
    pub source: AccountSource,
}

/// The limits of a kind of access keys; `None` is not set by the plan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Plan {
    /// Rate of requests that reach a node.
    pub rate_limit: Option<Rate>,
    /// Rate of all verified requests.
    pub ceiling: Option<Rate>,
    /// Concurrent requests, at least 1.
    pub in_flight: Option<usize>,
}

/// The time in which an access key can be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Validity {
    /// The first moment; `None` has no beginning.
    pub not_before: Option<Timestamp>,
    /// The first moment after it; `None` has no end.
    pub not_after: Option<Timestamp>,
}

impl Validity {
    /// Whether a moment is inside.
    pub fn contains(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|start| start <= now)
            && self.not_after.is_none_or(|end| now < end)
    }
}

/// The accounts by access key. Generations share what did not change.
pub type AccessKeys = ShardedMap<AccessKey, Arc<AccountSettings>>;

/// The response cache.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Cache {
    /// Capacity in bytes; 0 is off.
    #[serde(serialize_with = "redacted::size")]
    pub max_size: u64,
    /// Minimum remaining lifetime of a recording URL that is served from the cache.
    pub expiry_margin: Duration,
    /// Minimum remaining lifetime of a URL that is served stale while nodes fail.
    pub minimum_life: Duration,
    /// Whether an entry inside `expiry_margin` is served when nodes fail (RFC 5861, `stale-if-error`).
    pub stale_if_error: bool,
    /// How long a "no data yet" response is cached; zero is off.
    pub negative_ttl: Duration,
    /// resultCodes that mean success.
    pub success_codes: Vec<String>,
    /// Longest wait of a client for a recording (`Prefer: wait`); zero is off.
    pub max_wait: Duration,
    /// Clients that wait at once.
    pub max_waiters: usize,
    /// Polls for waiting clients, per second and cluster; an access key has a quarter.
    pub max_polls: u32,
}

/// Limits of the whole gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Allowed difference between a signature's timestamp and the clock, in both directions; `None` is
    /// unchecked.
    #[serde(serialize_with = "redacted::duration_or_zero")]
    pub clock_window: Option<Duration>,
    /// Whether cache hits are not charged to the rate limit.
    pub hits_are_free: bool,
    /// Whether the limits of access keys and addresses only count what they would refuse.
    pub dry_run: bool,
    /// Which responses carry `RateLimit` and `RateLimit-Policy`.
    pub ratelimit_fields: RateLimitFields,
    /// Rate of failures and unauthenticated requests per client address.
    pub per_address: Rate,
    /// Concurrent requests.
    pub max_in_flight: usize,
    /// Concurrent connections.
    pub max_connections: usize,
    /// Concurrent connections of one address (IPv6: /64).
    pub max_connections_per_address: usize,
    /// Concurrent TLS handshakes.
    pub max_handshakes: usize,
    /// Request body of an interface of the table, in bytes.
    #[serde(serialize_with = "redacted::size")]
    pub max_body_size: usize,
    /// Request body of uploads and unlisted paths, in bytes.
    #[serde(serialize_with = "redacted::size")]
    pub max_upload_size: usize,
    /// All buffered request bodies together, in bytes.
    #[serde(serialize_with = "redacted::size")]
    pub max_buffered: usize,
    /// JSON response of a node, in bytes.
    #[serde(serialize_with = "redacted::size")]
    pub max_answer: usize,
    /// Deadline for a whole request body.
    pub body_timeout: Duration,
    /// Deadline for a whole request head.
    pub header_timeout: Duration,
    /// Deadline for a TLS handshake, with the PROXY protocol header before it.
    pub handshake_timeout: Duration,
    /// Maximum time between two requests of a connection.
    pub idle_timeout: Duration,
    /// Age after which a connection accepts no new request.
    pub max_connection_age: Duration,
    /// Minimum rate at which a client must read a response, in bytes per second.
    #[serde(serialize_with = "redacted::size")]
    pub min_send_rate: u64,
    /// Window over which `min_send_rate` is measured.
    pub send_rate_window: Duration,
    /// Minimum rate at which a node must send a streamed response, in bytes per second.
    #[serde(serialize_with = "redacted::size")]
    pub min_receive_rate: u64,
    /// Request head in bytes; a larger one is rejected with 431.
    #[serde(serialize_with = "redacted::size")]
    pub max_header_size: usize,
    /// Fields of a request head; more are rejected with 431.
    pub max_header_fields: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Streams of one HTTP/2 connection that were reset before their response, or for their own errors.
    pub http2_max_resets: usize,
    /// Flow-control window of one HTTP/2 stream, in bytes; at most 2³¹ − 1 (RFC 9113, 6.9.1).
    #[serde(serialize_with = "redacted::size")]
    pub http2_stream_window: u32,
    /// Flow-control window of one HTTP/2 connection, in bytes; at most 2³¹ − 1 (RFC 9113, 6.9.1).
    #[serde(serialize_with = "redacted::size")]
    pub http2_connection_window: u32,
    /// Interval between two HTTP/2 PINGs, and deadline for the acknowledgement of one.
    pub http2_ping_interval: Duration,
    /// Time from GOAWAY, or the last response after it, to the close of the connection.
    pub http2_goaway_timeout: Duration,
    /// Bytes of a request body that are discarded after an early response.
    #[serde(serialize_with = "redacted::size")]
    pub max_discarded: u64,
    /// Deadline for that, and for the client to read the last response of a connection.
    pub linger_timeout: Duration,
}

/// The admin listener.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// The address it listens on; `None` is off.
    pub bind: Option<SocketAddr>,
    /// The bearer token; required on any address but loopback.
    pub token: Option<Arc<AdminToken>>,
    /// TLS; `None` is plain HTTP.
    pub tls: Option<ListenerTls>,
}

/// A bearer token: redacted in `Debug`, compared in constant time, wiped when dropped.
#[derive(Clone, Eq, PartialEq)]
pub struct AdminToken(zeroize::Zeroizing<String>);

impl AdminToken {
    /// Takes the text of the token, which must not be empty.
    pub fn new(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }

    /// Whether `presented` equals the token. Takes constant time for equal lengths.
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
    /// Minimum level of the diagnostic log.
    pub log_level: tracing::Level,
    /// Format of the diagnostic log; `None` is JSON unless standard error is a terminal.
    pub log_format: Option<LogFormat>,
    /// Destination of the access log.
    pub access_log: AccessLog,
    /// The file of the audit log; `None` is off.
    pub audit_log: Option<PathBuf>,
    /// The key of its hashes; `None` is SHA-256 without a key.
    pub audit_key: Option<AuditKey>,
    /// Whether the access log names access keys that did not verify (`gw.claimed_ak`).
    pub log_claimed_ak: bool,
    /// The OpenTelemetry collector, `http://host:port` or `https://host:port`; `None` records no traces.
    pub otlp_endpoint: Option<String>,
    /// Sampling ratio of the traces started here, from 0 to 1.
    pub sample: f64,
    /// Whether `/metrics` has histograms of each node.
    pub node_histograms: NodeHistograms,
}

/// Destination of the access log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AccessLog {
    /// Appended to a file, which is reopened on SIGUSR1.
    File(PathBuf),
    /// No access log.
    Off,
    /// Standard error.
    #[default]
    Stderr,
}

/// Worker threads and graceful shutdown.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Server {
    /// The name of this instance: in `/status`, on the status page and in the audit log.
    pub name: String,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// Time from "not ready" to the close of the listeners.
    pub drain_delay: Duration,
    /// Time for requests in flight after that.
    pub grace: Duration,
}

#[cfg(test)]
mod tests;
