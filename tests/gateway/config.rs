//! The configuration from the point of view of an operator: files, `check`, `schema`, exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ccfs_gateway::cli::check::{Check, Schema};
use ccfs_gateway::config::Config;
use tempfile::TempDir;

/// A copy of `config/` with temporary certificates and secrets.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for directory in ["tls", "secrets"] {
            fs::create_dir(files.path(directory)).unwrap();
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/gateway.toml");
        fs::copy(shipped, files.path("gateway.toml")).unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        files.write("tls/gateway.pem", &made.cert.pem());
        files.write("tls/gateway.key", &made.signing_key.serialize_pem());
        files.write("tls/ccfs-ca.pem", &made.cert.pem());
        files.write("secrets/279a08bbd8d949a0", "CANARY-1\n");
        files.write("secrets/5c1f0f7d2a6e4b3c", "CANARY-2\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Appends lines to the example configuration.
    fn add(&self, lines: &str) {
        let example = fs::read_to_string(self.path("gateway.toml")).unwrap();
        self.write("gateway.toml", &format!("{example}\n{lines}\n"));
    }

    fn check(&self) -> CheckOutput {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let check = Check::new(self.path("gateway.toml"));
        let code = check.run(&mut out, &mut err).unwrap();
        CheckOutput {
            code,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        }
    }
}

#[derive(Debug)]
struct CheckOutput {
    code: ExitCode,
    out: String,
    err: String,
}

#[test]
fn check_summarizes_a_valid_configuration() {
    let checked = Files::new().check();
    assert_eq!(checked.code, ExitCode::SUCCESS, "{checked:?}");
    assert_eq!(checked.err, "");
    for expected in [
        "listener ccfs on 127.0.0.1:28443",
        "/ -> ccfs",
        "valid until",
        "cluster ccfs: least-request",
        "https://127.0.0.1:18445",
        "access keys: 2, of which 0 disabled, 1 without a rate limit",
        "cache: 64MiB",
        "admin on 127.0.0.1:9901",
    ] {
        assert!(
            checked.out.contains(expected),
            "{expected}\n{}",
            checked.out
        );
    }
    assert!(checked.out.ends_with("configuration is valid\n"));
    assert!(!checked.out.contains("CANARY"));
}

#[test]
fn check_reports_every_mistake_and_exits_with_78() {
    let files = Files::new();
    files.add("[limits]\nidle = 5\nbody_timeout = 5\n[access_keys.x]\nsecret_key = \"CANARY\"");
    let checked = files.check();
    assert_eq!(checked.code, ExitCode::from(78));
    assert_eq!(checked.out, "");
    for expected in [
        "unknown key `idle`",
        "body_timeout cannot be",
        "no time_zone",
        "^^^^",
        "4 errors",
    ] {
        assert!(
            checked.err.contains(expected),
            "{expected}\n{}",
            checked.err
        );
    }
    assert!(!checked.err.contains("CANARY"), "{}", checked.err);
}

#[test]
fn warnings_do_not_fail_check() {
    let files = Files::new();
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(files.path("secrets/279a08bbd8d949a0"), open).unwrap();
    let checked = files.check();
    assert_eq!(checked.code, ExitCode::SUCCESS, "{checked:?}");
    assert!(checked.err.starts_with("warning: "), "{}", checked.err);
}

#[test]
fn a_missing_file_is_78() {
    let files = Files::new();
    fs::remove_file(files.path("gateway.toml")).unwrap();
    let checked = files.check();
    assert_eq!(checked.code, ExitCode::from(78));
    assert!(
        checked.err.contains("cannot read the configuration"),
        "{}",
        checked.err
    );
}

#[test]
fn the_schema_is_json() {
    let mut out = Vec::new();
    Schema {}.run(&mut out).unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
}

#[test]
fn thousands_of_access_keys_are_read() {
    let files = Files::new();
    files.write("keys.toml", &access_keys(10_000));
    let example = fs::read_to_string(files.path("gateway.toml")).unwrap();
    files.write(
        "gateway.toml",
        &format!("access_keys_file = \"keys.toml\"\n{example}"),
    );
    let (config, warnings) = Config::load(&files.path("gateway.toml")).unwrap();
    assert_eq!((config.access_keys.len(), warnings.len()), (10_002, 0));
}

fn access_keys(count: u32) -> String {
    let zones = [
        "Asia/Shanghai",
        "Europe/Berlin",
        "GMT+8",
        "America/New_York",
    ];
    let table = |number: u32| {
        let zone = zones[number as usize % zones.len()];
        format!(
            "[access_keys.{number:016x}]\nsecret_key = \"{number:032x}\"\ntime_zone = \"{zone}\"\nrate_limit = {{ per_second = 50, burst = 100 }}\n"
        )
    };
    (0..count).map(table).collect()
}
