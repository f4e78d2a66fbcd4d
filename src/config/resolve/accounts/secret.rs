//! The secrets of an account, from a file, the environment or its table.

use std::ops::Range;

use crate::auth::Secret;
use crate::config::diagnostics::Diagnostics;
use crate::config::file;
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::secret_text;
use crate::config::spanned::Spanned;

/// Reads the one or two secrets of an account from the one source that it names.
pub(super) fn read_secrets(
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
pub(super) fn redact_unless_names(table: &file::AccessKey, diagnostics: &mut Diagnostics) {
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

/// Removes what editors and shells add to a secret, whatever its source, and reports what cannot be meant.
fn normalize_secret(
    bytes: Vec<u8>,
    span: &Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<u8>> {
    match secret_text::parse(bytes) {
        Ok(secret) => {
            for (message, help) in secret.warnings() {
                diagnostics.warning(span.clone(), message, help);
            }
            Some(secret.bytes)
        }
        Err((message, help)) => {
            diagnostics.error(span.clone(), message, help);
            None
        }
    }
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
