//! One request on its way through the stages: what is known of it, what it holds, what it is charged.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use http::uri::PathAndQuery;
use jiff::Timestamp;

use super::{Account, Rejection, RouteMatch, Snapshot};
use crate::auth::Caller;
use crate::ccfs::Endpoint;
use crate::limit::{BytePermit, Permit};
use crate::message::{
    AttemptSummary, Authorization, BufferedResponse, RequestMetadata, UpstreamError,
    UpstreamRequest, VerifiedRequest,
};
use crate::metrics::{AuthResult, CacheStatus, Decision, Limiter, ShedReason};
use crate::shared_store::WaitBudget;
use crate::telemetry::{RequestRecord, TraceContext};

/// One request on its way: what is known of it, and what it holds until its answer has ended.
#[derive(Debug)]
pub(super) struct RequestContext {
    pub(super) now: Timestamp,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) record: Box<RequestRecord>,
    pub(super) guards: Guards,
    /// With the store that replicas share; none before it was asked.
    pub(super) wait_budget: Option<WaitBudget>,
}

/// Given back when the answer has ended.
#[derive(Debug)]
pub(super) struct Guards {
    pub(super) gateway: Option<Permit>,
    pub(super) account: Option<InFlightPermit>,
    pub(super) unverified: Option<Permit>,
    pub(super) buffered: BytePermit,
}

/// A caller's place in flight. A fetch that he starts may outlive his request, and counts as his:
/// only then is it shared, since most requests start none.
#[derive(Debug)]
pub(super) enum InFlightPermit {
    /// Of the request alone.
    Owned(Permit),
    /// Of a fetch, too.
    Shared(Arc<Permit>),
}

impl Guards {
    pub(super) fn new(buffered: BytePermit) -> Self {
        Self {
            gateway: None,
            account: None,
            unverified: None,
            buffered,
        }
    }
}

impl RequestContext {
    /// One more request of the whole gateway. Only those who are verified come so far, and strangers
    /// who are delivered: nobody else can fill it.
    pub(super) fn acquire_slot(&mut self) -> Result<(), Rejection> {
        self.guards.gateway = self.snapshot.in_flight.try_acquire();
        if self.guards.gateway.is_some() {
            Ok(())
        } else {
            Err(Rejection::Overloaded(ShedReason::InFlight))
        }
    }

    /// The same for somebody who did not verify: all of them together get a share of the cluster.
    pub(super) fn acquire_unverified_slot(
        &mut self,
        aim: &RouteMatch<'_>,
    ) -> Result<(), Rejection> {
        self.guards.unverified = aim.unverified_slots.try_acquire();
        if self.guards.unverified.is_none() {
            return Err(Rejection::Overloaded(ShedReason::InFlight));
        }
        self.acquire_slot()
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
        record.metrics().count(AuthResult::Ok);
        record.access_key = Some(caller.access_key().shared());
        let parent = head.headers.get(TraceContext::HEADER);
        if let Some(trace) =
            parent.and_then(|value| TraceContext::from_traceparent(value.as_bytes()))
        {
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
            .map_err(|exceeded| limited(Limiter::Ceiling, Some(exceeded)))?;
        record.metrics().count(Decision::CeilingAllowed);
        self.guards.account = account.in_flight.try_acquire().map(InFlightPermit::Owned);
        if self.guards.account.is_none() {
            return Err(limited(Limiter::InFlight, None));
        }
        record.metrics().count(Decision::InFlightAllowed);
        account.count_admitted();
        Ok(())
    }

    /// The caller's place in flight, for a fetch.
    pub(super) fn share_permit(&mut self) -> Option<Arc<Permit>> {
        let shared = match self.guards.account.take()? {
            InFlightPermit::Owned(permit) => Arc::new(permit),
            InFlightPermit::Shared(permit) => permit,
        };
        self.guards.account = Some(InFlightPermit::Shared(shared.clone()));
        Some(shared)
    }

    /// Notes and counts what the cache did.
    pub(super) fn record_cache(&mut self, verdict: CacheStatus) {
        self.record.metrics().count(verdict);
        self.record.cache = Some(verdict);
    }

    /// What `upstream` needs to deliver a verified request; takes the fields out of its head.
    pub(super) fn upstream_request(
        &self,
        head: &mut Parts,
        call: VerifiedRequest,
    ) -> UpstreamRequest {
        let affinity = hash_key(&call);
        let authorization = if call.payload.is_changed() {
            Authorization::Resign(call.caller)
        } else {
            Authorization::PassThrough(Some(call.caller))
        };
        UpstreamRequest {
            endpoint: call.endpoint,
            cluster: call.cluster,
            body: call.payload.outgoing().clone(),
            hash_key: affinity,
            authorization,
            metadata: self.metadata(),
            target: path_and_query(head),
            method: head.method.clone(),
            headers: Arc::new(std::mem::take(&mut head.headers)),
        }
    }

    pub(super) fn metadata(&self) -> RequestMetadata {
        RequestMetadata {
            client_ip: self.record.client.to_canonical(),
            request_id: self.record.request_id.clone(),
            trace: self.record.trace,
        }
    }

    /// Notes which way a whole reply took.
    pub(super) fn record_upstream(
        &mut self,
        reply: Result<BufferedResponse, UpstreamError>,
    ) -> Result<BufferedResponse, Rejection> {
        match reply {
            Ok(reply) => {
                self.record_attempts(&reply.attempts);
                let json = reply.parsed.as_ref();
                self.record.result_code = json.and_then(|json| json.result_code.clone());
                self.warn_if_signature_refused(reply.status);
                Ok(reply)
            }
            Err(failure) => {
                self.record_attempts(&failure.attempts);
                Err(failure.into())
            }
        }
    }

    pub(super) fn record_attempts(&mut self, trail: &AttemptSummary) {
        self.record.node.clone_from(&trail.node);
        self.record.attempts = trail.count;
        self.record.upstream_time = Some(trail.elapsed);
    }

    /// A 401 to what the gateway verified: the node has another secret or another clock.
    pub(super) fn warn_if_signature_refused(&self, status: StatusCode) {
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
fn hash_key(call: &VerifiedRequest) -> u64 {
    // A fixed seed: all replicas of the gateway must come to the same node.
    let mut hasher = foldhash::fast::FixedState::with_seed(0).build_hasher();
    call.caller.access_key().hash(&mut hasher);
    call.payload.call_id().hash(&mut hasher);
    hasher.finish()
}

/// Path and query as they came. A head always has them: the listener refuses other targets.
pub(super) fn path_and_query(head: &Parts) -> PathAndQuery {
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
