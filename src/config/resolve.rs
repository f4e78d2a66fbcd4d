//! Builds a [`Config`] from the parsed file: defaults, relations between keys, and the files that it
//! names. Every problem is reported with its location; no step stops at the first one.

mod accounts;
mod clusters;
mod crls;
mod fallbacks;
mod listeners;
mod own_binds;
mod settings;
mod shared_store;
mod telemetry;
mod tls;
mod zone_names;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use accounts::Accounts;
use zeroize::Zeroizing;

use super::diagnostics::Diagnostics;
use super::diagnostics::Severity;
use super::document::{self, FileKind};
use super::file::{AccessKey, AccessKeysFile, ByName, File, Setting};
use super::problem::{ConfigError, Problem};
use super::units::{ByteSize, ConfigDuration};
use super::{Config, ConfigText};
use crate::encoding;

/// Resolves the text of the file at `path`. The validity of certificates is checked at the time `now`.
pub(super) fn resolve(
    text: &str,
    path: &Path,
    now: SystemTime,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let mut diagnostics = Diagnostics::new(path);
    let Some(file) = document::read::<File>(text, FileKind::Main, &mut diagnostics) else {
        return Err(ConfigError::new(diagnostics.into_problems(path, text)));
    };

    // Each section by itself.
    let mut keys = KeysFile::read(&file, &mut diagnostics);
    let mut accounts = Accounts::new(&file.access_key_defaults, &mut diagnostics);
    accounts.add(&file.access_keys, false, &mut diagnostics);
    if let Some(keys) = &mut keys {
        accounts.add(&keys.tables, true, &mut keys.diagnostics);
    }
    let mut config = Config {
        access_keys: accounts.into_map(),
        listeners: Default::default(),
        clusters: Default::default(),
        cache: settings::cache(&file.cache, &mut diagnostics),
        limits: settings::limits(&file.limits, &mut diagnostics),
        shared: None,
        admin: Default::default(),
        telemetry: telemetry::resolve(&file.telemetry, &mut diagnostics),
        server: settings::server(&file.server, &mut diagnostics),
        files: Vec::new(),
        text: ConfigText(text.into()),
    };
    let mut tls_files = tls::TlsFiles::new(now);
    config.clusters = clusters::resolve(&file.clusters, &mut tls_files, &mut diagnostics);
    fallbacks::check(&file.clusters, &config.clusters, &mut diagnostics);
    let store = file.shared.as_ref();
    config.shared =
        store.and_then(|it| shared_store::resolve(it, &mut tls_files, &mut diagnostics));
    config.listeners = listeners::resolve(&file, &mut tls_files, &mut diagnostics);
    config.admin = listeners::admin(&file.admin, &mut tls_files, &mut diagnostics);
    listeners::check_addresses(&file, &config, &mut diagnostics);

    // Relations between sections. Unused names are only reported in an otherwise valid configuration.
    check_health_check_keys(&file, keys.as_ref(), &config, &mut diagnostics);
    let keys_are_valid = |keys: &KeysFile| !keys.diagnostics.has_errors();
    if !diagnostics.has_errors() && keys.as_ref().is_none_or(keys_are_valid) {
        warn_of_unused(&file, &config, &mut diagnostics);
    }

    // The diagnostics of both files, in this order.
    let mut files = BTreeSet::from([path.to_owned()]);
    files.append(&mut diagnostics.files);
    let mut problems = diagnostics.into_problems(path, text);
    if let Some(mut keys) = keys {
        files.append(&mut keys.diagnostics.files);
        problems.extend(keys.diagnostics.into_problems(&keys.path, &keys.text));
    }
    config.files = files.into_iter().collect();
    let is_error = |problem: &Problem| problem.severity() == Severity::Error;
    if problems.iter().any(is_error) {
        return Err(ConfigError::new(problems));
    }
    Ok((config, problems))
}

/// Checks the access keys of signed health checks; not if some access keys could not be read.
fn check_health_check_keys(
    file: &File,
    keys: Option<&KeysFile>,
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let all_known = match keys {
        Some(keys) => !keys.diagnostics.has_errors(),
        None => file.access_keys_file.is_none(),
    };
    if all_known {
        let tables = [Some(&file.access_keys), keys.map(|keys| &keys.tables)];
        let accounts = &config.access_keys;
        clusters::check_health_check_keys(&file.clusters, &tables, accounts, diagnostics);
    }
}

/// Returns the error for a configuration file that cannot be read.
pub(super) fn unreadable_file(path: &Path, error: &str) -> ConfigError {
    let mut diagnostics = Diagnostics::new(path);
    diagnostics.file_error(
        format!("cannot read the configuration: {error}"),
        "give the path of a readable TOML file with --config",
    );
    ConfigError::new(diagnostics.into_problems(path, ""))
}

/// The file of `access_keys_file`, with its own diagnostics. Its text is wiped when dropped.
struct KeysFile {
    path: PathBuf,
    text: Zeroizing<String>,
    tables: ByName<AccessKey>,
    diagnostics: Diagnostics,
}

impl KeysFile {
    /// Reads the file that `main` names; `None` if it names none or it cannot be read.
    fn read(main: &File, main_diagnostics: &mut Diagnostics) -> Option<Self> {
        let written = main.access_keys_file.as_ref()?;
        let path = main_diagnostics.resolve_path(written);
        if let Some(open) = open_mode(&path) {
            let message = format!("{} {open}", path.display());
            let help = "must be readable and writable by its owner only: chmod 600";
            main_diagnostics.error(written.span(), message, help);
            return None;
        }
        let bytes = Zeroizing::new(main_diagnostics.read_secret_file(written, &written.span)?);
        let text = match encoding::decode(&bytes) {
            Ok(text) => Zeroizing::new(text.to_owned()),
            Err(error) => {
                let message = format!("{}: {error}", path.display());
                main_diagnostics.error(written.span(), message, "must be a TOML file in UTF-8");
                return None;
            }
        };
        let mut diagnostics = Diagnostics::new(&path);
        let file: Option<AccessKeysFile> =
            document::read(&text, FileKind::AccessKeys, &mut diagnostics);
        Some(Self {
            tables: file.unwrap_or_default().access_keys,
            path,
            text,
            diagnostics,
        })
    }
}

/// Warns if the group or others can read a secret file, or the group can write it. A file that others
/// can write is an error: they choose the secret.
fn warn_if_readable_by_others(written: &str, span: &Range<usize>, diagnostics: &mut Diagnostics) {
    let path = diagnostics.resolve_path(written);
    let Some(open) = open_mode(&path) else {
        return;
    };
    let message = format!("{} {open}", path.display());
    if open.0 & 0o002 == 0 {
        let help = "should be readable and writable by its owner only: chmod 600";
        diagnostics.warning(span.clone(), message, help);
    } else {
        let help = "must be writable by its owner only: chmod 600";
        diagnostics.error(span.clone(), message, help);
    }
}

/// The mode of a file that its group or others can read or write.
struct OpenMode(u32);

impl std::fmt::Display for OpenMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let readable = self.0 & 0o044 != 0;
        let writable = self.0 & 0o022 != 0;
        let how = match (readable, writable) {
            (true, true) => "read and written",
            (false, true) => "written",
            (_, false) => "read",
        };
        write!(f, "can be {how} by others (mode {:o})", self.0)
    }
}

/// Returns the mode of a file that its group or others can read or write.
fn open_mode(path: &Path) -> Option<OpenMode> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o066 != 0).then_some(OpenMode(mode))
}

/// Warns of what is valid but has no effect.
fn warn_of_unused(file: &File, config: &Config, diagnostics: &mut Diagnostics) {
    own_binds::warn(file, config, diagnostics);
    let routes = config.listeners.values().flat_map(|it| &it.routes);
    for name in file.clusters.keys() {
        let mut fallbacks = file.clusters.values().filter_map(|it| it.fallback.as_ref());
        if !routes.clone().any(|(_, cluster)| **cluster == *name.value)
            && !fallbacks.any(|fallback| fallback.value == name.value)
        {
            diagnostics.warning(
                name.span(),
                format!("no listener uses cluster {}", name.value),
                "needs a listener with this cluster, or a route to it",
            );
        }
    }
    if config.access_keys.is_empty() {
        diagnostics.file_warning(
            "no access keys: no request can be verified",
            "needs [access_keys.AK], or access_keys_file",
        );
    }
}

/// The value of a key, or its default.
fn value_or<T: Copy>(key: &Setting<T>, default: T) -> T {
    key.as_ref().map_or(default, |key| key.value)
}

/// The duration of a key, or its default.
fn duration_or(key: &Setting<ConfigDuration>, default: Duration) -> Duration {
    key.as_ref().map_or(default, |key| key.0)
}

/// Like [`duration_or`]; zero is an error.
fn nonzero_duration_or(
    key: &Setting<ConfigDuration>,
    default: Duration,
    diagnostics: &mut Diagnostics,
) -> Duration {
    if let Some(key) = key
        && key.0.is_zero()
    {
        diagnostics.error(key.span(), "cannot be zero", "must be longer than \"0s\"");
    }
    duration_or(key, default)
}

/// The size of a key in bytes, or its default.
fn size_or(key: &Setting<ByteSize>, default: u64) -> u64 {
    key.as_ref().map_or(default, |key| key.0)
}

/// Like [`size_or`]; zero is an error.
fn nonzero_size_or(key: &Setting<ByteSize>, default: u64, diagnostics: &mut Diagnostics) -> u64 {
    if let Some(key) = key
        && key.0 == 0
    {
        diagnostics.error(key.span(), "cannot be zero", "must be at least \"1B\"");
    }
    size_or(key, default)
}

fn arc_str(text: &str) -> Arc<str> {
    Arc::from(text)
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
