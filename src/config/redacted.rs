//! The effective configuration for people and scripts, without secrets.

use serde_json::{Map, Value, json};

use super::units::{ByteSize, ConfigDuration};
use super::{
    AccessLog, AccountSettings, Cache, Config, Limits, Listener, ListenerTls, Rate, SharedStore,
};
use crate::ccfs::Versionless;
use crate::cluster;
use crate::telemetry::LogFormat;

/// The configuration in the form of the file. Where a secret would stand, [`MASK`] does.
pub(super) fn redact(config: &Config) -> Value {
    let mut access_keys: Vec<_> = config.access_keys.iter().collect();
    access_keys.sort_by_key(|(access_key, _)| access_key.as_str());
    let server = &config.server;
    json!({
        "listeners": table(config.listeners.iter().map(|(name, it)| (name.as_ref(), listener(it)))),
        "clusters": table(config.clusters.iter().map(|(name, it)| (name.as_ref(), cluster_table(it)))),
        "access_keys": table(access_keys.into_iter().map(|(name, it)| (name.as_str(), account(it)))),
        "cache": cache(&config.cache),
        "limits": limits(&config.limits),
        "shared": config.shared.as_ref().map(shared),
        "admin": {
            "bind": config.admin.bind.map_or("off".to_owned(), |bind| bind.to_string()),
            "token": config.admin.token.as_ref().map(|_| REDACTED),
            "tls": config.admin.tls.as_ref().map(listener_tls),
        },
        "telemetry": {
            "log_level": config.telemetry.log_level.as_str().to_ascii_lowercase(),
            "log_format": config.telemetry.log_format.map(LogFormat::as_str),
            "access_log": match &config.telemetry.access_log {
                AccessLog::File(path) => path.to_string_lossy(),
                AccessLog::Off => "off".into(),
                AccessLog::Stderr => "stderr".into(),
            },
            "otlp_endpoint": config.telemetry.otlp_endpoint,
            "sample": config.telemetry.sample,
        },
        "server": {
            "workers": server.workers,
            "drain_delay": ConfigDuration::format(server.drain_delay),
            "grace": ConfigDuration::format(server.grace),
        },
    })
}

fn table<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(
        entries
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn listener(it: &Listener) -> Value {
    json!({
        "bind": it.bind.to_string(),
        "routes": table(it.routes.iter().map(|(prefix, cluster)| (prefix.as_str(), json!(cluster.as_ref())))),
        "tls": listener_tls(&it.tls),
        "unknown_clients": it.unknown_clients,
        "unknown_paths": it.unknown_paths,
        "validation": it.validation,
        "proxy_protocol": { "trusted": it.proxy_protocol.iter().map(ToString::to_string).collect::<Vec<_>>() },
    })
}

fn listener_tls(it: &ListenerTls) -> Value {
    let pairs = it.certificate_files.iter().map(|files| {
        json!({
            "certificate": files.certificate.to_string_lossy(),
            "private_key": files.private_key.to_string_lossy(),
        })
    });
    json!({
        "certificates": pairs.collect::<Vec<_>>(),
        "client_crls": it.client_crls.len(),
        "client_auth": it.client_ca.as_ref().map(|_| it.client_auth),
    })
}

fn cluster_table(it: &cluster::ClusterSettings) -> Value {
    let nodes = it
        .nodes
        .iter()
        .map(|node| json!({ "url": format!("https://{}", node.address), "weight": node.weight }));
    json!({
        "nodes": nodes.collect::<Vec<_>>(),
        "balance": it.balance,
        "host": it.host,
        "tls": {
            "server_name": it.server_name.as_ref().map(rustls::pki_types::ServerName::to_str),
            "insecure_skip_verify": it.insecure_skip_verify,
        },
        "health_check": health_check(it.health_check.as_ref()),
        "ejection": {
            "consecutive_failures": it.ejection.consecutive_failures,
            "base_time": ConfigDuration::format(it.ejection.base_time),
            "max_time": ConfigDuration::format(it.ejection.max_time),
            "max_ejected": it.ejection.max_ejected,
            "slow_start": ConfigDuration::format(it.ejection.slow_start),
            "panic_threshold": it.ejection.panic_threshold,
            "result_codes": it.ejection.result_codes,
        },
        "retries": { "budget": it.retries.budget_percent, "floor": it.retries.min_per_second },
        "timeouts": {
            "connect": ConfigDuration::format(it.timeouts.connect),
            "per_try": ConfigDuration::format(it.timeouts.per_try),
            "overall": ConfigDuration::format(it.timeouts.overall),
            "fetch": ConfigDuration::format(it.timeouts.fetch),
        },
        "pool": {
            "max_connections": it.pool.max_connections,
            "max_idle": it.pool.max_idle,
            "idle_timeout": ConfigDuration::format(it.pool.idle_timeout),
            "max_age": ConfigDuration::format(it.pool.max_age),
        },
    })
}

fn health_check(it: Option<&cluster::HealthCheck>) -> Value {
    let Some(it) = it else {
        return json!({ "enabled": false });
    };
    let mut check = json!({
        "enabled": true,
        "interval": ConfigDuration::format(it.interval),
        "timeout": ConfigDuration::format(it.timeout),
        "unhealthy_after": it.unhealthy_after,
        "healthy_after": it.healthy_after,
    });
    match &it.signed {
        None => check["path"] = json!(it.path),
        Some(signed) => {
            check["access_key"] = json!(signed.access_key.as_ref());
            check["call_id"] = json!(signed.call_id);
            check["result_codes"] = json!(signed.result_codes);
        }
    }
    check
}

fn account(it: &AccountSettings) -> Value {
    json!({
        "secret_key": vec![REDACTED; it.credential.secrets().len()],
        "time_zone": it.tenant.zone.iana_name().map_or_else(|| format!("{:?}", it.tenant.zone), str::to_owned),
        "versionless": it.tenant.versionless.map(|mode| match mode {
            Versionless::Local => "local",
            Versionless::Reject => "reject",
            Versionless::Utc => "utc",
        }),
        "rate_limit": it.rate_limit.map(rate),
        "ceiling": it.ceiling.map(rate),
        "in_flight": it.in_flight,
        "enabled": it.credential.enabled(),
    })
}

fn rate(it: Rate) -> Value {
    json!({ "per_second": it.per_second, "burst": it.burst })
}

fn cache(it: &Cache) -> Value {
    json!({
        "max_size": ByteSize::format(it.max_size),
        "expiry_margin": ConfigDuration::format(it.expiry_margin),
        "minimum_life": ConfigDuration::format(it.minimum_life),
        "stale_if_error": it.stale_if_error,
        "negative_ttl": ConfigDuration::format(it.negative_ttl),
        "success_codes": it.success_codes,
    })
}

fn shared(it: &SharedStore) -> Value {
    json!({
        "url": it.url(),
        "username": it.username,
        "password": it.password.as_ref().map(|_| REDACTED),
        "tls": it.tls.as_ref().map(|tls| json!({ "insecure_skip_verify": tls.insecure })),
        "timeout": ConfigDuration::format(it.timeout),
        "seal_key": vec![REDACTED; it.seal_keys.len()],
    })
}

fn limits(it: &Limits) -> Value {
    json!({
        "clock_window": ConfigDuration::format(it.clock_window.unwrap_or_default()),
        "hits_are_free": it.hits_are_free,
        "per_address": rate(it.per_address),
        "max_in_flight": it.max_in_flight,
        "max_connections": it.max_connections,
        "max_connections_per_address": it.max_connections_per_address,
        "max_handshakes": it.max_handshakes,
        "max_body_size": ByteSize::format(it.max_body_size as u64),
        "max_upload_size": ByteSize::format(it.max_upload_size as u64),
        "max_buffered": ByteSize::format(it.max_buffered as u64),
        "max_answer": ByteSize::format(it.max_answer as u64),
        "body_timeout": ConfigDuration::format(it.body_timeout),
        "header_timeout": ConfigDuration::format(it.header_timeout),
        "handshake_timeout": ConfigDuration::format(it.handshake_timeout),
        "idle_timeout": ConfigDuration::format(it.idle_timeout),
        "max_connection_age": ConfigDuration::format(it.max_connection_age),
        "min_send_rate": ByteSize::format(it.min_send_rate),
        "send_rate_window": ConfigDuration::format(it.send_rate_window),
        "min_receive_rate": ByteSize::format(it.min_receive_rate),
        "max_header_size": ByteSize::format(it.max_header_size as u64),
        "max_header_fields": it.max_header_fields,
        "max_concurrent_streams": it.max_concurrent_streams,
        "http2_max_resets": it.http2_max_resets,
        "http2_stream_window": ByteSize::format(it.http2_stream_window.into()),
        "http2_connection_window": ByteSize::format(it.http2_connection_window.into()),
        "http2_ping_interval": ConfigDuration::format(it.http2_ping_interval),
        "http2_goaway_timeout": ConfigDuration::format(it.http2_goaway_timeout),
        "max_discarded": ByteSize::format(it.max_discarded),
        "linger_timeout": ConfigDuration::format(it.linger_timeout),
    })
}

const REDACTED: &str = "(secret)";
