//! One node with its live state, which all workers share and reloads keep.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection_slot::{ConnectionSlot, ConnectionSlots};
use super::flow_control::{FlowClass, FlowRequest, NodeFlowControl, WaitQueues};
use super::health::{
    EjectionReason, FailureKind, Health, HealthPolicy, NodeOutcome, OutcomeEffect,
};
use super::latency::Latency;
use super::load_balancing::stable_hash;
use super::node_guard::NodeGuard;
use super::node_sockets::NodeSockets;
use super::node_status::{LastCheck, NodeState, NodeStatus};
use super::node_tls::NodeTls;
use super::{ClusterSettings, EjectionSettings, NodeAddress};
use crate::gauge::Gauge;
use crate::metrics::NodeAttempts;

/// Identifies a node; never reused while the process runs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(u64);

/// One node: an address as configured, and one of the socket addresses that it resolves to.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    address: NodeAddress,
    pub(super) sockets: NodeSockets,
    name: Arc<str>,
    hash_seed: u64,
    max_connections: AtomicUsize,
    in_flight: Gauge,
    /// Those of [`FlowClass::Download`] among the requests in flight.
    downloads: Gauge,
    flow_control: NodeFlowControl,
    /// Those of its cluster; set with the first request.
    wait_queues: OnceLock<Arc<WaitQueues>>,
    requests: AtomicU64,
    failures: AtomicU64,
    attempts: NodeAttempts,
    /// One more than the index in [`FAILURE_KINDS`]; 0 is none.
    last_failure: AtomicU8,
    failure_log: Mutex<FailureLog>,
    last_check: Mutex<Option<LastCheck>>,
    /// In seconds; [`UNKNOWN_OFFSET`] until a `Date` was read.
    clock_offset: AtomicI64,
    /// Responses in a row whose `Date` was off by [`CLOCK_TOLERANCE`] or more.
    clock_errors: AtomicU64,
    drained: AtomicBool,
    /// Whether `health` is in its initial state, so that choices and successes need no lock.
    untroubled: AtomicBool,
    health: Mutex<Health>,
    slots: ConnectionSlots,
    /// Connections that requests opened.
    opened_by_requests: AtomicU64,
    /// When a health check last verified the certificate.
    full_handshake: Mutex<Option<Instant>>,
    /// Observed only for `balance = "least-time"`.
    latency: Latency,
    pub(super) tls: NodeTls,
}

impl Node {
    pub(super) fn new(address: NodeAddress, socket: SocketAddr, max_connections: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NodeId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name: address.to_string().into(),
            hash_seed: stable_hash(format!("{address} {}", socket.ip()).as_bytes()),
            address,
            sockets: NodeSockets::new(socket),
            max_connections: AtomicUsize::new(max_connections),
            in_flight: Gauge::default(),
            downloads: Gauge::default(),
            flow_control: NodeFlowControl::default(),
            wait_queues: OnceLock::new(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            attempts: NodeAttempts::default(),
            last_failure: AtomicU8::new(0),
            failure_log: Mutex::default(),
            last_check: Mutex::default(),
            clock_offset: AtomicI64::new(UNKNOWN_OFFSET),
            clock_errors: AtomicU64::new(0),
            drained: AtomicBool::new(false),
            untroubled: AtomicBool::new(true),
            health: Mutex::default(),
            slots: ConnectionSlots::default(),
            opened_by_requests: AtomicU64::new(0),
            full_handshake: Mutex::default(),
            latency: Latency::default(),
            tls: NodeTls::default(),
        }
    }

    /// Returns its identity.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns its address as configured.
    pub fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// Returns `host:port`, as configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the number of requests in flight, over all workers.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Returns the counters of the attempts at this node.
    pub fn attempts(&self) -> &NodeAttempts {
        &self.attempts
    }

    /// Counts an attempt. A node that is chosen but not used is not counted.
    pub fn record_attempt(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the reason of a failure. Returns true if it should be logged: it differs from the last
    /// logged reason, which is older than `FAILURE_LOG_INTERVAL`.
    pub fn record_failure_reason(&self, reason: &str, now: Instant) -> bool {
        let mut log = self.failure_log.lock();
        log.last_at = Some(now);
        if log.last.as_deref() != Some(reason) {
            log.last = Some(reason.into());
        }
        let is_news = log.last_logged.as_ref().is_none_or(|(logged, at)| {
            **logged != *reason && now.saturating_duration_since(*at) >= FAILURE_LOG_INTERVAL
        });
        if is_news {
            log.last_logged = log.last.clone().map(|reason| (reason, now));
        }
        is_news
    }

    /// Records the end of a health check.
    pub fn record_check(&self, check: LastCheck) {
        *self.last_check.lock() = Some(check);
    }

    /// Records by how many seconds its clock is ahead, from the `Date` of a response.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.clock_offset.store(seconds, Ordering::Relaxed);
        if seconds.unsigned_abs() >= CLOCK_TOLERANCE {
            self.clock_errors.fetch_add(1, Ordering::Relaxed);
        } else {
            self.clock_errors.store(0, Ordering::Relaxed);
        }
    }

    /// Returns by how many seconds its clock was ahead when it was last looked at; negative if it was
    /// behind. It is looked at in health checks and when the node refuses a signature.
    pub fn clock_offset(&self) -> Option<i64> {
        let seconds = self.clock_offset.load(Ordering::Relaxed);
        (seconds != UNKNOWN_OFFSET).then_some(seconds)
    }

    /// Returns a slot for a new connection; `None` at the connection limit.
    pub fn open_slot(&self) -> Option<Arc<ConnectionSlot>> {
        self.slots
            .open(self.max_connections.load(Ordering::Relaxed))
    }

    /// Counts a connection that a request opened.
    pub fn record_opened(&self) {
        self.opened_by_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of connections that requests have opened.
    pub fn opened_by_requests(&self) -> u64 {
        self.opened_by_requests.load(Ordering::Relaxed)
    }

    /// Whether the next handshake of a health check is to verify the certificate: the last one that did is
    /// `interval` old. Then it counts as done now.
    pub fn is_full_handshake_due(&self, now: Instant, interval: Duration) -> bool {
        let mut last = self.full_handshake.lock();
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= interval);
        if is_due {
            *last = Some(now);
        }
        is_due
    }

    /// Returns the number of connections, over all workers.
    pub fn connections(&self) -> usize {
        self.slots.count()
    }

    pub(super) fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(super) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    pub(super) fn set_max_connections(&self, limit: usize) {
        self.max_connections.store(limit, Ordering::Relaxed);
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

    /// Returns whether it may be given requests, and which part of its weight.
    pub(super) fn current_health(&self, now: Instant, slow_start: Duration) -> NodeHealth {
        if self.untroubled.load(Ordering::Relaxed) {
            return NodeHealth {
                usable: true,
                ejection_pending: false,
                untroubled: true,
                weight_share: 1.0,
                next_change: None,
            };
        }
        let health = self.health.lock();
        let spotless = health.is_untroubled(now, slow_start);
        if spotless {
            self.untroubled.store(true, Ordering::Relaxed);
        }
        NodeHealth {
            usable: health.is_usable(now),
            ejection_pending: health.is_ejection_pending(),
            untroubled: spotless,
            weight_share: health.weight_share(now, slow_start),
            next_change: health.next_change(now, slow_start),
        }
    }

    /// Whether its health checks fail.
    pub fn is_down(&self) -> bool {
        !self.untroubled.load(Ordering::Relaxed) && self.health.lock().is_down()
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        !self.untroubled.load(Ordering::Relaxed) && self.health.lock().is_ejected(now)
    }

    pub(super) fn record_outcome(
        &self,
        outcome: NodeOutcome,
        now: Instant,
        policy: HealthPolicy<'_>,
        may_eject: bool,
    ) -> OutcomeEffect {
        match outcome {
            NodeOutcome::Success | NodeOutcome::ProbeSuccess
                if self.untroubled.load(Ordering::Relaxed) =>
            {
                return OutcomeEffect::default();
            }
            NodeOutcome::Failure(kind) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.set_last_failure(kind);
            }
            NodeOutcome::ProbeFailure(kind) => self.set_last_failure(kind),
            NodeOutcome::Success | NodeOutcome::ProbeSuccess | NodeOutcome::FlowControlled => {}
        }
        let mut health = self.health.lock();
        let effect = health.record(outcome, now, policy, may_eject);
        let spotless = health.is_untroubled(now, policy.ejection.slow_start);
        self.untroubled.store(spotless, Ordering::Relaxed);
        effect
    }

    /// Ejects it, unless it is ejected; returns for how long.
    pub(super) fn eject(
        &self,
        reason: EjectionReason,
        now: Instant,
        settings: &EjectionSettings,
    ) -> Option<Duration> {
        let mut health = self.health.lock();
        if health.is_ejected(now) {
            return None;
        }
        self.untroubled.store(false, Ordering::Relaxed);
        Some(health.eject(reason, now, settings))
    }

    /// Counts a request as in flight; `None` at the connection limit, or without room for it.
    pub(super) fn acquire(
        self: &Arc<Self>,
        flow: Option<FlowRequest<'_>>,
        wait_queues: &Arc<WaitQueues>,
        now: Instant,
    ) -> Option<NodeGuard> {
        let limit = self.max_connections.load(Ordering::Relaxed);
        let in_flight = self.in_flight.try_enter(limit)?;
        let Some(flow) = flow else {
            return Some(NodeGuard::new(self.clone(), in_flight));
        };
        self.wait_queues.get_or_init(|| wait_queues.clone());
        let download = (flow.class == FlowClass::Download).then(|| self.downloads.enter());
        let others = self.in_flight_of(flow.class).saturating_sub(1);
        let ticket = self.flow_control.admit(&flow, others, now)?;
        let guard = NodeGuard::new(self.clone(), in_flight);
        Some(guard.with_flow(download, ticket))
    }

    /// Returns the number of requests of a class in flight. Without `flow_control` all count as queries.
    pub(super) fn in_flight_of(&self, class: FlowClass) -> usize {
        let downloads = self.downloads.count();
        match class {
            FlowClass::Download => downloads,
            FlowClass::Query => self.in_flight().saturating_sub(downloads),
        }
    }

    /// Whether a request may be sent without a refusal for flow control, as far as is known.
    pub(super) fn has_room(&self, flow: &FlowRequest<'_>, now: Instant) -> bool {
        let in_flight = || self.in_flight_of(flow.class);
        self.flow_control.has_room(flow, in_flight, now)
    }

    pub(super) fn flow_control(&self) -> &NodeFlowControl {
        &self.flow_control
    }

    /// Makes a waiting request look for a place.
    pub(super) fn wake_waiter(&self, class: FlowClass) {
        if let Some(queues) = self.wait_queues.get() {
            queues.wake_head(class);
        }
    }

    /// Returns the status, with weight and priority yet to be set.
    pub(super) fn status(&self, settings: &ClusterSettings, now: Instant) -> NodeStatus {
        let health = self.health.lock();
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
        let failures = self.failure_log.lock();
        NodeStatus {
            id: Some(self.id),
            address: self.name.clone(),
            socket: Some(self.sockets.in_use()),
            weight: 1,
            priority: 0,
            state,
            in_flight: self.in_flight(),
            connections: self.connections(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            attempts: self.attempts.sum(),
            last_failure: self.last_failure(),
            last_failure_reason: failures.last.clone(),
            last_failure_age: failures.last_at.map(|at| now.saturating_duration_since(at)),
            last_check: *self.last_check.lock(),
            ejected_for: health
                .ejected_until()
                .filter(|_| ejected)
                .map(|until| until.saturating_duration_since(now)),
            ejection_reason: health.ejection_reason(now),
            clock_offset: self.clock_offset(),
            flow_bounds: self.flow_control.bounds(now),
            clock_errors: self.clock_errors.load(Ordering::Relaxed),
            certificate: self.certificate(),
        }
    }

    fn set_last_failure(&self, kind: FailureKind) {
        let index = FAILURE_KINDS.iter().position(|&known| known == kind);
        let code = index.and_then(|index| u8::try_from(index + 1).ok());
        self.last_failure
            .store(code.unwrap_or(0), Ordering::Relaxed);
    }

    fn last_failure(&self) -> Option<FailureKind> {
        let code = usize::from(self.last_failure.load(Ordering::Relaxed));
        FAILURE_KINDS.get(code.checked_sub(1)?).copied()
    }
}

/// The reasons of its failures.
#[derive(Debug, Default)]
struct FailureLog {
    last: Option<Arc<str>>,
    /// When the last failure was recorded.
    last_at: Option<Instant>,
    /// The reason in the last log line, and when it was written.
    last_logged: Option<(Arc<str>, Instant)>,
}

/// Whether a node may be given requests, and which part of its weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeHealth {
    pub(super) usable: bool,
    /// It fails, and is usable only because too many other nodes are ejected.
    pub(super) ejection_pending: bool,
    /// No failure in a row, no slow start, no flow control, no ejection that is remembered.
    pub(super) untroubled: bool,
    pub(super) weight_share: f64,
    /// When it changes by itself.
    pub(super) next_change: Option<Instant>,
}

/// At least this long between two log lines about failures of one node, so that alternating reasons do
/// not flood the log.
const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A clock that is off by so many seconds is wrong.
const CLOCK_TOLERANCE: u64 = 30;

/// No clock is off by so much.
const UNKNOWN_OFFSET: i64 = i64::MIN;

const FAILURE_KINDS: [FailureKind; 5] = [
    FailureKind::ConnectionClosed,
    FailureKind::InvalidResponse,
    FailureKind::ServerError,
    FailureKind::Timeout,
    FailureKind::ConnectFailed,
];
