//! The path of a request, stage by stage. [`Gateway::handle`] writes one record and makes one response;
//! `Gateway::process` lists the stages.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, header};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::auth::AuthError;
use crate::cache::singleflight::SingleFlight;
use crate::cache::{Cache, PurgeHandle, PurgeSet};
use crate::ccfs::{BodyKind, Payload, ResponseKind};
use crate::config::{Config, Validation};
use crate::limit::AddressRateLimiter;
use crate::message::{Authorization, UpstreamRequest, VerifiedRequest};
use crate::metrics::Shadow;
use crate::shared_store::{OrderOrigin, OrderRecord, Store};
use crate::telemetry::{RequestOrigin, RequestRecord, Sink};
use crate::upstream::Upstream;

mod account;
mod account_counts;
mod account_end;
mod authentication;
mod browser;
mod caller;
mod caller_authentication;
mod claims;
mod content_type;
mod context;
mod fallback_hint;
mod normalized_bodies;
mod playback;
mod recording;
mod rejection;
mod request_body;
mod request_log;
mod response;
mod routing;
mod shared_cache;
mod signature_doctor;
mod snapshot;

pub use account::Account;
pub use account_counts::AccountTotals;
pub use caller::{Caller, ListenerCallers};
pub use playback::PlaybackPolicy;
pub use recording::{NotFound, NotFoundCounts, NotFoundLog, WaitSettings, Waits};
pub use rejection::Rejection;
pub use request_body::BodyReadError;
pub use response::ResponseBody;
pub use routing::{ListenerPolicy, RouteMatch};
pub use signature_doctor::{LiveCase, Rounds, SignatureDoctor};
pub use snapshot::Snapshot;

use authentication::Admission;
use context::{Guards, RequestContext, path_and_query};
use normalized_bodies::NormalizedBodies;
use recording::FetchOutcome;
use response::GatewayResponse;

/// The state that all workers share.
#[derive(Debug)]
pub struct GatewayState {
    /// The current generation of everything configured; a reload replaces it.
    pub snapshot: ArcSwap<Snapshot>,
    /// Stored responses of the recording-URL interface.
    pub cache: Cache,
    /// Fetches in progress, one per cache key; each entry ends with its fetch.
    pub fetches: SingleFlight<FetchOutcome>,
    /// Rate limits by client address; a reload that changes the rate replaces them.
    pub address_limiter: ArcSwap<AddressRateLimiter>,
    /// Recordings that were not found lately, by access key.
    pub not_found: NotFoundLog,
    /// What failed verifications leave behind, for people.
    pub doctor: SignatureDoctor,
    /// Clients that wait for recordings.
    pub waits: Arc<Waits>,
    /// The store that all replicas share; `None` without `[shared]`.
    pub store: ArcSwapOption<Store>,
    /// Notified of each order that disables an access key, by [`GatewayState::end_waits`]: whatever waits on
    /// behalf of an account asks again whether it is usable.
    access_key_orders: Notify,
}

impl GatewayState {
    /// Creates the state of the first generation of a configuration, without a shared store.
    pub fn new(config: &Config) -> Self {
        let addresses = AddressRateLimiter::new(config.limits.per_address);
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::next(config, None)),
            cache: Cache::new(config.cache.max_size),
            fetches: SingleFlight::new(),
            address_limiter: ArcSwap::from_pointee(addresses),
            not_found: NotFoundLog::default(),
            doctor: SignatureDoctor::default(),
            waits: Arc::default(),
            store: ArcSwapOption::empty(),
            access_key_orders: Notify::new(),
        }
    }

    /// Applies an order of another replica, or one that was given before a reload.
    pub fn apply_order(&self, order: &OrderRecord, origin: OrderOrigin) {
        let snapshot = self.snapshot.load();
        if let Some(account) = snapshot.account(order.access_key.as_str()) {
            account.apply_order(order, origin);
            if order.is_disabled {
                self.end_waits(order.access_key.as_str());
            }
        }
    }

    /// Purges responses: cached ones are not served from now on, and no later request gets the response
    /// of a fetch that started before. [`Cache::sweep`] then removes the entries. Other replicas are not
    /// notified.
    pub fn begin_purge(&self, purges: PurgeSet) -> PurgeHandle {
        // Only by access key: a fetch too many is harmless, a stale response is not.
        let access_keys = purges.access_keys();
        let handle = self.cache.begin_purge(purges);
        self.fetches
            .forget(|key| access_keys.contains(key.access_key()));
        self.waits
            .forget(|key| access_keys.contains(key.access_key()));
        handle
    }
}

/// The gateway of one worker.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<GatewayState>,
    upstream: Arc<Upstream>,
    sink: Arc<Sink>,
    normalized: NormalizedBodies,
}

impl Gateway {
    /// Creates the gateway of a worker from the shared state, its own connections to nodes and its own
    /// telemetry sink.
    pub fn new(state: Arc<GatewayState>, upstream: Arc<Upstream>, sink: Sink) -> Self {
        Self {
            state,
            upstream,
            sink: Arc::new(sink),
            normalized: NormalizedBodies::default(),
        }
    }

    /// Answers one request. Exactly one record is written, also when this future is dropped because the
    /// client disconnected.
    ///
    /// The future is the memory that a request costs while it is in flight, and each one is a new
    /// allocation: 1.8 KiB, and 2.4 more for a fetch. So it holds the request once and the stages borrow
    /// it; stages that few requests reach are boxed.
    pub fn handle<B>(
        self: &Arc<Self>,
        origin: RequestOrigin,
        request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + use<B>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let gateway = self.clone();
        let mut context = self.begin_request(origin, Some(request.headers()));
        let (mut head, mut body) = request.into_parts();
        context.record.method = Some(head.method.clone());
        context.record.uri = Some(head.uri.clone());
        context.record.version = head.version;
        async move {
            let result = gateway.process(&mut head, &mut body, &mut context).await;
            // The listener discards the unread remainder of the body as soon as this is ready.
            drop(body);
            response::into_response(result, context)
        }
    }

    /// Makes the response to a head that the listener rejected.
    pub fn reject(&self, origin: RequestOrigin, rejection: &Rejection) -> Response<Bytes> {
        let mut context = self.begin_request(origin, None);
        if let Ok(policy) = context.snapshot.listener_policy(&context.listener) {
            context.record.route = policy.unrouted_label;
        }
        response::rejected_head_response(rejection, &mut context.record)
    }

    /// The stages, in order.
    async fn process<B>(
        self: &Arc<Self>,
        head: &mut Parts,
        incoming: &mut B,
        context: &mut RequestContext,
    ) -> Result<GatewayResponse, Rejection>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let snapshot = context.snapshot.clone();
        let policy = context.listener_policy(&snapshot, head)?;
        if let Some(playback) = policy.playback_of(head) {
            return Box::pin(self.play((&snapshot, playback), head, incoming, context)).await;
        }
        let route = context.route(policy, head)?;
        let (signer, account, body) =
            match self.authenticate(head, incoming, &route, context).await? {
                Admission::Verified {
                    signer,
                    account,
                    body,
                } => (signer, account, body),
                Admission::Unverified { body } => {
                    context.acquire_unverified_slot(&route)?;
                    return Box::pin(self.forward_unverified(context, head, body, &route)).await;
                }
            };
        context.acquire_slot()?;
        context.admit(&signer, &account, head, route.endpoint)?;
        if !snapshot.limits.hits_are_free {
            self.charge(context, &account, route.endpoint).await?;
        }
        context.check_interface(&route, head)?;
        let payer = context.payer(&account);
        let request = VerifiedRequest {
            payload: self.normalize(context, &route, (head, body), &account)?,
            signer,
            endpoint: route.endpoint,
            cluster: route.cluster.clone(),
            not_after: payer.not_after(),
        };
        let endpoint = request.endpoint;
        let response = if endpoint.response == ResponseKind::SignedUrl {
            account.count_recording(context.now);
            let mut response = self.recording(context, head, request, payer).await?;
            self.add_hint(context, &mut response);
            response
        } else {
            let forwarded = self.forward_verified(context, head, request, &account);
            match Box::pin(forwarded).await {
                // It may have been waiting for a node.
                Err(_) if payer.has_ended() => {
                    return Err(Rejection::Unauthenticated(AuthError::Disabled));
                }
                forwarded => forwarded?,
            }
        };
        context.record_given(endpoint, &response);
        Ok(response)
    }

    fn begin_request(&self, origin: RequestOrigin, headers: Option<&HeaderMap>) -> RequestContext {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one clock reading of a request"
        )]
        let now = Timestamp::now();
        let request_id = response::request_id(headers);
        let listener = origin.listener.clone();
        let mut record = RequestRecord::begin(self.sink.clone(), origin, now, request_id);
        record.user_agent = headers
            .and_then(|headers| headers.get(header::USER_AGENT))
            .cloned();
        let snapshot = self.state.snapshot.load_full();
        let buffered = snapshot.buffered.permit();
        RequestContext {
            now,
            listener,
            snapshot,
            record: Box::new(record),
            guards: Guards::new(buffered),
            remaining: None,
            wait_budget: None,
            caller: None,
            caller_way: None,
            is_link: false,
            is_sandboxed: false,
        }
    }

    /// Forwards byte-identically with the client's Host; the response is never cached.
    async fn forward_unverified(
        &self,
        context: &mut RequestContext,
        head: &mut Parts,
        body: Bytes,
        route: &RouteMatch<'_>,
    ) -> Result<GatewayResponse, Rejection> {
        let request = UpstreamRequest {
            endpoint: route.endpoint,
            cluster: route.cluster.clone(),
            hash_key: 0,
            body,
            authorization: Authorization::PassThrough(None),
            metadata: context.metadata(),
            target: path_and_query(head),
            method: head.method.clone(),
            headers: Arc::new(std::mem::take(&mut head.headers)),
            is_refresh: false,
            not_after: None,
        };
        self.forward(context, request).await
    }

    /// Charges the account unless it was charged before, then forwards. The response is never cached.
    async fn forward_verified(
        &self,
        context: &mut RequestContext,
        head: &mut Parts,
        request: VerifiedRequest,
        account: &Account,
    ) -> Result<GatewayResponse, Rejection> {
        if context.snapshot.limits.hits_are_free {
            self.charge(context, account, request.endpoint).await?;
        }
        let request = context.upstream_request(head, request);
        self.forward(context, request).await
    }

    /// Sends the request to a node and returns the node's response.
    async fn forward(
        &self,
        context: &mut RequestContext,
        request: UpstreamRequest,
    ) -> Result<GatewayResponse, Rejection> {
        let overall = request.cluster.settings().timeouts.overall;
        Ok(match request.endpoint.response {
            ResponseKind::Json | ResponseKind::SignedUrl => {
                let result = self.upstream.send_buffered(&request, overall).await;
                let mut response = context.record_upstream(result)?;
                let (attempts, parsed) = (&response.attempts, response.parsed.as_deref());
                fallback_hint::add_fallback(
                    &mut response.headers,
                    attempts,
                    response.status,
                    parsed,
                );
                GatewayResponse::buffered(response)
            }
            ResponseKind::File => {
                let result = self.upstream.send_streaming(&request, overall).await;
                let attempts = match &result {
                    Ok(response) => &response.attempts,
                    Err(error) => &error.attempts,
                };
                context.record_attempts(attempts);
                let mut response = result?;
                let attempts = &response.attempts;
                fallback_hint::add_fallback(&mut response.headers, attempts, response.status, None);
                context.warn_if_signature_refused(response.status);
                GatewayResponse::streaming(response)
            }
        })
    }

    /// Validates and normalizes a body according to the listener's `validation`.
    fn normalize(
        &self,
        context: &mut RequestContext,
        route: &RouteMatch<'_>,
        (head, body): (&Parts, Bytes),
        account: &Account,
    ) -> Result<Payload, Rejection> {
        let (endpoint, validation) = (route.endpoint, route.policy.validation);
        if endpoint.body == BodyKind::Opaque || validation == Validation::Off {
            return Ok(Payload::unparsed(body));
        }
        let checked = content_type::check_json(&head.headers)
            .map_err(Rejection::UnsupportedMediaType)
            .and_then(|()| {
                let normalized = self.normalized.normalize(endpoint, &body, &account.tenant);
                Ok(normalized?)
            });
        match &checked {
            Ok(payload) => context.record_payload(payload, account),
            Err(Rejection::InvalidRequest(invalid)) => context.record_invalid(invalid),
            Err(_) => {}
        }
        match checked {
            Err(rejection) if validation == Validation::Shadow => {
                context.record.metrics().count(Shadow::Forwarded);
                context.record.reason = Some(format!("shadow: {rejection}").into());
                tracing::info!(
                    access_key = context.record.access_key.as_deref(),
                    request_id = context.record.request_id.to_str().ok(),
                    %rejection,
                    "shadow validation forwarded an invalid request"
                );
                Ok(Payload::unparsed(body))
            }
            checked => checked,
        }
    }
}
