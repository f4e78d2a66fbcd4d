//! The JSON Web Tokens of callers, and the keys of their issuers.

use std::collections::BTreeMap;

use super::Callers;
use crate::auth::{JwkSet, TokenRules};
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName, Jwt};
use crate::config::spanned::Spanned;

/// Reads which tokens identify a caller; `None` if something is missing or wrong, which is reported.
pub(super) fn read(
    caller: &Spanned<String>,
    table: &Spanned<Jwt>,
    diagnostics: &mut Diagnostics,
) -> Option<TokenRules> {
    let mut required = |name: &str, written: &Option<Spanned<String>>, help: &str| {
        let key = format!("callers.{}.jwt.{name}", caller.value);
        match written {
            None => diagnostics.missing_key(&key, table.span(), format!("no {name}"), help),
            Some(text) if text.is_empty() => {
                diagnostics.error(text.span(), format!("an empty {name}"), help);
            }
            Some(text) => return Some(text.value.clone()),
        }
        None
    };
    let issuer = required(
        "issuer",
        &table.issuer,
        "needs issuer, the iss of the tokens",
    );
    let audience = required(
        "audience",
        &table.audience,
        "needs audience, the aud of the tokens for this gateway",
    );
    let file = required(
        "jwks_file",
        &table.jwks_file,
        "needs jwks_file, the public keys of the issuer as a JWK Set",
    );
    let keys = file.and(table.jwks_file.as_ref());
    let keys = keys.and_then(|file| read_keys(file, diagnostics));
    let claims = claims(table, diagnostics);
    Some(TokenRules {
        keys: keys?,
        issuer: issuer?,
        audience: audience?,
        claims,
    })
}

fn read_keys(file: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<JwkSet> {
    if file.trim_start().starts_with(['{', '[']) {
        // It can hold a private key.
        diagnostics.secret_spans.push(file.span());
        diagnostics.error(
            file.span(),
            "the content of a file in the place of its name",
            "must be the path of a file",
        );
        return None;
    }
    let text = diagnostics.read_file(file)?;
    if text.len() > MAX_JWKS_SIZE {
        diagnostics.error(
            file.span(),
            "the file is larger than 1 MiB",
            "must be a JWK Set of at most 32 keys",
        );
        return None;
    }
    match JwkSet::parse(&text) {
        Ok(keys) => {
            if !keys.skipped().is_empty() {
                diagnostics.warning(
                    file.span(),
                    format!("keys that are not used: {}", keys.skipped().join("; ")),
                    "tokens are verified with keys for signatures with RS256, ES256 and EdDSA",
                );
            }
            Some(keys)
        }
        Err(error) => {
            diagnostics.error(
                file.span(),
                error.to_string(),
                "must be the public keys of the issuer, as it publishes them at its jwks_uri",
            );
            None
        }
    }
}

fn claims(table: &Jwt, diagnostics: &mut Diagnostics) -> BTreeMap<String, String> {
    let mut claims = BTreeMap::new();
    for (name, value) in table.claims.iter().flatten() {
        if RESERVED_CLAIMS.contains(&name.as_str()) {
            diagnostics.error(
                name.span(),
                format!("{} is no further claim", name.value),
                "issuer and audience have keys of their own; times are always judged",
            );
        }
        claims.insert(name.value.clone(), value.value.clone());
    }
    claims
}

/// Reports callers whose tokens would all be those of another caller too.
pub(super) fn report_shared(
    tables: &ByName<file::Caller>,
    callers: &Callers,
    diagnostics: &mut Diagnostics,
) {
    let mut taken: Vec<(&TokenRules, &str)> = Vec::new();
    for (name, table) in tables {
        let caller = callers.get(name.as_str());
        let rules = caller.and_then(|caller| caller.jwt.as_deref());
        let (Some(rules), Some(jwt)) = (rules, &table.jwt) else {
            continue;
        };
        let mut others = taken.iter();
        if let Some((_, other)) =
            others.find(|(other, _)| other.include(rules) || rules.include(other))
        {
            diagnostics.error(
                jwt.span(),
                format!("tokens of this caller fit caller {other} too, or the other way round"),
                "must differ in issuer, audience or the value of a claim: a token identifies one caller",
            );
        }
        taken.push((rules, name.as_str()));
    }
}

/// Claims with rules of their own.
const RESERVED_CLAIMS: [&str; 5] = ["aud", "cnf", "exp", "iss", "nbf"];

/// 32 keys with their certificates are a fifth of it.
const MAX_JWKS_SIZE: usize = 1024 * 1024;
