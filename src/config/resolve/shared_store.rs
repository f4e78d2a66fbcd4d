//! `[shared]`: the store shared by all replicas.

use std::time::Duration;

use super::nonzero_duration_or;
use super::tls::TlsFiles;
use crate::cluster::NodeAddress;
use crate::config::diagnostics::Diagnostics;
use crate::config::file;
use crate::config::permissions::warn_if_readable_by_others;
use crate::config::spanned::Spanned;
use crate::config::{SharedStore, StorePem, StoreSecret, StoreTls};

pub(super) fn resolve(
    table: &Spanned<file::Shared>,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> Option<SharedStore> {
    let location = location(table, diagnostics);
    let tls = tls(table, location.as_ref(), tls_files, diagnostics);
    let timeout = nonzero_duration_or(&table.timeout, DEFAULT_TIMEOUT, diagnostics);
    if let Some(written) = &table.timeout
        && timeout > LONG_TIMEOUT
    {
        diagnostics.warning(
            written.span(),
            "longer than a client should wait for a cache",
            "should be at most \"1s\": every request waits so long when the store begins to hang",
        );
    }
    let password = table
        .password_file
        .as_ref()
        .map(|it| read_password(it, diagnostics));
    if let (Some(username), None) = (&table.username, &table.password_file) {
        diagnostics.error(
            username.span(),
            "a user without a password",
            "needs password_file",
        );
    }
    let seal_keys = read_seal_keys(table, diagnostics);
    let location = location?;
    Some(SharedStore {
        address: location.address,
        database: location.database,
        tls: tls?,
        username: table.username.as_ref().map(|it| it.value.clone()),
        password: match password {
            Some(password) => Some(password?),
            None => None,
        },
        timeout,
        seal_keys: seal_keys?,
    })
}

/// The parts of a store's URL.
#[derive(Debug, Eq, PartialEq)]
struct StoreLocation {
    encrypted: bool,
    address: NodeAddress,
    database: u32,
}

fn location(table: &Spanned<file::Shared>, diagnostics: &mut Diagnostics) -> Option<StoreLocation> {
    let Some(url) = &table.url else {
        diagnostics.missing_key(
            "shared.url",
            table.span(),
            "a store without a url",
            "needs url = \"rediss://host:6379\"",
        );
        return None;
    };
    match parse_url(url) {
        Ok(location) => Some(location),
        Err(help) => {
            diagnostics.error(url.span(), "not the URL of a store", help);
            None
        }
    }
}

/// Parses `redis://host:port/database`; an error says what would be right.
fn parse_url(url: &str) -> Result<StoreLocation, &'static str> {
    const FORM: &str = "must be redis://host:port or rediss://host:port, with /1 for database 1";
    let (encrypted, rest) = match (url.strip_prefix("rediss://"), url.strip_prefix("redis://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(FORM),
    };
    if rest.contains('@') {
        return Err("must hold no user: that is username, with password_file");
    }
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = match database {
        "" => 0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| FORM)?
        }
        _ => return Err(FORM),
    };
    let authority: http::uri::Authority = authority.parse().map_err(|_| FORM)?;
    let port = match authority.port() {
        Some(port) => port.as_str().parse().map_err(|_| FORM)?,
        None if authority.as_str() != authority.host() => return Err(FORM),
        None => DEFAULT_PORT,
    };
    let host = authority.host().trim_matches(['[', ']']).to_lowercase();
    if port == 0 || rustls::pki_types::ServerName::try_from(host.as_str()).is_err() {
        return Err(FORM);
    }
    Ok(StoreLocation {
        encrypted,
        address: NodeAddress {
            host: host.into(),
            port,
        },
        database,
    })
}

/// Returns `None` after an error, `Some(None)` for plain TCP.
fn tls(
    table: &Spanned<file::Shared>,
    location: Option<&StoreLocation>,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> Option<Option<StoreTls>> {
    let Some(location) = location else {
        // The scheme is unknown; the files are checked nevertheless.
        let written = table.tls.as_ref()?;
        tls_files.client_tls(Some(written), &table.span, diagnostics);
        return None;
    };
    if !location.encrypted {
        let Some(written) = &table.tls else {
            return Some(None);
        };
        diagnostics.error(
            written.span(),
            "tls to a store that is spoken to in plain text",
            "needs a url that begins with rediss://",
        );
        return None;
    }
    let tls = tls_files.client_tls(table.tls.as_ref(), &table.span, diagnostics)?;
    if tls.insecure {
        let key = table.tls.as_ref();
        let key = key.and_then(|tls| tls.insecure_skip_verify.as_ref());
        diagnostics.warning(
            key.map_or(table.span(), Spanned::span),
            "the certificate of the store is not verified",
            "a man in the middle can read the password and drop purges; give a ca or pins instead",
        );
    }
    let mut client = rustls::ClientConfig::clone(&tls.client);
    client.alpn_protocols.clear();
    Some(Some(StoreTls {
        client: client.into(),
        server_name: tls.server_name,
        insecure: tls.insecure,
        is_pinned: !tls.pins.is_empty(),
        identity: tls.identity,
        pem: read_pem(table.tls.as_ref(), diagnostics),
    }))
}

/// Reads the PEM files, which `client_tls` has validated before.
fn read_pem(table: Option<&Spanned<file::ClusterTls>>, diagnostics: &mut Diagnostics) -> StorePem {
    let Some(table) = table else {
        return StorePem::default();
    };
    let mut read =
        |key: &file::Setting<String>| key.as_ref().and_then(|file| diagnostics.read_file(file));
    let own = read(&table.certificate).zip(read(&table.private_key));
    StorePem {
        ca: read(&table.ca),
        client_certificate: own.map(|(certificate, key)| (certificate, StoreSecret::new(key))),
    }
}

/// Reads a password without the line end that editors append.
fn read_password(file: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<StoreSecret> {
    let bytes = read_secret_bytes(file, &file.span, diagnostics)?;
    if bytes.is_empty() || std::str::from_utf8(&bytes).is_err() {
        diagnostics.error(
            file.span(),
            "no password in this file",
            "must hold one line of UTF-8",
        );
        return None;
    }
    Some(StoreSecret::new(bytes))
}

fn read_seal_keys(
    table: &Spanned<file::Shared>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<StoreSecret>> {
    let Some(files) = &table.seal_key_file else {
        diagnostics.missing_key(
            "shared.seal_key_file",
            table.span(),
            "a shared store without an encryption key",
            "needs seal_key_file: any reader of a recording URL can open the recording. \
             `openssl rand -hex 32` makes a key",
        );
        return None;
    };
    if !files
        .as_slice()
        .iter()
        .all(|file| diagnostics.is_path(file))
    {
        // Reading ends at the first error: a later item can be the key itself.
        diagnostics.secret_spans.push(files.span());
    }
    let mut keys = Vec::new();
    for file in files.as_slice() {
        let key = read_seal_key(file, &files.span, diagnostics)?;
        if keys.contains(&key) {
            diagnostics.error(
                files.span(),
                "the same key twice",
                "must be two different keys, or one",
            );
            return None;
        }
        keys.push(key);
    }
    Some(keys)
}

fn read_seal_key(
    file: &str,
    span: &std::ops::Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Option<StoreSecret> {
    let bytes = read_secret_bytes(file, span, diagnostics)?;
    if !(MIN_KEY_LENGTH..=MAX_KEY_LENGTH).contains(&bytes.len()) {
        diagnostics.error(
            span.clone(),
            format!("the encryption key has {} bytes", bytes.len()),
            "must have 32 to 1024, made at random: `openssl rand -hex 32`",
        );
        return None;
    }
    Some(StoreSecret::new(bytes))
}

/// Reads a secret file without the line end that editors append. 32 raw bytes can end in any byte.
fn read_secret_bytes(
    file: &str,
    span: &std::ops::Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<u8>> {
    let mut bytes = diagnostics.read_secret_file(file, span)?;
    warn_if_readable_by_others(file, span, diagnostics);
    let raw = bytes.len() == MIN_KEY_LENGTH && !bytes.trim_ascii_end().is_ascii();
    if !raw && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Some(bytes)
}

/// Ten times the round trip to a store in the same region.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);

/// Ten times the round trip to a store in another data centre.
const LONG_TIMEOUT: Duration = Duration::from_secs(1);

/// The default port of Redis.
const DEFAULT_PORT: u16 = 6379;

/// The length of the AEAD keys that are derived from it (HKDF, RFC 5869).
const MIN_KEY_LENGTH: usize = 32;

/// Our choice: a longer file is another file by mistake.
const MAX_KEY_LENGTH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_a_database() {
        let location = |encrypted, host: &str, port, database| {
            Ok(StoreLocation {
                encrypted,
                address: NodeAddress {
                    host: host.into(),
                    port,
                },
                database,
            })
        };
        assert_eq!(parse_url("redis://h"), location(false, "h", 6379, 0));
        assert_eq!(parse_url("rediss://H.x:1/"), location(true, "h.x", 1, 0));
        assert_eq!(
            parse_url("redis://[::1]:7/12"),
            location(false, "::1", 7, 12)
        );
        for wrong in [
            "",
            "h:6379",
            "http://h",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "redis://h:6379/x",
            "redis://h/-1",
            "redis://user@h",
            "redis://h/1?x",
            "redis://h:",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
