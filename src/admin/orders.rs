//! Orders in the audit log: what was ordered, from where, and what it changed. Refused orders too.

use std::net::IpAddr;

use http::request::Parts;
use http::{Method, Uri};
use serde_json::{Value, json};

use super::respond::AdminResponse;
use super::{Admin, status};
use crate::telemetry::OrderEntry;

/// An order, as the target of its request names it.
#[derive(Debug, Eq, PartialEq)]
struct Order {
    name: &'static str,
    subject: String,
}

impl Admin {
    /// Responds, and adds an order to the audit log, if there is one.
    pub(super) async fn respond_audited(
        &self,
        scheme: &str,
        head: &Parts,
        client: IpAddr,
    ) -> AdminResponse {
        let order = (head.method == Method::POST).then(|| Order::of(&head.uri));
        let Some(order) = order.flatten() else {
            return self.respond(scheme, head).await;
        };
        let audit = self.state.audit.as_ref();
        let before = audit.map(|_| self.state_of(&order));
        let response = self.respond(scheme, head).await;
        let is_done = response.status().is_success();
        // A reload makes an event of its own.
        if is_done && order.name != RELOAD {
            let text = format!("order {} {} from {client}", order.name, order.subject);
            self.state.journal.note_order(text, status::wall_clock());
        }
        if let (Some(audit), Some(before)) = (audit, before) {
            let state = |state: Value| if is_done { state } else { Value::Null };
            audit.order(OrderEntry {
                order: order.name,
                before: state(before),
                after: state(match order.name {
                    // The drain begins a moment after its response.
                    DRAIN => "draining".into(),
                    _ => self.state_of(&order),
                }),
                subject: order.subject,
                by: client,
                status: response.status().as_u16(),
            });
        }
        response
    }

    /// Returns the state that an order changes.
    fn state_of(&self, order: &Order) -> Value {
        let shared = &self.state.shared;
        match order.name {
            DRAIN if self.state.is_draining() => "draining".into(),
            DRAIN => "serving".into(),
            RELOAD => shared.snapshot.load().generation.into(),
            PURGE => json!({ "entries": shared.cache.size().0 }),
            KEY_DISABLE | KEY_ENABLE => {
                let snapshot = shared.snapshot.load();
                let account = snapshot.account(&order.subject);
                let state = account.map(|account| match account.is_disabled_by_order() {
                    true => "disabled",
                    false => "enabled",
                });
                state.into()
            }
            _ => {
                let snapshot = shared.snapshot.load();
                let state = status::nodes(&snapshot).find_map(|(cluster, node)| {
                    let is_it = format!("{cluster}/{}", node.address) == order.subject;
                    is_it.then(|| node.state.as_str())
                });
                state.into()
            }
        }
    }
}

impl Order {
    /// Returns the order of a target; `None` if it is none.
    fn of(uri: &Uri) -> Option<Self> {
        let decode = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
            text.chars().take(MAX_SUBJECT).collect::<String>()
        };
        let order = |name, subject: String| Some(Self { name, subject });
        match uri.path() {
            "/drain" => order(DRAIN, "gateway".to_owned()),
            "/reload" => order(RELOAD, "configuration".to_owned()),
            "/cache/purge" => {
                let query = uri.query().filter(|query| !query.is_empty());
                order(PURGE, query.map_or("all".to_owned(), decode))
            }
            path => {
                let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
                let (subject, action) = rest.rsplit_once('/')?;
                let name = match (kind, action) {
                    ("nodes", "drain") => "node-drain",
                    ("nodes", "undrain") => "node-undrain",
                    ("access_keys", "disable") => KEY_DISABLE,
                    ("access_keys", "enable") => KEY_ENABLE,
                    _ => return None,
                };
                order(name, decode(subject))
            }
        }
    }
}

const DRAIN: &str = "drain";
const RELOAD: &str = "reload";
const PURGE: &str = "purge";
const KEY_DISABLE: &str = "access-key-disable";
const KEY_ENABLE: &str = "access-key-enable";

/// Characters of a subject; longer than an access key and a callId.
const MAX_SUBJECT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_from_their_targets() {
        let order = |target: &str| {
            let order = Order::of(&target.parse().unwrap());
            order.map(|order| (order.name, order.subject))
        };
        let some = |name, subject: &str| Some((name, subject.to_owned()));
        assert_eq!(order("/drain"), some("drain", "gateway"));
        assert_eq!(order("/cache/purge"), some("purge", "all"));
        assert_eq!(order("/cache/purge?ak=a%20b"), some("purge", "ak=a b"));
        assert_eq!(order("/nodes/c/h:1/undrain"), some("node-undrain", "c/h:1"));
        assert_eq!(order("/nodes/c/h%3A1/drain"), some("node-drain", "c/h:1"));
        let key = some(KEY_DISABLE, "a/b");
        assert_eq!(order("/access_keys/a%2Fb/disable"), key);
        assert_eq!(order("/access_keys/a/enable"), some(KEY_ENABLE, "a"));
        for none in [
            "/",
            "/access_keys/a/drain",
            "/nodes/a/enable",
            "/status",
            "/nodes/c/h:1/explode",
            "/nodes/drain",
        ] {
            assert_eq!(order(none), None, "{none}");
        }
    }
}
