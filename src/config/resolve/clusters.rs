//! Clusters: nodes, TLS toward them, and how failures of nodes are met.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::settings::codes;
use super::tls::TlsFiles;
use super::{MINUTE, SECOND, arc_str, duration_or, nonzero_duration_or, value_or};
use crate::auth::AccessKey;
use crate::cluster::{
    ClusterSettings, EjectionSettings, HealthCheck, NodeAddress, NodeSettings, PoolLimits,
    RetrySettings, SignedCheck, Timeouts,
};
use crate::config::AccountSettings;
use crate::config::file::{self, ByName, Node};
use crate::config::nearest::suggest;
use crate::config::report::Diagnostics;
use crate::config::spanned::Spanned;
use crate::config::units::ConfigDuration;

/// All clusters that can be resolved.
pub(super) fn resolve(
    file: &ByName<file::Cluster>,
    material: &mut TlsFiles,
    report: &mut Diagnostics,
) -> BTreeMap<Arc<str>, ClusterSettings> {
    let mut clusters = BTreeMap::new();
    for (name, table) in file {
        if let Some(settings) = cluster(name, table, material, report) {
            clusters.insert(Arc::clone(&settings.name), settings);
        }
    }
    clusters
}

fn cluster(
    name: &Spanned<String>,
    table: &file::Cluster,
    material: &mut TlsFiles,
    report: &mut Diagnostics,
) -> Option<ClusterSettings> {
    let nodes = nodes(name, table, report);
    let tls = material.client_tls(table.tls.as_ref(), &name.span, report);
    let settings = ClusterSettings {
        name: arc_str(name),
        nodes,
        balance: value_or(&table.balance, Default::default()),
        host: value_or(&table.host, Default::default()),
        health_check: health_check(name, &table.health_check, report),
        ejection: ejection(&table.ejection, report),
        retries: RetrySettings {
            budget_percent: value_or(&table.retries.budget, 20),
            min_per_second: value_or(&table.retries.floor, 10),
        },
        timeouts: timeouts(&table.timeouts, report),
        pool: PoolLimits {
            max_connections: value_or(&table.pool.max_connections, 1_024),
            max_idle: value_or(&table.pool.max_idle, 128),
            idle_timeout: nonzero_duration_or(&table.pool.idle_timeout, 15 * SECOND, report),
            max_age: nonzero_duration_or(&table.pool.max_age, 10 * MINUTE, report),
        },
        insecure_skip_verify: false,
        server_name: None,
        tls_digest: [0; 32],
        tls: tls.as_ref().map(|tls| Arc::clone(&tls.client))?,
    };
    let tls = tls?;
    let verified_too = table.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
    if tls.insecure && !verified_too {
        let place = table
            .tls
            .as_ref()
            .and_then(|tls| tls.insecure_skip_verify.as_ref());
        let message = format!(
            "certificates of the nodes of cluster {} are not verified",
            name.value
        );
        report.warning(
            place.map_or(name.span(), Spanned::span),
            message,
            "whoever is in between reads and changes everything; give a ca instead",
        );
    }
    Some(ClusterSettings {
        server_name: tls.server_name,
        tls_digest: tls.identity,
        insecure_skip_verify: tls.insecure,
        ..settings
    })
}

fn nodes(
    name: &Spanned<String>,
    table: &file::Cluster,
    report: &mut Diagnostics,
) -> Vec<NodeSettings> {
    let key = format!("clusters.{}.nodes", name.value);
    let example = "needs nodes = [\"https://10.0.0.1:8443\"]";
    let Some(written) = &table.nodes else {
        report.missing_key(&key, name.span(), "a cluster without nodes", example);
        return Vec::new();
    };
    if written.is_empty() {
        report.missing_key(&key, written.span(), "a cluster without nodes", example);
    }
    let mut nodes: Vec<NodeSettings> = Vec::new();
    for node in &written.value {
        let (url, weight) = match &node.value {
            Node::Url(url) => (url.as_str(), 1),
            Node::Weighted(node) => (
                node.url.as_deref().unwrap_or_default(),
                node.weight.unwrap_or(1),
            ),
        };
        match parse_node_url(url) {
            Err(help) => {
                if url.contains('@') {
                    report.secret_spans.push(node.span());
                }
                report.error(node.span(), "not the URL of a node", help);
            }
            Ok(address) if nodes.iter().any(|other| other.address == address) => {
                report.error(
                    node.span(),
                    "this node is listed twice",
                    "must be listed once; weight gives it a larger share",
                );
            }
            Ok(address) => nodes.push(NodeSettings { address, weight }),
        }
    }
    nodes
}

/// `https://host:port` to its parts, or what would be right.
pub(super) fn parse_node_url(url: &str) -> Result<NodeAddress, &'static str> {
    const FORM: &str = "must be https://host:port";
    let Some(rest) = url.strip_prefix("https://") else {
        return Err(if url.starts_with("http://") {
            "must be https://host:port: nodes are spoken to over TLS only"
        } else {
            FORM
        });
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(
            "must be https://host:port without a path or a query: the path is the client's",
        );
    }
    if rest.contains('@') {
        return Err("must be https://host:port without a user");
    }
    let authority: http::uri::Authority = rest.parse().map_err(|_| FORM)?;
    let port = match authority.port() {
        Some(port) => port.as_str().parse().map_err(|_| FORM)?,
        None if rest.ends_with(':') || !rest.ends_with(authority.host()) => return Err(FORM),
        None => 443,
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if port == 0 || rustls::pki_types::ServerName::try_from(host.as_str()).is_err() {
        return Err(
            "must be https://host:port with a DNS name or an IP address, and a port above 0",
        );
    }
    Ok(NodeAddress {
        host: host.into(),
        port,
    })
}

/// With these defaults a node that hangs is known to be down after less than 4.5 s, and known to be
/// back 2.5 s after it is.
fn health_check(
    cluster: &str,
    file: &file::HealthCheck,
    report: &mut Diagnostics,
) -> Option<HealthCheck> {
    let check = HealthCheck {
        interval: nonzero_duration_or(&file.interval, SECOND, report),
        timeout: nonzero_duration_or(&file.timeout, SECOND, report),
        path: file
            .path
            .as_ref()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        unhealthy_after: value_or(&file.unhealthy_after, 2),
        healthy_after: value_or(&file.healthy_after, 2),
        signed: signed_check(cluster, file, report),
    };
    if let Some(path) = &file.path
        && (!path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err())
    {
        report.error(path.span(), "not a path", "must begin with /");
    }
    value_or(&file.enabled, true).then_some(check)
}

fn signed_check(
    cluster: &str,
    file: &file::HealthCheck,
    report: &mut Diagnostics,
) -> Option<SignedCheck> {
    let key = |key: &str| format!("clusters.{cluster}.health_check.{key}");
    match (&file.access_key, &file.call_id) {
        (Some(access_key), Some(call_id)) => {
            if call_id.is_empty() || call_id.chars().count() > 25 {
                report.error(call_id.span(), "not a callId", "must be 1 to 25 characters");
            }
            if let Some(path) = &file.path {
                report.error(
                    path.span(),
                    "both a path and a signed request",
                    "must be one of path, and access_key with call_id",
                );
            }
            Some(SignedCheck {
                access_key: arc_str(access_key),
                call_id: call_id.value.clone(),
                // 0300012 is "no data yet": the node looked.
                result_codes: codes(&file.result_codes, &["0", "0300012"]),
            })
        }
        (Some(one), None) | (None, Some(one)) => {
            let other = if file.access_key.is_some() {
                "call_id"
            } else {
                "access_key"
            };
            report.missing_key(
                &key(other),
                one.span(),
                "half of a signed request",
                "needs both access_key and call_id",
            );
            None
        }
        (None, None) => {
            if let Some(codes) = &file.result_codes {
                report.missing_key(
                    &key("access_key"),
                    codes.span(),
                    "result_codes without a signed request",
                    "needs access_key and call_id",
                );
            }
            None
        }
    }
}

/// A signed health check needs an account of `tables` that is enabled. One that could not be
/// resolved has an error of its own.
pub(super) fn check_health_check_keys(
    file: &ByName<file::Cluster>,
    tables: &[Option<&ByName<file::AccessKey>>],
    accounts: &HashMap<AccessKey, AccountSettings>,
    report: &mut Diagnostics,
) {
    let names = || {
        tables
            .iter()
            .flatten()
            .flat_map(|tables| tables.keys())
            .map(|name| name.as_str())
    };
    for table in file.values() {
        let Some(signer) = &table.health_check.access_key else {
            continue;
        };
        if !names().any(|name| name == signer.as_str()) {
            let help = match suggest(signer, names()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => "must be one of the access keys".to_owned(),
            };
            report.error(signer.span(), "unknown access key", help);
        } else if accounts
            .get(signer.as_str())
            .is_some_and(|account| !account.credential.enabled())
        {
            report.error(
                signer.span(),
                "this access key is disabled",
                "must be an enabled one: health checks sign with it",
            );
        }
    }
}

fn ejection(file: &file::Ejection, report: &mut Diagnostics) -> EjectionSettings {
    let ejection = EjectionSettings {
        consecutive_failures: value_or(&file.consecutive_failures, 3),
        base_time: nonzero_duration_or(&file.base_time, 5 * SECOND, report),
        max_time: nonzero_duration_or(&file.max_time, MINUTE, report),
        max_ejected: value_or(&file.max_ejected, 50),
        slow_start: duration_or(&file.slow_start, 10 * SECOND),
        panic_threshold: value_or(&file.panic_threshold, 50),
        result_codes: codes(&file.result_codes, &[]),
    };
    let place = file.base_time.as_ref().or(file.max_time.as_ref());
    if ejection.base_time > ejection.max_time
        && let Some(place) = place
    {
        let most = ConfigDuration::format(ejection.max_time);
        report.error(
            place.span(),
            "base_time is longer than max_time",
            format!("base_time must be at most max_time, \"{most}\""),
        );
    }
    ejection
}

/// Each deadline holds the one before it: those that are written must, and the others give way.
fn timeouts(file: &file::Timeouts, report: &mut Diagnostics) -> Timeouts {
    let written = |key: &file::Setting<ConfigDuration>| key.as_ref().map(|key| key.0);
    let connect = written(&file.connect).unwrap_or(Duration::ZERO);
    let fetch = written(&file.fetch).unwrap_or(Duration::MAX);
    let longest_try = written(&file.overall).unwrap_or(fetch);
    let per_try_or = (8 * SECOND).max(connect).min(longest_try);
    let per_try = nonzero_duration_or(&file.per_try, per_try_or, report);
    let overall_or = (9 * SECOND).min(fetch).max(per_try);
    let overall = nonzero_duration_or(&file.overall, overall_or, report);
    let timeouts = Timeouts {
        connect: nonzero_duration_or(&file.connect, SECOND.min(per_try), report),
        per_try,
        overall,
        fetch: nonzero_duration_or(&file.fetch, MINUTE.max(overall), report),
    };
    let place = |key: &file::Setting<ConfigDuration>| -> Option<Range<usize>> {
        key.as_ref().map(Spanned::span)
    };
    let steps = [
        ("connect", timeouts.connect, place(&file.connect)),
        ("per_try", timeouts.per_try, place(&file.per_try)),
        ("overall", timeouts.overall, place(&file.overall)),
        ("fetch", timeouts.fetch, place(&file.fetch)),
    ];
    for pair in steps.windows(2) {
        let [(shorter, short, short_place), (longer, long, long_place)] = pair else {
            continue;
        };
        if short > long
            && let Some(place) = short_place.clone().or(long_place.clone())
        {
            let help = format!(
                "{shorter} (\"{}\") must be at most {longer} (\"{}\")",
                ConfigDuration::format(*short),
                ConfigDuration::format(*long)
            );
            report.error(place, format!("{shorter} is longer than {longer}"), help);
        }
    }
    if timeouts.overall >= 10 * SECOND
        && let Some(written) = file.overall.as_ref().or(file.per_try.as_ref())
    {
        report.warning(
            written.span(),
            "most clients give up after 10 s",
            "should be below \"10s\", so that clients get an answer",
        );
    }
    timeouts
}
