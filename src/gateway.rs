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
use crate::cache::singleflight::Flights;
use crate::ccfs::{Answer, Body, Endpoint, Payload};
use crate::config::Validation;
use crate::limit::Addresses;
use crate::message::{Authorization, Call, Delivery};
use crate::metrics::{Auth, Decision, Limited, Shadow};
use crate::shared_store::Store;
use crate::telemetry::{Origin, Record, Sink};
use crate::upstream::Upstream;

mod content_type;
mod context;
mod recording;
mod rejection;
mod request_body;
mod response;
mod shared_cache;
mod snapshot;

pub use rejection::{Answer as ErrorAnswer, Rejection};
pub use request_body::ReadError;
pub use response::ReplyBody;
pub use snapshot::{Account, Aim, Front, Snapshot};

use context::{Exchange, Guards, target};
use recording::Fetched;
use response::Reply;

/// What all workers share: the current snapshot, the cache, what is being fetched, budgets of
/// addresses.
#[derive(Debug)]
pub struct Shared {
    /// The current generation.
    pub snapshot: ArcSwap<Snapshot>,
    /// Answers.
    pub cache: Cache,
    /// Fetches in the air.
    pub flights: Flights<Fetched>,
    /// Budgets of client addresses.
    pub addresses: ArcSwap<Addresses>,
    /// The store that replicas share, if there is one.
    pub store: ArcSwapOption<Store>,
}

/// One worker's gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    upstream: Arc<Upstream>,
    sink: Sink,
}

impl Gateway {
    /// A gateway over what all share, with connections and counters of its own.
    pub fn new(shared: Arc<Shared>, upstream: Arc<Upstream>, sink: Sink) -> Self {
        Self {
            shared,
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
        origin: Origin,
        request: Request<B>,
    ) -> impl Future<Output = Response<ReplyBody>> + use<B>
    where
        B: http_body::Body<Data = Bytes, Error = ReadError> + Unpin,
    {
        let gateway = self.clone();
        let mut exchange = self.begin(origin, Some(request.headers()));
        let (mut head, mut body) = request.into_parts();
        exchange.record.method = Some(head.method.clone());
        exchange.record.uri = Some(head.uri.clone());
        exchange.record.version = head.version;
        async move {
            let answered = gateway.answer(&mut head, &mut body, &mut exchange).await;
            // The listener looks at what is left of it as soon as this is ready.
            drop(body);
            response::finish(answered, exchange)
        }
    }

    /// The answer to a head that the listener refused.
    pub fn refuse(&self, origin: Origin, rejection: &Rejection) -> Response<Bytes> {
        let mut exchange = self.begin(origin, None);
        if let Ok(front) = exchange.snapshot.front(&exchange.record.listener) {
            exchange.record.route = front.unrouted;
        }
        response::refusal(rejection, &mut exchange.record)
    }

    /// The stages, in order. What depends on our keys comes after the body is read, so that from
    /// outside an unknown ak and a wrong signature take the same way.
    async fn answer<B>(
        self: &Arc<Self>,
        head: &mut Parts,
        incoming: &mut B,
        exchange: &mut Exchange,
    ) -> Result<Reply, Rejection>
    where
        B: http_body::Body<Data = Bytes, Error = ReadError> + Unpin,
    {
        let snapshot = exchange.snapshot.clone();
        let front = snapshot.front(&exchange.record.listener)?;
        exchange.record.route = front.unrouted;
        let aim = front.aim(head)?;
        exchange.record.route = aim.route;
        let endpoint = aim.endpoint;
        exchange.record.interface = (!endpoint.is_unlisted()).then_some(endpoint.name);
        exchange.record.cluster = Some(aim.cluster.settings().name.clone());

        let intake = request_body::Limits::of(&snapshot.limits, endpoint);
        intake.announced(incoming)?;
        if !endpoint.authenticated && !head.headers.contains_key(header::AUTHORIZATION) {
            self.charge_address(exchange, endpoint)?;
            let body = intake.read(incoming, exchange).await?;
            exchange.enter_unverified(&aim)?;
            return Box::pin(self.deliver_stranger(exchange, head, body, &aim)).await;
        }
        let claim = Claim::read(&head.headers, exchange.now, snapshot.clock_window);
        if let Err(error) = &claim
            && !aim.hears_out(error)
        {
            return Err(self.refused(error, exchange, endpoint));
        }
        let body = intake.read(incoming, exchange).await?;
        let verified = claim.and_then(|claim| verify(&claim, head, &body, &snapshot));
        let (caller, account) = match verified {
            Ok(both) => both,
            Err(error) if aim.forwards(&error, head, &snapshot) => {
                exchange.record.metrics().count(Auth::Forwarded);
                self.charge_address(exchange, endpoint)?;
                exchange.enter_unverified(&aim)?;
                return Box::pin(self.deliver_stranger(exchange, head, body, &aim)).await;
            }
            Err(error) => return Err(self.refused(&error, exchange, endpoint)),
        };
        exchange.enter()?;
        exchange.admit(&caller, &account, head, endpoint)?;

        if !snapshot.limits.hits_are_free {
            self.charge(exchange, &account, endpoint).await?;
        }
        let payload = normalize(exchange, &aim, head, body, &account)?;
        exchange.record.call_id = payload.owned_call_id();
        let call = Call {
            caller,
            endpoint,
            payload,
            cluster: aim.cluster.clone(),
        };
        if endpoint.answer == Answer::SignedUrl {
            return self.recording(exchange, head, call, account).await;
        }
        if snapshot.limits.hits_are_free {
            self.charge(exchange, &account, endpoint).await?;
        }
        let delivery = exchange.delivery(head, call);
        Box::pin(self.deliver(exchange, delivery)).await
    }

    fn begin(&self, origin: Origin, headers: Option<&http::HeaderMap>) -> Exchange {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one clock reading of a request"
        )]
        let now = Timestamp::now();
        let request_id = response::request_id(headers);
        let mut record = Record::begin(self.sink.clone(), origin, now, request_id);
        record.user_agent = headers
            .and_then(|fields| fields.get(header::USER_AGENT))
            .cloned();
        let snapshot = self.shared.snapshot.load_full();
        let buffered = snapshot.buffered.begin();
        Exchange {
            now,
            snapshot,
            record: Box::new(record),
            guards: Guards::new(buffered),
            patience: None,
        }
    }

    /// Charges the address for a failure: 401 while its budget lasts, then 429.
    fn refused(&self, error: &AuthError, exchange: &Exchange, endpoint: &Endpoint) -> Rejection {
        exchange.record.metrics().count(counted(error));
        match self.charge_address(exchange, endpoint) {
            Ok(()) => Rejection::Unauthenticated(error.clone()),
            Err(limited) => limited,
        }
    }

    fn charge_address(&self, exchange: &Exchange, endpoint: &Endpoint) -> Result<(), Rejection> {
        self.shared
            .addresses
            .load()
            .charge(exchange.record.client)
            .inspect(|()| exchange.record.metrics().count(Decision::AddressAllowed))
            .map_err(|exceeded| Rejection::RateLimited {
                limiter: Limited::Address,
                exceeded: Some(exceeded),
                code: endpoint.flow_control_code,
            })
    }

    /// Byte-identical, original Host, never cached, never rewritten.
    async fn deliver_stranger(
        &self,
        exchange: &mut Exchange,
        head: &mut Parts,
        body: Bytes,
        aim: &Aim<'_>,
    ) -> Result<Reply, Rejection> {
        let delivery = Delivery {
            endpoint: aim.endpoint,
            cluster: aim.cluster.clone(),
            affinity: 0,
            body,
            authorization: Authorization::Kept(None),
            context: exchange.context(),
            target: target(head),
            method: head.method.clone(),
            headers: Arc::new(std::mem::take(&mut head.headers)),
        };
        self.deliver(exchange, delivery).await
    }

    /// To a node, and back as it comes.
    async fn deliver(
        &self,
        exchange: &mut Exchange,
        delivery: Delivery,
    ) -> Result<Reply, Rejection> {
        let overall = delivery.cluster.settings().timeouts.overall;
        Ok(match delivery.endpoint.answer {
            Answer::Json | Answer::SignedUrl => {
                let reply = self.upstream.whole(&delivery, overall).await;
                Reply::whole(exchange.trail(reply)?)
            }
            Answer::File => {
                let reply = self.upstream.stream(&delivery, overall).await;
                exchange.followed(reply.as_ref().map_or_else(|f| &f.trail, |r| &r.trail));
                let reply = reply?;
                exchange.suspicious(reply.status);
                Reply::stream(reply)
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
    exchange: &mut Exchange,
    aim: &Aim<'_>,
    head: &Parts,
    body: Bytes,
    account: &Account,
) -> Result<Payload, Rejection> {
    let (endpoint, validation) = (aim.endpoint, aim.front.validation);
    if endpoint.body == Body::Opaque || validation == Validation::Off {
        return Ok(Payload::untouched(body));
    }
    let checked = content_type::check(&head.headers)
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
            Ok(Payload::untouched(body))
        }
        checked => checked,
    }
}

fn counted(error: &AuthError) -> Auth {
    match error {
        AuthError::Disabled => Auth::Disabled,
        AuthError::Missing => Auth::Missing,
        AuthError::OtherScheme => Auth::OtherScheme,
        AuthError::Stale(_) => Auth::Stale,
        AuthError::UnknownKey => Auth::UnknownKey,
        AuthError::WrongSignature => Auth::WrongSignature,
        AuthError::FieldNotSent(_)
        | AuthError::Malformed(_)
        | AuthError::Repeated
        | AuthError::RepeatedQueryKey => Auth::Malformed,
    }
}
