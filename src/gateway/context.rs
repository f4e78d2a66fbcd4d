//! The context of one request: its properties, its permits, and its charges to the limits.

mod admission;

use std::sync::Arc;

use compact_str::CompactString;
use http::StatusCode;
use http::request::Parts;
use http::uri::PathAndQuery;
use jiff::Timestamp;

use super::caller::{Caller, Charged};
use super::caller_authentication::fields_made_anew;
use super::{ListenerPolicy, Rejection, RouteMatch, Snapshot};
use crate::cluster::stable_hash;
use crate::limit::{BytePermit, Permit};
use crate::message::{
    AttemptSummary, Authorization, BufferedResponse, RequestMetadata, UpstreamError,
    UpstreamRequest, VerifiedRequest,
};
use crate::metrics::{CacheStatus, CallerWay, ShedReason};
use crate::shared_store::WaitBudget;
use crate::telemetry::RequestRecord;

/// The state of one request, from its head to the end of its response.
#[derive(Debug)]
pub(super) struct RequestContext {
    /// When the request arrived. Updated only after a wait that makes it stale.
    pub(super) now: Timestamp,
    /// Name of the listener.
    pub(super) listener: Arc<str>,
    /// The configuration in force when the request arrived.
    pub(super) snapshot: Arc<Snapshot>,
    /// The values for the access log, the metrics and the trace.
    pub(super) record: Box<RequestRecord>,
    pub(super) guards: Guards,
    /// What is left of the rate limit that the request was charged to; `None` if it was not charged.
    pub(super) remaining: Option<Charged>,
    /// Remaining wait for the shared store; `None` before its first query.
    pub(super) wait_budget: Option<WaitBudget>,
    /// The caller without a secret key on whose behalf the gateway signs; `None` if the client signed itself.
    pub(super) caller: Option<Arc<Caller>>,
    /// How the caller was identified, also one that may not make the request.
    pub(super) caller_way: Option<CallerWay>,
    /// Whether the request opens a link that plays, or asks for a ticket for one.
    pub(super) is_link: bool,
    /// Whether a browser can open the response by its address alone, on a listener where its certificate may identify
    /// a caller.
    pub(super) is_sandboxed: bool,
}

/// The permits of a request. A streaming response holds them until its end.
#[derive(Debug)]
pub(super) struct Guards {
    pub(super) gateway: Option<Permit>,
    pub(super) account: Option<InFlightPermit>,
    pub(super) caller: Option<Arc<Permit>>,
    pub(super) unverified: Option<Permit>,
    pub(super) buffered: BytePermit,
}

/// An in-flight permit of an account. Shared with a fetch that outlives the request, because that fetch
/// still counts against the account.
#[derive(Debug)]
pub(super) enum InFlightPermit {
    /// Held only by the request; needs no allocation, and most requests start no fetch.
    Owned(Permit),
    /// Held by a fetch too.
    Shared(Arc<Permit>),
}

impl Guards {
    pub(super) fn new(buffered: BytePermit) -> Self {
        Self {
            gateway: None,
            account: None,
            caller: None,
            unverified: None,
            buffered,
        }
    }
}

impl RequestContext {
    /// Returns the policy of the listener. Rejects a request that this process has forwarded before.
    pub(super) fn listener_policy<'a>(
        &mut self,
        snapshot: &'a Snapshot,
        head: &Parts,
    ) -> Result<&'a ListenerPolicy, Rejection> {
        let policy = snapshot.listener_policy(&self.listener)?;
        self.record.route = policy.unrouted_label;
        if snapshot.via.is_in(&head.headers) {
            return Err(Rejection::LoopDetected);
        }
        Ok(policy)
    }

    /// Routes the request and records cluster and interface.
    pub(super) fn route<'a>(
        &mut self,
        policy: &'a ListenerPolicy,
        head: &Parts,
    ) -> Result<RouteMatch<'a>, Rejection> {
        let route = policy.route(head)?;
        self.record_route(&route);
        self.is_sandboxed = !route.endpoint.authenticated && policy.has_certificates();
        Ok(route)
    }

    /// Records cluster and interface.
    pub(super) fn record_route(&mut self, route: &RouteMatch<'_>) {
        self.record.route = route.label;
        let endpoint = route.endpoint;
        self.record.interface = (!endpoint.is_unlisted()).then_some(endpoint.name);
        self.record.cluster = Some(route.cluster.settings().name.clone());
    }

    /// Takes a slot of the whole gateway. Called only for requests that will be delivered (verified, or
    /// forwarded unverified), so that rejected traffic cannot exhaust it.
    pub(super) fn acquire_slot(&mut self) -> Result<(), Rejection> {
        self.guards.gateway = self.snapshot.in_flight.try_acquire();
        if self.guards.gateway.is_some() {
            Ok(())
        } else {
            Err(Rejection::Overloaded(ShedReason::InFlight))
        }
    }

    /// Takes a slot for an unverified request: one of the cluster's share for these, then one of the
    /// whole gateway.
    pub(super) fn acquire_unverified_slot(
        &mut self,
        route: &RouteMatch<'_>,
    ) -> Result<(), Rejection> {
        self.guards.unverified = route.unverified_slots.try_acquire();
        if self.guards.unverified.is_none() {
            return Err(Rejection::Overloaded(ShedReason::InFlight));
        }
        self.acquire_slot()
    }

    /// Returns the account's in-flight permit for a fetch to hold as well.
    pub(super) fn share_permit(&mut self) -> Option<Arc<Permit>> {
        let shared = match self.guards.account.take()? {
            InFlightPermit::Owned(permit) => Arc::new(permit),
            InFlightPermit::Shared(permit) => permit,
        };
        self.guards.account = Some(InFlightPermit::Shared(shared.clone()));
        Some(shared)
    }

    /// Records and counts the cache status.
    pub(super) fn record_cache(&mut self, status: CacheStatus) {
        self.record.metrics().count(status);
        self.record.cache = Some(status);
    }

    /// Returns what `upstream` needs to deliver a verified request; takes the headers out of its head.
    pub(super) fn upstream_request(
        &self,
        head: &mut Parts,
        request: VerifiedRequest,
    ) -> UpstreamRequest {
        let hash_key = hash_key(
            request.signer.access_key().as_str(),
            request.payload.call_id(),
        );
        let is_on_behalf = request.signer.is_on_behalf();
        let headers = if is_on_behalf {
            fields_made_anew(&head.method, &head.headers)
        } else {
            std::mem::take(&mut head.headers)
        };
        let authorization = if is_on_behalf || request.payload.is_changed() {
            Authorization::Resign(request.signer)
        } else {
            Authorization::PassThrough(Some(request.signer))
        };
        UpstreamRequest {
            endpoint: request.endpoint,
            cluster: request.cluster,
            body: request.payload.outgoing().clone(),
            hash_key,
            authorization,
            metadata: self.metadata(),
            target: path_and_query(head),
            method: head.method.clone(),
            headers: Arc::new(headers),
            is_refresh: false,
            not_after: request.not_after,
        }
    }

    pub(super) fn metadata(&self) -> RequestMetadata {
        RequestMetadata {
            client_ip: self.record.client.to_canonical(),
            request_id: self.record.request_id.clone(),
            trace: self.record.trace,
            via: self.snapshot.via.element().clone(),
        }
    }

    /// Records the attempts and the result code of a buffered response.
    pub(super) fn record_upstream(
        &mut self,
        result: Result<BufferedResponse, UpstreamError>,
    ) -> Result<BufferedResponse, Rejection> {
        match result {
            Ok(response) => {
                self.record_attempts(&response.attempts);
                let parsed = response.parsed.as_ref();
                self.record.result_code = parsed.and_then(|parsed| parsed.result_code.clone());
                self.warn_if_signature_refused(response.status);
                Ok(response)
            }
            Err(error) => {
                self.record_attempts(&error.attempts);
                Err(error.into())
            }
        }
    }

    pub(super) fn record_attempts(&mut self, attempts: &AttemptSummary) {
        self.record.node.clone_from(&attempts.node);
        self.record.attempts = attempts.count;
        if let Some(fallback) = &attempts.fallback {
            self.record.cluster = Some(fallback.clone());
            self.record.is_fallback = true;
        }
        self.record.upstream_time = Some(attempts.elapsed);
        self.record.queue_time = Some(attempts.queued).filter(|queued| !queued.is_zero());
    }

    /// Logs a 401 from a node to a request that the gateway verified.
    pub(super) fn warn_if_signature_refused(&self, status: StatusCode) {
        if status == StatusCode::UNAUTHORIZED && self.record.access_key.is_some() {
            tracing::warn!(
                access_key = self.record.access_key.as_deref(),
                node = self.record.node.as_deref(),
                "a node refused a signature that the gateway verified: its secret or its clock differs"
            );
        }
    }
}

/// Returns the consistent-hash key of access key and callId. It is the same in every replica and version of
/// the gateway, so that all of them choose the same node.
fn hash_key(access_key: &str, call_id: Option<&str>) -> u64 {
    let mut text = CompactString::from(access_key);
    if let Some(call_id) = call_id {
        // An access key holds no slash, so that no two pairs have the same text.
        text.push('/');
        text.push_str(call_id);
    }
    stable_hash(text.as_bytes())
}

/// Returns path and query as received. A head always has them: the listener rejects other targets.
pub(super) fn path_and_query(head: &Parts) -> PathAndQuery {
    let slash = || PathAndQuery::from_static("/");
    head.uri.path_and_query().cloned().unwrap_or_else(slash)
}

/// Reads the clock, where time has passed since [`RequestContext::now`].
#[expect(
    clippy::disallowed_methods,
    reason = "time has passed since the request began"
)]
pub(super) fn wall_clock() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_key_never_changes() {
        let key = |call_id| hash_key("279a08bbd8d949a0", call_id);
        assert_eq!(key(Some("1637742303-1")), 0xe66e_112b_2bd6_b5d0);
        assert_eq!(key(None), 0x3b49_daec_c3f5_bbe3);
    }
}
