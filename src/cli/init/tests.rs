use std::fs;

use super::*;
use crate::config::Config;

fn init(directory: &Path) -> anyhow::Result<String> {
    let mut out = Vec::new();
    let init = Init {
        directory: directory.to_owned(),
    };
    init.run(&mut out)?;
    Ok(String::from_utf8(out)?)
}

#[test]
fn the_configuration_is_valid_without_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("gateway");
    let printed = init(&directory).unwrap();
    let (config, warnings) = Config::load(&directory.join("gateway.toml")).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.clusters["ccfs"].nodes.len(), NODES.len());
    for part in NODES.into_iter().chain([URL]) {
        let address = part.trim_start_matches("https://");
        assert!(CONFIG.contains(address), "{address}");
        assert!(printed.contains(address), "{address} in\n{printed}");
    }
}

#[test]
fn the_keys_in_comments_are_valid_too() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("gateway");
    init(&directory).unwrap();
    let is_key = |line: &str| {
        let key = line
            .strip_prefix('#')
            .and_then(|line| line.split_once(" = "));
        key.is_some_and(|(key, _)| !key.contains(' '))
    };
    let log = folder.path().display().to_string();
    let lines = CONFIG.lines();
    let lines = lines.map(|line| if is_key(line) { &line[1..] } else { line });
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text.replace("/var/log/ccfs-gateway", &log);
    let (config, _) = Config::parse(&text, &directory.join("gateway.toml")).unwrap();
    assert!(config.telemetry.audit_log.is_some());
    assert_eq!(CONFIG.lines().filter(|line| is_key(line)).count(), 4);
}

#[test]
fn nothing_is_written_if_one_of_its_files_exists() {
    for existing in ["gateway.toml", "tls/node.key", "secrets/279a08bbd8d949a0"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(existing);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A link that leads nowhere is a file too.
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let error = init(folder.path()).unwrap_err().to_string();
        assert!(error.contains(existing), "{error}");
        let count = |name: &str| {
            fs::read_dir(folder.path().join(name)).map_or(0, |entries| entries.count())
        };
        let files = count("tls") + count("secrets");
        assert_eq!(files, usize::from(existing.contains('/')), "{existing}");
        assert!(!folder.path().join("nowhere").exists());
    }
}

#[test]
fn other_files_of_the_directory_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    init(folder.path()).unwrap();
    assert_eq!(fs::read(folder.path().join("notes.txt")).unwrap(), b"mine");
    assert!(init(folder.path()).is_err(), "its own files are there now");
}
