//! Flow control, learned: what a node takes of a class before it refuses with 0300008 or 0300009, and the
//! requests that wait while every usable node is at that bound. Pure: times are parameters.
//!
//! | file | does |
//! |---|---|
//! | `controller` | the bounds of one node and class, or of one access key there |
//! | `history` | the successes that these are learned from |
//! | `node_controller` | tells the limits of a node from those of an access key |
//! | `queue` | the order of waiting requests |
//! | `waiting` | hands places at nodes to waiting requests |
//!
//! Nothing is learned, locked or counted for a node that has never refused: one relaxed load tells.

mod controller;
mod history;
mod node_controller;
mod queue;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::load_balancing::stable_hash;
use controller::Room;
use node_controller::{NodeController, NodeRoom, NodeTicket};

pub(super) use waiting::WaitQueues;
pub use waiting::{WaitEnd, Waiter};

/// The requests that a node limits together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FlowClass {
    /// Those that are refused with 0300008.
    Download,
    /// Those that are refused with 0300009.
    Query,
}

impl FlowClass {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::Query, Self::Download];

    /// Returns the name in metrics and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Query => "query",
        }
    }
}

/// The part of a request that flow control depends on.
#[derive(Clone, Copy, Debug)]
pub struct FlowRequest<'a> {
    /// Its class.
    pub class: FlowClass,
    /// Its access key; `None` is unverified: it is never held back, and nothing is learned from it.
    pub access_key: Option<&'a str>,
    /// Whether it is sent even to a node at its bound, since it has waited in vain.
    pub beyond_bound: bool,
}

impl FlowRequest<'_> {
    /// Identifies the access key. Keys with the same number would share their bounds and their turn.
    fn key(&self) -> u64 {
        stable_hash(self.access_key.unwrap_or_default().as_bytes())
    }
}

/// What a node takes of one class, as learned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowBounds {
    /// The class.
    pub class: FlowClass,
    /// Attempts in flight.
    pub in_flight: Option<usize>,
    /// Attempts a second.
    pub per_second: Option<f64>,
    /// Access keys that the node limits by themselves.
    pub access_keys: usize,
}

/// What one node takes, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct NodeFlowControl {
    query: ClassFlowControl,
    download: ClassFlowControl,
}

#[derive(Debug, Default)]
struct ClassFlowControl {
    /// Whether `controller` is there.
    is_learning: AtomicBool,
    controller: Mutex<Option<Box<NodeController>>>,
}

/// An attempt at a node, from its admission to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowTicket {
    class: FlowClass,
    is_verified: bool,
    key: u64,
    ticket: NodeTicket,
}

impl FlowTicket {
    /// Returns its class.
    pub(super) fn class(&self) -> FlowClass {
        self.class
    }

    /// Whether its request is verified. Others take no lock that verified ones wait for.
    pub(super) fn is_verified(&self) -> bool {
        self.is_verified
    }
}

impl NodeFlowControl {
    fn class(&self, class: FlowClass) -> &ClassFlowControl {
        match class {
            FlowClass::Download => &self.download,
            FlowClass::Query => &self.query,
        }
    }

    /// Whether anything is learned about a class.
    pub(super) fn is_learning(&self, class: FlowClass) -> bool {
        !self.class(class).is_free()
    }

    /// Whether an attempt may be sent while `in_flight` others of its class are. Notes what holds it back
    /// if not.
    pub(super) fn has_room(
        &self,
        request: &FlowRequest<'_>,
        in_flight: impl FnOnce() -> usize,
        now: Instant,
    ) -> bool {
        let class = self.class(request.class);
        class.is_free()
            || request.beyond_bound
            || request.access_key.is_none()
            || class.with(now, |controller| {
                controller.room(request.key(), in_flight(), now) == NodeRoom::Open
            }) != Some(false)
    }

    /// Records that an attempt is sent while `in_flight` others of its class are; `None` if there is no
    /// room.
    pub(super) fn admit(
        &self,
        request: &FlowRequest<'_>,
        in_flight: usize,
        now: Instant,
    ) -> Option<FlowTicket> {
        let class = self.class(request.class);
        let free = FlowTicket {
            class: request.class,
            is_verified: request.access_key.is_some(),
            key: 0,
            ticket: NodeTicket::free(in_flight + 1),
        };
        if class.is_free() || !free.is_verified {
            return Some(free);
        }
        let key = request.key();
        let admitted = class.with(now, |controller| {
            let is_admitted =
                request.beyond_bound || controller.room(key, in_flight, now) == NodeRoom::Open;
            is_admitted.then(|| controller.admit(key, in_flight, now))
        });
        let Some(admitted) = admitted else {
            return Some(free);
        };
        admitted.map(|ticket| FlowTicket {
            key,
            ticket,
            ..free
        })
    }

    /// Records what the node did with an attempt.
    pub(super) fn record(
        &self,
        ticket: FlowTicket,
        request: &FlowRequest<'_>,
        outcome: FlowOutcome,
        now: Instant,
    ) {
        let class = self.class(ticket.class);
        match outcome {
            _ if !ticket.is_verified => {}
            FlowOutcome::Accepted if class.is_free() => {}
            FlowOutcome::Accepted => {
                class.with(now, |it| it.succeeded(request.key(), ticket.ticket, now));
            }
            FlowOutcome::Refused => {
                let mut controller = class.controller.lock();
                let controller =
                    controller.get_or_insert_with(|| Box::new(NodeController::new(now)));
                controller.refused(request.key(), ticket.ticket, now);
                class.is_learning.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Records that an attempt is no longer in flight.
    pub(super) fn ended(&self, ticket: FlowTicket) {
        if ticket.ticket.counts_for_key()
            && let Some(controller) = &mut *self.class(ticket.class).controller.lock()
        {
            controller.ended(ticket.key, ticket.ticket);
        }
    }

    /// Returns when an attempt may be sent again as far as time decides.
    pub(super) fn next_room(
        &self,
        request: &FlowRequest<'_>,
        in_flight: usize,
        now: Instant,
    ) -> Option<Instant> {
        let class = self.class(request.class);
        let room = class.with(now, |it| it.room(request.key(), in_flight, now))?;
        match room {
            NodeRoom::Closed(Room::At(at)) | NodeRoom::ClosedForKey(Room::At(at)) => Some(at),
            _ => None,
        }
    }

    /// Whether the node takes nothing more, of whatever access key.
    pub(super) fn is_closed(
        &self,
        request: &FlowRequest<'_>,
        in_flight: usize,
        now: Instant,
    ) -> bool {
        let class = self.class(request.class);
        let room = class.with(now, |it| it.room(request.key(), in_flight, now));
        matches!(room, Some(NodeRoom::Closed(_)))
    }

    /// Returns how far the node is from having room; the smallest has most.
    pub(super) fn excess(
        &self,
        request: &FlowRequest<'_>,
        in_flight: usize,
        now: Instant,
    ) -> (usize, Duration) {
        let class = self.class(request.class);
        let excess = class.with(now, |it| it.excess(request.key(), in_flight, now));
        excess.unwrap_or_default()
    }

    /// Returns what was learned; nothing for classes of which the node has refused nothing lately.
    pub(super) fn bounds(&self, now: Instant) -> Vec<FlowBounds> {
        let learned = FlowClass::ALL.into_iter().filter_map(|class| {
            self.class(class).with(now, |controller| {
                let (in_flight, per_second) = controller.bounds();
                FlowBounds {
                    class,
                    in_flight,
                    per_second,
                    access_keys: controller.access_keys(),
                }
            })
        });
        learned.collect()
    }
}

impl ClassFlowControl {
    fn is_free(&self) -> bool {
        !self.is_learning.load(Ordering::Relaxed)
    }

    /// Calls `with` with the controller; `None` if there is none, or none any more.
    fn with<T>(&self, now: Instant, with: impl FnOnce(&mut NodeController) -> T) -> Option<T> {
        if self.is_free() {
            return None;
        }
        let mut controller = self.controller.lock();
        if controller.as_mut()?.is_free(now) {
            *controller = None;
            self.is_learning.store(false, Ordering::Relaxed);
            return None;
        }
        controller.as_mut().map(|controller| with(controller))
    }
}

/// What a node did with an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FlowOutcome {
    /// It did what was asked for.
    Accepted,
    /// It refused for flow control.
    Refused,
}

#[cfg(test)]
mod simulation;
