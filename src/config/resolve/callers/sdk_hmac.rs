//! The apps of callers that sign with SDK-HMAC-SHA256.

use std::collections::BTreeMap;

use crate::auth::{AppCredential, Secret, is_app_key};
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName, SdkHmac};
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::secret_text;
use crate::config::spanned::Spanned;

/// Reads the app of a caller; `None` if something is missing or wrong, which is reported.
pub(super) fn read(
    caller: &Spanned<String>,
    table: &Spanned<SdkHmac>,
    diagnostics: &mut Diagnostics,
) -> Option<AppCredential> {
    let mut missing = |name: &str, help: &str| {
        let key = format!("callers.{}.sdk_hmac.{name}", caller.value);
        diagnostics.missing_key(&key, table.span(), format!("no {name}"), help);
    };
    if table.app_key.is_none() {
        missing("app_key", "needs app_key, the name of the app");
    }
    if table.app_secret_file.is_none() {
        missing(
            "app_secret_file",
            "needs app_secret_file, a file with the secret of the app",
        );
    }
    let app_key = table.app_key.as_ref().filter(|key| {
        let is_legal = is_app_key(key);
        if !is_legal {
            // It can be the secret.
            diagnostics.secret_spans.push(key.span());
            diagnostics.error(
                key.span(),
                "not an app key",
                "must be 1 to 128 letters, digits and - . _",
            );
        }
        is_legal
    });
    let app_secret = secret(table.app_secret_file.as_ref()?, diagnostics);
    Some(AppCredential {
        app_key: app_key?.value.clone(),
        app_secret: app_secret?,
    })
}

fn secret(file: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<Secret> {
    let bytes = diagnostics.read_secret_file(file, &file.span)?;
    warn_if_readable_by_others(file, &file.span, diagnostics);
    let (message, help) = match secret_text::parse(bytes) {
        Ok(secret) if secret.bytes.len() >= MIN_SECRET_LENGTH => {
            return Some(Secret::new(secret.bytes));
        }
        Ok(_) => (
            "a secret of less than 8 characters",
            "must be the secret of the app",
        ),
        Err(note) => note,
    };
    diagnostics.error(file.span(), message, help);
    None
}

/// Reports app keys that two callers have.
pub(super) fn report_shared(tables: &ByName<file::Caller>, diagnostics: &mut Diagnostics) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (caller, table) in tables {
        let app = table.sdk_hmac.as_ref();
        let Some(key) = app.and_then(|app| app.app_key.as_ref()) else {
            continue;
        };
        let holder = *taken.entry(key.as_str()).or_insert(caller.as_str());
        if holder != caller.as_str() {
            diagnostics.error(
                key.span(),
                format!("caller {holder} has this app key too"),
                "must identify one caller",
            );
        }
    }
}

/// That of APIG.
const MIN_SECRET_LENGTH: usize = 8;
