//! Clusters: nodes, TLS to them, health checks, outlier detection and retries.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::settings::codes;
use super::tls::TlsFiles;
use super::{MINUTE, SECOND, arc_str, duration_or, nonzero_duration_or, value_or};
use crate::auth::AccessKey;
use crate::cluster::{
    ClusterSettings, EjectionSettings, FlowControlSettings, HealthCheck, NodeAddress, NodeSettings,
    PoolLimits, RetrySettings, SignedCheck, Timeouts,
};
use crate::config::AccessKeys;
use crate::config::diagnostics::Diagnostics;
use crate::config::file::{self, ByName, Node};
use crate::config::spanned::Spanned;
use crate::config::suggestion::suggest;
use crate::config::units::ConfigDuration;

/// Returns all valid clusters.
pub(super) fn resolve(
    file: &ByName<file::Cluster>,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<Arc<str>, ClusterSettings> {
    let mut clusters = BTreeMap::new();
    for (name, table) in file {
        if let Some(settings) = cluster(name, table, tls_files, diagnostics) {
            clusters.insert(Arc::clone(&settings.name), settings);
        }
    }
    clusters
}

fn cluster(
    name: &Spanned<String>,
    table: &file::Cluster,
    tls_files: &mut TlsFiles,
    diagnostics: &mut Diagnostics,
) -> Option<ClusterSettings> {
    check_name(name, diagnostics);
    let nodes = nodes(name, table, diagnostics);
    let tls = tls_files.client_tls(table.tls.as_ref(), &name.span, diagnostics);
    let settings = ClusterSettings {
        name: arc_str(name),
        nodes,
        fallback: table.fallback.as_ref().map(|name| arc_str(name)),
        balance: value_or(&table.balance, Default::default()),
        host: value_or(&table.host, Default::default()),
        health_check: health_check(name, &table.health_check, diagnostics),
        ejection: ejection(&table.ejection, diagnostics),
        flow_control: flow_control(&table.flow_control, &table.timeouts, diagnostics),
        retries: RetrySettings {
            budget_percent: value_or(&table.retries.budget, 20),
            min_per_second: value_or(&table.retries.floor, 10),
        },
        timeouts: timeouts(&table.timeouts, diagnostics),
        pool: PoolLimits {
            max_connections: value_or(&table.pool.max_connections, 1_024),
            max_idle: value_or(&table.pool.max_idle, 128),
            idle_timeout: nonzero_duration_or(&table.pool.idle_timeout, 15 * SECOND, diagnostics),
            max_age: nonzero_duration_or(&table.pool.max_age, 10 * MINUTE, diagnostics),
        },
        insecure_skip_verify: false,
        pins: Vec::new(),
        server_name: None,
        tls_digest: [0; 32],
        tls: tls.as_ref().map(|tls| Arc::clone(&tls.client))?,
        check_tls: tls.as_ref().map(|tls| Arc::clone(&tls.check_client))?,
    };
    let tls = tls?;
    let verified_too = table
        .tls
        .as_ref()
        .is_some_and(|tls| tls.ca.is_some() || tls.pins.is_some());
    if tls.insecure && !verified_too {
        let key = table
            .tls
            .as_ref()
            .and_then(|tls| tls.insecure_skip_verify.as_ref());
        let message = format!(
            "certificates of the nodes of cluster {} are not verified",
            name.value
        );
        diagnostics.warning(
            key.map_or(name.span(), Spanned::span),
            message,
            "a man in the middle can read and change everything; give a ca or pins instead",
        );
    }
    Some(ClusterSettings {
        server_name: tls.server_name,
        tls_digest: tls.identity,
        insecure_skip_verify: tls.insecure,
        pins: tls.pins,
        ..settings
    })
}

fn check_name(name: &Spanned<String>, diagnostics: &mut Diagnostics) {
    if name.is_empty() || name.contains('/') || [".", ".."].contains(&name.as_str()) {
        diagnostics.error(
            name.span(),
            "not the name of a cluster",
            "must be a name without /: it is a part of the admin interface's paths",
        );
    }
}

fn nodes(
    name: &Spanned<String>,
    table: &file::Cluster,
    diagnostics: &mut Diagnostics,
) -> Vec<NodeSettings> {
    let key = format!("clusters.{}.nodes", name.value);
    let example = "needs nodes = [\"https://10.0.0.1:8443\"]";
    let Some(written) = &table.nodes else {
        diagnostics.missing_key(&key, name.span(), "a cluster without nodes", example);
        return Vec::new();
    };
    if written.is_empty() {
        diagnostics.missing_key(&key, written.span(), "a cluster without nodes", example);
    }
    let mut nodes: Vec<NodeSettings> = Vec::new();
    for node in &written.value {
        let (url, weight, priority) = match &node.value {
            Node::Url(url) => (url.as_str(), 1, 0),
            Node::Weighted(node) => (
                node.url.as_deref().unwrap_or_default(),
                node.weight.unwrap_or(1),
                node.priority.unwrap_or(0),
            ),
        };
        match parse_node_url(url) {
            Err(help) => {
                if url.contains('@') {
                    diagnostics.secret_spans.push(node.span());
                }
                diagnostics.error(node.span(), "not the URL of a node", help);
            }
            Ok(address)
                if nodes
                    .iter()
                    .any(|other| is_same_node(&other.address, &address)) =>
            {
                diagnostics.error(
                    node.span(),
                    "this node is listed twice",
                    "must be listed once; weight gives it a larger share",
                );
            }
            Ok(address) => nodes.push(NodeSettings {
                address,
                weight,
                priority,
            }),
        }
    }
    nodes
}

/// Whether two addresses are the same node in different notations: `[::1]` and `[0:0:0:0:0:0:0:1]`, `h`
/// and `h.`, `127.0.0.1` and `[::ffff:127.0.0.1]`.
fn is_same_node(one: &NodeAddress, other: &NodeAddress) -> bool {
    let host = |address: &NodeAddress| match address.host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => address.host.trim_end_matches('.').to_owned(),
    };
    one.port == other.port && host(one) == host(other)
}

/// Parses `https://host:port`; an error says what would be right.
pub(super) fn parse_node_url(url: &str) -> Result<NodeAddress, &'static str> {
    const FORM: &str = "must be https://host:port";
    let Some(rest) = url.strip_prefix("https://") else {
        return Err(if url.starts_with("http://") {
            "must be https://host:port: nodes are used over TLS only"
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

/// With these defaults a node that hangs is unhealthy after less than 4.5 s, and healthy again 2.5 s
/// after its recovery.
fn health_check(
    cluster: &str,
    file: &file::HealthCheck,
    diagnostics: &mut Diagnostics,
) -> Option<HealthCheck> {
    let check = HealthCheck {
        interval: nonzero_duration_or(&file.interval, SECOND, diagnostics),
        timeout: nonzero_duration_or(&file.timeout, SECOND, diagnostics),
        path: file
            .path
            .as_ref()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        unhealthy_after: value_or(&file.unhealthy_after, 2),
        healthy_after: value_or(&file.healthy_after, 2),
        signed: signed_check(cluster, file, diagnostics),
    };
    if let Some(path) = &file.path
        && (!path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err())
    {
        diagnostics.error(path.span(), "not a path", "must begin with /");
    }
    value_or(&file.enabled, true).then_some(check)
}

fn signed_check(
    cluster: &str,
    file: &file::HealthCheck,
    diagnostics: &mut Diagnostics,
) -> Option<SignedCheck> {
    let key = |key: &str| format!("clusters.{cluster}.health_check.{key}");
    match (&file.access_key, &file.call_id) {
        (Some(access_key), Some(call_id)) => {
            if call_id.is_empty() || call_id.chars().count() > 25 {
                diagnostics.error(call_id.span(), "not a callId", "must be 1 to 25 characters");
            }
            if let Some(path) = &file.path {
                diagnostics.error(
                    path.span(),
                    "both a path and a signed request",
                    "must be one of path, and access_key with call_id",
                );
            }
            Some(SignedCheck {
                access_key: arc_str(access_key),
                call_id: call_id.value.clone(),
                // 0300012 is "no data yet": the node has processed the request.
                result_codes: codes(&file.result_codes, &["0", "0300012"]),
            })
        }
        (Some(one), None) | (None, Some(one)) => {
            let other = if file.access_key.is_some() {
                "call_id"
            } else {
                "access_key"
            };
            diagnostics.missing_key(
                &key(other),
                one.span(),
                "half of a signed request",
                "needs both access_key and call_id",
            );
            None
        }
        (None, None) => {
            if let Some(codes) = &file.result_codes {
                diagnostics.missing_key(
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

/// Checks that the access key of each signed health check exists and is enabled. An account that is
/// invalid has an error of its own.
pub(super) fn check_health_check_keys(
    file: &ByName<file::Cluster>,
    is_written: impl Fn(&str) -> bool,
    accounts: &AccessKeys,
    diagnostics: &mut Diagnostics,
) {
    let names = || accounts.keys().map(AccessKey::as_str);
    for table in file.values() {
        let Some(access_key) = &table.health_check.access_key else {
            continue;
        };
        if !accounts.contains_key(access_key.as_str()) && !is_written(access_key) {
            let help = match suggest(access_key, names()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => "must be one of the access keys".to_owned(),
            };
            diagnostics.error(access_key.span(), "unknown access key", help);
        } else if accounts
            .get(access_key.as_str())
            .is_some_and(|account| !account.credential.enabled())
        {
            diagnostics.error(
                access_key.span(),
                "this access key is disabled",
                "must be an enabled one: health checks sign with it",
            );
        }
    }
}

fn ejection(file: &file::Ejection, diagnostics: &mut Diagnostics) -> EjectionSettings {
    // A default is adjusted to the other key of the pair.
    let written = |key: &file::Setting<ConfigDuration>| key.as_ref().map(|key| key.0);
    let base_time = (5 * SECOND).min(written(&file.max_time).unwrap_or(Duration::MAX));
    let max_time = MINUTE.max(written(&file.base_time).unwrap_or_default());
    let ejection = EjectionSettings {
        consecutive_failures: value_or(&file.consecutive_failures, 3),
        base_time: nonzero_duration_or(&file.base_time, base_time, diagnostics),
        max_time: nonzero_duration_or(&file.max_time, max_time, diagnostics),
        max_ejected: value_or(&file.max_ejected, 50),
        slow_start: duration_or(&file.slow_start, 10 * SECOND),
        panic_threshold: value_or(&file.panic_threshold, 50),
        result_codes: codes(&file.result_codes, &[]),
    };
    let key = file.base_time.as_ref().or(file.max_time.as_ref());
    if ejection.base_time > ejection.max_time
        && let Some(key) = key
    {
        let most = ConfigDuration::format(ejection.max_time);
        diagnostics.error(
            key.span(),
            "base_time is longer than max_time",
            format!("base_time must be at most max_time, \"{most}\""),
        );
    }
    ejection
}

/// Each deadline must be at least as long as the one before it: connect, per_try, overall, fetch. A
/// default that violates this is adjusted; a written value is an error.
/// A request waits at most as long as all its attempts together may take; by default half as long, so that
/// a client gets the answer after a wait in vain.
fn flow_control(
    file: &file::FlowControl,
    timeouts: &file::Timeouts,
    diagnostics: &mut Diagnostics,
) -> FlowControlSettings {
    let defaults = FlowControlSettings::default();
    let overall = timeouts.overall.as_ref().map(|key| key.0);
    let longest = overall.unwrap_or(9 * SECOND);
    let max_wait = duration_or(&file.max_wait, defaults.max_wait.min(longest / 2));
    if let Some(written) = file.max_wait.as_ref().filter(|_| max_wait > longest) {
        diagnostics.error(
            written.span(),
            "max_wait is longer than overall",
            format!(
                "must be at most timeouts.overall (\"{}\")",
                ConfigDuration::format(longest)
            ),
        );
    }
    FlowControlSettings {
        mode: value_or(&file.mode, defaults.mode),
        max_wait,
        max_queue: value_or(&file.max_queue, defaults.max_queue),
    }
}

fn timeouts(file: &file::Timeouts, diagnostics: &mut Diagnostics) -> Timeouts {
    let written = |key: &file::Setting<ConfigDuration>| key.as_ref().map(|key| key.0);
    let connect = written(&file.connect).unwrap_or(Duration::ZERO);
    let fetch = written(&file.fetch).unwrap_or(Duration::MAX);
    let longest_try = written(&file.overall).unwrap_or(fetch);
    let per_try_or = (8 * SECOND).max(connect).min(longest_try);
    let per_try = nonzero_duration_or(&file.per_try, per_try_or, diagnostics);
    let overall_or = (9 * SECOND).min(fetch).max(per_try);
    let overall = nonzero_duration_or(&file.overall, overall_or, diagnostics);
    let timeouts = Timeouts {
        connect: nonzero_duration_or(&file.connect, SECOND.min(per_try), diagnostics),
        per_try,
        overall,
        fetch: nonzero_duration_or(&file.fetch, MINUTE.max(overall), diagnostics),
    };
    let span = |key: &file::Setting<ConfigDuration>| -> Option<Range<usize>> {
        key.as_ref().map(Spanned::span)
    };
    let steps = [
        ("connect", timeouts.connect, span(&file.connect)),
        ("per_try", timeouts.per_try, span(&file.per_try)),
        ("overall", timeouts.overall, span(&file.overall)),
        ("fetch", timeouts.fetch, span(&file.fetch)),
    ];
    for pair in steps.windows(2) {
        let [(shorter, short, short_span), (longer, long, long_span)] = pair else {
            continue;
        };
        if short > long
            && let Some(span) = short_span.clone().or(long_span.clone())
        {
            let help = format!(
                "{shorter} (\"{}\") must be at most {longer} (\"{}\")",
                ConfigDuration::format(*short),
                ConfigDuration::format(*long)
            );
            diagnostics.error(span, format!("{shorter} is longer than {longer}"), help);
        }
    }
    if timeouts.overall >= 10 * SECOND
        && let Some(written) = file.overall.as_ref().or(file.per_try.as_ref())
    {
        diagnostics.warning(
            written.span(),
            "most clients give up after 10 s",
            "should be below \"10s\", so that clients get a response",
        );
    }
    timeouts
}
