//! From the file to a [`Config`]: defaults, relations between keys, and the files that it names.
//! Every problem is reported with its place; nothing ends at the first.

mod accounts;
mod clusters;
mod crls;
mod listeners;
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
use super::diagnose::{Diagnosis, Problem, Severity};
use super::document::{self, Kind};
use super::file::{AccessKey, AccessKeysFile, File, Key, Named};
use super::report::Report;
use super::units::{Size, Time};

/// Resolves the text of the file at `path`. Certificates are judged at the time `now`.
pub(super) fn resolve(
    text: &str,
    path: &Path,
    now: SystemTime,
) -> Result<(Config, Vec<Problem>), Diagnosis> {
    let mut report = Report::new(path);
    let Some(file) = document::read::<File>(text, Kind::Main, &mut report) else {
        return Err(Diagnosis::new(report.into_problems(path, text)));
    };
    let mut keys = KeysPage::open(&file, &mut report);
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
    let mut material = tls::Material::new(now);
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
        clusters::check_signers(&file.clusters, &tables, &config.access_keys, &mut report);
    }
    if !report.has_errors() && keys.as_ref().is_none_or(|keys| !keys.report.has_errors()) {
        warn_of_what_has_no_use(&file, &config, &mut report);
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
        return Err(Diagnosis::new(problems));
    }
    Ok((config, problems))
}

/// The diagnosis for a configuration file that is not there.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Diagnosis {
    let mut report = Report::new(path);
    report.error_of_file(
        format!("cannot read the configuration: {error}"),
        "give the path of a readable TOML file with --config",
    );
    Diagnosis::new(report.into_problems(path, ""))
}

/// `access_keys_file`, with findings of its own; its text is wiped when dropped.
struct KeysPage {
    path: PathBuf,
    text: Zeroizing<String>,
    tables: Named<AccessKey>,
    report: Report,
}

impl KeysPage {
    /// Reads the file that `main` names, if it names one.
    fn open(main: &File, main_report: &mut Report) -> Option<Self> {
        let written = main.access_keys_file.as_ref()?;
        let path = main_report.path(written);
        if let Some(mode) = open_to_others(&path) {
            let message = format!("{} can be read by others (mode {mode:o})", path.display());
            let help = "must be readable by its owner only: chmod 600";
            main_report.error(written.span(), message, help);
            return None;
        }
        let Ok(text) = String::from_utf8(main_report.read(written)?) else {
            let message = format!("{} is not UTF-8", path.display());
            main_report.error(written.span(), message, "must be a TOML file");
            return None;
        };
        let text = Zeroizing::new(text);
        let mut report = Report::new(&path);
        let file: Option<AccessKeysFile> = document::read(&text, Kind::AccessKeys, &mut report);
        Some(Self {
            tables: file.unwrap_or_default().access_keys,
            path,
            text,
            report,
        })
    }
}

/// Secrets should be their owner's only.
fn warn_if_open(written: &str, span: &Range<usize>, report: &mut Report) {
    let path = report.path(written);
    if let Some(mode) = open_to_others(&path) {
        let message = format!("{} can be read by others (mode {mode:o})", path.display());
        report.warn(
            span.clone(),
            message,
            "should be readable by its owner only: chmod 600",
        );
    }
}

/// The mode of a file that its group or others can read.
fn open_to_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o044 != 0).then_some(mode)
}

/// What starts, and does not do what is most probably wanted.
fn warn_of_what_has_no_use(file: &File, config: &Config, report: &mut Report) {
    let routes = config.listeners.values().flat_map(|it| &it.routes);
    for name in file.clusters.keys() {
        if !routes.clone().any(|(_, cluster)| **cluster == *name.value) {
            report.warn(
                name.span(),
                format!("no listener uses cluster {}", name.value),
                "needs a listener with this cluster, or a route to it",
            );
        }
    }
    if config.access_keys.is_empty() {
        report.warn_of_file(
            "no access keys: no request can be verified",
            "needs [access_keys.AK], or access_keys_file",
        );
    }
}

fn or<T: Copy>(key: &Key<T>, default: T) -> T {
    key.as_ref().map_or(default, |key| key.value)
}

fn time_or(key: &Key<Time>, default: Duration) -> Duration {
    key.as_ref().map_or(default, |key| key.0)
}

/// A duration that cannot be zero.
fn wait_or(key: &Key<Time>, default: Duration, report: &mut Report) -> Duration {
    if let Some(key) = key
        && key.0.is_zero()
    {
        report.error(key.span(), "cannot be zero", "must be longer than \"0s\"");
    }
    time_or(key, default)
}

fn size_or(key: &Key<Size>, default: u64) -> u64 {
    key.as_ref().map_or(default, |key| key.0)
}

/// A size that cannot be zero.
fn space_or(key: &Key<Size>, default: u64, report: &mut Report) -> u64 {
    if let Some(key) = key
        && key.0 == 0
    {
        report.error(key.span(), "cannot be zero", "must be at least \"1B\"");
    }
    size_or(key, default)
}

fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
