//! The recording-URL request after normalization: answered from the cache, from a fetch in progress, or
//! from a node. A fetch outlives its first client, is charged once, and its response is stored.

mod fetch;
mod hint;
mod not_found;
mod prefer;
mod wait;
mod waits;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::caller::Payer;
use super::context::wall_clock;
use super::response::GatewayResponse;
use super::{Account, Gateway, Rejection, RequestContext, fallback_hint};
use crate::auth::AuthError;
use crate::cache::singleflight::Role;
use crate::cache::{CacheHit, Freshness, InsertOutcome};
use crate::http_fields::{CACHE_STATUS, PREFER, is_conditional};
use crate::message::VerifiedRequest;
use crate::metrics::CacheStatus;
use crate::tick_timer::{TickTimer, TimedOut, within};
use fetch::Fetch;
pub(super) use fetch::FetchOutcome;
pub use not_found::{NotFound, NotFoundCounts, NotFoundLog};
pub use waits::{WaitSettings, Waits};

impl Gateway {
    /// Answers from the cache, joins a fetch, or starts one.
    pub(super) async fn recording(
        self: &Arc<Self>,
        context: &mut RequestContext,
        head: &mut Parts,
        mut request: VerifiedRequest,
        payer: Payer,
    ) -> Result<GatewayResponse, Rejection> {
        let key = request.cache_key().filter(|_| is_shareable(head, &request));
        let Some(key) = key else {
            return Box::pin(self.bypass_cache(context, head, request, &payer.account)).await;
        };
        let no_cache = has_no_cache(&head.headers);
        if !no_cache
            && let Some(hit) = self
                .state
                .cache
                .get(&key, &context.snapshot.rules, context.now)
            && hit.freshness == Freshness::Fresh
        {
            context.count_hit(&payer.account);
            if hit.entry.is_negative && head.headers.contains_key(PREFER) {
                let response = cached_response(context, &hit, None);
                let fetch = Fetch::for_request(context, head, request, key, None);
                return self.or_wait(context, Arc::new(fetch), response).await;
            }
            if hit.should_refresh(context.now) {
                self.refresh(Fetch::for_refresh(context, head, request, key));
            }
            return Ok(cached_response(context, &hit, None));
        }
        // Others may join the fetch: it ends with the account, and each of its requests with its own caller.
        request.not_after = payer.account.settings.validity.not_after;
        let charged = context.snapshot.limits.hits_are_free;
        let charged = charged.then(|| payer.clone());
        let mut fetch = Fetch::for_request(context, head, request, key, charged);
        fetch.no_cache = no_cache;
        let fetch = Arc::new(fetch);
        let response = match self.fetch_or_join(context, fetch.clone(), &payer).await {
            Ok(response) => self.or_wait(context, fetch, response).await,
            failed => failed,
        };
        if response.is_ok() && context.record.cache.is_some_and(CacheStatus::is_hit) {
            context.count_hit(&payer.account);
        }
        if payer.has_ended() {
            return Err(Rejection::Unauthenticated(AuthError::Disabled));
        }
        response
    }

    /// Waits for the outcome of a fetch, at most until `deadline`.
    ///
    /// # Errors
    /// The account or the caller ended meanwhile.
    async fn outcome_in_time(
        &self,
        role: &mut Role<FetchOutcome>,
        payer: &Payer,
        deadline: Instant,
    ) -> Result<Result<Option<FetchOutcome>, TimedOut>, Rejection> {
        if role.is_leader() {
            // Most fetches end before the next tick, and need not listen for orders.
            let soon = TickTimer::look(Instant::now(), deadline);
            if let Ok(outcome) = within(soon, role.outcome()).await {
                return Ok(Ok(outcome));
            }
        }
        tokio::select! {
            biased;
            outcome = within(TickTimer::at(deadline), role.outcome()) => Ok(outcome),
            () = self.state.ended(payer) => {
                Err(Rejection::Unauthenticated(AuthError::Disabled))
            }
        }
    }

    /// Waits for a fetch of the key, at most until the request's overall deadline.
    async fn fetch_or_join(
        self: &Arc<Self>,
        context: &mut RequestContext,
        fetch: Arc<Fetch>,
        payer: &Payer,
    ) -> Result<GatewayResponse, Rejection> {
        let key = &fetch.key;
        let overall = fetch.upstream_request.cluster.settings().timeouts.overall;
        let join = || {
            let fetches = &self.state.fetches;
            fetches.join(key, || self.clone().run_fetch(fetch.clone()))
        };

        // Wait as leader or follower.
        let mut role = join();
        let mut origin = FetchOrigin {
            no_cache: fetch.no_cache,
            is_leader: role.is_leader(),
        };
        let waiting = (!origin.is_leader).then(|| context.record.metrics().track_waiter());
        let started = Instant::now();
        let deadline = started + overall;
        let mut outcome = self.outcome_in_time(&mut role, payer, deadline).await?;
        while let Ok(Some(joined)) = &outcome
            && !fetch.accepts(joined, origin.is_leader)
        {
            role = join();
            origin.is_leader = role.is_leader();
            outcome = self.outcome_in_time(&mut role, payer, deadline).await?;
        }
        let mut outcome = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return Err(Rejection::Internal),
            Err(_) => FetchOutcome::timed_out(),
        };
        // An unfinished fetch continues without its leader.
        drop(role);
        if !origin.is_leader && !outcome.is_accepted_by(&fetch.upstream_request.headers) {
            // The leader requested a coding that this client does not accept.
            let own = Box::pin(self.clone().run_fetch(fetch.clone()));
            let own = within(TickTimer::at(deadline), own).await;
            outcome = own.unwrap_or_else(|_| FetchOutcome::timed_out());
            origin.is_leader = true;
        }
        if waiting.is_some() {
            context.record.wait_time = Some(started.elapsed());
        }
        drop(waiting);

        fetch.tell_charge(context);

        // A stale entry replaces an error of the nodes.
        if outcome.may_serve_stale() {
            context.now = wall_clock();
            let hit = self
                .state
                .cache
                .get(key, &context.snapshot.rules, context.now);
            if let Some(hit) = hit.filter(|hit| !hit.entry.is_negative) {
                if let Some(attempts) = outcome.attempts() {
                    context.record_attempts(attempts);
                }
                return Ok(cached_response(context, &hit, Some("stale-if-error")));
            }
        }
        fetch_completed(context, outcome, origin)
    }

    /// Forwards a request whose response is neither cached nor shared.
    async fn bypass_cache(
        &self,
        context: &mut RequestContext,
        head: &mut Parts,
        request: VerifiedRequest,
        account: &Account,
    ) -> Result<GatewayResponse, Rejection> {
        context.record_cache(CacheStatus::Bypass);
        let mut response = self
            .forward_verified(context, head, request, account)
            .await?;
        set_cache_headers(
            &mut response.headers,
            HeaderValue::from_static("ccfs-gateway; fwd=bypass"),
        );
        Ok(response)
    }

    /// Starts a refresh of an entry in the background; no client waits, no account is charged.
    fn refresh(self: &Arc<Self>, fetch: Fetch) {
        let fetch = Arc::new(fetch);
        let fetches = &self.state.fetches;
        let role = fetches.join(&fetch.key, || self.clone().run_fetch(fetch.clone()));
        // Dropping the leader moves the fetch to a spawned task.
        drop(role);
    }
}

/// Where the response of a fetch came from (for `Cache-Status` and the log).
#[derive(Clone, Copy)]
struct FetchOrigin {
    no_cache: bool,
    is_leader: bool,
}

/// Makes the response of a cache entry. `detail` replaces the detail of the entry in `Cache-Status`.
fn cached_response(
    context: &mut RequestContext,
    hit: &CacheHit,
    detail: Option<&'static str>,
) -> GatewayResponse {
    let entry = &hit.entry;
    let now = context.now;
    context.record_cache(match detail {
        Some(_) => CacheStatus::StaleIfError,
        None if entry.is_negative => CacheStatus::Negative,
        None => CacheStatus::Hit,
    });
    context.record.result_code = Some(entry.result_code.clone());
    let status = match detail.or(entry.is_negative.then_some("negative")) {
        Some(detail) => HeaderValue::try_from(format!("ccfs-gateway; hit; detail={detail}")),
        None => HeaderValue::try_from(hit_status(hit.ttl(now))),
    };
    let mut response = GatewayResponse::from_cached(
        StatusCode::OK,
        entry.content_type.clone(),
        entry.body.clone(),
    );
    response.headers.insert(header::AGE, hit.age(now).into());
    if let Ok(status) = status {
        set_cache_headers(&mut response.headers, status);
    }
    response
}

/// Returns the `Cache-Status` of a plain hit. Made without `fmt`, which took twice as long.
fn hit_status(ttl: i64) -> String {
    let mut status = String::with_capacity(48);
    status.push_str("ccfs-gateway; hit; ttl=");
    status.push_str(itoa::Buffer::new().format(ttl));
    status
}

/// Makes the response of a completed fetch, for its leader or for a follower.
fn fetch_completed(
    context: &mut RequestContext,
    outcome: FetchOutcome,
    origin: FetchOrigin,
) -> Result<GatewayResponse, Rejection> {
    let (response, inserted) = match outcome {
        FetchOutcome::Response(response, inserted) => (response, inserted),
        FetchOutcome::Cached(hit) => return Ok(cached_response(context, &hit, None)),
        FetchOutcome::RateLimited(limiter, exceeded) => {
            context.record.metrics().count(CacheStatus::Failed);
            return Err(Rejection::RateLimited {
                limiter,
                exceeded: Some(exceeded),
                code: "0300009",
            });
        }
        FetchOutcome::Failed(error) => {
            context.record.metrics().count(CacheStatus::Failed);
            context.record_attempts(&error.attempts);
            return Err(error.into());
        }
    };
    let (cache, status) = match (origin.no_cache, origin.is_leader, inserted) {
        (true, true, _) => (CacheStatus::NoCache, "ccfs-gateway; fwd=request"),
        (true, false, _) => (CacheStatus::NoCache, "ccfs-gateway; fwd=request; collapsed"),
        (false, false, _) => (
            CacheStatus::Collapsed,
            "ccfs-gateway; fwd=uri-miss; collapsed",
        ),
        (false, true, InsertOutcome::NotStored) => {
            (CacheStatus::Miss, "ccfs-gateway; fwd=uri-miss")
        }
        (false, true, InsertOutcome::StoredNegative | InsertOutcome::Stored) => {
            (CacheStatus::Stored, "ccfs-gateway; fwd=uri-miss; stored")
        }
    };
    context.record_cache(cache);
    let response = context.record_upstream(Ok(Arc::unwrap_or_clone(response)))?;
    let (attempts, node_status, parsed) = (
        response.attempts.clone(),
        response.status,
        response.parsed.clone(),
    );
    let mut response = if origin.is_leader {
        GatewayResponse::buffered(response)
    } else {
        GatewayResponse::shared(response)
    };
    fallback_hint::add_fallback(
        &mut response.headers,
        &attempts,
        node_status,
        parsed.as_deref(),
    );
    set_cache_headers(&mut response.headers, HeaderValue::from_static(status));
    Ok(response)
}

/// Whether another request may get the same response. Not with a query, nor where a signed field makes
/// the response partial or conditional (such fields reach a node only if they were signed).
fn is_shareable(head: &Parts, request: &VerifiedRequest) -> bool {
    let mut signed_names = request.signer.signed_names().split(';');
    head.uri.query().is_none_or(str::is_empty) && !signed_names.any(is_conditional)
}

/// Sets `Cache-Status`, and forbids any cache between gateway and client to store the response.
fn set_cache_headers(headers: &mut HeaderMap, status: HeaderValue) {
    headers.insert(CACHE_STATUS, status);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Whether the client asks for a response that is no older than its request (RFC 9111, 5.2.1.4).
fn has_no_cache(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
        })
    })
}
