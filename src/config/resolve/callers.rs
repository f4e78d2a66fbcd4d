//! Callers without a secret key: what identifies them, where they may ask, and for what.

mod api_keys;
mod authorities;
mod jwt;
mod sdk_hmac;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::accounts::{default_ceiling, validity};
use super::settings::rate;
use super::{arc_str, value_or};
use crate::auth::AccessKey;
use crate::ccfs::ENDPOINTS;
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName, File};
use crate::config::secrets;
use crate::config::spanned::Spanned;
use crate::config::suggestion::suggest;
use crate::config::{AccessKeys, CallerSettings, Listener};
use crate::tls::CertificateName;

/// The callers by name.
type Callers = BTreeMap<Arc<str>, Arc<CallerSettings>>;

/// Returns all valid callers.
pub(super) fn resolve(
    file: &File,
    listeners: &BTreeMap<Arc<str>, Listener>,
    diagnostics: &mut Diagnostics,
) -> Callers {
    let mut callers = Callers::new();
    for (name, table) in &file.callers {
        check_name(name, diagnostics);
        if let Some(caller) = caller(name, table, file, diagnostics) {
            authorities::check(name, table, (&caller, listeners), diagnostics);
            callers.insert(caller.name.clone(), Arc::new(caller));
        }
    }
    authorities::warn_of_issuers(file, (&callers, listeners), diagnostics);
    report_shared_names(&file.callers, diagnostics);
    api_keys::report_shared(&file.callers, &callers, diagnostics);
    jwt::report_shared(&file.callers, &callers, diagnostics);
    sdk_hmac::report_shared(&file.callers, diagnostics);
    callers
}

fn caller(
    name: &Spanned<String>,
    table: &file::Caller,
    file: &File,
    diagnostics: &mut Diagnostics,
) -> Option<CallerSettings> {
    let key = |key: &str| format!("callers.{}.{key}", name.value);
    if table.access_key.is_none() {
        diagnostics.missing_key(
            &key("access_key"),
            name.span(),
            "no access_key",
            "needs access_key, the account that its requests are signed as",
        );
    }
    let has_certificate_or_key = table.client_certificate.is_some() || table.api_key_file.is_some();
    if !has_certificate_or_key && table.jwt.is_none() && table.sdk_hmac.is_none() {
        diagnostics.missing_key(
            &key("client_certificate"),
            name.span(),
            "nothing identifies this caller",
            "needs client_certificate = [\"CN=…\"], api_key_file, jwt, or sdk_hmac",
        );
    }
    let api_keys = api_keys::read(table, diagnostics);
    let jwt = table
        .jwt
        .as_ref()
        .map(|jwt| jwt::read(name, jwt, diagnostics));
    let sdk_hmac = table.sdk_hmac.as_ref();
    let sdk_hmac = sdk_hmac.map(|app| sdk_hmac::read(name, app, diagnostics));
    let rate_limit = rate(|| key("rate_limit"), table.rate_limit.as_ref(), diagnostics);
    let ceiling = rate(|| key("ceiling"), table.ceiling.as_ref(), diagnostics);
    let certificates = table.client_certificate.as_deref().unwrap_or_default();
    Some(CallerSettings {
        client_certificate: certificate_names(certificates, diagnostics),
        api_keys,
        jwt: jwt.flatten().map(Arc::new),
        sdk_hmac: sdk_hmac.flatten(),
        listeners: listener_names(table, &file.listeners, diagnostics),
        interfaces: interfaces(table.interfaces.as_deref(), diagnostics),
        rate_limit,
        ceiling: ceiling.or(rate_limit.map(default_ceiling)),
        in_flight: table.in_flight.as_ref().map(|key| key.value),
        enabled: value_or(&table.enabled, true),
        validity: validity(&table.not_before, &table.not_after, diagnostics),
        access_key: AccessKey::from(table.access_key.as_ref()?.as_str()),
        name: arc_str(name),
    })
}

fn check_name(name: &Spanned<String>, diagnostics: &mut Diagnostics) {
    if !secrets::is_caller_name(name) {
        diagnostics.error(
            name.span(),
            "not a name of a caller",
            "must be 1 to 64 letters, digits, dots, hyphens and underscores",
        );
    }
}

fn certificate_names(
    written: &[Spanned<String>],
    diagnostics: &mut Diagnostics,
) -> Vec<CertificateName> {
    let mut names = Vec::with_capacity(written.len());
    for text in written {
        match text.parse() {
            Ok(name) => names.push(name),
            Err(_) => {
                hide_api_key(text, diagnostics);
                diagnostics.error(
                    text.span(),
                    "not a name of a certificate",
                    "must be \"CN=…\", \"DNS=…\", \"URI=…\", or the pin of its key, \"sha256/…\"",
                );
            }
        }
    }
    names
}

/// Redacts a value that is none of its kind if it can be the API key of the caller.
fn hide_api_key(written: &Spanned<String>, diagnostics: &mut Diagnostics) {
    if secrets::looks_like_api_key(written) {
        diagnostics.secret_spans.push(written.span());
    }
}

/// Returns the names of the listeners on which a caller may ask.
fn listener_names(
    table: &file::Caller,
    listeners: &ByName<file::Listener>,
    diagnostics: &mut Diagnostics,
) -> BTreeSet<Arc<str>> {
    let all = || listeners.keys().map(|name| name.as_str());
    let Some(written) = &table.listeners else {
        return all().map(arc_str).collect();
    };
    for name in written {
        if !listeners.contains_key(name.as_str()) {
            let help = match suggest(name, all()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("known are: {}", all().collect::<Vec<_>>().join(", ")),
            };
            hide_api_key(name, diagnostics);
            diagnostics.error(name.span(), "unknown listener", help);
        }
    }
    written.iter().map(|name| arc_str(name)).collect()
}

fn interfaces(
    written: Option<&[Spanned<String>]>,
    diagnostics: &mut Diagnostics,
) -> Vec<&'static str> {
    let Some(written) = written else {
        return vec![DEFAULT_INTERFACE];
    };
    let known = || ENDPOINTS.iter().filter(|row| row.authenticated);
    let mut names = Vec::with_capacity(written.len());
    for name in written {
        match known().find(|row| row.name == name.as_str()) {
            Some(row) => names.push(row.name),
            None if ENDPOINTS.iter().any(|row| row.name == name.as_str()) => diagnostics.error(
                name.span(),
                format!("{} is open to all clients", name.value),
                "should be left out: a token in its query is the credential",
            ),
            None => {
                let help = match suggest(name, known().map(|row| row.name)) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "must be an interface of CC-FS, such as \"downloadRecord\"".to_owned(),
                };
                hide_api_key(name, diagnostics);
                diagnostics.error(name.span(), "unknown interface", help);
            }
        }
    }
    names
}

/// Reports certificate names that two callers have.
fn report_shared_names(callers: &ByName<file::Caller>, diagnostics: &mut Diagnostics) {
    let mut taken: BTreeMap<CertificateName, &str> = BTreeMap::new();
    for (caller, table) in callers {
        for text in table.client_certificate.iter().flatten() {
            let Ok(name) = text.parse() else { continue };
            let holder = *taken.entry(name).or_insert(caller.as_str());
            if holder != caller.as_str() {
                diagnostics.error(
                    text.span(),
                    format!("caller {holder} has this certificate too"),
                    "must identify one caller",
                );
            }
        }
    }
}

/// Checks that the access keys of callers exist. Where they can come and go, one that is missing is only warned
/// of: `is_following` says so.
pub(super) fn check_access_keys(
    callers: &ByName<file::Caller>,
    is_written: impl Fn(&str) -> bool,
    (accounts, is_following): (&AccessKeys, bool),
    diagnostics: &mut Diagnostics,
) {
    for table in callers.values() {
        let Some(access_key) = &table.access_key else {
            continue;
        };
        if !accounts.contains_key(access_key.as_str()) {
            hide_api_key(access_key, diagnostics);
        }
        match accounts.get(access_key.as_str()) {
            Some(account) if !account.credential.enabled() => diagnostics.warning(
                access_key.span(),
                "this access key is disabled",
                "must be an enabled one: until then the caller gets 401",
            ),
            Some(_) => {}
            None if is_written(access_key) => {}
            None if is_following => diagnostics.warning(
                access_key.span(),
                "no such access key at present: the caller gets 401",
                "must be one of the access keys",
            ),
            None => {
                let names = accounts.keys().map(AccessKey::as_str);
                let help = match suggest(access_key, names) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "must be one of the access keys".to_owned(),
                };
                diagnostics.error(access_key.span(), "unknown access key", help);
            }
        }
    }
}

/// What a caller may use without `interfaces`.
const DEFAULT_INTERFACE: &str = "getRecordFileUrlFromObs";
