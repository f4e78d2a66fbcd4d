//! From the file to a [`Config`]: defaults, relations between keys, and the files that it names.
//! Every problem is reported with its place; nothing ends at the first.

mod accounts;
mod clusters;
mod crls;
mod listeners;
mod own_binds;
mod settings;
mod shared_store;
mod telemetry;
mod tls;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use accounts::Accounts;
use zeroize::Zeroizing;

use super::Config;
use super::diagnose::{ConfigError, Problem, Severity};
use super::document::{self, FileKind};
use super::file::{AccessKey, AccessKeysFile, ByName, File, Setting};
use super::report::Diagnostics;
use super::units::{ByteSize, ConfigDuration};

/// Resolves the text of the file at `path`. Certificates are judged at the time `now`.
pub(super) fn resolve(
    text: &str,
    path: &Path,
    now: SystemTime,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let mut report = Diagnostics::new(path);
    let Some(file) = document::read::<File>(text, FileKind::Main, &mut report) else {
        return Err(ConfigError::new(report.into_problems(path, text)));
    };
    let mut keys = KeysFile::read(&file, &mut report);
    let mut accounts = Accounts::new(&file.access_key_defaults, &mut report);
    accounts.add(&file.access_keys, false, &mut report);
    if let Some(keys) = &mut keys {
        accounts.add(&keys.tables, true, &mut keys.report);
    }
    let mut config = Config {
        access_keys: accounts.into_map(),
        listeners: Default::default(),
        clusters: Default::default(),
        cache: settings::cache(&file.cache, &mut report),
        limits: settings::limits(&file.limits, &mut report),
        shared: None,
        admin: Default::default(),
        telemetry: telemetry::resolve(&file.telemetry, &mut report),
        server: settings::server(&file.server),
        files: Vec::new(),
    };
    let mut material = tls::TlsFiles::new(now);
    config.clusters = clusters::resolve(&file.clusters, &mut material, &mut report);
    let store = file.shared.as_ref();
    config.shared = store.and_then(|it| shared_store::resolve(it, &mut material, &mut report));
    config.listeners = listeners::resolve(&file, &mut material, &mut report);
    config.admin = listeners::admin(&file.admin, &mut material, &mut report);
    listeners::check_addresses(&file, &config, &mut report);
    let all_declared = match &keys {
        Some(keys) => !keys.report.has_errors(),
        None => file.access_keys_file.is_none(),
    };
    if all_declared {
        let tables = [
            Some(&file.access_keys),
            keys.as_ref().map(|keys| &keys.tables),
        ];
        clusters::check_health_check_keys(
            &file.clusters,
            &tables,
            &config.access_keys,
            &mut report,
        );
    }
    if !report.has_errors() && keys.as_ref().is_none_or(|keys| !keys.report.has_errors()) {
        warn_of_unused(&file, &config, &mut report);
    }

    let mut files = BTreeSet::from([path.to_owned()]);
    files.append(&mut report.files);
    let mut problems = report.into_problems(path, text);
    if let Some(mut keys) = keys {
        files.append(&mut keys.report.files);
        problems.extend(keys.report.into_problems(&keys.path, &keys.text));
    }
    config.files = files.into_iter().collect();
    let is_error = |problem: &Problem| problem.severity() == Severity::Error;
    if problems.iter().any(is_error) {
        return Err(ConfigError::new(problems));
    }
    Ok((config, problems))
}

/// The diagnosis for a configuration file that is not there.
pub(super) fn unreadable_file(path: &Path, error: &std::io::Error) -> ConfigError {
    let mut report = Diagnostics::new(path);
    report.file_error(
        format!("cannot read the configuration: {error}"),
        "give the path of a readable TOML file with --config",
    );
    ConfigError::new(report.into_problems(path, ""))
}

/// `access_keys_file`, with findings of its own; its text is wiped when dropped.
struct KeysFile {
    path: PathBuf,
    text: Zeroizing<String>,
    tables: ByName<AccessKey>,
    report: Diagnostics,
}

impl KeysFile {
    /// Reads the file that `main` names, if it names one.
    fn read(main: &File, main_report: &mut Diagnostics) -> Option<Self> {
        let written = main.access_keys_file.as_ref()?;
        let path = main_report.resolve_path(written);
        if let Some(mode) = mode_if_readable_by_others(&path) {
            let message = format!("{} can be read by others (mode {mode:o})", path.display());
            let help = "must be readable by its owner only: chmod 600";
            main_report.error(written.span(), message, help);
            return None;
        }
        let Ok(text) = String::from_utf8(main_report.read_file(written)?) else {
            let message = format!("{} is not UTF-8", path.display());
            main_report.error(written.span(), message, "must be a TOML file");
            return None;
        };
        let text = Zeroizing::new(text);
        let mut report = Diagnostics::new(&path);
        let file: Option<AccessKeysFile> = document::read(&text, FileKind::AccessKeys, &mut report);
        Some(Self {
            tables: file.unwrap_or_default().access_keys,
            path,
            text,
            report,
        })
    }
}

/// Secrets should be their owner's only.
fn warn_if_readable_by_others(written: &str, span: &Range<usize>, report: &mut Diagnostics) {
    let path = report.resolve_path(written);
    if let Some(mode) = mode_if_readable_by_others(&path) {
        let message = format!("{} can be read by others (mode {mode:o})", path.display());
        report.warning(
            span.clone(),
            message,
            "should be readable by its owner only: chmod 600",
        );
    }
}

/// The mode of a file that its group or others can read.
fn mode_if_readable_by_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o044 != 0).then_some(mode)
}

/// What starts, and does not do what is most probably wanted.
fn warn_of_unused(file: &File, config: &Config, report: &mut Diagnostics) {
    own_binds::warn(file, config, report);
    let routes = config.listeners.values().flat_map(|it| &it.routes);
    for name in file.clusters.keys() {
        if !routes.clone().any(|(_, cluster)| **cluster == *name.value) {
            report.warning(
                name.span(),
                format!("no listener uses cluster {}", name.value),
                "needs a listener with this cluster, or a route to it",
            );
        }
    }
    if config.access_keys.is_empty() {
        report.file_warning(
            "no access keys: no request can be verified",
            "needs [access_keys.AK], or access_keys_file",
        );
    }
}

fn value_or<T: Copy>(key: &Setting<T>, default: T) -> T {
    key.as_ref().map_or(default, |key| key.value)
}

fn duration_or(key: &Setting<ConfigDuration>, default: Duration) -> Duration {
    key.as_ref().map_or(default, |key| key.0)
}

/// A duration that cannot be zero.
fn nonzero_duration_or(
    key: &Setting<ConfigDuration>,
    default: Duration,
    report: &mut Diagnostics,
) -> Duration {
    if let Some(key) = key
        && key.0.is_zero()
    {
        report.error(key.span(), "cannot be zero", "must be longer than \"0s\"");
    }
    duration_or(key, default)
}

fn size_or(key: &Setting<ByteSize>, default: u64) -> u64 {
    key.as_ref().map_or(default, |key| key.0)
}

/// A size that cannot be zero.
fn nonzero_size_or(key: &Setting<ByteSize>, default: u64, report: &mut Diagnostics) -> u64 {
    if let Some(key) = key
        && key.0 == 0
    {
        report.error(key.span(), "cannot be zero", "must be at least \"1B\"");
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
