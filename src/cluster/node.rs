//! One node with its live state, shared by all workers and kept over reloads.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection_slot::{Slot, Slots};
use super::health::{Change, Fault, Health, Outcome, Rules};
use super::load_balancing::stable_hash;
use super::{NodeAddress, Settings};
use crate::metrics::{Tries, TryTotals};

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
    seed: u64,
    cap: AtomicUsize,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    failures: AtomicU64,
    tries: Tries,
    /// One more than the place in [`FAULTS`]; 0 is none.
    last_fault: AtomicU8,
    reason: Mutex<Reason>,
    drained: AtomicBool,
    /// True while [`Health`] has nothing to say, so that picks and successes need no lock.
    spotless: AtomicBool,
    health: Mutex<Health>,
    slots: Slots,
}

impl Node {
    pub(super) fn new(address: NodeAddress, socket: SocketAddr, cap: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NodeId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name: address.to_string().into(),
            seed: stable_hash(format!("{address} {}", socket.ip()).as_bytes()),
            address,
            socket,
            cap: AtomicUsize::new(cap),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            tries: Tries::default(),
            last_fault: AtomicU8::new(0),
            reason: Mutex::default(),
            drained: AtomicBool::new(false),
            spotless: AtomicBool::new(true),
            health: Mutex::default(),
            slots: Slots::default(),
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
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Where tries at it are counted.
    pub fn tries(&self) -> &Tries {
        &self.tries
    }

    /// Remembers why it failed, in words. True if that is worth a line in the log: it is another
    /// reason than the last line gave, and that one is no news any more.
    pub fn explain(&self, why: &str, now: Instant) -> bool {
        let mut reason = self.reason();
        if reason.last.as_deref() != Some(why) {
            reason.last = Some(why.into());
        }
        let is_news = reason
            .told
            .as_ref()
            .is_none_or(|(told, at)| **told != *why && now.saturating_duration_since(*at) >= NEWS);
        if is_news {
            reason.told = reason.last.clone().map(|why| (why, now));
        }
        is_news
    }

    /// A slot for a new connection; `None` at the cap.
    pub fn open_slot(&self) -> Option<Arc<Slot>> {
        self.slots.open(self.cap.load(Ordering::Relaxed))
    }

    /// Connections, over all workers.
    pub fn connections(&self) -> usize {
        self.slots.count()
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn set_cap(&self, cap: usize) {
        self.cap.store(cap, Ordering::Relaxed);
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight() >= self.cap.load(Ordering::Relaxed)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    pub(super) fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Ordering::Relaxed);
    }

    /// May it be given requests, and which part of its weight?
    pub(super) fn standing(&self, now: Instant, slow_start: Duration) -> Standing {
        if self.spotless.load(Ordering::Relaxed) {
            return Standing {
                usable: true,
                suspect: false,
                spotless: true,
                share: 1.0,
            };
        }
        let health = self.health();
        let spotless = health.is_spotless(now, slow_start);
        if spotless {
            self.spotless.store(true, Ordering::Relaxed);
        }
        Standing {
            usable: health.usable(now),
            suspect: health.is_suspect(),
            spotless,
            share: health.share(now, slow_start),
        }
    }

    /// Is it dead by its probes?
    pub fn is_down(&self) -> bool {
        !self.spotless.load(Ordering::Relaxed) && self.health().is_down()
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        !self.spotless.load(Ordering::Relaxed) && self.health().is_ejected(now)
    }

    pub(super) fn observe(
        &self,
        outcome: Outcome,
        now: Instant,
        rules: Rules<'_>,
        may_eject: bool,
    ) -> Option<Change> {
        match outcome {
            Outcome::Success | Outcome::ProbeSuccess if self.spotless.load(Ordering::Relaxed) => {
                return None;
            }
            Outcome::Failure(fault) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.remember(fault);
            }
            Outcome::ProbeFailure(fault) => self.remember(fault),
            Outcome::Success | Outcome::ProbeSuccess | Outcome::Busy => {}
        }
        let mut health = self.health();
        let change = health.observe(outcome, now, rules, may_eject);
        let spotless = health.is_spotless(now, rules.ejection.slow_start);
        self.spotless.store(spotless, Ordering::Relaxed);
        change
    }

    /// Counts a request in, unless the node is at its cap.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Pick> {
        let cap = self.cap.load(Ordering::Relaxed);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < cap).then_some(count + 1)
            })
            .ok()?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some(Pick { node: self.clone() })
    }

    pub(super) fn status(&self, weight: u32, settings: &Settings, now: Instant) -> NodeStatus {
        let health = self.health();
        let ejected = health.is_ejected(now);
        let state = if self.is_drained() {
            NodeState::Drained
        } else if health.is_down() {
            NodeState::Down
        } else if ejected {
            NodeState::Ejected
        } else if health.is_warming(now, settings.ejection.slow_start) {
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
            tries: self.tries.sum(),
            last_error: self.last_fault(),
            last_cause: self.reason().last.clone(),
            ejected_for: health
                .ejected_until()
                .filter(|_| ejected)
                .map(|until| until.saturating_duration_since(now)),
        }
    }

    fn remember(&self, fault: Fault) {
        let place = FAULTS.iter().position(|&known| known == fault);
        let code = place.and_then(|place| u8::try_from(place + 1).ok());
        self.last_fault.store(code.unwrap_or(0), Ordering::Relaxed);
    }

    fn last_fault(&self) -> Option<Fault> {
        let code = usize::from(self.last_fault.load(Ordering::Relaxed));
        FAULTS.get(code.checked_sub(1)?).copied()
    }

    fn reason(&self) -> MutexGuard<'_, Reason> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why it failed.
#[derive(Debug, Default)]
struct Reason {
    last: Option<Arc<str>>,
    /// What the last line in the log gave, and when.
    told: Option<(Arc<str>, Instant)>,
}

/// May a node be given requests, and which part of its weight?
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) usable: bool,
    /// It fails, and is usable only because too many others are put aside.
    pub(super) suspect: bool,
    /// Nothing at all speaks against it.
    pub(super) spotless: bool,
    pub(super) share: f64,
}

/// A node that was chosen: its request counts as in flight there until this is dropped.
#[derive(Debug)]
pub struct Pick {
    node: Arc<Node>,
}

impl Pick {
    /// The chosen node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.node.in_flight.fetch_sub(1, Ordering::Relaxed);
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
    pub tries: TryTotals,
    /// The last failure, of a request or a probe.
    pub last_error: Option<Fault>,
    /// The same in words; or why its name cannot be resolved.
    pub last_cause: Option<Arc<str>>,
    /// How long it is still put aside.
    pub ejected_for: Option<Duration>,
}

impl NodeStatus {
    /// Counts another address of the same name in: up if one of them is.
    pub fn absorb(&mut self, other: &Self) {
        let is_up = |state| matches!(state, NodeState::Up | NodeState::SlowStart);
        if !is_up(self.state) && is_up(other.state) {
            self.state = other.state;
        }
        self.in_flight += other.in_flight;
        self.connections += other.connections;
        self.requests += other.requests;
        self.failures += other.failures;
        self.tries.merge(&other.tries);
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
const NEWS: Duration = Duration::from_secs(10);

const FAULTS: [Fault; 5] = [
    Fault::Broken,
    Fault::Garbage,
    Fault::ServerError,
    Fault::Timeout,
    Fault::Unreachable,
];
