//! From the file to a [`Config`]: defaults, relations between keys, and the files that it names.
//! Every problem is reported with its place; nothing ends at the first.

mod accounts;
mod clusters;
mod listeners;
mod settings;
mod tls;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Config;
use super::diagnose::{Diagnosis, Problem, Severity};
use super::document::{self, Kind};
use super::file::{AccessKeysFile, File, Key};
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
    let keys_page = KeysPage::open(&file, &mut report);
    let mut keys_report = Report::new(keys_page.as_ref().map_or(path, |page| &page.path));
    let keys_file: Option<AccessKeysFile> = keys_page
        .as_ref()
        .and_then(|page| document::read(&page.text, Kind::AccessKeys, &mut keys_report));

    let mut accounts = accounts::Accounts::new(&file.access_key_defaults, &mut report);
    accounts.add(&file.access_keys, false, &mut report);
    if let Some(keys_file) = &keys_file {
        accounts.add(&keys_file.access_keys, true, &mut keys_report);
    }
    let all_accounts_read = keys_file.is_some() || file.access_keys_file.is_none();
    let mut config = Config {
        access_keys: accounts.into_map(),
        listeners: Default::default(),
        clusters: Default::default(),
        cache: settings::cache(&file.cache, &mut report),
        limits: settings::limits(&file.limits, &mut report),
        admin: Default::default(),
        telemetry: settings::telemetry(&file.telemetry, &mut report),
        server: settings::server(&file.server),
        files: Vec::new(),
    };
    let mut material = tls::Material::new(now);
    config.clusters = clusters::resolve(&file.clusters, &mut material, &mut report);
    if all_accounts_read {
        clusters::check_signers(&file.clusters, &config.access_keys, &mut report);
    }
    config.listeners = listeners::resolve(&file, &mut material, &mut report);
    config.admin = listeners::admin(&file.admin, &mut material, &mut report);
    listeners::check_addresses(&file, &config, &mut report);
    refuse_what_is_to_come(&file, &mut report);
    config.files = files_of(path, [&report, &keys_report]);

    let mut problems = report.into_problems(path, text);
    if let Some(page) = keys_page {
        problems.extend(keys_report.into_problems(&page.path, &page.text));
    }
    if problems
        .iter()
        .any(|problem| problem.severity() == Severity::Error)
    {
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

/// The text of `access_keys_file`; wiped when dropped.
struct KeysPage {
    path: PathBuf,
    text: zeroize::Zeroizing<String>,
}

impl KeysPage {
    fn open(file: &File, report: &mut Report) -> Option<Self> {
        let written = file.access_keys_file.as_ref()?;
        let path = report.path(written);
        if let Some(mode) = open_to_others(&path) {
            let message = format!("{} can be read by others (mode {mode:o})", path.display());
            report.error(
                written.span(),
                message,
                "must be readable by its owner only: chmod 600",
            );
            return None;
        }
        match String::from_utf8(report.read(written)?) {
            Ok(text) => Some(Self {
                path,
                text: text.into(),
            }),
            Err(_) => {
                report.error(
                    written.span(),
                    format!("{} is not UTF-8", path.display()),
                    "must be a TOML file",
                );
                None
            }
        }
    }
}

/// The mode of a file that its group or others can read.
fn open_to_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o044 != 0).then_some(mode)
}

/// Everything that was read, in order, without doubles.
fn files_of(path: &Path, reports: [&Report; 2]) -> Vec<PathBuf> {
    let mut files = BTreeSet::from([path.to_owned()]);
    for report in reports {
        files.extend(report.files.iter().cloned());
    }
    files.into_iter().collect()
}

/// What is part of the format but not of this version is refused, so that nothing is silently
/// ignored.
fn refuse_what_is_to_come(file: &File, report: &mut Report) {
    let to_come = "not supported by this version yet";
    if let Some(shared) = &file.shared {
        report.error(
            shared.span(),
            format!("[shared] is {to_come}"),
            "leave it out: every replica has its own cache and limits",
        );
    }
    if let Some(endpoint) = &file.telemetry.otlp_endpoint {
        report.error(
            endpoint.span(),
            format!("otlp_endpoint is {to_come}"),
            "leave it out",
        );
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            report.error(
                endpoint.span(),
                "not a URL of a collector",
                "must begin with http:// or https://",
            );
        }
    }
    if let Some(sample) = &file.telemetry.sample {
        report.error(
            sample.span(),
            format!("sample is {to_come}"),
            "leave it out",
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
