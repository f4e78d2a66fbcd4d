//! The effective configuration as JSON, without secrets.

use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::units::{ByteSize, ConfigDuration};
use super::{
    AccessLog, AccountSettings, CallerSettings, Config, Listener, ListenerTls, SharedStore,
};
use crate::auth::TokenRules;
use crate::ccfs::{Versionless, zone_name};
use crate::cluster;
use crate::telemetry::LogFormat;

/// Returns the configuration in the structure of the file. [`REDACTED`] replaces each secret.
///
/// A section whose members are the keys of the file is serialized by serde; the others are not in the
/// structure that the gateway holds (routes, certificates, credentials).
pub(super) fn redact(config: &Config) -> Value {
    let mut access_keys: Vec<_> = config.access_keys.iter().collect();
    access_keys.sort_by_key(|(access_key, _)| access_key.as_str());
    let access_keys = access_keys
        .into_iter()
        .map(|(name, it)| (name.as_str(), account(it)));
    redact_with(config, &table(access_keys))
}

/// As [`redact`], but `access_keys` is null: there may be a hundred thousand of them.
pub(super) fn redact_settings(config: &Config) -> Value {
    redact_with(config, &Value::Null)
}

fn redact_with(config: &Config, access_keys: &Value) -> Value {
    json!({
        "listeners": table(config.listeners.iter().map(|(name, it)| (name.as_ref(), listener(it)))),
        "clusters": table(config.clusters.iter().map(|(name, it)| (name.as_ref(), cluster_table(it)))),
        "plans": table(config.plans.iter().map(|(name, it)| (name.as_ref(), json!(it)))),
        "access_keys": access_keys,
        "callers": table(config.callers.iter().map(|(name, it)| (name.as_ref(), caller(it)))),
        "cache": section(&config.cache),
        "limits": section(&config.limits),
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
            "audit_log": config.telemetry.audit_log.as_ref().map(|path| path.to_string_lossy()),
            "audit_key": config.telemetry.audit_key.as_ref().map(|_| REDACTED),
            "log_claimed_ak": config.telemetry.log_claimed_ak,
            "otlp_endpoint": config.telemetry.otlp_endpoint,
            "sample": config.telemetry.sample,
            "node_histograms": config.telemetry.node_histograms,
        },
        "server": section(&config.server),
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
        "authentication": it.authentication,
        "unknown_clients": it.unknown_clients,
        "unknown_paths": it.unknown_paths,
        "validation": it.validation,
        "playback": it.playback.is_some(),
        "ticket_life": it.playback.map(ConfigDuration::format),
        "ticket_key": vec![REDACTED; it.ticket_keys.len()],
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
    let nodes = it.nodes.iter().map(|node| {
        json!({
            "url": format!("https://{}", node.address),
            "weight": node.weight,
            "priority": node.priority,
        })
    });
    json!({
        "nodes": nodes.collect::<Vec<_>>(),
        "fallback": it.fallback,
        "balance": it.balance,
        "host": it.host,
        "tls": {
            "server_name": it.server_name.as_ref().map(rustls::pki_types::ServerName::to_str),
            "pins": it.pins.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "insecure_skip_verify": it.insecure_skip_verify,
        },
        "health_check": health_check(it.health_check.as_ref()),
        "ejection": section(&it.ejection),
        "flow_control": section(it.flow_control),
        "retries": { "budget": it.retries.budget_percent, "floor": it.retries.min_per_second },
        "timeouts": section(it.timeouts),
        "pool": section(it.pool),
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
        "time_zone": zone_name(&it.tenant.zone),
        "versionless": it.tenant.versionless.map(|mode| match mode {
            Versionless::Local => "local",
            Versionless::Reject => "reject",
            Versionless::Utc => "utc",
        }),
        "rate_limit": it.rate_limit,
        "ceiling": it.ceiling,
        "in_flight": it.in_flight,
        "enabled": it.credential.enabled(),
        "plan": it.plan,
        "name": it.name,
        "not_before": it.validity.not_before.map(|time| time.to_string()),
        "not_after": it.validity.not_after.map(|time| time.to_string()),
    })
}

fn caller(it: &CallerSettings) -> Value {
    json!({
        "access_key": it.access_key.as_str(),
        "client_certificate": it.client_certificate.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "api_key": vec![REDACTED; it.api_keys.len()],
        "jwt": it.jwt.as_deref().map(jwt),
        "sdk_hmac": it.sdk_hmac.as_ref().map(|app| json!({ "app_key": app.app_key, "app_secret": REDACTED })),
        "listeners": it.listeners,
        "interfaces": it.interfaces,
        "rate_limit": it.rate_limit,
        "ceiling": it.ceiling,
        "in_flight": it.in_flight,
        "enabled": it.enabled,
        "not_before": it.validity.not_before.map(|time| time.to_string()),
        "not_after": it.validity.not_after.map(|time| time.to_string()),
    })
}

fn jwt(it: &TokenRules) -> Value {
    let keys = it.keys.usable();
    let keys = keys.map(|(id, algorithm)| json!({ "kid": id, "alg": algorithm.name() }));
    json!({
        "issuer": it.issuer,
        "audience": it.audience,
        "claims": it.claims,
        "keys": keys.collect::<Vec<_>>(),
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

/// Serializes a section whose members are the keys of the file; durations in the syntax of the file.
fn section(settings: impl Serialize) -> Value {
    let mut value = serde_json::to_value(settings).unwrap_or_default();
    format_durations(&mut value);
    value
}

/// Replaces each [`Duration`], which serde writes as a map of `secs` and `nanos`.
fn format_durations(value: &mut Value) {
    if value.is_object()
        && let Ok(duration) = Duration::deserialize(&*value)
    {
        *value = ConfigDuration::format(duration).into();
        return;
    }
    if let Value::Object(members) = value {
        members.values_mut().for_each(format_durations);
    }
}

/// Serializes a number of bytes in the syntax of the file.
pub(super) fn size<N, S>(bytes: &N, serializer: S) -> Result<S::Ok, S::Error>
where
    N: Copy + TryInto<u64>,
    S: Serializer,
{
    let bytes = (*bytes).try_into().unwrap_or(u64::MAX);
    serializer.serialize_str(&ByteSize::format(bytes))
}

/// Serializes a duration of which `None` is `"0s"`.
pub(super) fn duration_or_zero<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&ConfigDuration::format(duration.unwrap_or_default()))
}

/// Replaces a secret.
const REDACTED: &str = "(secret)";
