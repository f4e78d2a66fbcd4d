//! Configuration files with and without mistakes. Every test has a directory of its own with real
//! certificates and secrets.

mod apps;
mod callers;
mod crls;
mod handshake;
mod hostile;
mod key_directory;
mod key_file;
mod mistakes;
mod redacted;
mod secrecy;
mod shared_store;
mod shipped;
mod tokens;
mod valid;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A directory with `gateway.pem`, `gateway.key`, `ca.pem`, `other.key` and the secret `sk`.
struct TestDir {
    directory: TempDir,
}

impl TestDir {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = Self { directory };
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        dir.write("gateway.pem", &certificate.cert.pem());
        dir.write("ca.pem", &certificate.cert.pem());
        dir.write("gateway.key", &certificate.signing_key.serialize_pem());
        dir.write(
            "other.key",
            &rcgen::KeyPair::generate().unwrap().serialize_pem(),
        );
        dir.write("sk", "secret\n");
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        self.allow(name, 0o600);
    }

    fn allow(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn parse(&self, text: &str) -> Result<(Config, Vec<Problem>), ConfigError> {
        Config::parse(text, &self.path("gateway.toml"))
    }

    /// The configuration of a text without mistakes.
    fn config(&self, text: &str) -> Config {
        match self.parse(text) {
            Ok((config, _)) => config,
            Err(diagnosis) => panic!("{diagnosis}"),
        }
    }

    /// The whole diagnosis of a text with mistakes, without the directory's name.
    fn error_text(&self, text: &str) -> String {
        let diagnosis = self.parse(text).map(|_| ()).unwrap_err().to_string();
        diagnosis.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

const MINIMAL: &str = r#"
[listeners.ccfs]
bind = "127.0.0.1:0"
cluster = "ccfs"
tls = { certificate = "gateway.pem", private_key = "gateway.key" }

[clusters.ccfs]
nodes = ["https://10.0.0.1:8443"]
tls = { ca = "ca.pem" }

[access_keys.AK]
secret_key_file = "sk"
time_zone = "Asia/Shanghai"
"#;
