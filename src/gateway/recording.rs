//! The recording-URL request behind the waist: from the cache, from a fetch that is under way, or
//! from a node. A fetch belongs to nobody: it survives its first client, is charged once, and what it
//! brings is stored for whoever comes next.

use std::pin::pin;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::{Instant, timeout_at};

use super::exchange::wall_clock;
use super::replicas::{self, Replicas};
use super::respond::Reply;
use super::{Account, Exchange, Gateway, Rejection, Snapshot};
use crate::cache::{Freshness, Held, Offered};
use crate::call::{Authorization, CacheKey, Call, Cause, Delivery, Failure, Trail, WholeReply};
use crate::ccfs::Verdict;
use crate::limit::{Exceeded, Permit};
use crate::metrics::{Answered, CacheVerdict, Limited, Refresh, Shard};
use crate::shared::{Patience, Sought};
use crate::upstream::is_conditional;

/// What a fetch came to; shared with all who wait.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// A node answered.
    Answered(Arc<WholeReply>, Offered),
    /// The budget of the ak is used up.
    Limited(Limited, Exceeded),
    /// Another replica had fetched it.
    Held(Held),
    /// No node did.
    Failed(Failure),
}

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
        if fetch.no_cache && matches!(landed_in_time, Ok(Some(Fetched::Held(_)))) {
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
        drop(waiting);
        if !way.started {
            exchange.record.wait = Some(began.elapsed());
        }
        if fetched.is_for_want_of_a_node() {
            exchange.now = wall_clock();
            let held = self.shared.cache.get(key, exchange.now);
            if let Some(held) = held.filter(|held| !held.entry.negative) {
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
        flights.join(&fetch.key, || self.clone().bring(fetch.clone()));
    }

    /// One fetch, from the budget to the store. Nothing begins before it is polled.
    async fn bring(self: Arc<Self>, fetch: Arc<Fetch>) -> Fetched {
        let (shared, metrics) = (&*self.shared, &*self.sink.metrics);
        let (call_id, rules) = (fetch.call_id.as_ref(), &fetch.snapshot.rules);
        let timeouts = &fetch.delivery.cluster.settings().timeouts;
        let ticket = shared.cache.ticket(&fetch.key, call_id);
        let mut replicas = Replicas::of(shared, fetch.patience);
        if let Some(replicas) = &mut replicas {
            let call_id = call_id.map(|it| &**it);
            replicas.begin(&fetch.key, call_id);
            let sought = Sought {
                key: &fetch.key,
                call_id,
                longest: replicas::longest_wait(timeouts.overall),
            };
            if !fetch.no_cache
                && !rules.is_off()
                && let Some(held) = replicas
                    .find(shared, sought, (&ticket, rules), metrics)
                    .await
            {
                return fetch.count(Fetched::Held(held), metrics);
            }
        }
        if let Some(account) = &fetch.charged
            && let Err((limiter, exceeded)) =
                replicas::charge(account, replicas.as_mut(), metrics).await
        {
            if let Some(replicas) = replicas {
                replicas.leave(&fetch.key, None, metrics).await;
            }
            return Fetched::Limited(limiter, exceeded);
        }
        let mut delivered = pin!(self.upstream.whole(&fetch.delivery, timeouts.fetch));
        let delivered = match &replicas {
            Some(replicas) => replicas.hold(delivered.as_mut()).await,
            None => delivered.await,
        };
        let fetched = match delivered {
            Ok(reply) => {
                let offered = shared.cache.offer(&ticket, &reply, rules, wall_clock());
                Fetched::Answered(Arc::new(reply), offered)
            }
            Err(failure) => Fetched::Failed(failure),
        };
        if let Some(replicas) = replicas {
            let held = fetched.stored().and_then(|reply| {
                let held = shared.cache.get(&fetch.key, wall_clock())?;
                Some((held, reply))
            });
            replicas.leave(&fetch.key, held, metrics).await;
        }
        fetch.count(fetched, metrics)
    }
}

/// What a fetch needs; owned, since it may outlive the request that started it.
struct Fetch {
    snapshot: Arc<Snapshot>,
    key: CacheKey,
    call_id: Option<Arc<str>>,
    delivery: Delivery,
    charged: Option<Arc<Account>>,
    /// The caller's place in flight: a fetch whose client has left still counts as his.
    _permit: Option<Arc<Permit>>,
    /// Only a node will do.
    no_cache: bool,
    /// For an entry that is about to end; nobody waits.
    renews: bool,
    /// What is left of it.
    patience: Option<Patience>,
}

impl Fetch {
    /// For a client who waits.
    fn asked(
        exchange: &mut Exchange,
        head: &mut Parts,
        call: Call,
        key: CacheKey,
        charged: Option<Arc<Account>>,
    ) -> Self {
        let call_id = call.payload.shared_call_id();
        let delivery = exchange.delivery(head, call);
        Self {
            snapshot: exchange.snapshot.clone(),
            key,
            call_id,
            delivery,
            charged,
            _permit: exchange.share_place(),
            no_cache: false,
            renews: false,
            patience: exchange.patience,
        }
    }

    /// For an entry in its last tenth: signed by the gateway, charged to nobody.
    fn renewing(exchange: &mut Exchange, head: &mut Parts, call: Call, key: CacheKey) -> Self {
        let mut fetch = Self::asked(exchange, head, call, key, None);
        fetch.renews = true;
        if let Authorization::Kept(Some(caller)) = fetch.delivery.authorization {
            fetch.delivery.authorization = Authorization::Sign(caller);
        }
        fetch
    }

    /// Counts what came of a renewal.
    fn count(&self, fetched: Fetched, metrics: &Shard) -> Fetched {
        if self.renews {
            let stored = matches!(
                fetched,
                Fetched::Answered(_, Offered::Stored) | Fetched::Held(_)
            );
            metrics.count(if stored { Refresh::Ok } else { Refresh::Failed });
        }
        fetched
    }
}

impl Fetched {
    /// Would the client get an error only because no node could answer? Then an entry inside the
    /// margin may speak.
    fn is_for_want_of_a_node(&self) -> bool {
        match self {
            Self::Answered(reply, _) => reply
                .json
                .as_ref()
                .is_some_and(|json| json.verdict() == Verdict::Busy),
            Self::Failed(_) => true,
            Self::Held(_) | Self::Limited(..) => false,
        }
    }

    /// The answer, if it was stored.
    fn stored(&self) -> Option<&WholeReply> {
        match self {
            Self::Answered(reply, Offered::Stored | Offered::HeldNegative) => Some(reply),
            Self::Answered(_, Offered::Passed) | Self::Failed(_) | Self::Held(_) => None,
            Self::Limited(..) => None,
        }
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
        None => HeaderValue::try_from(format!("ccfs-gateway; hit; ttl={}", entry.ttl(now))),
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
