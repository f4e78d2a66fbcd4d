//! `[shared]`: the store that replicas share.

use std::time::Duration;

use super::tls::TlsFiles;
use super::{nonzero_duration_or, warn_if_readable_by_others};
use crate::cluster::NodeAddress;
use crate::config::file;
use crate::config::report::Diagnostics;
use crate::config::spanned::Spanned;
use crate::config::{SharedStore, StorePem, StoreSecret, StoreTls};

pub(super) fn resolve(
    table: &Spanned<file::Shared>,
    material: &mut TlsFiles,
    report: &mut Diagnostics,
) -> Option<SharedStore> {
    let place = location(table, report);
    let tls = tls(table, place.as_ref(), material, report);
    let timeout = nonzero_duration_or(&table.timeout, DEFAULT_TIMEOUT, report);
    if let Some(written) = &table.timeout
        && timeout > LONG_TIMEOUT
    {
        report.warning(
            written.span(),
            "longer than a client should wait for a cache",
            "should be at most \"1s\": every request waits so long when the store begins to hang",
        );
    }
    let password = table
        .password_file
        .as_ref()
        .map(|it| read_password(it, report));
    if let (Some(username), None) = (&table.username, &table.password_file) {
        report.error(
            username.span(),
            "a user without a password",
            "needs password_file",
        );
    }
    let seal_keys = read_seal_keys(table, report);
    let place = place?;
    Some(SharedStore {
        address: place.address,
        database: place.database,
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

/// What a URL says.
#[derive(Debug, Eq, PartialEq)]
struct StoreLocation {
    encrypted: bool,
    address: NodeAddress,
    database: u32,
}

fn location(table: &Spanned<file::Shared>, report: &mut Diagnostics) -> Option<StoreLocation> {
    let Some(url) = &table.url else {
        report.missing_key(
            "shared.url",
            table.span(),
            "a store without a url",
            "needs url = \"rediss://host:6379\"",
        );
        return None;
    };
    match parse_url(url) {
        Ok(place) => Some(place),
        Err(help) => {
            report.error(url.span(), "not the URL of a store", help);
            None
        }
    }
}

/// `redis://host:port/database` to its parts, or what would be right.
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

/// `None` if something is wrong, `Some(None)` for plain TCP.
fn tls(
    table: &Spanned<file::Shared>,
    place: Option<&StoreLocation>,
    material: &mut TlsFiles,
    report: &mut Diagnostics,
) -> Option<Option<StoreTls>> {
    let Some(place) = place else {
        // What it has to be is not known; its files are judged all the same.
        let written = table.tls.as_ref()?;
        material.client_tls(Some(written), &table.span, report);
        return None;
    };
    if !place.encrypted {
        let Some(written) = &table.tls else {
            return Some(None);
        };
        report.error(
            written.span(),
            "tls to a store that is spoken to in plain text",
            "needs a url that begins with rediss://",
        );
        return None;
    }
    let tls = material.client_tls(table.tls.as_ref(), &table.span, report)?;
    if tls.insecure {
        let key = table.tls.as_ref();
        let key = key.and_then(|tls| tls.insecure_skip_verify.as_ref());
        report.warning(
            key.map_or(table.span(), Spanned::span),
            "the certificate of the store is not verified",
            "whoever is in between reads the password and drops purges; give a ca instead",
        );
    }
    let mut client = rustls::ClientConfig::clone(&tls.client);
    client.alpn_protocols.clear();
    Some(Some(StoreTls {
        client: client.into(),
        server_name: tls.server_name,
        insecure: tls.insecure,
        identity: tls.identity,
        pem: read_pem(table.tls.as_ref(), report),
    }))
}

/// The files were found good a moment ago.
fn read_pem(table: Option<&Spanned<file::ClusterTls>>, report: &mut Diagnostics) -> StorePem {
    let Some(table) = table else {
        return StorePem::default();
    };
    let mut read =
        |key: &file::Setting<String>| key.as_ref().and_then(|file| report.read_file(file));
    let own = read(&table.certificate).zip(read(&table.private_key));
    StorePem {
        ca: read(&table.ca),
        client_certificate: own.map(|(certificate, key)| (certificate, StoreSecret::new(key))),
    }
}

/// The password of a file, without the line end that editors add.
fn read_password(file: &Spanned<String>, report: &mut Diagnostics) -> Option<StoreSecret> {
    let bytes = read_secret_bytes(file, &file.span, report)?;
    if bytes.is_empty() || std::str::from_utf8(&bytes).is_err() {
        report.error(
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
    report: &mut Diagnostics,
) -> Option<Vec<StoreSecret>> {
    let Some(files) = &table.seal_key_file else {
        report.missing_key(
            "shared.seal_key_file",
            table.span(),
            "a store without a key to seal with",
            "needs seal_key_file: a recording URL opens a recording to whoever reads it. \
             `openssl rand -hex 32` makes a key",
        );
        return None;
    };
    let mut keys = Vec::new();
    for file in files.as_slice() {
        let key = read_seal_key(file, &files.span, report)?;
        if keys.contains(&key) {
            report.error(
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
    report: &mut Diagnostics,
) -> Option<StoreSecret> {
    let bytes = read_secret_bytes(file, span, report)?;
    if !(MIN_KEY_LENGTH..=MAX_KEY_LENGTH).contains(&bytes.len()) {
        report.error(
            span.clone(),
            format!("the key to seal with has {} bytes", bytes.len()),
            "must have 32 to 1024, made at random: `openssl rand -hex 32`",
        );
        return None;
    }
    Some(StoreSecret::new(bytes))
}

/// The bytes of a secret file without the line end that editors add; 32 raw bytes may end in
/// anything.
fn read_secret_bytes(
    file: &str,
    span: &std::ops::Range<usize>,
    report: &mut Diagnostics,
) -> Option<Vec<u8>> {
    let mut bytes = report.read_secret_file(file, span)?;
    warn_if_readable_by_others(file, span, report);
    let raw = bytes.len() == MIN_KEY_LENGTH && !bytes.trim_ascii_end().is_ascii();
    if !raw && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Some(bytes)
}

const DEFAULT_TIMEOUT: Duration = Duration::from_millis(20);

// Ten times what a store in another data centre takes.
const LONG_TIMEOUT: Duration = Duration::from_secs(1);

const DEFAULT_PORT: u16 = 6379;

// As long as the keys that are derived from it.
const MIN_KEY_LENGTH: usize = 32;

// More is another file by mistake.
const MAX_KEY_LENGTH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_a_database() {
        let place = |encrypted, host: &str, port, database| {
            Ok(StoreLocation {
                encrypted,
                address: NodeAddress {
                    host: host.into(),
                    port,
                },
                database,
            })
        };
        assert_eq!(parse_url("redis://h"), place(false, "h", 6379, 0));
        assert_eq!(parse_url("rediss://H.x:1/"), place(true, "h.x", 1, 0));
        assert_eq!(parse_url("redis://[::1]:7/12"), place(false, "::1", 7, 12));
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
