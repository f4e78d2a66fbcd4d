//! What an audit log holds, and its form: one JSON object a line.

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Value, json};

/// A verified request whose answer was a recording, its URL or its token.
#[derive(Debug)]
pub(in crate::telemetry) struct RequestEntry {
    pub(in crate::telemetry) access_key: Arc<str>,
    /// The caller without a secret key.
    pub(in crate::telemetry) caller: Option<Arc<str>>,
    pub(in crate::telemetry) client: IpAddr,
    pub(in crate::telemetry) interface: Option<&'static str>,
    pub(in crate::telemetry) call_id: Option<CompactString>,
    pub(in crate::telemetry) file_name: Option<Box<str>>,
    pub(in crate::telemetry) begin: Option<DateTime>,
    pub(in crate::telemetry) end: Option<DateTime>,
    pub(in crate::telemetry) outcome: &'static str,
    pub(in crate::telemetry) result_code: Option<CompactString>,
    pub(in crate::telemetry) status: u16,
}

/// An order to the admin interface.
#[derive(Clone, Debug)]
pub struct OrderEntry {
    /// What was ordered: `drain`, `reload`, `purge`, …
    pub order: &'static str,
    /// What it was about.
    pub subject: String,
    /// The state before; null for a refused order.
    pub before: Value,
    /// The state after; null for a refused order.
    pub after: Value,
    /// The address that it came from.
    pub by: IpAddr,
    /// The status of the response.
    pub status: u16,
}

#[derive(Debug)]
pub(super) enum Entry {
    Request(RequestEntry),
    Order(Box<OrderEntry>),
}

/// Where a line stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position<'a> {
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) instance: &'a str,
}

/// Returns the line of an entry, without the members that seal it.
pub(super) fn line(position: Position<'_>, entry: &Entry) -> Vec<u8> {
    match entry {
        Entry::Request(it) => {
            let time = |time: Option<DateTime>| {
                time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
            };
            let members = json!({
                "ak": it.access_key,
                "caller": it.caller,
                "client": it.client.to_canonical().to_string(),
                "interface": it.interface,
                "call_id": it.call_id.as_deref(),
                "file_name": it.file_name,
                "begin": time(it.begin),
                "end": time(it.end),
                "outcome": it.outcome,
                "result_code": it.result_code.as_deref(),
                "status": it.status,
            });
            with_members(position, "request", &members)
        }
        Entry::Order(it) => {
            let members = json!({
                "order": it.order,
                "subject": it.subject,
                "before": it.before,
                "after": it.after,
                "by": it.by.to_canonical().to_string(),
                "status": it.status,
            });
            with_members(position, "order", &members)
        }
    }
}

/// Returns the first line of a chain. `is_torn` says that a torn line was ended before it.
pub(super) fn start_line(position: Position<'_>, is_torn: bool) -> Vec<u8> {
    let mut members = json!({ "version": env!("CARGO_PKG_VERSION") });
    if is_torn {
        members["torn"] = true.into();
    }
    with_members(position, "start", &members)
}

/// Returns the line that stands for `count` lines which were lost, of which the last was at this position.
pub(super) fn lost_line(position: Position<'_>, count: u64, is_torn: bool) -> Vec<u8> {
    let mut members = json!({ "count": count });
    if is_torn {
        members["torn"] = true.into();
    }
    with_members(position, "lost", &members)
}

fn with_members(position: Position<'_>, kind: &str, members: &Value) -> Vec<u8> {
    let mut line = json!({
        "seq": position.seq,
        "time": format!("{:.3}", position.time),
        "instance": position.instance,
        "kind": kind,
    });
    if let (Value::Object(line), Value::Object(members)) = (&mut line, members) {
        let present = members.iter().filter(|(name, value)| {
            !value.is_null() || matches!(name.as_str(), "before" | "after")
        });
        line.extend(present.map(|(name, value)| (name.clone(), value.clone())));
    }
    let mut line = line.to_string().into_bytes();
    // The object is closed when the line is sealed.
    line.pop();
    line
}
