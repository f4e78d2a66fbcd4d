//! Access keys: their secrets, zones and budgets.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::settings::rate;
use super::{value_or, warn_if_readable_by_others};
use crate::auth::{AccessKey, Credential, Secret};
use crate::ccfs::{Tenant, Versionless, parse_zone};
use crate::config::file::{self, ByName};
use crate::config::report::Diagnostics;
use crate::config::spanned::Spanned;
use crate::config::{AccountSettings, Rate};

/// Accounts of both files, resolved one after the other.
pub(super) struct Accounts {
    defaults: AccountOptions,
    /// Is there a default zone, right or wrong?
    has_default_zone: bool,
    zones: HashMap<String, Option<TimeZone>>,
    resolved: HashMap<AccessKey, AccountSettings>,
}

/// What a table of an account says, besides secrets.
struct AccountOptions {
    zone: Option<TimeZone>,
    versionless: Option<Versionless>,
    rate_limit: Option<Rate>,
    ceiling: Option<Rate>,
    in_flight: usize,
    enabled: bool,
}

impl Accounts {
    /// None yet; every account begins with `defaults`.
    pub(super) fn new(defaults: &file::AccessKey, report: &mut Diagnostics) -> Self {
        for place in [
            &defaults.secret_key_file,
            &defaults.secret_key_env,
            &defaults.secret_key,
        ]
        .into_iter()
        .flatten()
        {
            report.error(
                place.span(),
                "a secret cannot be a default",
                "belongs to one [access_keys.AK]: it would be the same for all",
            );
        }
        let mut accounts = Self {
            defaults: AccountOptions {
                zone: None,
                versionless: None,
                rate_limit: None,
                ceiling: None,
                in_flight: 256,
                enabled: true,
            },
            has_default_zone: defaults.time_zone.is_some(),
            zones: HashMap::new(),
            resolved: HashMap::new(),
        };
        accounts.defaults = accounts.options("access_key_defaults", defaults, report);
        accounts
    }

    /// Adds the accounts of one file. Only where `secret_file` may secrets stand inline.
    pub(super) fn add(
        &mut self,
        file: &ByName<file::AccessKey>,
        secret_file: bool,
        report: &mut Diagnostics,
    ) {
        self.resolved.reserve(file.len());
        for (name, table) in file {
            check_access_key_name(name, report);
            let given = self.options(&format!("access_keys.{}", name.value), table, report);
            let secrets = read_secrets(name, table, secret_file, report);
            if table.time_zone.is_none() && !self.has_default_zone {
                report.missing_key(
                    &format!("access_keys.{}.time_zone", name.value),
                    name.span(),
                    "no time_zone",
                    "needs time_zone, such as \"Asia/Shanghai\" or \"GMT+8\": a wrong zone fails silently, so there is no default",
                );
            }
            let access_key = AccessKey::from(name.as_str());
            if self.resolved.contains_key(&access_key) {
                report.error(
                    name.span(),
                    "this access key is in the other file too",
                    "must be in one of the two files",
                );
            }
            if let (Some(zone), Some(secrets)) = (given.zone.clone(), secrets) {
                let account = build_account(&access_key, secrets, zone, &given);
                self.resolved.insert(access_key, account);
            }
        }
    }

    pub(super) fn into_map(self) -> HashMap<AccessKey, AccountSettings> {
        self.resolved
    }

    /// The keys of the table at `key`; where it is silent, the defaults.
    fn options(
        &mut self,
        key: &str,
        table: &file::AccessKey,
        report: &mut Diagnostics,
    ) -> AccountOptions {
        let zone = match &table.time_zone {
            Some(written) => self.lookup_zone(written, report),
            None => self.defaults.zone.clone(),
        };
        let versionless = table.versionless.as_ref().map(|key| match key.value {
            file::Versionless::Local => Versionless::Local,
            file::Versionless::Reject => Versionless::Reject,
            file::Versionless::Utc => Versionless::Utc,
        });
        let mut rate = |name: &str, written: &Option<Spanned<file::Rate>>| {
            rate(&format!("{key}.{name}"), written.as_ref(), report)
        };
        AccountOptions {
            zone,
            versionless: versionless.or(self.defaults.versionless),
            rate_limit: rate("rate_limit", &table.rate_limit).or(self.defaults.rate_limit),
            ceiling: rate("ceiling", &table.ceiling).or(self.defaults.ceiling),
            in_flight: value_or(&table.in_flight, self.defaults.in_flight),
            enabled: value_or(&table.enabled, self.defaults.enabled),
        }
    }

    /// Each distinct zone is looked up once: thousands of accounts share a few.
    fn lookup_zone(
        &mut self,
        written: &Spanned<String>,
        report: &mut Diagnostics,
    ) -> Option<TimeZone> {
        if !self.zones.contains_key(written.as_str()) {
            let zone = parse_zone(written);
            if zone.is_some() {
                warn_if_sign_reversed(written, report);
            }
            self.zones.insert(written.value.clone(), zone);
        }
        let zone = self.zones.get(written.as_str()).cloned().flatten();
        if zone.is_none() {
            report.error(
                written.span(),
                "unknown time zone",
                "must be an IANA zone such as \"Asia/Shanghai\", or an offset such as \"GMT+8\"",
            );
        }
        zone
    }
}

/// The signs of these zones are those of POSIX, west of Greenwich; nearly nobody means them so.
fn warn_if_sign_reversed(zone: &Spanned<String>, report: &mut Diagnostics) {
    let reversed = zone
        .split_at_checked("Etc/".len())
        .filter(|(area, _)| area.eq_ignore_ascii_case("Etc/"))
        .and_then(|(_, place)| place.split_once('+'))
        .filter(|(name, hours)| name.eq_ignore_ascii_case("GMT") && *hours != "0");
    if let Some((_, hours)) = reversed {
        report.warning(
            zone.span(),
            format!("{} is UTC-{hours}, west of Greenwich", zone.value),
            format!("did you mean \"GMT+{hours}\"?"),
        );
    }
}

fn build_account(
    access_key: &AccessKey,
    secrets: Vec<Secret>,
    zone: TimeZone,
    given: &AccountOptions,
) -> AccountSettings {
    AccountSettings {
        credential: Arc::new(Credential::new(access_key.clone(), secrets, given.enabled)),
        tenant: Tenant {
            zone,
            versionless: given.versionless,
        },
        rate_limit: given.rate_limit,
        ceiling: given.ceiling.or(given.rate_limit.map(default_ceiling)),
        in_flight: given.in_flight,
    }
}

/// High enough that nobody meets it who keeps to his rate and reads from the cache; low enough that
/// no single account takes the processor from the others.
fn default_ceiling(rate: Rate) -> Rate {
    let per_second = rate.per_second.saturating_mul(20).max(1_000);
    Rate {
        per_second,
        burst: per_second,
    }
}

/// An ak stands in a header value between commas and slashes.
fn check_access_key_name(name: &Spanned<String>, report: &mut Diagnostics) {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"/,=\"".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
        report.error(
            name.span(),
            "not an access key",
            "must be 1 to 128 visible ASCII characters without / , = and quotes",
        );
    }
}

/// The one or two secrets of an account, from the one place that holds them.
fn read_secrets(
    name: &Spanned<String>,
    table: &file::AccessKey,
    secret_file: bool,
    report: &mut Diagnostics,
) -> Option<Vec<Secret>> {
    if let Some(inline) = &table.secret_key
        && !secret_file
    {
        report.error(
            inline.span(),
            "a secret in the configuration itself",
            "use secret_key_file or secret_key_env, or move the account to access_keys_file",
        );
        return None;
    }
    let (place, read): (_, SecretReader) = match (
        &table.secret_key,
        &table.secret_key_file,
        &table.secret_key_env,
    ) {
        (Some(inline), None, None) => (inline, |text, _, _| Some(text.as_bytes().to_vec())),
        (None, Some(files), None) => (files, read_secret_file),
        (None, None, Some(variables)) => (variables, read_secret_env),
        (None, None, None) => {
            report_missing_secret(name, secret_file, report);
            return None;
        }
        (_, _, Some(another)) | (_, Some(another), None) => {
            report.error(
                another.span(),
                "more than one source of secrets",
                "must be one of secret_key_file and secret_key_env; two secrets are a list",
            );
            return None;
        }
    };
    let mut found = Vec::with_capacity(place.as_slice().len());
    for written in place.as_slice() {
        let secret = read(written, &place.span, report)?;
        if secret.is_empty() {
            report.error(
                place.span(),
                "the secret is empty",
                "must hold at least one byte",
            );
        } else {
            found.push(Secret::new(secret));
        }
    }
    Some(found)
}

/// What is written, its place -> the bytes of the secret.
type SecretReader = fn(&str, &Range<usize>, &mut Diagnostics) -> Option<Vec<u8>>;

/// Says so, unless a wrong one was told of already.
fn report_missing_secret(name: &Spanned<String>, secret_file: bool, report: &mut Diagnostics) {
    let judged = |key: &&str| {
        report
            .already_reported
            .contains(&format!("access_keys.{}.{key}", name.value))
    };
    let keys = ["secret_key", "secret_key_file", "secret_key_env"];
    if !keys.iter().any(judged) {
        report.error(
            name.span(),
            "no secret",
            if secret_file {
                "needs secret_key, secret_key_file or secret_key_env"
            } else {
                "needs secret_key_file or secret_key_env"
            },
        );
    }
}

/// The bytes of a secret file without the line end that editors add.
fn read_secret_file(path: &str, span: &Range<usize>, report: &mut Diagnostics) -> Option<Vec<u8>> {
    let mut bytes = report.read_secret_file(path, span)?;
    warn_if_readable_by_others(path, span, report);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.trim_ascii().len() != bytes.len() {
        report.warning(
            span.clone(),
            "a secret that begins or ends with white space",
            "it is part of the secret; if it should not be, remove it",
        );
    }
    Some(bytes)
}

/// The value of an environment variable. What is no name of one is taken for a secret and not shown.
fn read_secret_env(name: &str, span: &Range<usize>, report: &mut Diagnostics) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    if !is_variable_name(name) {
        report.secret_spans.push(span.clone());
        report.error(
            span.clone(),
            "not the name of an environment variable",
            "must be a name such as CCFS_SK; the secret itself does not belong here",
        );
        return None;
    }
    let value = std::env::var_os(name).map(OsStringExt::into_vec);
    if value.is_none() {
        report.error(
            span.clone(),
            format!("the environment variable {name} is not set"),
            "must be set when the gateway starts",
        );
    }
    value
}

/// Long runs of letters and digits without `_` are secrets that stand in the wrong place.
fn is_variable_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let has = |class: fn(&u8) -> bool| text.bytes().any(|byte| class(&byte));
    let secret = text.len() >= 20 && !text.contains('_') && has(u8::is_ascii_digit);
    !secret
        && text.bytes().all(legal)
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
}
