//! The API keys of callers, from files.

use std::ops::Range;

use super::Callers;
use crate::auth::{Secret, is_api_key};
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName};
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::secret_text;

/// Reads the API keys of a caller. What is no key is reported.
pub(super) fn read(table: &file::Caller, diagnostics: &mut Diagnostics) -> Vec<Secret> {
    let Some(files) = &table.api_key_file else {
        return Vec::new();
    };
    if !files.as_slice().iter().all(|it| diagnostics.is_path(it)) {
        // It can be the key itself.
        diagnostics.secret_spans.push(files.span());
    }
    let mut keys = Vec::with_capacity(2);
    for path in files.as_slice() {
        // Reading ends at the first error: a later item can be the key itself.
        let Some(key) = read_one(path, &files.span, diagnostics) else {
            break;
        };
        keys.push(key);
    }
    keys
}

fn read_one(path: &str, span: &Range<usize>, diagnostics: &mut Diagnostics) -> Option<Secret> {
    let bytes = diagnostics.read_secret_file(path, span)?;
    warn_if_readable_by_others(path, span, diagnostics);
    let key = match secret_text::parse(bytes) {
        Ok(key) => key.bytes,
        Err((message, help)) => {
            diagnostics.error(span.clone(), message, help);
            return None;
        }
    };
    if !is_api_key(&key) {
        diagnostics.error(
            span.clone(),
            "not an API key",
            "must be 32 to 512 letters, digits and - . _ ~ + / =, not three parts between dots: `openssl rand -hex 32` makes one",
        );
        return None;
    }
    Some(Secret::new(key))
}

/// Reports API keys that two callers have.
pub(super) fn report_shared(
    tables: &ByName<file::Caller>,
    callers: &Callers,
    diagnostics: &mut Diagnostics,
) {
    let mut taken: Vec<(&Secret, &str)> = Vec::new();
    for (name, table) in tables {
        let (Some(files), Some(caller)) = (&table.api_key_file, callers.get(name.as_str())) else {
            continue;
        };
        for key in &caller.api_keys {
            let holder = taken.iter().find(|(other, _)| *other == key);
            if let Some((_, holder)) = holder.filter(|(_, holder)| *holder != name.as_str()) {
                diagnostics.error(
                    files.span(),
                    format!("caller {holder} has the same API key"),
                    "must identify one caller",
                );
            }
            taken.push((key, name.as_str()));
        }
    }
}
