//! One node with its live state, shared by all workers and kept over reloads.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection_slot::{ConnectionSlot, ConnectionSlots};
use super::health::{FailureKind, Health, HealthChange, HealthPolicy, NodeOutcome};
use super::load_balancing::stable_hash;
use super::{ClusterSettings, NodeAddress};
use crate::gauge::{Gauge, GaugeGuard};
use crate::metrics::{AttemptTotals, NodeAttempts};

/// Who a node is, as long as the program runs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(u64);

/// One node: an address as configured, and the one socket address it stands for.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    address: NodeAddress,
    socket: SocketAddr,
    name: Arc<str>,
    hash_seed: u64,
    max_connections: AtomicUsize,
    in_flight: Gauge,
    requests: AtomicU64,
    failures: AtomicU64,
    attempts: NodeAttempts,
    /// One more than the place in [`FAULTS`]; 0 is none.
    last_failure: AtomicU8,
    failure_log: Mutex<FailureLog>,
    drained: AtomicBool,
    /// True while [`Health`] has nothing to say, so that picks and successes need no lock.
    untroubled: AtomicBool,
    health: Mutex<Health>,
    slots: ConnectionSlots,
}

impl Node {
    pub(super) fn new(address: NodeAddress, socket: SocketAddr, cap: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NodeId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name: address.to_string().into(),
            hash_seed: stable_hash(format!("{address} {}", socket.ip()).as_bytes()),
            address,
            socket,
            max_connections: AtomicUsize::new(cap),
            in_flight: Gauge::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            attempts: NodeAttempts::default(),
            last_failure: AtomicU8::new(0),
            failure_log: Mutex::default(),
            drained: AtomicBool::new(false),
            untroubled: AtomicBool::new(true),
            health: Mutex::default(),
            slots: ConnectionSlots::default(),
        }
    }

    /// Who it is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// As configured.
    pub fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// Where to connect.
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// `host:port`, as configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Where tries at it are counted.
    pub fn attempts(&self) -> &NodeAttempts {
        &self.attempts
    }

    /// Remembers why it failed, in words. True if that is worth a line in the log: it is another
    /// reason than the last line gave, and that one is no news any more.
    pub fn record_failure_reason(&self, why: &str, now: Instant) -> bool {
        let mut reason = self.reason();
        if reason.last.as_deref() != Some(why) {
            reason.last = Some(why.into());
        }
        let is_news = reason.last_logged.as_ref().is_none_or(|(told, at)| {
            **told != *why && now.saturating_duration_since(*at) >= FAILURE_LOG_INTERVAL
        });
        if is_news {
            reason.last_logged = reason.last.clone().map(|why| (why, now));
        }
        is_news
    }

    /// A slot for a new connection; `None` at the cap.
    pub fn open_slot(&self) -> Option<Arc<ConnectionSlot>> {
        self.slots
            .open(self.max_connections.load(Ordering::Relaxed))
    }

    /// Connections, over all workers.
    pub fn connections(&self) -> usize {
        self.slots.count()
    }

    pub(super) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    pub(super) fn set_max_connections(&self, cap: usize) {
        self.max_connections.store(cap, Ordering::Relaxed);
    }

    pub(super) fn is_at_capacity(&self) -> bool {
        self.in_flight() >= self.max_connections.load(Ordering::Relaxed)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    pub(super) fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
    }

    /// May it be given requests, and which part of its weight?
    pub(super) fn current_health(&self, now: Instant, slow_start: Duration) -> NodeHealth {
        if self.untroubled.load(Ordering::Relaxed) {
            return NodeHealth {
                usable: true,
                ejection_pending: false,
                untroubled: true,
                weight_share: 1.0,
            };
        }
        let health = self.health();
        let spotless = health.is_untroubled(now, slow_start);
        if spotless {
            self.untroubled.store(true, Ordering::Relaxed);
        }
        NodeHealth {
            usable: health.is_usable(now),
            ejection_pending: health.is_ejection_pending(),
            untroubled: spotless,
            weight_share: health.weight_share(now, slow_start),
        }
    }

    /// Is it dead by its probes?
    pub fn is_down(&self) -> bool {
        !self.untroubled.load(Ordering::Relaxed) && self.health().is_down()
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        !self.untroubled.load(Ordering::Relaxed) && self.health().is_ejected(now)
    }

    pub(super) fn record_outcome(
        &self,
        outcome: NodeOutcome,
        now: Instant,
        rules: HealthPolicy<'_>,
        may_eject: bool,
    ) -> Option<HealthChange> {
        match outcome {
            NodeOutcome::Success | NodeOutcome::ProbeSuccess
                if self.untroubled.load(Ordering::Relaxed) =>
            {
                return None;
            }
            NodeOutcome::Failure(fault) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.set_last_failure(fault);
            }
            NodeOutcome::ProbeFailure(fault) => self.set_last_failure(fault),
            NodeOutcome::Success | NodeOutcome::ProbeSuccess | NodeOutcome::FlowControlled => {}
        }
        let mut health = self.health();
        let change = health.record(outcome, now, rules, may_eject);
        let spotless = health.is_untroubled(now, rules.ejection.slow_start);
        self.untroubled.store(spotless, Ordering::Relaxed);
        change
    }

    /// Counts a request in, unless the node is at its cap.
    pub(super) fn acquire(self: &Arc<Self>) -> Option<NodeGuard> {
        let cap = self.max_connections.load(Ordering::Relaxed);
        let in_flight = self.in_flight.try_enter(cap)?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some(NodeGuard {
            node: self.clone(),
            _in_flight: in_flight,
        })
    }

    pub(super) fn status(
        &self,
        weight: u32,
        settings: &ClusterSettings,
        now: Instant,
    ) -> NodeStatus {
        let health = self.health();
        let ejected = health.is_ejected(now);
        let state = if self.is_drained() {
            NodeState::Drained
        } else if health.is_down() {
            NodeState::Down
        } else if ejected {
            NodeState::Ejected
        } else if health.is_in_slow_start(now, settings.ejection.slow_start) {
            NodeState::SlowStart
        } else {
            NodeState::Up
        };
        NodeStatus {
            address: self.name.clone(),
            socket: Some(self.socket),
            weight,
            state,
            in_flight: self.in_flight(),
            connections: self.connections(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            attempts: self.attempts.sum(),
            last_failure: self.last_failure(),
            last_failure_reason: self.reason().last.clone(),
            ejected_for: health
                .ejected_until()
                .filter(|_| ejected)
                .map(|until| until.saturating_duration_since(now)),
        }
    }

    fn set_last_failure(&self, fault: FailureKind) {
        let place = FAILURE_KINDS.iter().position(|&known| known == fault);
        let code = place.and_then(|place| u8::try_from(place + 1).ok());
        self.last_failure
            .store(code.unwrap_or(0), Ordering::Relaxed);
    }

    fn last_failure(&self) -> Option<FailureKind> {
        let code = usize::from(self.last_failure.load(Ordering::Relaxed));
        FAILURE_KINDS.get(code.checked_sub(1)?).copied()
    }

    fn reason(&self) -> MutexGuard<'_, FailureLog> {
        self.failure_log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why it failed.
#[derive(Debug, Default)]
struct FailureLog {
    last: Option<Arc<str>>,
    /// What the last line in the log gave, and when.
    last_logged: Option<(Arc<str>, Instant)>,
}

/// May a node be given requests, and which part of its weight?
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeHealth {
    pub(super) usable: bool,
    /// It fails, and is usable only because too many others are put aside.
    pub(super) ejection_pending: bool,
    /// Nothing at all speaks against it.
    pub(super) untroubled: bool,
    pub(super) weight_share: f64,
}

/// A node that was chosen: its request counts as in flight there until this is dropped.
#[derive(Debug)]
pub struct NodeGuard {
    node: Arc<Node>,
    _in_flight: GaugeGuard,
}

impl NodeGuard {
    /// The chosen node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

/// A node as the admin interface shows it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// `host:port`, as configured.
    pub address: Arc<str>,
    /// Where it is: another address for each one behind a DNS name; nowhere until one is known.
    pub socket: Option<SocketAddr>,
    /// Its share of the traffic.
    pub weight: u32,
    /// How it is.
    pub state: NodeState,
    /// Requests in flight.
    pub in_flight: usize,
    /// Connections, over all workers.
    pub connections: usize,
    /// Tries since the node is known.
    pub requests: u64,
    /// Failed ones.
    pub failures: u64,
    /// Tries in detail.
    pub attempts: AttemptTotals,
    /// The last failure, of a request or a probe.
    pub last_failure: Option<FailureKind>,
    /// The same in words; or why its name cannot be resolved.
    pub last_failure_reason: Option<Arc<str>>,
    /// How long it is still put aside.
    pub ejected_for: Option<Duration>,
}

impl NodeStatus {
    /// Counts another address of the same name in: up if one of them is.
    pub fn merge(&mut self, other: &Self) {
        let is_up = |state| matches!(state, NodeState::Up | NodeState::SlowStart);
        if !is_up(self.state) && is_up(other.state) {
            self.state = other.state;
        }
        self.in_flight += other.in_flight;
        self.connections += other.connections;
        self.requests += other.requests;
        self.failures += other.failures;
        self.attempts.merge(&other.attempts);
    }
}

/// How a node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeState {
    /// Dead by its probes.
    Down,
    /// Gets nothing new, by order.
    Drained,
    /// Put aside because requests failed there.
    Ejected,
    /// Coming back.
    SlowStart,
    /// Its name was never resolved.
    Unresolved,
    /// Well.
    Up,
}

impl NodeState {
    /// For `/status`, the page and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Drained => "drained",
            Self::Ejected => "ejected",
            Self::SlowStart => "slow-start",
            Self::Unresolved => "unresolved",
            Self::Up => "up",
        }
    }
}

/// A node that fails now in this way and now in that one must not fill the log.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

const FAILURE_KINDS: [FailureKind; 5] = [
    FailureKind::ConnectionClosed,
    FailureKind::InvalidResponse,
    FailureKind::ServerError,
    FailureKind::Timeout,
    FailureKind::ConnectFailed,
];
