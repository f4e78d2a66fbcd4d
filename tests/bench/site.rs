//! Temporary certificates, accounts and configuration of the measured gateways.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ccfs_gateway::auth::{AccessKey, Credential, Secret};
use ccfs_gateway::client::{ClientRequest, DEFAULT_SIGNED_FIELDS, RecordingQuery};
use ccfs_gateway::stand_in::certificates::{
    CertificateAuthority, IssuedCertificate, SERVER_NAMES as HOSTS, write_private_file,
};
use jiff::Timestamp;
use tempfile::TempDir;

/// The name in the certificate of every server, and the Host of every request: all servers receive
/// the same bytes.
pub(crate) const HOST: &str = "cc-fs.example.com";

/// A directory with certificates and their authority, removed when dropped.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
    /// The authority that signed `leaf.pem`.
    pub(crate) authority: CertificateAuthority,
    /// `leaf.pem`, the certificate of every server.
    pub(crate) leaf: IssuedCertificate,
}

impl Site {
    /// Writes `ca.pem`, `leaf.pem` and `leaf.key`.
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::new().unwrap();
        let leaf = authority.issue(&HOSTS).unwrap();
        let path = |name: &str| folder.path().join(name);
        authority.write_certificate(&path("ca.pem")).unwrap();
        leaf.write(&path("leaf.pem"), &path("leaf.key")).unwrap();
        Self {
            folder,
            authority,
            leaf,
        }
    }

    /// The path of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration `name`.toml and its accounts.
    pub(crate) fn configure(&self, name: &str, gateway: &Gateway<'_>) -> PathBuf {
        let file = self.path(&format!("{name}.toml"));
        if let Some(per_file) = gateway.keys.checked_div(gateway.key_files) {
            let keys = self.path(&format!("{name}.keys.d"));
            std::fs::create_dir(&keys).unwrap();
            for number in 0..gateway.key_files {
                let text = complete_accounts(number * per_file..(number + 1) * per_file);
                let name = format!("{number:05}.toml");
                write_private_file(&keys.join(name), text.as_bytes()).unwrap();
            }
            std::fs::write(&file, gateway.configuration(&keys)).unwrap();
            return file;
        }
        let keys = self.path(&format!("{name}.keys.toml"));
        write_private_file(&keys, accounts(gateway.keys, 0).as_bytes()).unwrap();
        std::fs::write(&file, gateway.configuration(&keys)).unwrap();
        file
    }

    /// Replaces the secrets of the first `number` accounts of a configuration that has one more.
    pub(crate) fn rotate(&self, configuration: &Path, number: usize) {
        let keys = configuration.with_extension("keys.toml");
        write_private_file(&keys, accounts(number + 1, number).as_bytes()).unwrap();
    }
}

/// Settings of a measured gateway: one worker, no access log and no admin interface unless they are set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gateway<'a> {
    /// URLs of the nodes.
    pub(crate) nodes: &'a [String],
    /// Number of accounts: [`access_key`] of every number below it.
    pub(crate) keys: usize,
    /// Files of `access_keys_dir` over which complete accounts are spread; 0 is one `access_keys_file`.
    pub(crate) key_files: usize,
    /// Further keys of `[clusters.ccfs]`.
    pub(crate) cluster: &'a str,
    /// Further tables.
    pub(crate) tables: &'a str,
    /// `bind` of the admin interface.
    pub(crate) admin: &'a str,
    /// Further keys of `[limits]`.
    pub(crate) limits: &'a str,
    /// `max_size` of the cache.
    pub(crate) cache: &'a str,
    /// `access_log`.
    pub(crate) access_log: &'a str,
}

impl Default for Gateway<'_> {
    fn default() -> Self {
        Self {
            nodes: &[],
            keys: 10,
            key_files: 0,
            cluster: "health_check = { enabled = false }",
            tables: "",
            admin: "off",
            limits: "",
            cache: "64MiB",
            access_log: "off",
        }
    }
}

impl Gateway<'_> {
    fn configuration(&self, keys: &Path) -> String {
        let place = match self.key_files {
            0 => "access_keys_file",
            _ => "access_keys_dir",
        };
        let Self {
            nodes,
            cluster,
            tables,
            admin,
            limits,
            cache,
            access_log,
            ..
        } = self;
        format!(
            r#"{place} = {keys:?}

[listeners.ccfs]
bind = "127.0.0.1:0"
cluster = "ccfs"
tls = {{ certificate = "leaf.pem", private_key = "leaf.key" }}

[clusters.ccfs]
nodes = {nodes:?}
tls = {{ ca = "ca.pem" }}
{cluster}

{tables}

[access_key_defaults]
time_zone = "Asia/Shanghai"

[cache]
max_size = "{cache}"

[limits]
{limits}

[admin]
bind = "{admin}"

[telemetry]
access_log = "{access_log}"

[server]
workers = 1
"#
        )
    }
}

/// Accounts, of which the first `rotated` have a new secret.
fn accounts(number: usize, rotated: usize) -> String {
    let mut text = String::new();
    for key in 0..number {
        let new = if key < rotated { "-new" } else { "" };
        let (key, secret) = (access_key(key), secret(key));
        writeln!(text, "[access_keys.{key}]\nsecret_key = \"{secret}{new}\"").unwrap();
    }
    text
}

/// Accounts with a zone and a rate each.
pub(crate) fn complete_accounts(numbers: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for key in numbers {
        let (key, secret) = (access_key(key), secret(key));
        writeln!(
            text,
            "[access_keys.{key}]\nsecret_key = \"{secret}\"\ntime_zone = \"Asia/Shanghai\"\n\
             rate_limit = {{ per_second = 50, burst = 100 }}"
        )
        .unwrap();
    }
    text
}

/// The access key of an account.
pub(crate) fn access_key(number: usize) -> String {
    format!("ak-{number:06}")
}

/// Lines of an access key and its secret.
pub(crate) fn secrets(number: usize) -> String {
    (0..number)
        .map(|key| format!("{} {}\n", access_key(key), secret(key)))
        .collect()
}

fn secret(number: usize) -> String {
    format!("SECRET-of-{number:06}-0123456789abcdef")
}

/// The credential of an account.
pub(crate) fn credential(number: usize) -> Arc<Credential> {
    let secret = Secret::new(secret(number).into_bytes());
    let access_key = AccessKey::from(access_key(number).as_str());
    Arc::new(Credential::new(access_key, vec![secret], true))
}

/// A recording-URL request of an account, signed with the current time.
pub(crate) fn recording(account: usize, call_id: &str) -> ClientRequest {
    recording_at(&format!("https://{HOST}"), account, call_id)
}

/// The same for the server at `url`.
pub(crate) fn recording_at(url: &str, account: usize, call_id: &str) -> ClientRequest {
    let query = RecordingQuery {
        call_id,
        begin: "2021-11-24 16:25:03",
        end: "2021-11-24 17:25:11",
        version: Some("2.0"),
    };
    let request = ClientRequest::recording(url, &query).unwrap();
    request
        .sign(
            &credential(account),
            DEFAULT_SIGNED_FIELDS,
            Timestamp::now(),
        )
        .unwrap()
}

/// The bytes of a request on the wire.
pub(crate) fn wire(request: &ClientRequest) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method, request.target).into_bytes();
    for (name, value) in &request.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&request.body);
    bytes
}
