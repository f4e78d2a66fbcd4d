//! The recording-URL request behind the waist: from the cache, from a fetch that is under way, or
//! from a node. A fetch belongs to nobody: it survives its first client, is charged once, and what it
//! brings is stored for whoever comes next.

mod fetch;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::{Instant, timeout_at};

use super::context::wall_clock;
use super::response::GatewayResponse;
use super::{Account, Gateway, Rejection, RequestContext};
use crate::cache::{CacheHit, Freshness, InsertOutcome};
use crate::http_fields::is_conditional;
use crate::message::{AttemptSummary, UpstreamError, UpstreamErrorKind, VerifiedRequest};
use crate::metrics::{CacheStatus, RequestOutcome};
use fetch::Fetch;
pub(super) use fetch::FetchOutcome;

impl Gateway {
    /// Answers from the cache, joins a fetch, or starts one.
    pub(super) async fn recording(
        self: &Arc<Self>,
        exchange: &mut RequestContext,
        head: &mut Parts,
        call: VerifiedRequest,
        account: Arc<Account>,
    ) -> Result<GatewayResponse, Rejection> {
        let key = call.cache_key().filter(|_| is_shareable(head));
        let Some(key) = key else {
            return Box::pin(self.bypass_cache(exchange, head, call, &account)).await;
        };
        let no_cache = has_no_cache(&head.headers);
        if !no_cache
            && let Some(held) = self.state.cache.get(&key, exchange.now)
            && held.freshness == Freshness::Fresh
        {
            if held.entry.should_refresh(exchange.now) {
                self.refresh(Fetch::for_refresh(exchange, head, call, key));
            }
            return Ok(hit(exchange, &held, None));
        }
        let charged = exchange.snapshot.limits.hits_are_free.then_some(account);
        let mut fetch = Fetch::for_request(exchange, head, call, key, charged);
        fetch.no_cache = no_cache;
        self.fetch_or_join(exchange, Arc::new(fetch)).await
    }

    /// Waits for a fetch, at most as long as a client waits.
    async fn fetch_or_join(
        self: &Arc<Self>,
        exchange: &mut RequestContext,
        fetch: Arc<Fetch>,
    ) -> Result<GatewayResponse, Rejection> {
        let key = &fetch.key;
        let patience = fetch.upstream_request.cluster.settings().timeouts.overall;
        let join = || {
            let flights = &self.state.fetches;
            flights.join(key, || self.clone().run_fetch(fetch.clone()))
        };
        let mut seat = join();
        let mut way = FetchOrigin {
            no_cache: fetch.no_cache,
            is_leader: seat.is_leader(),
        };
        let waiting = (!way.is_leader).then(|| exchange.record.metrics().track_waiter());
        let began = Instant::now();
        let end = began + patience;
        let mut landed_in_time = timeout_at(end, seat.outcome()).await;
        while fetch.no_cache && matches!(landed_in_time, Ok(Some(FetchOutcome::Cached(_)))) {
            // Joined somebody who was content with another replica's answer; this client is not.
            seat = join();
            way.is_leader = seat.is_leader();
            landed_in_time = timeout_at(end, seat.outcome()).await;
        }
        let fetched = match landed_in_time {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Err(Rejection::Internal),
            Err(_) => FetchOutcome::Failed(UpstreamError {
                kind: UpstreamErrorKind::Timeout,
                request_sent: true,
                attempts: AttemptSummary::default(),
            }),
        };
        // A fetch that is not over goes on without him.
        drop(seat);
        if waiting.is_some() {
            exchange.record.wait_time = Some(began.elapsed());
        }
        drop(waiting);
        if fetched.may_serve_stale() {
            exchange.now = wall_clock();
            let held = self.state.cache.get(key, exchange.now);
            if let Some(held) = held.filter(|held| !held.entry.is_negative) {
                if let Some(trail) = fetched.attempts() {
                    exchange.record_attempts(trail);
                }
                return Ok(hit(exchange, &held, Some("stale-if-error")));
            }
        }
        fetch_completed(exchange, fetched, way)
    }

    /// With a query, or of a body that nobody looked into: never cached, never shared.
    async fn bypass_cache(
        &self,
        exchange: &mut RequestContext,
        head: &mut Parts,
        call: VerifiedRequest,
        account: &Account,
    ) -> Result<GatewayResponse, Rejection> {
        exchange.record_cache(CacheStatus::Bypass);
        if exchange.snapshot.limits.hits_are_free {
            self.charge(exchange, account, call.endpoint).await?;
        }
        let delivery = exchange.upstream_request(head, call);
        let mut reply = self.forward(exchange, delivery).await?;
        set_cache_headers(
            &mut reply.headers,
            HeaderValue::from_static("ccfs-gateway; fwd=bypass"),
        );
        Ok(reply)
    }

    /// Renews an entry in the background; nobody waits for it, nobody is charged.
    fn refresh(self: &Arc<Self>, fetch: Fetch) {
        let fetch = Arc::new(fetch);
        let flights = &self.state.fetches;
        let seat = flights.join(&fetch.key, || self.clone().run_fetch(fetch.clone()));
        // Left at once, a fetch flies by itself.
        drop(seat);
    }
}

/// How a reply was come by.
#[derive(Clone, Copy)]
struct FetchOrigin {
    no_cache: bool,
    is_leader: bool,
}

/// The reply of an entry. `detail` overrides what the entry would say of itself.
fn hit(
    exchange: &mut RequestContext,
    held: &CacheHit,
    detail: Option<&'static str>,
) -> GatewayResponse {
    let entry = &held.entry;
    let now = exchange.now;
    exchange.record_cache(match detail {
        Some(_) => CacheStatus::StaleIfError,
        None if entry.is_negative => CacheStatus::Negative,
        None => CacheStatus::Hit,
    });
    exchange.record.result_code = Some(entry.result_code.clone());
    let status = match detail.or(entry.is_negative.then_some("negative")) {
        Some(detail) => HeaderValue::try_from(format!("ccfs-gateway; hit; detail={detail}")),
        None => HeaderValue::try_from(hit_status(entry.ttl(now))),
    };
    let mut reply = GatewayResponse::from_cached(
        http::StatusCode::OK,
        entry.content_type.clone(),
        entry.body.clone(),
    );
    reply.headers.insert(header::AGE, entry.age(now).into());
    if let Ok(status) = status {
        set_cache_headers(&mut reply.headers, status);
    }
    reply
}

/// `Cache-Status` of a plain hit: without `fmt`, which made it cost twice as much.
fn hit_status(ttl: i64) -> String {
    let mut status = String::with_capacity(48);
    status.push_str("ccfs-gateway; hit; ttl=");
    status.push_str(itoa::Buffer::new().format(ttl));
    status
}

/// The reply of a fetch, to whoever started it or waited for it.
fn fetch_completed(
    exchange: &mut RequestContext,
    fetched: FetchOutcome,
    way: FetchOrigin,
) -> Result<GatewayResponse, Rejection> {
    let (reply, offered) = match fetched {
        FetchOutcome::Response(reply, offered) => (reply, offered),
        FetchOutcome::Cached(held) => return Ok(hit(exchange, &held, None)),
        FetchOutcome::RateLimited(limiter, exceeded) => {
            return Err(Rejection::RateLimited {
                limiter,
                exceeded: Some(exceeded),
                code: "0300009",
            });
        }
        FetchOutcome::Failed(failure) => {
            exchange.record_attempts(&failure.attempts);
            return Err(failure.into());
        }
    };
    let (verdict, status) = match (way.no_cache, way.is_leader, offered) {
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
    exchange.record_cache(verdict);
    let whole = exchange.record_upstream(Ok(Arc::unwrap_or_clone(reply)))?;
    let mut reply = if way.is_leader {
        GatewayResponse::buffered(whole)
    } else {
        // Somebody else's request brought it: only what a later hit would get, too.
        let content_type = whole.headers.get(header::CONTENT_TYPE).cloned();
        let mut shared = GatewayResponse::from_cached(whole.status, content_type, whole.body);
        shared.outcome = RequestOutcome::Node;
        shared
    };
    set_cache_headers(&mut reply.headers, HeaderValue::from_static(status));
    Ok(reply)
}

/// May the answer be another request's, too? Not with a query, nor where the signature names a field
/// that asks for a part of the answer (such fields reach a node only if they were signed).
fn is_shareable(head: &Parts) -> bool {
    let names = head.headers.get(header::AUTHORIZATION);
    let names = names.and_then(|value| value.to_str().ok()?.rsplit('/').nth(1));
    head.uri.query().is_none_or(str::is_empty)
        && !names.unwrap_or_default().split(';').any(is_conditional)
}

/// Every answer of this interface names what the cache did and may be kept by nobody else.
fn set_cache_headers(headers: &mut HeaderMap, status: HeaderValue) {
    headers.insert(CACHE_STATUS, status);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Does the client ask for a fresh answer (RFC 9111, 5.2.1.4)?
fn has_no_cache(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
        })
    })
}

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
