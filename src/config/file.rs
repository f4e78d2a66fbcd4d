//! The configuration file as serde reads it: names, types and ranges of all keys. The JSON Schema and
//! the structure check are derived from these types, so that this is the only list of keys. Every key
//! is optional here; `resolve` knows the required keys and the defaults.

mod caller;
mod cluster;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use caller::{Caller, Jwt, SdkHmac};
pub(super) use cluster::{Cluster, ClusterTls, Ejection, FlowControl, HealthCheck, Node, Timeouts};

use super::spanned::Spanned;
use super::units::{ByteSize, ConfigDuration, ConfigTime};
use super::{
    Authentication, ClientAuth, NodeHistograms, RateLimitFields, UnknownClients, UnknownPaths,
    Validation,
};

/// The value of a key that may be omitted.
pub(super) type Setting<T> = Option<Spanned<T>>;

/// Tables or values by a free name.
pub(super) type ByName<T> = BTreeMap<Spanned<String>, T>;

/// Configuration of ccfs-gateway.
///
/// Durations are "250ms", "30s", "15m" or "8h", sizes "512B", "64KiB", "8MiB" or "1GiB". Relative
/// paths are relative to the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// A separate file of access keys with the same `[access_keys.AK]` tables, at most 64 MiB. Only such a
    /// file may contain `secret_key`, so it is rejected unless it belongs to root or the gateway's user,
    /// others can neither read nor write it, and its group, which must be one of the gateway's, cannot
    /// write it.
    pub(super) access_keys_file: Setting<String>,
    /// A directory of such files, at most 20,000 of 64 MiB each: all whose names end in ".toml" and do not
    /// begin with ".". Changes are followed within ten seconds. A file with mistakes is refused by
    /// itself; access keys of its last good content stay.
    pub(super) access_keys_dir: Setting<String>,
    /// Listeners by name.
    #[serde(default)]
    pub(super) listeners: ByName<Listener>,
    /// Clusters of CC-FS nodes by name, which may not contain "/".
    #[serde(default)]
    pub(super) clusters: ByName<Cluster>,
    /// Limits of kinds of access keys by name.
    #[serde(default)]
    pub(super) plans: ByName<Plan>,
    /// Developer accounts by access key (ak).
    #[serde(default)]
    pub(super) access_keys: ByName<AccessKey>,
    /// Defaults of all access keys; a key in an access key's own table, or in its plan, replaces the default
    /// as a whole.
    #[serde(default)]
    pub(super) access_key_defaults: AccessKey,
    /// Clients without a secret key, by name: the gateway signs their requests.
    #[serde(default)]
    pub(super) callers: ByName<Caller>,
    /// The cache of recording-URL responses.
    #[serde(default)]
    pub(super) cache: Cache,
    /// Limits of the whole gateway.
    #[serde(default)]
    pub(super) limits: Limits,
    /// A store shared by all replicas: a second-level cache, and one rate-limit budget per ak.
    pub(super) shared: Option<Spanned<Shared>>,
    /// The admin listener.
    #[serde(default)]
    pub(super) admin: Admin,
    /// Log, access log, traces.
    #[serde(default)]
    pub(super) telemetry: Telemetry,
    /// Worker threads and graceful shutdown.
    #[serde(default)]
    pub(super) server: Server,
}

/// The file that `access_keys_file` names.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKeysFile {
    /// Developer accounts by access key (ak).
    #[serde(default)]
    pub(super) access_keys: ByName<AccessKey>,
}

/// A listening address and how its requests are routed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// Address and port, e.g. `0.0.0.0:28443`; `[::]:28443` also accepts IPv4.
    pub(super) bind: Setting<String>,
    /// The cluster of all paths. Excludes `routes`.
    pub(super) cluster: Setting<String>,
    /// Path prefixes (ending in "/") and the cluster of each; the longest match wins.
    pub(super) routes: Option<Spanned<ByName<Spanned<String>>>>,
    /// Certificates.
    pub(super) tls: Option<Spanned<ListenerTls>>,
    /// Requests whose Authorization does not verify. "shadow" forwards them byte-identical, uncached and
    /// unlimited, and counts and logs them as if they were rejected: for a migration.
    pub(super) authentication: Setting<Authentication>,
    /// Requests with an unknown ak or another authentication scheme.
    pub(super) unknown_clients: Setting<UnknownClients>,
    /// Requests to paths that are not a CC-FS interface known to the gateway.
    pub(super) unknown_paths: Setting<UnknownPaths>,
    /// Request bodies that CC-FS would reject.
    pub(super) validation: Setting<Validation>,
    /// Whether `GET /recordings/{callId}?begin=…&end=…` leads players to recordings.
    pub(super) playback: Setting<bool>,
    /// How long a ticket for such a link opens it, at most "1h"; only with `playback`.
    pub(super) ticket_life: Setting<ConfigDuration>,
    /// Connections begin with a PROXY protocol header.
    pub(super) proxy_protocol: Option<Spanned<ProxyProtocol>>,
    /// Files with a TLS ticket key each, 32 random bytes, that all gateways share: the first one issues
    /// tickets, all open them.
    pub(super) ticket_key_file: Option<Spanned<UpToThree>>,
}

/// A string, or a list of up to three strings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum UpToThree {
    One(String),
    Many(#[schemars(length(min = 1, max = 3))] Vec<String>),
}

impl UpToThree {
    /// Returns the strings in order.
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// Certificates of a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTls {
    /// PEM file: the certificate chain, leaf first.
    pub(super) certificate: Setting<String>,
    /// PEM file: the private key.
    pub(super) private_key: Setting<String>,
    /// Several certificates, selected by SNI; the first one is the default.
    pub(super) certificates: Option<Spanned<Vec<Spanned<CertificatePair>>>>,
    /// PEM file: the authorities that client certificates are verified against.
    pub(super) client_ca: Setting<String>,
    /// PEM file: the CRLs of these authorities. A client certificate is then rejected if a certificate
    /// of its chain is revoked, or if no valid CRL covers it.
    pub(super) client_crl: Setting<String>,
    /// Whether a client certificate is required; only with `client_ca`.
    pub(super) client_auth: Setting<ClientAuth>,
}

/// A certificate and its private key.
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

/// One access key (developer account).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKey {
    /// File that contains the secret key; up to two for rotation, the first one signs.
    pub(super) secret_key_file: Option<Spanned<OneOrMany>>,
    /// Environment variable that contains the secret key; up to two for rotation, the first one signs.
    pub(super) secret_key_env: Option<Spanned<OneOrMany>>,
    /// The secret key itself; only in `access_keys_file`. Up to two for rotation.
    pub(super) secret_key: Option<Spanned<OneOrMany>>,
    /// Time zone of the tenant space, e.g. "Asia/Shanghai" or "GMT+8"; there is no default.
    pub(super) time_zone: Setting<String>,
    /// Interpretation of times without `version`; by default "utc" in zones at +08:00, else "reject".
    pub(super) versionless: Setting<Versionless>,
    /// Rate of requests that reach a node; unlimited by default.
    pub(super) rate_limit: Option<Spanned<Rate>>,
    /// Rate of all verified requests; by default 20 times `rate_limit`, at least 1,000 per second.
    pub(super) ceiling: Option<Spanned<Rate>>,
    /// Concurrent requests.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) in_flight: Setting<usize>,
    /// False: rejected like an unknown ak, and never forwarded.
    pub(super) enabled: Setting<bool>,
    /// The plan, one of `[plans]`: for keys that the access key's own table does not have.
    pub(super) plan: Setting<String>,
    /// A name for people, at most 128 characters.
    pub(super) name: Setting<String>,
    /// Before this time the access key is treated as with `enabled = false`.
    pub(super) not_before: Setting<ConfigTime>,
    /// From this time on the access key is treated as with `enabled = false`.
    pub(super) not_after: Setting<ConfigTime>,
}

/// The limits of a kind of access keys. Each access key has budgets of its own.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// As in `[access_keys.AK]`.
    pub(super) rate_limit: Option<Spanned<Rate>>,
    /// As in `[access_keys.AK]`.
    pub(super) ceiling: Option<Spanned<Rate>>,
    /// As in `[access_keys.AK]`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) in_flight: Setting<usize>,
}

/// Interpretation of times without `version`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Versionless {
    Local,
    Reject,
    Utc,
}

/// A string, or a list of up to two strings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(#[schemars(length(min = 1, max = 2))] Vec<String>),
}

impl OneOrMany {
    /// Returns the strings in order.
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// A token-bucket rate: exactly one of `per_second`, `per_minute` and `per_hour`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "per_second": 50, "burst": 100 }))]
pub(super) struct Rate {
    /// Sustained requests per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_second: Option<u32>,
    /// Sustained requests per minute.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_minute: Option<u32>,
    /// Sustained requests per hour.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_hour: Option<u32>,
    /// Size of the bucket in requests; by default what one second gives, rounded up.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) burst: Option<u32>,
}

/// The cache of recording-URL answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    /// Memory for responses; "0B" is off. Needs a restart.
    pub(super) max_size: Setting<ByteSize>,
    /// Minimum remaining lifetime of a cached URL. Too low: clients get URLs that expire during
    /// playback; too high: most URLs are fetched again.
    pub(super) expiry_margin: Setting<ConfigDuration>,
    /// Minimum remaining lifetime of a URL that is served stale while nodes fail.
    pub(super) minimum_life: Setting<ConfigDuration>,
    /// Whether a response inside `expiry_margin` is served while nodes fail.
    pub(super) stale_if_error: Setting<bool>,
    /// How long a "no data yet" response is cached; "0s" is off.
    pub(super) negative_ttl: Setting<ConfigDuration>,
    /// The resultCodes that mean success.
    pub(super) success_codes: Option<Spanned<Vec<String>>>,
    /// Longest time that a client can wait for a recording that does not exist yet (`Prefer: wait=N`);
    /// "0s" is off.
    pub(super) max_wait: Setting<ConfigDuration>,
    /// Clients that wait at once; further ones are answered without a wait.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_waiters: Setting<usize>,
    /// Requests per second to one cluster on behalf of waiting clients; one access key has a quarter.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) max_polls: Setting<u32>,
}

/// Limits of the whole gateway.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Allowed difference between a signature's timestamp and the clock, in both directions; "0s" is
    /// unchecked. Too low: clients with a wrong clock get 401; too high: a captured request can be
    /// replayed for longer.
    pub(super) clock_window: Setting<ConfigDuration>,
    /// Whether cache hits are not charged to `rate_limit`.
    pub(super) hits_are_free: Setting<bool>,
    /// Whether `rate_limit`, `ceiling`, `in_flight` and `per_address` refuse nothing, and only count and
    /// log what they would refuse. The limits of the gateway itself still refuse.
    pub(super) dry_run: Setting<bool>,
    /// Which responses carry `RateLimit` and `RateLimit-Policy`.
    pub(super) ratelimit_fields: Setting<RateLimitFields>,
    /// Rate of failures and unauthenticated requests of one client address.
    pub(super) per_address: Option<Spanned<Rate>>,
    /// Concurrent requests. Too low: 503 under normal load; too high: an overload exhausts memory.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_in_flight: Setting<usize>,
    /// Concurrent connections. Too low: idle connections are closed early; too high: memory and file
    /// descriptors run out.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_connections: Setting<usize>,
    /// Concurrent connections of one address (IPv6: one /64).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_connections_per_address: Setting<usize>,
    /// Concurrent TLS handshakes.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_handshakes: Setting<usize>,
    /// Request body of a known interface; a larger one is rejected with 413.
    pub(super) max_body_size: Setting<ByteSize>,
    /// Request body of uploads and unlisted paths; a larger one is rejected with 413.
    pub(super) max_upload_size: Setting<ByteSize>,
    /// All buffered request bodies together; beyond it requests are rejected with 503.
    pub(super) max_buffered: Setting<ByteSize>,
    /// JSON response of a node; a larger one is a 502. Needs a restart.
    pub(super) max_answer: Setting<ByteSize>,
    /// Deadline for a whole request body. Too low: slow uploads are cut off; too high: stalled clients
    /// occupy memory.
    pub(super) body_timeout: Setting<ConfigDuration>,
    /// Deadline for a whole request head. Too low: clients on slow links get 408; too high: stalled
    /// clients occupy connections.
    pub(super) header_timeout: Setting<ConfigDuration>,
    /// Deadline for a TLS handshake, with the PROXY protocol header before it.
    pub(super) handshake_timeout: Setting<ConfigDuration>,
    /// Maximum time between two requests of a connection. Too low: clients reconnect for each request;
    /// too high: idle connections occupy memory.
    pub(super) idle_timeout: Setting<ConfigDuration>,
    /// Age after which a connection accepts no new request.
    pub(super) max_connection_age: Setting<ConfigDuration>,
    /// Bytes per second that a client must read, over any `send_rate_window`.
    pub(super) min_send_rate: Setting<ByteSize>,
    /// Window over which `min_send_rate` is measured. Too low: short stalls close connections; too high:
    /// slow readers are detected late.
    pub(super) send_rate_window: Setting<ConfigDuration>,
    /// Bytes per second that a node must send, over any 30 s. Needs a restart.
    pub(super) min_receive_rate: Setting<ByteSize>,
    /// Size of a request head; a larger one is rejected with 431.
    pub(super) max_header_size: Setting<ByteSize>,
    /// Fields of a request head; more are rejected with 431.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) max_header_fields: Setting<usize>,
    /// Concurrent streams of one HTTP/2 connection.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) max_concurrent_streams: Setting<u32>,
    /// Streams of one HTTP/2 connection that were reset before their response, or for their own errors;
    /// beyond it the connection is closed.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) http2_max_resets: Setting<usize>,
    /// Flow-control window of one HTTP/2 stream.
    pub(super) http2_stream_window: Setting<ByteSize>,
    /// Flow-control window of one HTTP/2 connection.
    pub(super) http2_connection_window: Setting<ByteSize>,
    /// Interval between two HTTP/2 PINGs, and deadline for the acknowledgement of one.
    pub(super) http2_ping_interval: Setting<ConfigDuration>,
    /// Time from GOAWAY, or the last response after it, to the close of an HTTP/2 connection.
    pub(super) http2_goaway_timeout: Setting<ConfigDuration>,
    /// Bytes of a request body that are discarded after an early response; if more follow, the
    /// connection is closed.
    pub(super) max_discarded: Setting<ByteSize>,
    /// Deadline for that, and for the client to read the last response of a connection.
    pub(super) linger_timeout: Setting<ConfigDuration>,
}

/// A store shared by all replicas.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shared {
    /// URL of the store: `redis://host:port`, or `rediss://host:port` over TLS, with `/1` for database
    /// 1. Any node of a Redis cluster.
    pub(super) url: Setting<String>,
    /// User of the store; requires `password_file`.
    pub(super) username: Setting<String>,
    /// File that contains the password.
    pub(super) password_file: Setting<String>,
    /// TLS to the store; requires `rediss://`.
    pub(super) tls: Option<Spanned<ClusterTls>>,
    /// Maximum time that a request waits for the store, in total.
    pub(super) timeout: Setting<ConfigDuration>,
    /// File that contains the encryption key of stored responses, at least 32 random bytes; up to two
    /// for rotation: the first one encrypts, both decrypt.
    pub(super) seal_key_file: Option<Spanned<OneOrMany>>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// Address and port, or "off". Needs a restart.
    pub(super) bind: Setting<String>,
    /// File that contains the bearer token; required on any address but loopback.
    pub(super) token_file: Setting<String>,
    /// TLS; plain HTTP by default. To enable or disable it needs a restart; new files do not.
    pub(super) tls: Option<Spanned<ListenerTls>>,
}

/// Log, access log, traces.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    /// Minimum level of the diagnostic log. Needs a restart.
    pub(super) log_level: Setting<LogLevel>,
    /// The format of the log: JSON where stderr is no terminal, else text. Needs a restart.
    pub(super) log_format: Setting<LogFormat>,
    /// "stderr", "off", or a file. Needs a restart.
    pub(super) access_log: Setting<String>,
    /// File of the audit log: a line for each recording that is given out, and each order to the admin
    /// interface. Off by default. Needs a restart.
    pub(super) audit_log: Setting<String>,
    /// File that contains the key of the audit log, 32 to 1024 random bytes: without it the hashes of the
    /// log show accidents, not forgery. Needs a restart.
    pub(super) audit_key_file: Setting<String>,
    /// Whether the access log has the access keys of requests that did not verify (`gw.claimed_ak`).
    pub(super) log_claimed_ak: Setting<bool>,
    /// OpenTelemetry collector (OTLP over gRPC), e.g. `http://127.0.0.1:4317`. Needs a restart.
    pub(super) otlp_endpoint: Setting<String>,
    /// Sampling ratio of the traces started here, 0.0 to 1.0. Needs a restart.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) sample: Setting<f64>,
    /// Histograms of each node in /metrics: "on", "off" (and of a node only the series that are not zero), or "auto": off above
    /// 64 nodes.
    pub(super) node_histograms: Setting<NodeHistograms>,
}

/// Minimum level of the diagnostic log.
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

/// Worker threads and graceful shutdown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// Name of this instance in `/status`, on the status page and in the audit log; the host's name by
    /// default.
    pub(super) name: Setting<String>,
    /// Worker threads; one per usable CPU by default. Needs a restart.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) workers: Setting<usize>,
    /// Time from "not ready" to the close of the listeners.
    pub(super) drain_delay: Setting<ConfigDuration>,
    /// Time for requests in flight after that. Too low: requests are cut off; too high: a restart waits
    /// for the slowest client.
    pub(super) grace: Setting<ConfigDuration>,
}
