//! The path of a request, stage by stage. [`Gateway::handle`] wraps the stages in one record and one
//! answer; `Gateway::answer` is the list of the stages themselves.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, header};
use jiff::Timestamp;

use crate::auth::{AuthError, Caller, Claim, Signable};
use crate::cache::Cache;
use crate::cache::singleflight::SingleFlight;
use crate::ccfs::{BodyKind, Endpoint, Payload, ResponseKind};
use crate::config::Validation;
use crate::limit::AddressRateLimiter;
use crate::message::{Authorization, UpstreamRequest, VerifiedRequest};
use crate::metrics::{AuthResult, Decision, Limiter, Shadow};
use crate::shared_store::Store;
use crate::telemetry::{RequestOrigin, RequestRecord, Sink};
use crate::upstream::Upstream;

mod content_type;
mod context;
mod recording;
mod rejection;
mod request_body;
mod response;
mod shared_cache;
mod snapshot;

pub use rejection::{ErrorResponse as ErrorAnswer, Rejection};
pub use request_body::BodyReadError;
pub use response::ResponseBody;
pub use snapshot::{Account, ListenerPolicy, RouteMatch, Snapshot};

use context::{Guards, RequestContext, path_and_query};
use recording::FetchOutcome;
use response::GatewayResponse;

/// What all workers share: the current snapshot, the cache, what is being fetched, budgets of
/// addresses.
#[derive(Debug)]
pub struct GatewayState {
    /// The current generation.
    pub snapshot: ArcSwap<Snapshot>,
    /// Answers.
    pub cache: Cache,
    /// Fetches in the air.
    pub fetches: SingleFlight<FetchOutcome>,
    /// Budgets of client addresses.
    pub address_limiter: ArcSwap<AddressRateLimiter>,
    /// The store that replicas share, if there is one.
    pub store: ArcSwapOption<Store>,
}

/// One worker's gateway.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<GatewayState>,
    upstream: Arc<Upstream>,
    sink: Sink,
}

impl Gateway {
    /// A gateway over what all share, with connections and counters of its own.
    pub fn new(shared: Arc<GatewayState>, upstream: Arc<Upstream>, sink: Sink) -> Self {
        Self {
            state: shared,
            upstream,
            sink,
        }
    }

    /// Answers one request. Whatever becomes of it, one record is written, also when this future is
    /// dropped because the client left.
    ///
    /// The future is what a request costs in memory while it is under way, and every one is allocated
    /// anew: 1.8 KiB, and 2.4 more for a fetch. So it keeps the request in one place, which the stages
    /// borrow, and what few requests come by has a box of its own.
    pub fn handle<B>(
        self: &Arc<Self>,
        origin: RequestOrigin,
        request: Request<B>,
    ) -> impl Future<Output = Response<ResponseBody>> + use<B>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let gateway = self.clone();
        let mut exchange = self.begin_request(origin, Some(request.headers()));
        let (mut head, mut body) = request.into_parts();
        exchange.record.method = Some(head.method.clone());
        exchange.record.uri = Some(head.uri.clone());
        exchange.record.version = head.version;
        async move {
            let answered = gateway.process(&mut head, &mut body, &mut exchange).await;
            // The listener looks at what is left of it as soon as this is ready.
            drop(body);
            response::into_response(answered, exchange)
        }
    }

    /// The answer to a head that the listener refused.
    pub fn reject(&self, origin: RequestOrigin, rejection: &Rejection) -> Response<Bytes> {
        let mut exchange = self.begin_request(origin, None);
        if let Ok(front) = exchange.snapshot.listener_policy(&exchange.record.listener) {
            exchange.record.route = front.unrouted_label;
        }
        response::rejected_head_response(rejection, &mut exchange.record)
    }

    /// The stages, in order. What depends on our keys comes after the body is read, so that from
    /// outside an unknown ak and a wrong signature take the same way.
    async fn process<B>(
        self: &Arc<Self>,
        head: &mut Parts,
        incoming: &mut B,
        exchange: &mut RequestContext,
    ) -> Result<GatewayResponse, Rejection>
    where
        B: http_body::Body<Data = Bytes, Error = BodyReadError> + Unpin,
    {
        let snapshot = exchange.snapshot.clone();
        let front = snapshot.listener_policy(&exchange.record.listener)?;
        exchange.record.route = front.unrouted_label;
        let aim = front.route(head)?;
        exchange.record.route = aim.label;
        let endpoint = aim.endpoint;
        exchange.record.interface = (!endpoint.is_unlisted()).then_some(endpoint.name);
        exchange.record.cluster = Some(aim.cluster.settings().name.clone());

        let intake = request_body::Limits::new(&snapshot.limits, endpoint);
        intake.check_content_length(incoming)?;
        if !endpoint.authenticated && !head.headers.contains_key(header::AUTHORIZATION) {
            self.charge_address(exchange, endpoint)?;
            let body = intake.read(incoming, exchange).await?;
            exchange.acquire_unverified_slot(&aim)?;
            return Box::pin(self.forward_unverified(exchange, head, body, &aim)).await;
        }
        let claim = Claim::parse(&head.headers, exchange.now, snapshot.clock_window);
        if let Err(error) = &claim
            && !aim.may_forward_unverified(error)
        {
            return Err(self.authentication_failed(error, exchange, endpoint));
        }
        let body = intake.read(incoming, exchange).await?;
        let verified = claim.and_then(|claim| verify(&claim, head, &body, &snapshot));
        let (caller, account) = match verified {
            Ok(both) => both,
            Err(error) if aim.forwards_unverified(&error, head, &snapshot) => {
                exchange.record.metrics().count(AuthResult::Forwarded);
                self.charge_address(exchange, endpoint)?;
                exchange.acquire_unverified_slot(&aim)?;
                return Box::pin(self.forward_unverified(exchange, head, body, &aim)).await;
            }
            Err(error) => return Err(self.authentication_failed(&error, exchange, endpoint)),
        };
        exchange.acquire_slot()?;
        exchange.admit(&caller, &account, head, endpoint)?;

        if !snapshot.limits.hits_are_free {
            self.charge(exchange, &account, endpoint).await?;
        }
        let payload = normalize(exchange, &aim, head, body, &account)?;
        exchange.record.call_id = payload.owned_call_id();
        let call = VerifiedRequest {
            caller,
            endpoint,
            payload,
            cluster: aim.cluster.clone(),
        };
        if endpoint.response == ResponseKind::SignedUrl {
            return self.recording(exchange, head, call, account).await;
        }
        if snapshot.limits.hits_are_free {
            self.charge(exchange, &account, endpoint).await?;
        }
        let delivery = exchange.upstream_request(head, call);
        Box::pin(self.forward(exchange, delivery)).await
    }

    fn begin_request(
        &self,
        origin: RequestOrigin,
        headers: Option<&http::HeaderMap>,
    ) -> RequestContext {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one clock reading of a request"
        )]
        let now = Timestamp::now();
        let request_id = response::request_id(headers);
        let mut record = RequestRecord::begin(self.sink.clone(), origin, now, request_id);
        record.user_agent = headers
            .and_then(|fields| fields.get(header::USER_AGENT))
            .cloned();
        let snapshot = self.state.snapshot.load_full();
        let buffered = snapshot.buffered.permit();
        RequestContext {
            now,
            snapshot,
            record: Box::new(record),
            guards: Guards::new(buffered),
            wait_budget: None,
        }
    }

    /// Charges the address for a failure: 401 while its budget lasts, then 429.
    fn authentication_failed(
        &self,
        error: &AuthError,
        exchange: &RequestContext,
        endpoint: &Endpoint,
    ) -> Rejection {
        exchange.record.metrics().count(auth_label(error));
        match self.charge_address(exchange, endpoint) {
            Ok(()) => Rejection::Unauthenticated(error.clone()),
            Err(limited) => limited,
        }
    }

    fn charge_address(
        &self,
        exchange: &RequestContext,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        self.state
            .address_limiter
            .load()
            .try_acquire(exchange.record.client)
            .inspect(|()| exchange.record.metrics().count(Decision::AddressAllowed))
            .map_err(|exceeded| Rejection::RateLimited {
                limiter: Limiter::Address,
                exceeded: Some(exceeded),
                code: endpoint.flow_control_code,
            })
    }

    /// Byte-identical, original Host, never cached, never rewritten.
    async fn forward_unverified(
        &self,
        exchange: &mut RequestContext,
        head: &mut Parts,
        body: Bytes,
        aim: &RouteMatch<'_>,
    ) -> Result<GatewayResponse, Rejection> {
        let delivery = UpstreamRequest {
            endpoint: aim.endpoint,
            cluster: aim.cluster.clone(),
            hash_key: 0,
            body,
            authorization: Authorization::PassThrough(None),
            metadata: exchange.metadata(),
            target: path_and_query(head),
            method: head.method.clone(),
            headers: Arc::new(std::mem::take(&mut head.headers)),
        };
        self.forward(exchange, delivery).await
    }

    /// To a node, and back as it comes.
    async fn forward(
        &self,
        exchange: &mut RequestContext,
        delivery: UpstreamRequest,
    ) -> Result<GatewayResponse, Rejection> {
        let overall = delivery.cluster.settings().timeouts.overall;
        Ok(match delivery.endpoint.response {
            ResponseKind::Json | ResponseKind::SignedUrl => {
                let reply = self.upstream.send_buffered(&delivery, overall).await;
                GatewayResponse::buffered(exchange.record_upstream(reply)?)
            }
            ResponseKind::File => {
                let reply = self.upstream.send_streaming(&delivery, overall).await;
                exchange
                    .record_attempts(reply.as_ref().map_or_else(|f| &f.attempts, |r| &r.attempts));
                let reply = reply?;
                exchange.warn_if_signature_refused(reply.status);
                GatewayResponse::streaming(reply)
            }
        })
    }
}

/// Computes with the ak's secrets, or with a dummy of the same cost.
fn verify(
    claim: &Claim<'_>,
    head: &Parts,
    body: &Bytes,
    snapshot: &Snapshot,
) -> Result<(Caller, Arc<Account>), AuthError> {
    let account = snapshot.account(claim.access_key());
    let request = Signable {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        body,
    };
    let caller = claim.verify(account.map(|account| &account.credential), &request)?;
    // Nobody verifies without an account.
    let account = account.ok_or(AuthError::UnknownKey)?;
    Ok((caller, account.clone()))
}

/// Checks and normalizes a body as far as the listener's policy looks at it.
fn normalize(
    exchange: &mut RequestContext,
    aim: &RouteMatch<'_>,
    head: &Parts,
    body: Bytes,
    account: &Account,
) -> Result<Payload, Rejection> {
    let (endpoint, validation) = (aim.endpoint, aim.policy.validation);
    if endpoint.body == BodyKind::Opaque || validation == Validation::Off {
        return Ok(Payload::unparsed(body));
    }
    let checked = content_type::check_json(&head.headers)
        .map_err(Rejection::UnsupportedMediaType)
        .and_then(|()| Ok(endpoint.normalize(&body, &account.tenant)?));
    match checked {
        Err(rejection) if validation == Validation::Shadow => {
            exchange.record.metrics().count(Shadow::Forwarded);
            exchange.record.reason = Some(format!("shadow: {rejection}").into());
            tracing::info!(
                access_key = exchange.record.access_key.as_deref(),
                request_id = exchange.record.request_id.to_str().ok(),
                %rejection,
                "shadow mode let an invalid request through"
            );
            Ok(Payload::unparsed(body))
        }
        checked => checked,
    }
}

fn auth_label(error: &AuthError) -> AuthResult {
    match error {
        AuthError::Disabled => AuthResult::Disabled,
        AuthError::Missing => AuthResult::Missing,
        AuthError::OtherScheme => AuthResult::OtherScheme,
        AuthError::Stale(_) => AuthResult::Stale,
        AuthError::UnknownKey => AuthResult::UnknownKey,
        AuthError::WrongSignature => AuthResult::WrongSignature,
        AuthError::SignedFieldMissing(_)
        | AuthError::Malformed(_)
        | AuthError::RepeatedAuthorization
        | AuthError::RepeatedQueryKey => AuthResult::Malformed,
    }
}
