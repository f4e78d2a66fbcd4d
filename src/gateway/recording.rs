//! The recording-URL request behind the waist: from the cache, from a fetch that is under way, or
//! from a node. A fetch belongs to nobody: it survives its first client, is charged once, and what it
//! brings is stored for whoever comes next.

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;

use super::respond::Reply;
use super::{Account, Exchange, Gateway, Rejection, Shared, Snapshot};
use crate::cache::{Freshness, Held, Offered};
use crate::call::{Authorization, CacheKey, Call, Cause, Delivery, Failure, WholeReply};
use crate::ccfs::Verdict;
use crate::limit::Exceeded;
use crate::metrics::{Answered, CacheVerdict, Limited, Refresh};
use crate::upstream::Upstream;

/// What a fetch came to; shared with all who wait.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// A node answered.
    Answered(Arc<WholeReply>, Offered),
    /// The budget of the ak is used up.
    Limited(Exceeded),
    /// No node did.
    Failed(Failure),
}

impl Gateway {
    /// Answers from the cache, joins a fetch, or starts one.
    pub(super) async fn recording(
        &self,
        exchange: &mut Exchange,
        head: Parts,
        call: Call,
        account: Arc<Account>,
    ) -> Result<Reply, Rejection> {
        let key = call
            .cache_key()
            .filter(|_| head.uri.query().is_none_or(str::is_empty));
        let Some(key) = key else {
            return self.uncached(exchange, head, call, &account).await;
        };
        let no_cache = says_no_cache(&head.headers);
        let held = self.shared.cache.get(&key, exchange.now);
        let deadline = call.cluster.settings().timeouts.overall;
        let call_id = call.payload.call_id().map(Into::into);
        let fresh = held
            .as_ref()
            .filter(|held| held.freshness == Freshness::Fresh && !no_cache);
        if let Some(held) = fresh {
            if held.entry.wants_renewal(exchange.now) {
                let mut delivery = exchange.delivery(head, call);
                if let Authorization::Kept(Some(caller)) = delivery.authorization {
                    delivery.authorization = Authorization::Sign(caller);
                }
                self.renew(exchange, key, call_id, delivery);
            }
            return Ok(hit(exchange, held, None));
        }
        let wait = Wait {
            no_cache,
            since: now_instant(),
        };
        let charged = exchange.snapshot.limits.hits_are_free.then_some(account);
        let delivery = exchange.delivery(head, call);
        let seat = self.shared.flights.join(&key, || {
            self.fetch(
                exchange.snapshot.clone(),
                key.clone(),
                call_id,
                delivery,
                charged,
            )
        });
        let started = seat.started();
        let fetched = match tokio::time::timeout(deadline, seat.outcome()).await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Err(Rejection::Internal),
            Err(_) => Fetched::Failed(Failure {
                cause: Cause::Timeout,
                sent: true,
                trail: crate::call::Trail::default(),
            }),
        };
        if !started {
            exchange.record.wait = Some(wait.since.elapsed());
        }
        if fetched.is_for_want_of_a_node() {
            let now = wall_clock();
            if let Some(held) = self
                .shared
                .cache
                .get(&key, now)
                .filter(|held| !held.entry.negative)
            {
                exchange.now = now;
                return Ok(hit(exchange, &held, Some("stale-if-error")));
            }
        }
        landed(exchange, fetched, started, &wait)
    }

    /// With a query, or of a body that nobody looked into: never cached, never shared.
    async fn uncached(
        &self,
        exchange: &mut Exchange,
        head: Parts,
        call: Call,
        account: &Account,
    ) -> Result<Reply, Rejection> {
        exchange.record.metrics().count(CacheVerdict::Bypass);
        if exchange.snapshot.limits.hits_are_free {
            exchange.charge(account, call.endpoint)?;
        }
        let delivery = exchange.delivery(head, call);
        let mut reply = self.deliver(exchange, delivery).await?;
        say(
            &mut reply.headers,
            HeaderValue::from_static("ccfs-gateway; fwd=bypass"),
        );
        exchange.record.cache = Some("bypass");
        Ok(reply)
    }

    /// Renews an entry in the background, signed by the gateway, not charged.
    fn renew(
        &self,
        exchange: &Exchange,
        key: CacheKey,
        call_id: Option<Box<str>>,
        delivery: Delivery,
    ) {
        let metrics = exchange.record.metrics().clone();
        let snapshot = exchange.snapshot.clone();
        self.shared.flights.join(&key.clone(), || {
            let fetch = self.fetch(snapshot, key, call_id, delivery, None);
            async move {
                let fetched = fetch.await;
                let stored = matches!(fetched, Fetched::Answered(_, Offered::Stored));
                metrics.count(if stored { Refresh::Ok } else { Refresh::Failed });
                fetched
            }
        });
    }

    /// One fetch, from the budget to the store. Lazy: nothing begins before it is polled.
    fn fetch(
        &self,
        snapshot: Arc<Snapshot>,
        key: CacheKey,
        call_id: Option<Box<str>>,
        delivery: Delivery,
        charged: Option<Arc<Account>>,
    ) -> impl Future<Output = Fetched> + Send + 'static {
        let (shared, upstream) = (self.shared.clone(), self.upstream.clone());
        async move {
            if let Some(Err(exceeded)) = charged.map(|account| account.charge()) {
                return Fetched::Limited(exceeded);
            }
            bring(&shared, &upstream, &snapshot, &key, call_id, delivery).await
        }
    }
}

async fn bring(
    shared: &Shared,
    upstream: &Upstream,
    snapshot: &Snapshot,
    key: &CacheKey,
    call_id: Option<Box<str>>,
    delivery: Delivery,
) -> Fetched {
    let ticket = shared.cache.ticket();
    let last_try = delivery.cluster.settings().timeouts.fetch;
    match upstream.whole(&delivery, last_try).await {
        Ok(reply) => {
            let call_id = call_id.as_deref();
            let offered =
                shared
                    .cache
                    .offer(key, call_id, &reply, &snapshot.rules, ticket, wall_clock());
            Fetched::Answered(Arc::new(reply), offered)
        }
        Err(failure) => Fetched::Failed(failure),
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
            Self::Limited(_) => false,
        }
    }
}

struct Wait {
    no_cache: bool,
    since: Instant,
}

/// The reply of an entry. `detail` overrides what the entry would say of itself.
fn hit(exchange: &mut Exchange, held: &Held, detail: Option<&'static str>) -> Reply {
    let entry = &held.entry;
    let now = exchange.now;
    let (verdict, name) = match detail {
        Some(_) => (CacheVerdict::Stale, "stale_if_error"),
        None if entry.negative => (CacheVerdict::Negative, "negative"),
        None => (CacheVerdict::Hit, "hit"),
    };
    exchange.record.metrics().count(verdict);
    exchange.record.cache = Some(name);
    exchange.record.result_code = Some(entry.result_code.clone());
    let detail = detail.or(entry.negative.then_some("negative"));
    let status = match detail {
        Some(detail) => format!("ccfs-gateway; hit; detail={detail}"),
        None => format!("ccfs-gateway; hit; ttl={}", entry.ttl(now)),
    };
    let mut reply = Reply::held(
        http::StatusCode::OK,
        entry.content_type.clone(),
        entry.body.clone(),
    );
    reply.headers.insert(header::AGE, entry.age(now).into());
    if let Ok(status) = HeaderValue::from_maybe_shared(bytes::Bytes::from(status)) {
        say(&mut reply.headers, status);
    }
    reply
}

/// The reply of a fetch, to whoever started it or waited for it.
fn landed(
    exchange: &mut Exchange,
    fetched: Fetched,
    started: bool,
    wait: &Wait,
) -> Result<Reply, Rejection> {
    let (reply, offered) = match fetched {
        Fetched::Answered(reply, offered) => (reply, offered),
        Fetched::Limited(exceeded) => {
            return Err(Rejection::RateLimited {
                limiter: Limited::AccessKey,
                exceeded: Some(exceeded),
                code: "0300009",
            });
        }
        Fetched::Failed(failure) => {
            exchange.followed(&failure.trail);
            return Err(failure.into());
        }
    };
    let (verdict, name, status) = match (wait.no_cache, started, offered) {
        (true, true, _) => (
            CacheVerdict::NoCache,
            "no_cache",
            "ccfs-gateway; fwd=request",
        ),
        (true, false, _) => (
            CacheVerdict::NoCache,
            "no_cache",
            "ccfs-gateway; fwd=request; collapsed",
        ),
        (false, false, _) => (
            CacheVerdict::Collapsed,
            "collapsed",
            "ccfs-gateway; fwd=uri-miss; collapsed",
        ),
        (false, true, Offered::Passed) => {
            (CacheVerdict::Miss, "miss", "ccfs-gateway; fwd=uri-miss")
        }
        (false, true, Offered::HeldNegative | Offered::Stored) => (
            CacheVerdict::Stored,
            "stored",
            "ccfs-gateway; fwd=uri-miss; stored",
        ),
    };
    exchange.record.metrics().count(verdict);
    exchange.record.cache = Some(name);
    let whole = exchange.trail(Ok(WholeReply::clone(&reply)))?;
    let mut reply = if started {
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

/// Every answer of this interface names what the cache did and may be kept by nobody else.
fn say(headers: &mut HeaderMap, status: HeaderValue) {
    headers.insert("cache-status", status);
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

#[expect(
    clippy::disallowed_methods,
    reason = "time has passed since the request began"
)]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn now_instant() -> Instant {
    Instant::now()
}
