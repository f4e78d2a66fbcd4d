//! The messages that a client may have signed, each with one thing changed.

use http::HeaderMap;

use super::super::canonical;
use super::message::Message;
use super::{Evidence, Mistake, body};

/// The variants of one message.
pub(super) struct Variants<'a> {
    pub(super) evidence: &'a Evidence<'a>,
    pub(super) as_sent: &'a Message<'a>,
}

/// Tries one message; true ends the search.
type TryMessage<'t> = dyn FnMut(Mistake, &Message<'_>) -> bool + 't;

impl Variants<'_> {
    /// Calls `try_message` with each variant until it returns true. Returns whether it did.
    pub(super) fn each(&self, try_message: &mut TryMessage<'_>) -> bool {
        self.hosts(try_message)
            || self.paths(try_message)
            || self.queries(try_message)
            || (self.evidence.has_body && self.bodies(try_message))
    }

    fn hosts(&self, try_message: &mut TryMessage<'_>) -> bool {
        let Ok(sent) = canonical::single_value(self.evidence.request.headers, "host") else {
            return false;
        };
        let sent = String::from_utf8_lossy(sent);
        let (name, port) = split_port(&sent);
        let (listener, listener_port) = self.evidence.listener;
        let nodes = &self.evidence.nodes[..self.evidence.nodes.len().min(MAX_NODES)];
        let node_ports = nodes.iter().filter_map(|node| split_port(node).1);
        let ports = [listener_port.to_string(), "443".to_owned()].into_iter();
        let ports = ports.chain(node_ports.map(str::to_owned));
        let listener = match listener {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("[{address}]"),
        };
        let mut hosts = Vec::new();
        if port.is_some() {
            hosts.push((Mistake::HostWithoutPort, name.to_owned()));
        }
        hosts.extend(ports.map(|port| (Mistake::HostWithPort, format!("{name}:{port}"))));
        for node in nodes {
            hosts.push((Mistake::HostOfNode, node.clone()));
            hosts.push((Mistake::HostOfNode, split_port(node).0.to_owned()));
        }
        hosts.push((
            Mistake::HostOfListener,
            format!("{listener}:{listener_port}"),
        ));
        hosts.push((Mistake::HostOfListener, listener));
        hosts.into_iter().any(|(mistake, host)| {
            host != sent && try_message(mistake, &self.as_sent.with_value("host", host.as_bytes()))
        })
    }

    fn paths(&self, try_message: &mut TryMessage<'_>) -> bool {
        let sent = self.evidence.request.path;
        let without_root = sent
            .strip_prefix('/')
            .and_then(|path| path.find('/').and_then(|at| path.get(at..)));
        let old_name = OLD_NAMES.iter().find_map(|name| {
            let folder = sent.strip_suffix(name)?;
            Some(format!("{folder}downloadRecordFile"))
        });
        let paths = [
            (Mistake::PathWithoutRoot, without_root.map(str::to_owned)),
            (Mistake::PathWithRoot, Some(format!("/CCFS{sent}"))),
            (Mistake::PathOldName, old_name),
        ];
        paths.into_iter().any(|(mistake, path)| {
            path.is_some_and(|path| {
                let message = Message {
                    path: path.into(),
                    ..self.as_sent.clone()
                };
                try_message(mistake, &message)
            })
        })
    }

    fn queries(&self, try_message: &mut TryMessage<'_>) -> bool {
        let request = &self.evidence.request;
        let without = Message {
            query: None,
            ..self.as_sent.clone()
        };
        let Some(query) = request.query.filter(|query| !query.is_empty()) else {
            let empty_line = Message {
                query: Some(b"".into()),
                ..without
            };
            return try_message(Mistake::QueryEmptyLine, &empty_line);
        };
        let in_path = Message {
            path: format!("{}?{query}", request.path).into(),
            ..without.clone()
        };
        try_message(Mistake::QueryLeftOut, &without) || try_message(Mistake::QueryInPath, &in_path)
    }

    fn bodies(&self, try_message: &mut TryMessage<'_>) -> bool {
        body::each(self.evidence.request.body, &mut |mistake, body| {
            let variants = self.as_sent.with_body(body);
            variants
                .iter()
                .flatten()
                .any(|message| try_message(mistake, message))
        })
    }
}

/// Calls `try_names` with other orders of `names` and with other sets, until it finds a mistake.
pub(super) fn names(
    names: &str,
    headers: &HeaderMap,
    try_names: &mut dyn FnMut(Mistake, &str) -> Option<Mistake>,
) -> Option<Mistake> {
    let written: Vec<_> = names.split(';').collect();
    let mut orders = vec![written.clone()];
    if written.len() <= MAX_PERMUTED {
        permute(&mut written.clone(), 0, &mut orders);
    } else {
        let mut sorted = written.clone();
        sorted.sort_unstable();
        orders.push(sorted);
        orders.push(written.iter().rev().copied().collect());
    }
    let orders = orders.into_iter().filter(|order| *order != written);
    let found = orders
        .map(|order| order.join(";"))
        .find_map(|order| try_names(Mistake::NamesUnsorted, &order));
    if found.is_some() {
        return found;
    }
    let is_sent = |name: &&str| canonical::single_value(headers, name).is_ok();
    let one_less = written.iter().map(|left_out| {
        let kept = written.iter().filter(|name| *name != left_out);
        kept.copied().collect::<Vec<_>>()
    });
    let usual = USUAL_NAMES
        .iter()
        .map(|set| set.split(';').filter(is_sent).collect());
    let sets = usual.chain(one_less.take(MAX_PERMUTED));
    sets.filter(|set: &Vec<_>| !set.is_empty() && *set != written)
        .map(|set| set.join(";"))
        .find_map(|set| try_names(Mistake::NamesOther, &set))
}

/// Collects all orders of `names` from `fixed` on.
fn permute<'a>(names: &mut Vec<&'a str>, fixed: usize, orders: &mut Vec<Vec<&'a str>>) {
    for other in fixed..names.len() {
        names.swap(fixed, other);
        if other > fixed {
            orders.push(names.clone());
        }
        permute(names, fixed + 1, orders);
        names.swap(fixed, other);
    }
}

/// Splits a Host into name, with the brackets of an IPv6 address, and port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// Interfaces whose path a client in the wild signs as that of `downloadRecordFile`.
const OLD_NAMES: [&str; 2] = ["downloadRecord", "downloadTransferFile"];

/// Sets of names that clients in the wild sign.
const USUAL_NAMES: [&str; 5] = [
    "host",
    "content-length;content-type;host",
    "content-type;host",
    "content-length;host",
    "content-length;content-type",
];

/// Bounds the orders that are tried: 24 of four names.
const MAX_PERMUTED: usize = 4;

/// Nodes that are tried as Host.
const MAX_NODES: usize = 16;
