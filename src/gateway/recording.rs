//! The recording-URL request behind the waist: from the cache, from a fetch that is under way, or
//! from a node. A fetch belongs to nobody: it survives its first client, is charged once, and what it
//! brings is stored for whoever comes next.

mod fetch;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::{Instant, timeout_at};

use super::context::wall_clock;
use super::response::Reply;
use super::{Account, Exchange, Gateway, Rejection};
use crate::cache::{Freshness, Held, Offered};
use crate::message::{Call, Cause, Failure, Trail};
use crate::metrics::{Answered, CacheVerdict};
use crate::upstream::is_conditional;
use fetch::Fetch;
pub(super) use fetch::Fetched;

impl Gateway {
    /// Answers from the cache, joins a fetch, or starts one.
    pub(super) async fn recording(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        head: &mut Parts,
        call: Call,
        account: Arc<Account>,
    ) -> Result<Reply, Rejection> {
        let key = call.cache_key().filter(|_| is_shareable(head));
        let Some(key) = key else {
            return Box::pin(self.uncached(exchange, head, call, &account)).await;
        };
        let no_cache = says_no_cache(&head.headers);
        if !no_cache
            && let Some(held) = self.shared.cache.get(&key, exchange.now)
            && held.freshness == Freshness::Fresh
        {
            if held.entry.wants_renewal(exchange.now) {
                self.renew(Fetch::renewing(exchange, head, call, key));
            }
            return Ok(hit(exchange, &held, None));
        }
        let charged = exchange.snapshot.limits.hits_are_free.then_some(account);
        let mut fetch = Fetch::asked(exchange, head, call, key, charged);
        fetch.no_cache = no_cache;
        self.fetched(exchange, Arc::new(fetch)).await
    }

    /// Waits for a fetch, at most as long as a client waits.
    async fn fetched(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        fetch: Arc<Fetch>,
    ) -> Result<Reply, Rejection> {
        let key = &fetch.key;
        let patience = fetch.delivery.cluster.settings().timeouts.overall;
        let join = || {
            let flights = &self.shared.flights;
            flights.join(key, || self.clone().bring(fetch.clone()))
        };
        let mut seat = join();
        let mut way = Way {
            no_cache: fetch.no_cache,
            started: seat.started(),
        };
        let waiting = (!way.started).then(|| exchange.record.metrics().waits());
        let began = Instant::now();
        let end = began + patience;
        let mut landed_in_time = timeout_at(end, seat.outcome()).await;
        while fetch.no_cache && matches!(landed_in_time, Ok(Some(Fetched::Held(_)))) {
            // Joined somebody who was content with another replica's answer; this client is not.
            seat = join();
            way.started = seat.started();
            landed_in_time = timeout_at(end, seat.outcome()).await;
        }
        let fetched = match landed_in_time {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Err(Rejection::Internal),
            Err(_) => Fetched::Failed(Failure {
                cause: Cause::Timeout,
                sent: true,
                trail: Trail::default(),
            }),
        };
        // A fetch that is not over goes on without him.
        drop(seat);
        if waiting.is_some() {
            exchange.record.wait = Some(began.elapsed());
        }
        drop(waiting);
        if fetched.is_for_want_of_a_node() {
            exchange.now = wall_clock();
            let held = self.shared.cache.get(key, exchange.now);
            if let Some(held) = held.filter(|held| !held.entry.negative) {
                if let Some(trail) = fetched.trail() {
                    exchange.followed(trail);
                }
                return Ok(hit(exchange, &held, Some("stale-if-error")));
            }
        }
        landed(exchange, fetched, way)
    }

    /// With a query, or of a body that nobody looked into: never cached, never shared.
    async fn uncached(
        &self,
        exchange: &mut Exchange,
        head: &mut Parts,
        call: Call,
        account: &Account,
    ) -> Result<Reply, Rejection> {
        exchange.cached(CacheVerdict::Bypass);
        if exchange.snapshot.limits.hits_are_free {
            self.charge(exchange, account, call.endpoint).await?;
        }
        let delivery = exchange.delivery(head, call);
        let mut reply = self.deliver(exchange, delivery).await?;
        say(
            &mut reply.headers,
            HeaderValue::from_static("ccfs-gateway; fwd=bypass"),
        );
        Ok(reply)
    }

    /// Renews an entry in the background; nobody waits for it, nobody is charged.
    fn renew(self: &Arc<Self>, fetch: Fetch) {
        let fetch = Arc::new(fetch);
        let flights = &self.shared.flights;
        let seat = flights.join(&fetch.key, || self.clone().bring(fetch.clone()));
        // Left at once, a fetch flies by itself.
        drop(seat);
    }
}

/// How a reply was come by.
#[derive(Clone, Copy)]
struct Way {
    no_cache: bool,
    started: bool,
}

/// The reply of an entry. `detail` overrides what the entry would say of itself.
fn hit(exchange: &mut Exchange, held: &Held, detail: Option<&'static str>) -> Reply {
    let entry = &held.entry;
    let now = exchange.now;
    exchange.cached(match detail {
        Some(_) => CacheVerdict::Stale,
        None if entry.negative => CacheVerdict::Negative,
        None => CacheVerdict::Hit,
    });
    exchange.record.result_code = Some(entry.result_code.clone());
    let status = match detail.or(entry.negative.then_some("negative")) {
        Some(detail) => HeaderValue::try_from(format!("ccfs-gateway; hit; detail={detail}")),
        None => HeaderValue::try_from(hit_status(entry.ttl(now))),
    };
    let mut reply = Reply::held(
        http::StatusCode::OK,
        entry.content_type.clone(),
        entry.body.clone(),
    );
    reply.headers.insert(header::AGE, entry.age(now).into());
    if let Ok(status) = status {
        say(&mut reply.headers, status);
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
fn landed(exchange: &mut Exchange, fetched: Fetched, way: Way) -> Result<Reply, Rejection> {
    let (reply, offered) = match fetched {
        Fetched::Answered(reply, offered) => (reply, offered),
        Fetched::Held(held) => return Ok(hit(exchange, &held, None)),
        Fetched::Limited(limiter, exceeded) => {
            return Err(Rejection::RateLimited {
                limiter,
                exceeded: Some(exceeded),
                code: "0300009",
            });
        }
        Fetched::Failed(failure) => {
            exchange.followed(&failure.trail);
            return Err(failure.into());
        }
    };
    let (verdict, status) = match (way.no_cache, way.started, offered) {
        (true, true, _) => (CacheVerdict::NoCache, "ccfs-gateway; fwd=request"),
        (true, false, _) => (
            CacheVerdict::NoCache,
            "ccfs-gateway; fwd=request; collapsed",
        ),
        (false, false, _) => (
            CacheVerdict::Collapsed,
            "ccfs-gateway; fwd=uri-miss; collapsed",
        ),
        (false, true, Offered::Passed) => (CacheVerdict::Miss, "ccfs-gateway; fwd=uri-miss"),
        (false, true, Offered::HeldNegative | Offered::Stored) => {
            (CacheVerdict::Stored, "ccfs-gateway; fwd=uri-miss; stored")
        }
    };
    exchange.cached(verdict);
    let whole = exchange.trail(Ok(Arc::unwrap_or_clone(reply)))?;
    let mut reply = if way.started {
        Reply::whole(whole)
    } else {
        // Somebody else's request brought it: only what a later hit would get, too.
        let content_type = whole.headers.get(header::CONTENT_TYPE).cloned();
        let mut shared = Reply::held(whole.status, content_type, whole.body);
        shared.outcome = Answered::Node;
        shared
    };
    say(&mut reply.headers, HeaderValue::from_static(status));
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
fn say(headers: &mut HeaderMap, status: HeaderValue) {
    headers.insert(CACHE_STATUS, status);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Does the client ask for a fresh answer (RFC 9111, 5.2.1.4)?
fn says_no_cache(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
        })
    })
}

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
