//! The summary of a valid configuration.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Zoned;
use serde_json::Value;

use crate::config::{ClientAuth, Config, Listener, ListenerTls, UnknownClients, pinned_keys};
use crate::tls::{self, CertificateDetails, CertificateName};

/// Writes what the configuration sets up.
pub(super) fn write_summary(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let effective = config.redacted();
    for (name, listener) in &config.listeners {
        writeln!(out, "listener {name} on {}", listener.bind)?;
        write_listener(listener, out)?;
        write_name_issuers((name, listener), config, out)?;
    }
    for (name, cluster) in &config.clusters {
        let table = &effective["clusters"][name.as_ref()];
        let unverified = if cluster.insecure_skip_verify {
            ", NOT VERIFIED"
        } else if !cluster.pins.is_empty() {
            ", keys pinned"
        } else {
            ""
        };
        let balance = json_str(&table["balance"]);
        let fallback = match &cluster.fallback {
            Some(fallback) => format!(", fallback {fallback}"),
            None => String::new(),
        };
        writeln!(out, "cluster {name}: {balance}{fallback}{unverified}")?;
        for node in &cluster.nodes {
            let weight = match node.weight {
                1 => String::new(),
                weight => format!(", weight {weight}"),
            };
            let priority = match node.priority {
                0 => String::new(),
                priority => format!(", priority {priority}"),
            };
            writeln!(out, "  https://{}{weight}{priority}", node.address)?;
        }
    }
    write_access_keys(config, out)?;
    write_time_zones(config, out)?;
    let cache = &effective["cache"];
    let limits = &effective["limits"];
    match config.cache.max_size {
        0 => writeln!(out, "cache: off")?,
        _ => writeln!(
            out,
            "cache: {}, responses that are valid for {} and longer",
            json_str(&cache["max_size"]),
            json_str(&cache["expiry_margin"])
        )?,
    }
    writeln!(
        out,
        "limits: {} connections, {} requests at once, bodies up to {} ({} for uploads)",
        config.limits.max_connections,
        config.limits.max_in_flight,
        json_str(&limits["max_body_size"]),
        json_str(&limits["max_upload_size"])
    )?;
    write_shared_store(config, &effective["shared"], out)?;
    write_admin(config, out)?;
    if let Some(endpoint) = &config.telemetry.otlp_endpoint {
        let sample = config.telemetry.sample;
        writeln!(out, "traces to {endpoint}, sample ratio {sample}")?;
    }
    writeln!(out, "server: {} workers", config.server.workers)
}

fn write_admin(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    match config.admin.bind {
        Some(bind) => writeln!(
            out,
            "admin on {bind}{}",
            if config.admin.token.is_some() {
                ", with a token"
            } else {
                ""
            }
        )?,
        None => writeln!(out, "admin: off")?,
    }
    if let Some(tls) = &config.admin.tls {
        write_certificates(tls, out)?;
    }
    Ok(())
}

fn write_listener(listener: &Listener, out: &mut dyn Write) -> io::Result<()> {
    for (prefix, cluster) in &listener.routes {
        writeln!(out, "  {prefix} -> {cluster}")?;
    }
    if listener.unknown_clients == UnknownClients::Forward {
        writeln!(out, "  unknown clients are FORWARDED, unverified")?;
    }
    if !listener.proxy_protocol.is_empty() {
        let networks: Vec<_> = listener
            .proxy_protocol
            .iter()
            .map(ToString::to_string)
            .collect();
        writeln!(out, "  PROXY header from {}", networks.join(", "))?;
    }
    if listener.tls.client_ca.is_some() {
        let wanted = match listener.tls.client_auth {
            ClientAuth::Optional => "optional",
            ClientAuth::Required => "required",
        };
        let lists = match listener.tls.client_crls.len() {
            0 => "no CRL".to_owned(),
            1 => "1 CRL".to_owned(),
            count => format!("{count} CRLs"),
        };
        writeln!(out, "  client certificates are {wanted}, {lists}")?;
    }
    write_certificates(&listener.tls, out)
}

/// Writes who may give callers their names, because each of them may give all.
fn write_name_issuers(
    (name, listener): (&str, &Listener),
    config: &Config,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut callers = config.callers.values();
    let has_named = callers.any(|caller| {
        caller.listeners.contains(name)
            && (caller.client_certificate.iter()).any(CertificateName::is_issued)
    });
    let Some(authorities) = listener.tls.client_ca.as_ref().filter(|_| has_named) else {
        return Ok(());
    };
    let pinned = pinned_keys(config.callers.values());
    let issuers = tls::name_issuers(authorities, &pinned);
    let issuers: Vec<_> = issuers
        .map(|it| CertificateDetails::read(it).subject)
        .collect();
    match issuers.is_empty() {
        true => Ok(()),
        false => writeln!(
            out,
            "  each caller's name may be given by {}",
            issuers.join("; by ")
        ),
    }
}

fn write_certificates(tls: &ListenerTls, out: &mut dyn Write) -> io::Result<()> {
    for (files, certificate) in tls.certificate_files.iter().zip(&tls.certificates) {
        write!(out, "  certificate {}", files.certificate.display())?;
        let Some(leaf) = certificate.cert.first() else {
            writeln!(out)?;
            continue;
        };
        let leaf = CertificateDetails::read(leaf);
        let issuer = match leaf.is_self_issued {
            true => "self-signed".to_owned(),
            false => format!("issued by {}", leaf.issuer),
        };
        write!(out, ", for {}, {issuer}, {}", leaf.names_text(), leaf.key)?;
        match certificate.cert.len() {
            1 => write!(out, ", without a chain")?,
            length => write!(out, ", a chain of {length}")?,
        }
        match leaf.validity {
            Some(validity) => writeln!(out, ", valid until {}", validity.not_after)?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn write_access_keys(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let accounts = || config.access_keys.values();
    let disabled = accounts()
        .filter(|account| !account.credential.enabled())
        .count();
    let unlimited = accounts()
        .filter(|account| account.rate_limit.is_none())
        .count();
    let count = config.access_keys.len();
    writeln!(
        out,
        "access keys: {count}, of which {disabled} disabled, {unlimited} without a rate limit"
    )
}

fn write_shared_store(config: &Config, shown: &Value, out: &mut dyn Write) -> io::Result<()> {
    match &config.shared {
        Some(store) => writeln!(
            out,
            "shared store: {}, timeout {}",
            store.url(),
            json_str(&shown["timeout"])
        ),
        None => Ok(()),
    }
}

/// Writes each time zone with its current offset, because a wrong zone causes no error of its own.
fn write_time_zones(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let now = crate::cli::now();
    let mut zones: BTreeMap<_, usize> = BTreeMap::new();
    for account in config.access_keys.values() {
        let zone = &account.tenant.zone;
        let offset = zone.to_offset(now);
        let name = zone.iana_name().unwrap_or("fixed offset").to_owned();
        *zones.entry((name, offset)).or_default() += 1;
    }
    for ((name, offset), count) in zones {
        let plural = if count == 1 { "" } else { "s" };
        let offset = Zoned::new(now, offset.to_time_zone())
            .strftime("%:z")
            .to_string();
        writeln!(out, "  {name}, now at {offset}: {count} access key{plural}")?;
    }
    Ok(())
}

/// Returns the value of a JSON string, or an empty string.
fn json_str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
