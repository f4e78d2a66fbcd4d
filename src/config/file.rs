//! The file as written: names, types and ranges of all keys, nothing else. The JSON Schema and the
//! structure check are made from these types, so that this is the only list of keys. Every key is
//! optional here; what must be there, and the defaults, are `resolve`'s business.

mod cluster;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use cluster::{Cluster, ClusterTls, Ejection, HealthCheck, Node, Timeouts};

use super::spanned::Spanned;
use super::units::{ByteSize, ConfigDuration};
use super::{ClientAuth, UnknownClients, UnknownPaths, Validation};

/// A key that may be left out.
pub(super) type Setting<T> = Option<Spanned<T>>;

/// Tables by name.
pub(super) type ByName<T> = BTreeMap<Spanned<String>, T>;

/// Configuration of ccfs-gateway.
///
/// Durations are "250ms", "30s", "15m" or "8h", sizes "512B", "64KiB", "8MiB" or "1GiB". Relative
/// paths are relative to the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Access keys in a file of their own, with the same `[access_keys.AK]` tables. It is a secret
    /// file: nobody but its owner may read it, and only there may `secret_key` stand inline.
    pub(super) access_keys_file: Setting<String>,
    /// Inbound ports by name.
    #[serde(default)]
    pub(super) listeners: ByName<Listener>,
    /// Clusters of CC-FS nodes by name.
    #[serde(default)]
    pub(super) clusters: ByName<Cluster>,
    /// Developer accounts by access key (ak).
    #[serde(default)]
    pub(super) access_keys: ByName<AccessKey>,
    /// What every access key begins with; a key of its own table stands instead, as a whole.
    #[serde(default)]
    pub(super) access_key_defaults: AccessKey,
    /// The cache of recording-URL answers.
    #[serde(default)]
    pub(super) cache: Cache,
    /// Limits of the whole gateway.
    #[serde(default)]
    pub(super) limits: Limits,
    /// A store shared by all replicas: a second level of the cache, and one budget for each ak.
    pub(super) shared: Option<Spanned<Shared>>,
    /// The admin listener.
    #[serde(default)]
    pub(super) admin: Admin,
    /// Log, access log, traces.
    #[serde(default)]
    pub(super) telemetry: Telemetry,
    /// Workers and the end.
    #[serde(default)]
    pub(super) server: Server,
}

/// A file of access keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKeysFile {
    /// Developer accounts by access key (ak).
    #[serde(default)]
    pub(super) access_keys: ByName<AccessKey>,
}

/// An inbound port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// Address and port, e.g. `0.0.0.0:28443` or `[::]:28443`.
    pub(super) bind: Setting<String>,
    /// The cluster behind every path. Give this or `routes`.
    pub(super) cluster: Setting<String>,
    /// Path prefixes (ending in "/") and the cluster behind each; the longest wins.
    pub(super) routes: Option<Spanned<ByName<Spanned<String>>>>,
    /// Certificates.
    pub(super) tls: Option<Spanned<ListenerTls>>,
    /// What becomes of callers with an unknown ak or another scheme.
    pub(super) unknown_clients: Setting<UnknownClients>,
    /// What becomes of paths that are no CC-FS interface known to the gateway.
    pub(super) unknown_paths: Setting<UnknownPaths>,
    /// What becomes of request bodies that CC-FS would refuse.
    pub(super) validation: Setting<Validation>,
    /// Connections begin with a PROXY header.
    pub(super) proxy_protocol: Option<Spanned<ProxyProtocol>>,
}

/// Certificates of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTls {
    /// PEM file: the certificate chain, leaf first.
    pub(super) certificate: Setting<String>,
    /// PEM file: the private key.
    pub(super) private_key: Setting<String>,
    /// Several certificates, chosen by SNI; the first for no or an unknown name.
    pub(super) certificates: Option<Spanned<Vec<Spanned<CertificatePair>>>>,
    /// PEM file: the authorities that client certificates are verified against.
    pub(super) client_ca: Setting<String>,
    /// PEM file: what those authorities revoked. With it a client certificate is refused if it, or one
    /// that it was signed by, is revoked, or if no CRL in force says that it is not.
    pub(super) client_crl: Setting<String>,
    /// With `client_ca`: must a client have a certificate?
    pub(super) client_auth: Setting<ClientAuth>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificatePair {
    /// PEM file: the certificate chain, leaf first.
    pub(super) certificate: Setting<String>,
    /// PEM file: the private key.
    pub(super) private_key: Setting<String>,
}

/// PROXY protocol v1 and v2.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocol {
    /// Networks that may send the header, e.g. "10.0.0.0/8".
    pub(super) trusted: Option<Spanned<Vec<Spanned<String>>>>,
}

/// One developer account.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKey {
    /// File with the secret key; up to two for rotation, the first one signs.
    pub(super) secret_key_file: Option<Spanned<OneOrMany>>,
    /// Environment variable with the secret key; up to two for rotation, the first one signs.
    pub(super) secret_key_env: Option<Spanned<OneOrMany>>,
    /// The secret key itself; only in `access_keys_file`. Up to two for rotation.
    pub(super) secret_key: Option<Spanned<OneOrMany>>,
    /// Zone of the tenant space, e.g. "Asia/Shanghai" or "GMT+8"; there is no default.
    pub(super) time_zone: Setting<String>,
    /// How times without `version` are meant: "utc" in zones at +08:00, else "reject".
    pub(super) versionless: Setting<Versionless>,
    /// Requests that make a node work; unlimited without it.
    pub(super) rate_limit: Option<Spanned<Rate>>,
    /// All verified requests; 20 times `rate_limit`, at least 1,000 a second.
    pub(super) ceiling: Option<Spanned<Rate>>,
    /// Requests at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) in_flight: Setting<usize>,
    /// False: answered like an unknown ak, and never forwarded.
    pub(super) enabled: Setting<bool>,
}

/// How times without `version` are meant.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Versionless {
    Local,
    Reject,
    Utc,
}

/// A text, or a list of up to two.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(#[schemars(length(min = 1, max = 2))] Vec<String>),
}

impl OneOrMany {
    /// The texts in order.
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// A rate with its burst.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    /// Requests a second, on the long run.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_second: Option<u32>,
    /// Requests at once; the same as `per_second` if left out.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) burst: Option<u32>,
}

/// The cache of recording-URL answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    /// Memory for answers; "0B" is off. Needs a restart.
    pub(super) max_size: Setting<ByteSize>,
    /// No cached answer has less life left than this.
    pub(super) expiry_margin: Setting<ConfigDuration>,
    /// What a URL must be good for to be given out while nodes fail.
    pub(super) minimum_life: Setting<ConfigDuration>,
    /// May an answer inside the margin be given out while nodes fail?
    pub(super) stale_if_error: Setting<bool>,
    /// How long "no data yet" is held; "0s" is off.
    pub(super) negative_ttl: Setting<ConfigDuration>,
    /// The resultCodes that mean success.
    pub(super) success_codes: Option<Spanned<Vec<String>>>,
}

/// Limits of the whole gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// How far the time of a signature may be off, each way; "0s" is unchecked.
    pub(super) clock_window: Setting<ConfigDuration>,
    /// Do answers from the cache cost nothing of `rate_limit`?
    pub(super) hits_are_free: Setting<bool>,
    /// Failures and unauthenticated requests of one client address.
    pub(super) per_address: Option<Spanned<Rate>>,
    /// Requests at once.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_in_flight: Setting<usize>,
    /// Connections at once.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_connections: Setting<usize>,
    /// Connections at once from one address (IPv6: one /64).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_connections_per_address: Setting<usize>,
    /// TLS handshakes at once.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_handshakes: Setting<usize>,
    /// Body of a known interface; above is 413.
    pub(super) max_body_size: Setting<ByteSize>,
    /// Body of uploads and of unlisted paths; above is 413.
    pub(super) max_upload_size: Setting<ByteSize>,
    /// All request bodies in memory together; above is 503.
    pub(super) max_buffered: Setting<ByteSize>,
    /// A node's JSON answer; above is 502. Needs a restart.
    pub(super) max_answer: Setting<ByteSize>,
    /// For a whole request body.
    pub(super) body_timeout: Setting<ConfigDuration>,
    /// For a whole request head.
    pub(super) header_timeout: Setting<ConfigDuration>,
    /// For a whole TLS handshake, with the PROXY header before it.
    pub(super) handshake_timeout: Setting<ConfigDuration>,
    /// Between two requests of a connection.
    pub(super) idle_timeout: Setting<ConfigDuration>,
    /// A connection takes no new request after this.
    pub(super) max_connection_age: Setting<ConfigDuration>,
    /// A client must read this much a second, over any `send_rate_window`.
    pub(super) min_send_rate: Setting<ByteSize>,
    /// The time over which `min_send_rate` is judged.
    pub(super) send_rate_window: Setting<ConfigDuration>,
    /// A node must send this much a second, over any 30 s. Needs a restart.
    pub(super) min_receive_rate: Setting<ByteSize>,
    /// A whole request head; above is 431.
    pub(super) max_header_size: Setting<ByteSize>,
    /// Fields of a request head; above is 431.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) max_header_fields: Setting<usize>,
    /// Streams at once of one HTTP/2 connection.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) max_concurrent_streams: Setting<u32>,
    /// Streams of one HTTP/2 connection that were reset before they were served, or for their own
    /// errors; above, the connection is closed.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) http2_max_resets: Setting<usize>,
    /// What a client may send ahead on one HTTP/2 stream.
    pub(super) http2_stream_window: Setting<ByteSize>,
    /// What a client may send ahead on all streams of one HTTP/2 connection.
    pub(super) http2_connection_window: Setting<ByteSize>,
    /// Between two PINGs, and for the answer to one.
    pub(super) http2_ping_interval: Setting<ConfigDuration>,
    /// From GOAWAY, or the last answer after it, to the end of an HTTP/2 connection.
    pub(super) http2_goaway_timeout: Setting<ConfigDuration>,
    /// What is read and thrown away of a request body after an early answer; with more to come, the
    /// connection closes.
    pub(super) max_discarded: Setting<ByteSize>,
    /// For that, and for a client to take the last answer of a connection.
    pub(super) linger_timeout: Setting<ConfigDuration>,
}

/// A store shared by all replicas.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shared {
    /// Where the store is: `redis://host:port`, or `rediss://host:port` over TLS, with `/1` for
    /// another database than 0. Any node of a cluster will do.
    pub(super) url: Setting<String>,
    /// User of the store; goes with `password_file`.
    pub(super) username: Setting<String>,
    /// File with the password.
    pub(super) password_file: Setting<String>,
    /// TLS to the store; goes with `rediss://`.
    pub(super) tls: Option<Spanned<ClusterTls>>,
    /// How long a request may wait for the store.
    pub(super) timeout: Setting<ConfigDuration>,
    /// Files with the key that seals stored answers, at least 32 random bytes; up to two for
    /// rotation: the first one seals, both open.
    pub(super) seal_key_file: Option<Spanned<OneOrMany>>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// Address and port, or "off". Needs a restart.
    pub(super) bind: Setting<String>,
    /// File with the bearer token; needed on any address but loopback.
    pub(super) token_file: Setting<String>,
    /// Certificates; plain HTTP without them. On or off needs a restart; new files do not.
    pub(super) tls: Option<Spanned<ListenerTls>>,
}

/// Log, access log, traces.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// What is logged. Needs a restart.
    pub(super) log_level: Setting<LogLevel>,
    /// The format of the log: JSON where stderr is no terminal, else text. Needs a restart.
    pub(super) log_format: Setting<LogFormat>,
    /// "stderr", "off", or a file. Needs a restart.
    pub(super) access_log: Setting<String>,
    /// The collector of OpenTelemetry traces (OTLP over gRPC), e.g. `http://127.0.0.1:4317`. Needs a
    /// restart.
    pub(super) otlp_endpoint: Setting<String>,
    /// The share of the traces begun here that is recorded, 0.0 to 1.0. Needs a restart.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) sample: Setting<f64>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogFormat {
    Json,
    Text,
}

/// Workers and the end.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// Threads that serve; all usable CPUs if left out. Needs a restart.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) workers: Setting<usize>,
    /// From "not ready" to the closing of the listeners.
    pub(super) drain_delay: Setting<ConfigDuration>,
    /// For requests in flight after that.
    pub(super) grace: Setting<ConfigDuration>,
}
