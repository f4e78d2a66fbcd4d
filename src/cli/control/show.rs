//! Formats `/status` as text and tables.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

use super::table::Column::{Number, Text};
use super::table::{Table, replace_control_chars};
use crate::words;

/// Formats the whole status.
pub(super) fn status(status: &Value) -> String {
    let rates = &status["rates"];
    let latency = &status["latency"]["all"];
    let cache = &status["cache"];
    let state = if status["draining"] == true {
        "draining"
    } else {
        "serving"
    };
    let mut text = format!(
        "{}: ccfs-gateway {}, {state}, up {}, generation {}, {} in flight\n{}\n\n",
        cell(&status["instance"]),
        cell(&status["version"]),
        format_uptime(status["uptime_seconds"].as_u64().unwrap_or_default()),
        status["generation"],
        status["requests_in_flight"],
        findings_line(status),
    );
    // Writing to a `String` cannot fail.
    let _ = write!(
        text,
        "requests  {}/s, errors {}/s, limited {}/s, refused {}/s, cache hits {}\n\
         latency   p50 {} ms, p90 {} ms, p99 {} ms, longest {} ms, of {} requests in the last minute\n\
         cache     {} entries, {} of {}, {} fetches in progress\n\
         {}reload    {}\n",
        format_number(&rates["requests"]),
        format_number(&rates["errors"]),
        format_number(&rates["limited"]),
        format_number(&rates["refused"]),
        rates["hit_ratio"]
            .as_f64()
            .map_or("-".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0)),
        format_number(&latency["p50_ms"]),
        format_number(&latency["p90_ms"]),
        format_number(&latency["p99_ms"]),
        format_number(&latency["max_ms"]),
        cell(&latency["count"]),
        cache["entries"],
        mebibytes(&cache["bytes"]),
        mebibytes(&cache["max_bytes"]),
        cache["fetches"],
        shared_store_line(&status["shared"]),
        last_reload(&status["reloads"]["last"]),
    );
    format!("{text}\n{}\n{}", listener_table(status), nodes(status))
}

/// Says how much is wrong, and where to read what: a table without an error is not yet good news.
fn findings_line(status: &Value) -> String {
    let of = |severity: &str| {
        let findings = items(&status["findings"]);
        findings.filter(|it| it["severity"] == severity).count() as u64
    };
    let (critical, warnings, notes) = (of("critical"), of("warning"), of("note"));
    let omitted = status["findings_omitted"].as_u64().unwrap_or_default();
    let counts = [
        (critical > 0).then(|| format!("{critical} critical")),
        (warnings > 0).then(|| words::count(warnings, "warning")),
        (notes > 0).then(|| words::count(notes, "note")),
        (omitted > 0).then(|| format!("{omitted} more")),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    if counts.is_empty() {
        return "findings  none".to_owned();
    }
    let counts = counts.join(", ");
    format!("findings  {counts}; `ccfs-gateway doctor` says what to do")
}

/// Formats the warnings of clusters, then one line for each node.
pub(super) fn nodes(status: &Value) -> String {
    let mut warnings = String::new();
    for cluster in items(&status["clusters"]) {
        let name = cell(&cluster["name"]);
        // Writing to a `String` cannot fail.
        if cluster["panic"] == true {
            let _ = writeln!(
                warnings,
                "PANIC     {name}: most nodes are unhealthy, all are used"
            );
        }
        if let Some(words) = serving(cluster) {
            let _ = writeln!(warnings, "SERVING   {name}: {words}");
        }
        if cluster["insecure_skip_verify"] == true {
            let _ = writeln!(
                warnings,
                "INSECURE  {name}: certificates of its nodes are not verified (insecure_skip_verify)"
            );
        }
    }
    if !warnings.is_empty() {
        warnings.push('\n');
    }
    warnings + &node_table(status)
}

/// Says which nodes serve, unless it is those of the first tier.
fn serving(cluster: &Value) -> Option<String> {
    match cluster["serving"].as_str()? {
        "first-tier" => None,
        "none" => Some("no node is usable".to_owned()),
        "fallback" => Some(format!(
            "no node is usable, the fallback cluster {} serves",
            cell(&cluster["fallback"])
        )),
        tier => {
            let priority = tier.strip_prefix("tier-").unwrap_or(tier);
            Some(format!(
                "the nodes of priority {} serve",
                replace_control_chars(priority)
            ))
        }
    }
}

fn node_table(status: &Value) -> String {
    let mut table = Table::new(&[
        Text("CLUSTER"),
        Text("NODE"),
        Number("PRIORITY"),
        Text("STATE"),
        Text("FOR"),
        Number("IN FLIGHT"),
        Number("ATTEMPTS"),
        Number("FAILURES"),
        Number("P50 MS"),
        Number("P99 MS"),
        Text("LAST FAILURE"),
    ]);
    let now = timestamp(&status["now"]);
    for cluster in items(&status["clusters"]) {
        for node in items(&cluster["nodes"]) {
            let (address, socket) = (cell(&node["address"]), cell(&node["socket"]));
            table.push_row([
                cell(&cluster["name"]),
                if address == socket || node["socket"].is_null() {
                    address
                } else {
                    format!("{address} ({socket})")
                },
                cell(&node["priority"]),
                cell(&node["state"]),
                age(&node["state_since"], now).unwrap_or_else(|| "-".to_owned()),
                cell(&node["in_flight"]),
                cell(&node["requests"]),
                cell(&node["failures"]),
                format_number(&node["p50_ms"]),
                format_number(&node["p99_ms"]),
                last_failure(node, now),
            ]);
        }
    }
    table.render()
}

fn listener_table(status: &Value) -> String {
    let mut table = Table::new(&[
        Text("LISTENER"),
        Text("ADDRESS"),
        Number("CONNECTIONS"),
        Text("CERTIFICATE"),
        Number("DAYS LEFT"),
    ]);
    for listener in items(&status["listeners"]) {
        let mut head = ["name", "address", "connections"].map(|name| cell(&listener[name]));
        for certificate in items(&listener["certificates"]) {
            let [name, address, connections] = std::mem::take(&mut head);
            table.push_row([
                name,
                address,
                connections,
                cell(&certificate["names"][0]),
                cell(&certificate["days_left"]),
            ]);
        }
    }
    table.render()
}

/// Formats the line of the shared store; empty if none is configured.
fn shared_store_line(store: &Value) -> String {
    if store.is_null() {
        return String::new();
    }
    let reason = store["reason"].as_str();
    let reason = reason.map_or_else(String::new, |reason| {
        format!(" ({})", replace_control_chars(reason))
    });
    let (url, state) = (cell(&store["url"]), cell(&store["state"]));
    format!("shared    {url}, {state}{reason}\n")
}

/// Formats the last reload. The error of a rejected reload has several lines.
fn last_reload(last: &Value) -> String {
    let at = cell(&last["at"]);
    match last["error"].as_str() {
        _ if last.is_null() => "none since the start".to_owned(),
        None => format!("done at {at}"),
        Some(error) => {
            let lines = error
                .lines()
                .map(|line| format!("\n    {}", replace_control_chars(line)));
            format!("REJECTED at {at}:{}", lines.collect::<String>())
        }
    }
}

/// Formats the class and the reason of a node's last failure, and how long ago it was.
fn last_failure(node: &Value, now: Option<Timestamp>) -> String {
    let failure = match (node["last_error"].as_str(), node["last_cause"].as_str()) {
        (Some(class), Some(cause)) => format!("{class}: {cause}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => return "-".to_owned(),
    };
    match age(&node["last_failure_at"], now) {
        Some(age) => format!("{failure} ({age} ago)"),
        None => failure,
    }
}

fn timestamp(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Formats how long before `now` a moment was.
fn age(moment: &Value, now: Option<Timestamp>) -> Option<String> {
    let age = now?.duration_since(timestamp(moment)?);
    Some(words::duration(age.as_secs().max(0)))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Formats a value as a table cell: `-` for null.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => replace_control_chars(text),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

pub(super) fn format_number(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(number) if number != 0.0 && number < 10.0 => format!("{number:.1}"),
        Some(number) => format!("{number:.0}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for the eye")]
pub(super) fn mebibytes(value: &Value) -> String {
    let bytes = value.as_u64().unwrap_or_default();
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

pub(super) fn format_uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_names_the_gateway_and_how_much_is_wrong() {
        let finding = |severity: &str| json!({ "severity": severity });
        let mut status = json!({
            "instance": "gw-1", "version": "0.1.0", "uptime_seconds": 61, "generation": 1,
            "requests_in_flight": 0, "findings_omitted": 2,
            "findings": [finding("critical"), finding("warning"), finding("warning"), finding("note")],
        });
        let shown = super::status(&status);
        assert!(
            shown.starts_with("gw-1: ccfs-gateway 0.1.0, serving"),
            "{shown}"
        );
        let line = "findings  1 critical, 2 warnings, 1 note, 2 more; `ccfs-gateway doctor` says what to do\n";
        assert!(shown.contains(line), "{shown}");
        (status["findings"], status["findings_omitted"]) = (json!([]), json!(0));
        assert!(super::status(&status).contains("findings  none\n"));
    }

    #[test]
    fn cluster_warnings_and_the_last_failure_of_a_node_are_shown() {
        let status = json!({ "now": "2026-11-29T02:00:04Z", "clusters": [{
            "name": "ccfs", "panic": true, "insecure_skip_verify": true, "serving": "tier-1",
            "nodes": [{
                "address": "node.test:1", "socket": null, "state": "unresolved", "priority": 1,
                "last_error": "unreachable", "last_cause": "connection refused",
                "last_failure_at": "2026-11-29T02:00:00.500Z",
            }],
        }] });
        let shown = nodes(&status);
        for part in [
            "PANIC     ccfs: ",
            "INSECURE  ccfs: ",
            "node.test:1         1  unresolved",
            "unreachable: connection refused (3 s ago)",
            "SERVING   ccfs: the nodes of priority 1 serve",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        let healthy = json!({ "clusters": [{ "name": "ccfs", "panic": false, "nodes": [] }] });
        assert!(
            nodes(&healthy).starts_with("CLUSTER"),
            "{}",
            nodes(&healthy)
        );
    }
}
