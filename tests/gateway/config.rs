//! The configuration from the point of view of an operator: files, `check`, `schema`, exit codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use ccfs_gateway::cli::check::{Check, Schema};
use ccfs_gateway::config::Config;
use tempfile::TempDir;

use crate::process::PROGRAM;

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
        // Free ports: `check` warns of an address that is in use.
        let example = fs::read_to_string(shipped).unwrap();
        let example = example.replace("127.0.0.1:28443", "127.0.0.1:0");
        let admin = "[admin]\nbind = \"127.0.0.1:0\"\n";
        fs::write(files.path("gateway.toml"), example + admin).unwrap();
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
        "listener ccfs on 127.0.0.1:0",
        "/ -> ccfs",
        "valid until",
        "cluster ccfs: least-request",
        "https://127.0.0.1:18445",
        "access keys: 2, of which 0 disabled, 1 without a rate limit",
        "cache: 64MiB",
        "admin on 127.0.0.1:0",
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
        "time_zone is missing",
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
    Schema::default().run(&mut out).unwrap();
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

/// Runs `check` and `run` on the same file. A command that does not end by itself ends with code 124.
fn check_and_run(folder: &Path) -> [Output; 2] {
    ["check", "run"].map(|name| {
        Command::new("timeout")
            .args(["20", PROGRAM, name, "--config", "gateway.toml"])
            .current_dir(folder)
            .output()
            .unwrap()
    })
}

/// A free port of the loopback addresses of both families, as far as anything can tell.
fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn check_rejects_what_run_rejects() {
    let second = |bind: &str| {
        format!(
            "[listeners.two]\nbind = \"{bind}\"\ncluster = \"ccfs\"\n\
             tls = {{ certificate = \"tls/gateway.pem\", private_key = \"tls/gateway.key\" }}"
        )
    };
    let port = free_port();
    let all = format!("[::]:{port}");
    for (bind, added) in [
        (None, "[telemetry]\naccess_log = \"tls\"".to_owned()),
        (
            None,
            "[telemetry]\naccess_log = \"gone/access.log\"".to_owned(),
        ),
        (
            None,
            "[telemetry]\naccess_log = \"gateway.toml/access.log\"".to_owned(),
        ),
        (
            None,
            "[telemetry]\notlp_endpoint = \"http://localhost:99999\"".to_owned(),
        ),
        (Some(&all), second(&format!("0.0.0.0:{port}"))),
        (Some(&all), second(&format!("127.0.0.1:{port}"))),
        (Some(&all), second(&format!("[::ffff:127.0.0.1]:{port}"))),
        (Some(&all), second(&format!("[::1]:{port}"))),
    ] {
        let files = Files::new();
        files.add(&added);
        if let Some(bind) = bind {
            let text = fs::read_to_string(files.path("gateway.toml")).unwrap();
            let text = text.replacen("127.0.0.1:0", bind, 1);
            files.write("gateway.toml", &text);
        }
        for output in check_and_run(files.directory.path()) {
            let code = output.status.code();
            assert!(matches!(code, Some(1 | 78)), "{added}: {output:?}");
        }
    }
}

#[test]
fn an_address_in_use_is_a_warning_of_check() {
    let files = Files::new();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = socket.local_addr().unwrap().to_string();
    let text = fs::read_to_string(files.path("gateway.toml")).unwrap();
    files.write("gateway.toml", &text.replacen("127.0.0.1:0", &bind, 1));
    let [check, run] = check_and_run(files.directory.path());
    assert_eq!((check.status.code(), run.status.code()), (Some(0), Some(1)));
    let warning = String::from_utf8(check.stderr).unwrap();
    assert!(
        warning.contains(&format!(
            "warning: listener ccfs cannot listen on {bind} now"
        )),
        "{warning}"
    );
}

/// `check` does not open it: its reader would see the end of the pipe, and `run` would then have none.
#[test]
fn a_pipe_as_access_log_is_a_warning_of_check() {
    let files = Files::new();
    let pipe = files.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    files.add("[telemetry]\naccess_log = \"pipe\"");
    let [check, run] = check_and_run(files.directory.path());
    assert_eq!((check.status.code(), run.status.code()), (Some(0), Some(1)));
    let warning = String::from_utf8(check.stderr).unwrap();
    assert!(
        warning.contains("is a pipe: run starts only while a process reads it"),
        "{warning}"
    );
    // A reader goes on waiting for its writer.
    let (opened, seen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let text = fs::read_to_string(pipe);
            let _ = opened.send(());
            text.unwrap()
        }
    });
    let checked = Command::new(PROGRAM)
        .args(["check", "--config", "gateway.toml"])
        .current_dir(files.directory.path())
        .output();
    assert!(checked.unwrap().status.success());
    assert!(seen.try_recv().is_err());
    fs::write(&pipe, "a line").unwrap();
    assert_eq!(reader.join().unwrap(), "a line");
}

#[test]
fn a_configuration_from_a_pipe_is_read_once() {
    let files = Files::new();
    let path = files.path("config.pipe");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let mut child = Command::new(PROGRAM)
        .args(["run", "--config", "config.pipe"])
        .current_dir(files.directory.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = fs::read_to_string(files.path("gateway.toml")).unwrap();
    fs::write(&path, text).unwrap();
    let pid = child.id().to_string();
    let stderr = child.stderr.take().unwrap();
    let (seen, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::io::BufRead;
        let lines = std::io::BufReader::new(stderr).lines();
        lines
            .map_while(Result::ok)
            .all(|line| seen.send(line).is_ok())
    });
    let wait_for = |text: &str| {
        let patience = std::time::Duration::from_secs(20);
        while let Ok(line) = lines.recv_timeout(patience) {
            if line.contains(text) {
                return true;
            }
        }
        false
    };
    let serves = wait_for("serving");
    let sent = Command::new("kill").args(["-HUP", &pid]).status();
    let rejected = wait_for("cannot be read again: it is not a regular file");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        serves && sent.unwrap().success() && rejected,
        "{serves} {rejected}"
    );
}

#[test]
fn all_lists_what_is_omitted_otherwise() {
    let files = Files::new();
    let unknown = (0..30).map(|number| format!("unknown{number} = 1\n"));
    files.add(&format!("[limits]\n{}", unknown.collect::<String>()));
    let checked = files.check();
    assert_eq!(
        checked.err.matches("error: ").count(),
        20,
        "{}",
        checked.err
    );
    assert!(
        checked.err.contains("errors_omitted: 10"),
        "{}",
        checked.err
    );
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let check = Check::new(files.path("gateway.toml")).all();
    check.run(&mut out, &mut err).unwrap();
    let err = String::from_utf8(err).unwrap();
    assert_eq!(err.matches("error: ").count(), 30, "{err}");
}
