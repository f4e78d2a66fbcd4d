//! Access keys: secrets, time zones and rate limits. The accounts of one file depend on that file, the
//! files that it names, and [`AccountRules`].

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::settings::rate;
use super::value_or;
use crate::auth::{AccessKey, Credential, Secret};
use crate::ccfs::{Tenant, Versionless, parse_zone};
use crate::config::diagnostics::Diagnostics;
use crate::config::encoding;
use crate::config::file::{self, ByName};
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::spanned::Spanned;
use crate::config::{AccountSettings, AccountSource, Period, Rate};

/// What applies to all access keys: the defaults. Two that are equal make equal accounts of equal files.
#[derive(Debug, PartialEq)]
pub(in crate::config) struct AccountRules {
    defaults: AccountOptions,
    /// Whether there is a default zone, valid or not.
    has_default_zone: bool,
}

/// The settings of an account other than its secrets.
#[derive(Clone, Debug, PartialEq)]
struct AccountOptions {
    zone: Option<TimeZone>,
    versionless: Option<Versionless>,
    rate_limit: Option<Rate>,
    ceiling: Option<Rate>,
    in_flight: usize,
    enabled: bool,
}

impl AccountRules {
    /// Reads `[access_key_defaults]`.
    pub(super) fn new(defaults: &file::AccessKey, diagnostics: &mut Diagnostics) -> Self {
        redact_unless_names(defaults, diagnostics);
        for written in [
            &defaults.secret_key_file,
            &defaults.secret_key_env,
            &defaults.secret_key,
        ]
        .into_iter()
        .flatten()
        {
            diagnostics.error(
                written.span(),
                "a secret cannot be a default",
                "belongs to one [access_keys.AK]: it would be the same for all",
            );
        }
        let rules = Self {
            defaults: AccountOptions {
                zone: None,
                versionless: None,
                rate_limit: None,
                ceiling: None,
                in_flight: 256,
                enabled: true,
            },
            has_default_zone: defaults.time_zone.is_some(),
        };
        let mut reader = AccountReader::new(&rules, AccountSource::MAIN);
        let defaults = reader.options("access_key_defaults", defaults, diagnostics);
        Self { defaults, ..rules }
    }
}

/// Makes accounts of the tables of one file.
pub(in crate::config) struct AccountReader<'a> {
    rules: &'a AccountRules,
    source: AccountSource,
    /// Time zones by name; each is parsed once, since thousands of accounts share a few.
    zones: HashMap<String, Option<TimeZone>>,
}

impl<'a> AccountReader<'a> {
    /// Starts to read a file.
    pub(in crate::config) fn new(rules: &'a AccountRules, source: AccountSource) -> Self {
        Self {
            rules,
            source,
            zones: HashMap::new(),
        }
    }

    /// Returns the valid accounts of `tables`, in their order. `secret_key` is an error unless
    /// `secret_file`.
    pub(in crate::config) fn read(
        &mut self,
        tables: &ByName<file::AccessKey>,
        secret_file: bool,
        diagnostics: &mut Diagnostics,
    ) -> Vec<Arc<AccountSettings>> {
        let mut accounts = Vec::with_capacity(tables.len());
        for (name, table) in tables {
            diagnostics.access_key = Some(name.as_str().into());
            accounts.extend(self.account(name, table, secret_file, diagnostics));
        }
        diagnostics.access_key = None;
        accounts
    }

    fn account(
        &mut self,
        name: &Spanned<String>,
        table: &file::AccessKey,
        secret_file: bool,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<AccountSettings>> {
        check_access_key_name(name, diagnostics);
        let key = format!("access_keys.{}", name.value);
        let given = self.options(&key, table, diagnostics);
        let secrets = read_secrets(name, table, secret_file, diagnostics);
        if table.time_zone.is_none() && !self.rules.has_default_zone {
            diagnostics.missing_key(
                &format!("{key}.time_zone"),
                name.span(),
                "time_zone is missing",
                "needs time_zone, such as \"Asia/Shanghai\" or \"GMT+8\": a wrong zone fails silently, so there is no default",
            );
        }
        let access_key = AccessKey::from(name.as_str());
        Some(Arc::new(AccountSettings {
            credential: Arc::new(Credential::new(access_key, secrets?, given.enabled)),
            tenant: Tenant {
                zone: given.zone?,
                versionless: given.versionless,
            },
            rate_limit: given.rate_limit,
            ceiling: given.ceiling.or(given.rate_limit.map(default_ceiling)),
            in_flight: given.in_flight,
            source: self.source,
        }))
    }

    /// Returns the settings of the table at `key`; the defaults where it has none.
    fn options(
        &mut self,
        key: &str,
        table: &file::AccessKey,
        diagnostics: &mut Diagnostics,
    ) -> AccountOptions {
        let defaults = &self.rules.defaults;
        let zone = match &table.time_zone {
            Some(written) => self.lookup_zone(written, diagnostics),
            None => defaults.zone.clone(),
        };
        let versionless = table.versionless.as_ref().map(|key| match key.value {
            file::Versionless::Local => Versionless::Local,
            file::Versionless::Reject => Versionless::Reject,
            file::Versionless::Utc => Versionless::Utc,
        });
        let mut rate = |name: &str, written: &Option<Spanned<file::Rate>>| {
            rate(&format!("{key}.{name}"), written.as_ref(), diagnostics)
        };
        AccountOptions {
            zone,
            versionless: versionless.or(defaults.versionless),
            rate_limit: rate("rate_limit", &table.rate_limit).or(defaults.rate_limit),
            ceiling: rate("ceiling", &table.ceiling).or(defaults.ceiling),
            in_flight: value_or(&table.in_flight, defaults.in_flight),
            enabled: value_or(&table.enabled, defaults.enabled),
        }
    }

    /// Looks up a time zone. Each distinct name is parsed once, since thousands of accounts share a few.
    fn lookup_zone(
        &mut self,
        written: &Spanned<String>,
        diagnostics: &mut Diagnostics,
    ) -> Option<TimeZone> {
        if !self.zones.contains_key(written.as_str()) {
            let zone = parse_zone(written);
            if zone.is_some() {
                warn_if_sign_reversed(written, diagnostics);
            }
            self.zones.insert(written.value.clone(), zone);
        }
        let zone = self.zones.get(written.as_str()).cloned().flatten();
        if zone.is_none() {
            diagnostics.error(
                written.span(),
                "unknown time zone",
                "must be an IANA zone such as \"Asia/Shanghai\", or an offset such as \"GMT+8\"",
            );
        }
        zone
    }
}

/// Warns of `Etc/GMT+8`: the sign of these zones is inverted (POSIX), so that it is UTC-8.
fn warn_if_sign_reversed(zone: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let reversed = zone
        .split_at_checked("Etc/".len())
        .filter(|(area, _)| area.eq_ignore_ascii_case("Etc/"))
        .and_then(|(_, name)| name.split_once('+'))
        .filter(|(name, hours)| name.eq_ignore_ascii_case("GMT") && *hours != "0");
    if let Some((_, hours)) = reversed {
        diagnostics.warning(
            zone.span(),
            format!("{} is UTC-{hours}, west of Greenwich", zone.value),
            format!("did you mean \"GMT+{hours}\"?"),
        );
    }
}

/// Returns the default ceiling on all requests of an account, cache hits included: 20 × its rate, at
/// least 1000/s. Well-behaved clients never reach it; one account cannot saturate the CPU.
fn default_ceiling(rate: Rate) -> Rate {
    let per_second = rate.requests.saturating_mul(20);
    let per_second = per_second.div_ceil(rate.period.seconds()).max(1_000);
    Rate::with_default_burst(per_second, Period::Second)
}

/// Checks the characters of an ak, which is delimited by commas and slashes in the Authorization field.
fn check_access_key_name(name: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"/,=\"".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(legal) {
        diagnostics.error(
            name.span(),
            "not an access key",
            "must be 1 to 128 visible ASCII characters without / , = and quotes",
        );
    }
}

/// Reads the one or two secrets of an account from the one source that it names.
fn read_secrets(
    name: &Spanned<String>,
    table: &file::AccessKey,
    secret_file: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Secret>> {
    if let Some(inline) = &table.secret_key
        && !secret_file
    {
        diagnostics.error(
            inline.span(),
            "a secret in the configuration itself",
            "use secret_key_file or secret_key_env, or move the account to access_keys_file",
        );
        return None;
    }
    let (source, read): (_, SecretReader) = match (
        &table.secret_key,
        &table.secret_key_file,
        &table.secret_key_env,
    ) {
        (Some(inline), None, None) => (inline, |text, _, _| Some(text.as_bytes().to_vec())),
        (None, Some(files), None) => (files, read_secret_file),
        (None, None, Some(variables)) => (variables, read_secret_env),
        (None, None, None) => {
            report_missing_secret(name, secret_file, diagnostics);
            return None;
        }
        (_, _, Some(another)) | (_, Some(another), None) => {
            redact_unless_names(table, diagnostics);
            diagnostics.error(
                another.span(),
                "more than one source of secrets",
                "must be one of secret_key_file and secret_key_env; two secrets are a list",
            );
            return None;
        }
    };
    let mut found = Vec::with_capacity(source.as_slice().len());
    // Reading ends at the first error: a later item can be the secret itself.
    redact_unless_names(table, diagnostics);
    for written in source.as_slice() {
        let secret = read(written, &source.span, diagnostics)?;
        let secret = normalize_secret(secret, &source.span, diagnostics);
        found.extend(secret.map(Secret::new));
    }
    Some(found)
}

/// Redacts values that can be secrets in the place of names.
fn redact_unless_names(table: &file::AccessKey, diagnostics: &mut Diagnostics) {
    if let Some(files) = &table.secret_key_file
        && !files
            .as_slice()
            .iter()
            .all(|file| diagnostics.is_path(file))
    {
        diagnostics.secret_spans.push(files.span());
    }
    if let Some(variables) = &table.secret_key_env
        && !variables
            .as_slice()
            .iter()
            .all(|name| is_variable_name(name))
    {
        diagnostics.secret_spans.push(variables.span());
    }
}

/// Reads a secret, given the value of its key and the span of the value.
type SecretReader = fn(&str, &Range<usize>, &mut Diagnostics) -> Option<Vec<u8>>;

/// Reports that an account has no secret, unless an invalid one has been reported.
fn report_missing_secret(name: &Spanned<String>, secret_file: bool, diagnostics: &mut Diagnostics) {
    let table = format!("access_keys.{}", name.value);
    let is_reported = |key: &&str| diagnostics.is_reported(&table, key);
    let keys = ["secret_key", "secret_key_file", "secret_key_env"];
    if !keys.iter().any(is_reported) {
        diagnostics.error(
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

/// Reads a secret file.
fn read_secret_file(
    path: &str,
    span: &Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<u8>> {
    let bytes = diagnostics.read_secret_file(path, span)?;
    warn_if_readable_by_others(path, span, diagnostics);
    Some(bytes)
}

/// Removes what editors and shells add to a secret, whatever its source: a byte-order mark and one line
/// end. Reports what cannot be meant.
fn normalize_secret(
    mut bytes: Vec<u8>,
    span: &Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<u8>> {
    if bytes.starts_with(encoding::BOM) {
        bytes.drain(..encoding::BOM.len());
        diagnostics.warning(
            span.clone(),
            "a secret that begins with a byte-order mark",
            "the mark is skipped; store the secret without it",
        );
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let (message, help) = if bytes.is_empty() {
        ("the secret is empty", "must hold at least one byte")
    } else if encoding::is_utf16(&bytes) {
        (
            "the secret is UTF-16 text",
            "must be stored in UTF-8 or ASCII",
        )
    } else if bytes.trim_ascii().is_empty() {
        ("the secret is only white space", "must hold a secret")
    } else if bytes.contains(&0) {
        ("the secret holds a NUL byte", "must be the secret as text")
    } else {
        if bytes.trim_ascii().len() != bytes.len() {
            diagnostics.warning(
                span.clone(),
                "a secret that begins or ends with white space",
                "it is part of the secret; if it should not be, remove it",
            );
        }
        return Some(bytes);
    };
    diagnostics.error(span.clone(), message, help);
    None
}

/// Reads an environment variable. A value that cannot be a name is taken for the secret itself and is
/// redacted.
fn read_secret_env(
    name: &str,
    span: &Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    if !is_variable_name(name) {
        diagnostics.secret_spans.push(span.clone());
        diagnostics.error(
            span.clone(),
            "not the name of an environment variable",
            "must be a name such as CCFS_SK; the secret itself does not belong here",
        );
        return None;
    }
    let value = std::env::var_os(name).map(OsStringExt::into_vec);
    if value.is_none() {
        diagnostics.error(
            span.clone(),
            format!("the environment variable {name} is not set"),
            "must be set when the gateway starts",
        );
    }
    value
}

/// Whether a text can be the name of an environment variable. A long run of letters and digits without
/// `_` is a secret in the wrong place.
fn is_variable_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let has = |class: fn(&u8) -> bool| text.bytes().any(|byte| class(&byte));
    let secret = text.len() >= 20 && !text.contains('_') && has(u8::is_ascii_digit);
    !secret
        && text.bytes().all(legal)
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
}
