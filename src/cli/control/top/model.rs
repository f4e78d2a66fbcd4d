//! What the screen shows: the last status, and what the keys have chosen. No I/O.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Duration, Instant};

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum View {
    /// A part of everything.
    #[default]
    Overview,
    /// All findings, with what to do.
    Findings,
    /// All nodes.
    Nodes,
    /// The access keys with the most of what they are sorted by.
    AccessKeys,
    /// The last events and failed requests.
    Events,
}

/// What the nodes are sorted by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum NodeSort {
    #[default]
    Name,
    State,
    InFlight,
    Rate,
    Failures,
    Latency,
}

impl NodeSort {
    pub(super) const ALL: [Self; 6] = [
        Self::Name,
        Self::State,
        Self::InFlight,
        Self::Rate,
        Self::Failures,
        Self::Latency,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::InFlight => "in flight",
            Self::Rate => "attempts/s",
            Self::Failures => "failures",
            Self::Latency => "p99",
        }
    }
}

/// What the access keys can be sorted by: the members of their rows, with the words for people.
pub(super) const KEY_SORTS: [(&str, &str); 6] = [
    ("per_second", "requests/s"),
    ("requests", "requests"),
    ("refused", "refused"),
    ("limited", "limited"),
    ("not_found", "not found"),
    ("failed", "failed"),
];

/// An order about a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) cluster: String,
    pub(super) address: String,
}

/// What is ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Command {
    Drain,
    Undrain,
}

impl Command {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        }
    }
}

/// A node with its cluster.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) cluster: String,
    pub(super) address: String,
    /// Its object in `/status`.
    pub(super) status: Value,
}

impl Node {
    /// Whether requests go to it.
    pub(super) fn is_usable(&self) -> bool {
        matches!(self.state(), "up" | "slow-start")
    }

    pub(super) fn state(&self) -> &str {
        self.status["state"].as_str().unwrap_or("-")
    }

    fn number(&self, name: &str) -> f64 {
        self.status[name].as_f64().unwrap_or_default()
    }
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct Model {
    /// The address that is asked.
    pub(super) target: String,
    /// The last status; null before the first.
    pub(super) status: Value,
    pub(super) received: Option<Instant>,
    /// Why the gateway cannot be reached, and since when.
    pub(super) problem: Option<(String, Instant)>,
    pub(super) view: View,
    pub(super) shows_help: bool,
    /// The order that waits for a yes.
    pub(super) question: Option<Order>,
    /// The result of the last order.
    pub(super) notice: Option<(Result<String, String>, Instant)>,
    pub(super) node_sort: NodeSort,
    pub(super) key_sort: usize,
    /// In the order of the sort.
    pub(super) nodes: Vec<Node>,
    /// The selected node, by cluster and address, so that it stays when the order changes.
    pub(super) selected: Option<(String, String)>,
    /// Lines that the findings and events are scrolled by.
    pub(super) scroll: usize,
    /// Requests a second, the oldest first.
    pub(super) history: Vec<u64>,
    newest_point: u64,
}

impl Model {
    pub(super) fn new(target: String) -> Self {
        Self {
            target,
            status: Value::Null,
            received: None,
            problem: None,
            view: View::default(),
            shows_help: false,
            question: None,
            notice: None,
            node_sort: NodeSort::default(),
            key_sort: 0,
            nodes: Vec::new(),
            selected: None,
            scroll: 0,
            history: Vec::new(),
            newest_point: 0,
        }
    }

    /// Returns what to ask for: the points of the chart that are new, and the access keys in their order.
    pub(super) fn path(&self) -> String {
        let (sort, _) = KEY_SORTS[self.key_sort];
        format!("/status?after={}&keys=&sort={sort}", self.newest_point)
    }

    /// Takes an answer of the gateway.
    pub(super) fn on_status(&mut self, status: Result<Value, String>) {
        match status {
            Ok(status) => {
                self.take_history(&status["history"]);
                self.status = status;
                self.received = Some(Instant::now());
                self.problem = None;
                self.sort_nodes();
            }
            Err(error) => {
                let since = self
                    .problem
                    .take()
                    .map_or_else(Instant::now, |(_, since)| since);
                self.problem = Some((error, since));
            }
        }
    }

    /// Takes the result of an order.
    pub(super) fn on_order(&mut self, result: Result<String, String>) {
        self.notice = Some((result, Instant::now()));
    }

    /// Returns the result of the last order, for as long as it is news.
    pub(super) fn fresh_notice(&self) -> Option<&Result<String, String>> {
        let (result, at) = self.notice.as_ref()?;
        (at.elapsed() < NOTICE).then_some(result)
    }

    /// Returns the gateway's time now.
    pub(super) fn now(&self) -> Option<Timestamp> {
        let told: Timestamp = self.status["now"].as_str()?.parse().ok()?;
        told.checked_add(self.received?.elapsed()).ok()
    }

    /// Returns the seconds since a time that the gateway has told.
    pub(super) fn age(&self, at: &Value) -> Option<i64> {
        let at: Timestamp = at.as_str()?.parse().ok()?;
        Some(self.now()?.duration_since(at).as_secs().max(0))
    }

    /// Returns the rows of access keys.
    pub(super) fn access_keys(&self) -> &[Value] {
        let rows = self.status["access_key_rows"]["rows"].as_array();
        rows.or(self.status["busiest_access_keys"].as_array())
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the array of the status by name.
    pub(super) fn items(&self, name: &str) -> &[Value] {
        self.status[name].as_array().map_or(&[], Vec::as_slice)
    }

    /// Returns the place of the selected node.
    pub(super) fn selected_index(&self) -> Option<usize> {
        let (cluster, address) = self.selected.as_ref()?;
        let is_it = |node: &Node| node.cluster == *cluster && node.address == *address;
        self.nodes.iter().position(is_it)
    }

    /// Selects a node by its place.
    pub(super) fn select(&mut self, index: usize) {
        let node = self
            .nodes
            .get(index.min(self.nodes.len().saturating_sub(1)));
        self.selected = node.map(|node| (node.cluster.clone(), node.address.clone()));
    }

    /// Whether no other node of the cluster is usable.
    pub(super) fn is_last_usable(&self, order: &Order) -> bool {
        let others = self.nodes.iter().filter(|node| {
            node.cluster == order.cluster && node.address != order.address && node.is_usable()
        });
        others.count() == 0
    }

    /// Puts the nodes of the last status into their order.
    pub(super) fn sort_nodes(&mut self) {
        let mut nodes: Vec<Node> = Vec::new();
        for cluster in self.items("clusters") {
            let name = cluster["name"].as_str().unwrap_or_default();
            for node in cluster["nodes"].as_array().into_iter().flatten() {
                let address = node["address"].as_str().unwrap_or_default();
                nodes.push(Node {
                    cluster: name.to_owned(),
                    address: address.to_owned(),
                    status: node.clone(),
                });
            }
        }
        let sort = self.node_sort;
        // Stable: equal ones stay in the order of the configuration.
        nodes.sort_by(|one, other| match sort {
            NodeSort::Name => Ordering::Equal,
            NodeSort::State => badness(one.state()).cmp(&badness(other.state())),
            NodeSort::InFlight => descending(one, other, "in_flight"),
            NodeSort::Rate => descending(one, other, "attempts_per_second"),
            NodeSort::Failures => descending(one, other, "failures"),
            NodeSort::Latency => descending(one, other, "p99_ms"),
        });
        self.nodes = nodes;
        if self.selected_index().is_none() {
            self.select(0);
        }
    }

    /// Appends the new points of the chart.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is small and not negative"
    )]
    fn take_history(&mut self, history: &Value) {
        let newest = history["newest"].as_u64().unwrap_or_default();
        if newest < self.newest_point {
            // Another process than before.
            self.history.clear();
        }
        self.newest_point = newest;
        let points = history["points"].as_array().into_iter().flatten();
        let rates =
            points.map(|point| (point["requests"].as_f64().unwrap_or_default() * 10.0) as u64);
        self.history.extend(rates);
        let over = self.history.len().saturating_sub(POINTS);
        self.history.drain(..over);
    }
}

fn descending(one: &Node, other: &Node, name: &str) -> Ordering {
    other.number(name).total_cmp(&one.number(name))
}

/// The worst first.
fn badness(state: &str) -> u8 {
    match state {
        "down" => 0,
        "unresolved" => 1,
        "ejected" => 2,
        "drained" => 3,
        "slow-start" => 4,
        _ => 5,
    }
}

/// How long the result of an order is shown.
const NOTICE: Duration = Duration::from_secs(8);

/// The points that the gateway holds: 15 minutes.
const POINTS: usize = 180;
