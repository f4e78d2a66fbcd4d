//! One request on its way through the stages: what is known of it, what it holds, what it is charged.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use http::uri::PathAndQuery;
use jiff::Timestamp;

use super::{Account, Aim, Rejection, Snapshot};
use crate::auth::Caller;
use crate::ccfs::Endpoint;
use crate::limit::{Permit, Reservation};
use crate::message::{Authorization, Call, Context, Delivery, Failure, Trail, WholeReply};
use crate::metrics::{Auth, CacheVerdict, Decision, Limited, Shed};
use crate::shared_store::Patience;
use crate::telemetry::{Record, TraceContext};

/// One request on its way: what is known of it, and what it holds until its answer has ended.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) now: Timestamp,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) record: Box<Record>,
    pub(super) guards: Guards,
    /// With the store that replicas share; none before it was asked.
    pub(super) patience: Option<Patience>,
}

/// Given back when the answer has ended.
#[derive(Debug)]
pub(super) struct Guards {
    pub(super) gateway: Option<Permit>,
    pub(super) account: Option<Place>,
    pub(super) unverified: Option<Permit>,
    pub(super) buffered: Reservation,
}

/// A caller's place in flight. A fetch that he starts may outlive his request, and counts as his:
/// only then is it shared, since most requests start none.
#[derive(Debug)]
pub(super) enum Place {
    /// Of the request alone.
    Own(Permit),
    /// Of a fetch, too.
    Shared(Arc<Permit>),
}

impl Guards {
    pub(super) fn new(buffered: Reservation) -> Self {
        Self {
            gateway: None,
            account: None,
            unverified: None,
            buffered,
        }
    }
}

impl Exchange {
    /// One more request of the whole gateway. Only those who are verified come so far, and strangers
    /// who are delivered: nobody else can fill it.
    pub(super) fn enter(&mut self) -> Result<(), Rejection> {
        self.guards.gateway = self.snapshot.in_flight.enter();
        if self.guards.gateway.is_some() {
            Ok(())
        } else {
            Err(Rejection::Overloaded(Shed::InFlight))
        }
    }

    /// The same for somebody who did not verify: all of them together get a share of the cluster.
    pub(super) fn enter_unverified(&mut self, aim: &Aim<'_>) -> Result<(), Rejection> {
        self.guards.unverified = aim.unverified.enter();
        if self.guards.unverified.is_none() {
            return Err(Rejection::Overloaded(Shed::InFlight));
        }
        self.enter()
    }

    /// A verified caller comes in: from here on he may be named, counted and charged.
    pub(super) fn admit(
        &mut self,
        caller: &Caller,
        account: &Account,
        head: &Parts,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        let record = &mut self.record;
        record.metrics().count(Auth::Ok);
        record.access_key = Some(caller.access_key().shared());
        let parent = head.headers.get(TraceContext::FIELD);
        if let Some(trace) = parent.and_then(|value| TraceContext::follow(value.as_bytes())) {
            record.trace = trace;
        }
        let code = endpoint.flow_control_code;
        let limited = |limiter, exceeded| Rejection::RateLimited {
            limiter,
            exceeded,
            code,
        };
        account
            .charge_ceiling()
            .map_err(|exceeded| limited(Limited::Ceiling, Some(exceeded)))?;
        record.metrics().count(Decision::CeilingAllowed);
        self.guards.account = account.in_flight.enter().map(Place::Own);
        if self.guards.account.is_none() {
            return Err(limited(Limited::InFlight, None));
        }
        record.metrics().count(Decision::InFlightAllowed);
        account.count();
        Ok(())
    }

    /// The caller's place in flight, for a fetch.
    pub(super) fn share_place(&mut self) -> Option<Arc<Permit>> {
        let shared = match self.guards.account.take()? {
            Place::Own(permit) => Arc::new(permit),
            Place::Shared(permit) => permit,
        };
        self.guards.account = Some(Place::Shared(shared.clone()));
        Some(shared)
    }

    /// Notes and counts what the cache did.
    pub(super) fn cached(&mut self, verdict: CacheVerdict) {
        self.record.metrics().count(verdict);
        self.record.cache = Some(verdict);
    }

    /// What `upstream` needs to deliver a verified request; takes the fields out of its head.
    pub(super) fn delivery(&self, head: &mut Parts, call: Call) -> Delivery {
        let affinity = affinity(&call);
        let authorization = if call.payload.changed() {
            Authorization::Sign(call.caller)
        } else {
            Authorization::Kept(Some(call.caller))
        };
        Delivery {
            endpoint: call.endpoint,
            cluster: call.cluster,
            body: call.payload.outgoing().clone(),
            affinity,
            authorization,
            context: self.context(),
            target: target(head),
            method: head.method.clone(),
            headers: Arc::new(std::mem::take(&mut head.headers)),
        }
    }

    pub(super) fn context(&self) -> Context {
        Context {
            client: self.record.client.to_canonical(),
            request_id: self.record.request_id.clone(),
            trace: self.record.trace,
        }
    }

    /// Notes which way a whole reply took.
    pub(super) fn trail(
        &mut self,
        reply: Result<WholeReply, Failure>,
    ) -> Result<WholeReply, Rejection> {
        match reply {
            Ok(reply) => {
                self.followed(&reply.trail);
                let json = reply.json.as_ref();
                self.record.result_code = json.and_then(|json| json.result_code.clone());
                self.suspicious(reply.status);
                Ok(reply)
            }
            Err(failure) => {
                self.followed(&failure.trail);
                Err(failure.into())
            }
        }
    }

    pub(super) fn followed(&mut self, trail: &Trail) {
        self.record.node.clone_from(&trail.node);
        self.record.tries = trail.tries;
        self.record.upstream = Some(trail.elapsed);
    }

    /// A 401 to what the gateway verified: the node has another secret or another clock.
    pub(super) fn suspicious(&self, status: StatusCode) {
        if status == StatusCode::UNAUTHORIZED && self.record.access_key.is_some() {
            tracing::warn!(
                access_key = self.record.access_key.as_deref(),
                node = self.record.node.as_deref(),
                "a node refused a signature that verified here: another secret, or a clock is off"
            );
        }
    }
}

/// Spreads by ak and callId.
fn affinity(call: &Call) -> u64 {
    // A fixed seed: all replicas of the gateway must come to the same node.
    let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
    call.caller.access_key().hash(&mut hasher);
    call.payload.call_id().hash(&mut hasher);
    hasher.finish()
}

/// Path and query as they came. A head always has them: the listener refuses other targets.
pub(super) fn target(head: &Parts) -> PathAndQuery {
    let slash = || PathAndQuery::from_static("/");
    head.uri.path_and_query().cloned().unwrap_or_else(slash)
}

/// The clock, when time has passed since the request began.
#[expect(
    clippy::disallowed_methods,
    reason = "time has passed since the request began"
)]
pub(super) fn wall_clock() -> Timestamp {
    Timestamp::now()
}
