//! The state of one delivery: who was tried, what came of it, who may be tried next.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Trouble;
use super::response::Answer;
use crate::ccfs::Repeat;
use crate::cluster::{Node, NodeId, Pick};
use crate::message::{Cause, Delivery, Failure, Trail};
use crate::metrics::Retry;

/// The state of one delivery.
#[derive(Debug)]
pub(super) struct Course<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) started: Instant,
    pub(super) end: Instant,
    /// The clock when the last try ended, or the delivery began: what begins the next try needs no
    /// reading of its own.
    pub(super) now: Instant,
    tried: Vec<NodeId>,
    node: Option<Arc<str>>,
    pub(super) tries: u32,
    /// A node may have acted on it.
    sent: bool,
    /// Why a further try would be one.
    pub(super) repeats: Option<Retry>,
    last_trouble: Option<Trouble>,
    pub(super) last_answer: Option<Answer>,
}

impl<'a> Course<'a> {
    pub(super) fn new(delivery: &'a Delivery, last_try: Duration) -> Self {
        let started = Instant::now();
        Self {
            delivery,
            started,
            end: started + last_try,
            now: started,
            tried: Vec::new(),
            node: None,
            tries: 0,
            sent: false,
            repeats: None,
            last_trouble: None,
            last_answer: None,
        }
    }

    pub(super) fn pick(&self) -> Option<Pick> {
        let cluster = &self.delivery.cluster;
        let now = self.now.into_std();
        let affinity = self.delivery.affinity;
        if self.tries == 0 {
            cluster.pick(affinity, &self.tried, now)
        } else if self.last_answer.is_some() {
            // It is not worth while to ask a node that looks dead.
            cluster.pick_again(affinity, &self.tried, now)
        } else {
            cluster.pick_any(affinity, &self.tried, now)
        }
    }

    pub(super) fn enter(&mut self, node: &Node) {
        self.tries += 1;
        self.tried.push(node.id());
        self.node = Some(node.name().clone());
    }

    pub(super) fn fail(&mut self, trouble: Trouble) {
        self.sent |= trouble.sent;
        self.repeats = Some(match trouble.cause {
            Cause::Broken => Retry::Broken,
            Cause::Garbage => Retry::Garbage,
            Cause::NoNode | Cause::Unreachable => Retry::Unreachable,
            Cause::Timeout => Retry::Timeout,
        });
        // That the last node was full says less than what another one did.
        if trouble.cause != Cause::NoNode || self.last_trouble.is_none() {
            self.last_trouble = Some(trouble);
        }
    }

    pub(super) fn is_repeatable(&self) -> bool {
        self.delivery.endpoint.repeat == Repeat::Always
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    pub(super) fn has_another(&self) -> bool {
        let now = Instant::now().into_std();
        !self.is_over() && self.delivery.cluster.has_another(&self.tried, now)
    }

    /// May a try be ended early in favour of another node?
    pub(super) fn may_leave(&self, sent: bool) -> bool {
        (self.is_repeatable() || !sent) && self.has_another()
    }

    /// May a try at a node that turned out to be dead be ended for one that is well?
    pub(super) fn may_abandon(&self, node: &Node, sent: bool) -> bool {
        let now = Instant::now().into_std();
        (self.is_repeatable() || !sent)
            && !self.is_over()
            && node.is_down()
            && self.delivery.cluster.has_well(&self.tried, now)
    }

    /// No further try: the last answer, unless a node may have acted on a request that is not
    /// repeatable, of which that answer knows nothing.
    pub(super) fn give_up(&mut self) -> Result<Answer, Failure> {
        if (self.is_repeatable() || !self.sent)
            && let Some(answer) = self.last_answer.take()
        {
            return Ok(answer);
        }
        Err(Failure {
            cause: self
                .last_trouble
                .map_or(Cause::NoNode, |trouble| trouble.cause),
            sent: self.sent,
            trail: self.trail(),
        })
    }

    pub(super) fn trail(&self) -> Trail {
        Trail {
            node: self.node.clone(),
            tries: self.tries,
            elapsed: self.now - self.started,
        }
    }
}
