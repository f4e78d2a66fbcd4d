//! The controllers of one node and class: one for all requests, and one for each access key that the node
//! limits by itself. Pure: times are parameters.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::controller::{Caution, Controller, Room, Ticket};

/// What one node takes of one class.
#[derive(Debug)]
pub(super) struct NodeController {
    all: Controller,
    access_keys: HashMap<u64, KeyController, RandomState>,
    /// The last success, and the last one of another access key.
    last_successes: [Option<(u64, Instant)>; 2],
}

/// What one node takes of one access key.
#[derive(Debug)]
struct KeyController {
    controller: Controller,
    /// Its attempts in flight, of those that were sent since the controller exists.
    in_flight: usize,
}

/// What must be known about an attempt when it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeTicket {
    all: Ticket,
    /// For the controller of the access key, if there was one.
    key: Option<Ticket>,
}

impl NodeTicket {
    /// The ticket of an attempt that was sent while nothing was learned.
    pub(super) fn free(in_flight: usize) -> Self {
        Self {
            all: Ticket::free(in_flight),
            key: None,
        }
    }

    /// Whether the attempt must be reported to [`NodeController::ended`].
    pub(super) fn counts_for_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Whether an attempt may be sent to a node now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NodeRoom {
    /// Yes.
    Open,
    /// The node takes nothing more, of whatever access key.
    Closed(Room),
    /// The node takes nothing more of this access key.
    ClosedForKey(Room),
}

impl NodeController {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: Controller::new(now, Caution::Immediate),
            access_keys: HashMap::default(),
            last_successes: [None; 2],
        }
    }

    /// Returns whether an attempt of `key` may be sent while `in_flight` others are, and notes what holds
    /// it back if not.
    pub(super) fn room(&mut self, key: u64, in_flight: usize, now: Instant) -> NodeRoom {
        match self.all.room(in_flight, now) {
            Room::Open => {}
            closed => return NodeRoom::Closed(closed),
        }
        let Some(of_key) = self.access_keys.get_mut(&key) else {
            return NodeRoom::Open;
        };
        match of_key.controller.room(of_key.in_flight, now) {
            Room::Open => NodeRoom::Open,
            closed => NodeRoom::ClosedForKey(closed),
        }
    }

    /// Records that an attempt of `key` is sent while `in_flight` others are.
    pub(super) fn admit(&mut self, key: u64, in_flight: usize, now: Instant) -> NodeTicket {
        let all = self.all.admit(in_flight, now);
        let key = self.access_keys.get_mut(&key).map(|of_key| {
            of_key.in_flight += 1;
            of_key.controller.admit(of_key.in_flight - 1, now)
        });
        NodeTicket { all, key }
    }

    /// Records that an attempt ended, however it did.
    pub(super) fn ended(&mut self, key: u64, ticket: NodeTicket) {
        if let (Some(_), Some(of_key)) = (ticket.key, self.access_keys.get_mut(&key)) {
            of_key.in_flight = of_key.in_flight.saturating_sub(1);
        }
    }

    /// Records that the node did what an attempt asked for.
    pub(super) fn succeeded(&mut self, key: u64, ticket: NodeTicket, now: Instant) {
        self.all.succeeded(ticket.all, now);
        if let (Some(ticket), Some(of_key)) = (ticket.key, self.access_keys.get_mut(&key)) {
            of_key.controller.succeeded(ticket, now);
        }
        let [last, other] = &mut self.last_successes;
        if last.is_some_and(|(known, _)| known != key) {
            *other = *last;
        }
        *last = Some((key, now));
    }

    /// Records a refusal for flow control.
    pub(super) fn refused(&mut self, key: u64, ticket: NodeTicket, now: Instant) {
        let is_over_bound =
            ticket.all.is_over_bound() || ticket.key.is_some_and(|ticket| ticket.is_over_bound());
        if is_over_bound {
            return;
        }
        let is_node_full =
            !self.all.is_expected(ticket.all) && self.all.explains_in_flight(ticket.all, now);
        if is_node_full || !self.another_succeeded(key, now) {
            self.all.refused(ticket.all, now);
            return;
        }
        if let Some(of_key) = self.access_keys.get_mut(&key) {
            if let Some(ticket) = ticket.key {
                of_key.controller.refused(ticket, now);
            }
            return;
        }
        if self.access_keys.len() >= MAX_ACCESS_KEYS {
            self.forget_free_keys(now);
        }
        if self.access_keys.len() >= MAX_ACCESS_KEYS {
            self.all.refused(ticket.all, now);
            return;
        }
        let mut controller = Controller::new(now, Caution::Repeated);
        controller.pause(now);
        let of_key = KeyController {
            controller,
            in_flight: 0,
        };
        self.access_keys.insert(key, of_key);
    }

    /// Whether nothing is bound, and nothing was refused for a while.
    pub(super) fn is_free(&mut self, now: Instant) -> bool {
        if !self.all.is_free(now) {
            return false;
        }
        self.forget_free_keys(now);
        self.access_keys.is_empty()
    }

    /// Returns the bounds of all access keys together: attempts in flight, and attempts a second.
    pub(super) fn bounds(&self) -> (Option<usize>, Option<f64>) {
        self.all.bounds()
    }

    /// Returns how many access keys are limited by themselves.
    pub(super) fn access_keys(&self) -> usize {
        self.access_keys.len()
    }

    /// Returns how far the node is from having room for `key`; the smallest has most.
    pub(super) fn excess(&self, key: u64, in_flight: usize, now: Instant) -> (usize, Duration) {
        let (over, wait) = self.all.excess(in_flight, now);
        let of_key = self.access_keys.get(&key);
        let (over_key, wait_key) = of_key.map_or((0, Duration::ZERO), |of_key| {
            of_key.controller.excess(of_key.in_flight, now)
        });
        (over.max(over_key), wait.max(wait_key))
    }

    fn another_succeeded(&self, key: u64, now: Instant) -> bool {
        let mut others = self.last_successes.iter().flatten();
        others.any(|(other, at)| {
            *other != key && now.saturating_duration_since(*at) <= SUCCESS_OF_ANOTHER
        })
    }

    fn forget_free_keys(&mut self, now: Instant) {
        self.access_keys
            .retain(|_, of_key| of_key.in_flight > 0 || !of_key.controller.is_free(now));
    }
}

/// A refusal this soon after a success of another access key is about its own access key alone.
const SUCCESS_OF_ANOTHER: Duration = Duration::from_millis(200);

/// Controllers of access keys of one node and class; further refusals count for all of them.
const MAX_ACCESS_KEYS: usize = 1024;
