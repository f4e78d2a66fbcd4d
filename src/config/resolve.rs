//! Builds a [`Config`] from the parsed file: defaults, relations between keys, and the files that it
//! names. Every problem is reported with its location; no step stops at the first one.

mod access_keys;
mod accounts;
mod callers;
mod clusters;
mod crls;
mod fallbacks;
mod listeners;
mod own_binds;
mod playback;
mod settings;
mod shared_store;
mod telemetry;
mod ticket_keys;
mod tls;
mod zone_names;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

pub use accounts::TableDigest;
pub(super) use accounts::{AccountReader, AccountRules};

use super::diagnostics::Diagnostics;
use super::diagnostics::Severity;
use super::document::{self, FileKind};
use super::file::{AccessKey, ByName, File, Setting};
use super::key_directory::KeyChanges;
use super::permissions;
use super::problem::{ConfigError, Problem};
use super::units::{ByteSize, ConfigDuration};
use super::{Config, ConfigText};
use crate::encoding;

/// How the files of `access_keys_dir` are treated.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyFiles<'a> {
    /// Each mistake in one of them is an error.
    Checked,
    /// A file with mistakes is refused by itself.
    Served,
    /// Likewise; a file with mistakes keeps what it has in the configuration in force.
    Reloaded(&'a Config),
    /// Likewise; only these files are read again.
    Changed(&'a Config, &'a KeyChanges),
}

/// Resolves the text of the file at `path`. The validity of certificates is checked at the time `now`.
pub(super) fn resolve(
    text: &str,
    path: &Path,
    now: SystemTime,
    key_files: KeyFiles<'_>,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let mut diagnostics = Diagnostics::new(path);
    let Some(file) = document::read::<File>(text, FileKind::Main, &mut diagnostics) else {
        return Err(ConfigError::new(diagnostics.into_problems(path, text)));
    };

    // Each section by itself.
    let mut keys = KeysFile::read(&file, &mut diagnostics);
    let access_keys = access_keys::resolve(&file, keys.as_mut(), key_files, &mut diagnostics);
    let mut config = Config {
        access_keys: access_keys.access_keys,
        plans: access_keys.plans,
        key_file: access_keys.key_file,
        key_directory: access_keys.directory,
        listeners: Default::default(),
        clusters: Default::default(),
        callers: Default::default(),
        cache: settings::cache(&file.cache, &mut diagnostics),
        limits: settings::limits(&file.limits, &mut diagnostics),
        shared: None,
        admin: Default::default(),
        telemetry: telemetry::resolve(&file.telemetry, &mut diagnostics),
        server: settings::server(&file.server, &mut diagnostics),
        files: Default::default(),
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
    config.callers = callers::resolve(&file, &config.listeners, &mut diagnostics);

    check_relations(
        &file,
        keys.as_ref(),
        &config,
        KeyDirectoryState {
            are_all_good: access_keys.are_all_good,
            is_followed: file.access_keys_dir.is_some() && !matches!(key_files, KeyFiles::Checked),
        },
        &mut diagnostics,
    );

    // The diagnostics of all files, in this order.
    let mut files = std::mem::take(&mut diagnostics.files);
    let mut problems = diagnostics.into_problems(path, text);
    if let Some(mut keys) = keys {
        files.append(&mut keys.diagnostics.files);
        problems.extend(keys.diagnostics.into_problems(&keys.path, &keys.text));
    }
    problems.extend(access_keys.problems);
    config.files = Arc::new(files);
    let is_error = |problem: &Problem| problem.severity() == Severity::Error;
    if problems.iter().any(is_error) {
        return Err(ConfigError::new(problems));
    }
    Ok((config, problems))
}

/// What the checks of names of access keys must know of `access_keys_dir`.
#[derive(Clone, Copy)]
struct KeyDirectoryState {
    /// Whether no file of it is refused.
    are_all_good: bool,
    /// Whether its access keys come and go while the gateway serves.
    is_followed: bool,
}

/// Checks relations between sections. Unused names are only reported in an otherwise valid configuration.
fn check_relations(
    file: &File,
    keys: Option<&KeysFile>,
    config: &Config,
    directory: KeyDirectoryState,
    diagnostics: &mut Diagnostics,
) {
    let are_keys_valid = match keys {
        Some(keys) => !keys.diagnostics.has_errors(),
        None => file.access_keys_file.is_none(),
    };
    if are_keys_valid && directory.are_all_good {
        let tables = [Some(&file.access_keys), keys.map(|keys| &keys.tables)];
        let tables = tables.into_iter().flatten();
        // Mistakes of its own table are reported there.
        let is_written = |name: &str| tables.clone().any(|it| it.contains_key(name));
        let accounts = &config.access_keys;
        clusters::check_health_check_keys(&file.clusters, is_written, accounts, diagnostics);
        let known = (accounts, directory.is_followed);
        callers::check_access_keys(&file.callers, is_written, known, diagnostics);
    }
    if !diagnostics.has_errors() && are_keys_valid {
        warn_of_unused(file, config, diagnostics);
    }
}

/// Returns the error for a configuration file that cannot be read.
pub(super) fn unreadable_file(path: &Path, error: &str, help: &str) -> ConfigError {
    let mut diagnostics = Diagnostics::new(path);
    diagnostics.file_error(format!("cannot read the configuration: {error}"), help);
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
        if let Err(open) = permissions::check_key_file(&path) {
            let message = format!("{} {open}", path.display());
            main_diagnostics.error(written.span(), message, permissions::KEY_FILE_HELP);
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
        let file = document::read_access_keys(&text, &mut diagnostics);
        Some(Self {
            tables: file.unwrap_or_default().access_keys,
            path,
            text,
            diagnostics,
        })
    }
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
