//! What the path of a request has to do with the other replicas: a fetch looks into the store that
//! they share before it troubles a node, and leaves there what it brought; and the budget of an ak is
//! one for all. Without `[shared]`, and on a hit, nothing of this runs; what waits for the store is
//! boxed, so that nobody else carries it along.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::context::wall_clock;
use super::{Account, Gateway, GatewayState, Rejection, RequestContext};
use crate::cache::{CacheHit, CachePolicy, FetchTimes, Freshness, InsertToken};
use crate::ccfs::{Endpoint, ParsedResponse};
use crate::limit::RateLimited;
use crate::message::{AttemptSummary, BufferedResponse, CacheKey};
use crate::metrics::{Decision, Limiter, Shard};
use crate::shared_store::{
    Lease, LookupOutcome, LookupRequest, PurgeSnapshot, Store, WaitBudget, WriteRequest,
};

/// The store on the way of one request or fetch.
#[derive(Debug)]
pub(super) struct SharedCache {
    store: Arc<Store>,
    wait_budget: WaitBudget,
    lease: Option<Lease>,
    purges: PurgeSnapshot,
}

impl SharedCache {
    /// None without `[shared]`. `patience` is what is left of it, if some was used up.
    pub(super) fn open(shared: &GatewayState, patience: Option<WaitBudget>) -> Option<Self> {
        let store = shared.store.load_full()?;
        Some(Self {
            wait_budget: patience.unwrap_or_else(|| store.wait_budget()),
            store,
            lease: None,
            purges: PurgeSnapshot::default(),
        })
    }

    /// To be called before anything is looked for: from here on, a purge makes void what is brought.
    pub(super) fn note_purges_before_fetch(&mut self, key: &CacheKey, call_id: Option<&str>) {
        self.purges = self.store.purge_snapshot(key, call_id);
    }

    /// The answer that another replica has left, now in the own cache too. Without one, the fetch is
    /// this replica's alone if that can be had.
    pub(super) async fn lookup(
        &mut self,
        shared: &GatewayState,
        sought: LookupRequest<'_>,
        (ticket, rules): (&InsertToken<'_>, &CachePolicy),
        metrics: &Shard,
    ) -> Option<CacheHit> {
        let accept = |text: &[u8]| {
            let (fetched_at, reply) = decode(text)?;
            let times = FetchTimes {
                fetched_at,
                now: wall_clock(),
            };
            let held = shared.cache.insert_remote(ticket, &reply, rules, times)?;
            (held.freshness == Freshness::Fresh).then_some(held)
        };
        let patience = &mut self.wait_budget;
        let found = self.store.lookup(sought, patience, metrics, accept);
        let found = Box::pin(found).await;
        match found {
            LookupOutcome::Hit(held) => return Some(held),
            LookupOutcome::LeaseAcquired(lease) => self.lease = Some(lease),
            LookupOutcome::Miss => {}
        }
        None
    }

    /// Runs the fetch, and tells the others for how long.
    pub(super) async fn run_with_lease<T>(&self, fetch: impl Future<Output = T>) -> T {
        let Some(lease) = &self.lease else {
            return fetch.await;
        };
        tokio::select! {
            biased;
            brought = fetch => brought,
            () = Box::pin(self.store.keep_lease_alive(lease)) => std::future::pending().await,
        }
    }

    /// Leaves what was brought for the others, if the own cache took it; ends the lease.
    pub(super) async fn publish(
        mut self,
        key: &CacheKey,
        held: Option<(CacheHit, &BufferedResponse)>,
        metrics: &Shard,
    ) {
        let Self {
            store,
            wait_budget: patience,
            lease,
            purges: knowledge,
        } = &mut self;
        let brought = held.is_some();
        if let Some((held, reply)) = held {
            let now = wall_clock();
            let text = encode(now, reply);
            let answer = WriteRequest {
                value: &text,
                ttl: held.entry.remaining_lifetime(now),
                is_negative: held.entry.is_negative,
                purge_snapshot: knowledge,
            };
            Box::pin(store.write(key, &answer, patience, metrics)).await;
        }
        if let Some(lease) = lease.take() {
            Box::pin(store.release_lease(lease, brought, patience)).await;
        }
    }

    async fn charge(
        &mut self,
        account: &Account,
        metrics: &Shard,
    ) -> Option<Result<(), RateLimited>> {
        let rate = account.rate()?;
        let access_key = account.credential.access_key();
        let patience = &mut self.wait_budget;
        let answer = self
            .store
            .acquire_rate_limit(access_key, rate, patience, metrics);
        Some(match Box::pin(answer).await.ok()? {
            None => Ok(()),
            Some(wait) => Err(RateLimited { rate, wait }),
        })
    }
}

/// Charges the budget of an ak: the local one first, which keeps from the store whatever is more than
/// one replica alone would allow; then the one of all replicas, if it answers.
pub(super) async fn charge(
    account: &Account,
    replicas: Option<&mut SharedCache>,
    metrics: &Shard,
) -> Result<(), (Limiter, RateLimited)> {
    account
        .charge()
        .map_err(|exceeded| (Limiter::AccessKey, exceeded))?;
    let answer = match replicas {
        Some(replicas) => replicas.charge(account, metrics).await,
        None => None,
    };
    match answer {
        None => metrics.count(Decision::AccessKeyAllowed),
        Some(Ok(())) => metrics.count(Decision::SharedAllowed),
        Some(Err(exceeded)) => return Err((Limiter::SharedAccessKey, exceeded)),
    }
    Ok(())
}

impl Gateway {
    /// Charges the ak's budget for a request that no fetch charges.
    pub(super) async fn charge(
        &self,
        exchange: &mut RequestContext,
        account: &Account,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        let mut replicas = account
            .is_limited()
            .then(|| SharedCache::open(&self.state, exchange.wait_budget))
            .flatten();
        let charged = charge(account, replicas.as_mut(), exchange.record.metrics()).await;
        exchange.wait_budget = replicas.map(|it| it.wait_budget);
        charged.map_err(|(limiter, exceeded)| Rejection::RateLimited {
            limiter,
            exceeded: Some(exceeded),
            code: endpoint.flow_control_code,
        })
    }
}

/// What is left in the store: when it was fetched, its Content-Type, its body. All that is judged of
/// an answer is read from the body again, by the rules of whoever finds it.
fn encode(fetched_at: Timestamp, reply: &BufferedResponse) -> Vec<u8> {
    let content_type = reply.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map_or(&[][..], HeaderValue::as_bytes);
    let length = u16::try_from(content_type.len()).unwrap_or_default();
    let mut text = fetched_at.as_millisecond().to_be_bytes().to_vec();
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(&content_type[..usize::from(length)]);
    text.extend_from_slice(&reply.body);
    text
}

fn decode(text: &[u8]) -> Option<(Timestamp, BufferedResponse)> {
    let (time, rest) = text.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (content_type, body) = rest.split_at_checked(length)?;
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        let value = HeaderValue::from_bytes(content_type).ok()?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    let reply = BufferedResponse {
        status: StatusCode::OK,
        headers,
        parsed: Some(Arc::new(ParsedResponse::parse(body)?)),
        body: Bytes::copy_from_slice(body),
        attempts: AttemptSummary::default(),
    };
    let time = Timestamp::from_millisecond(i64::from_be_bytes(*time)).ok()?;
    Some((time, reply))
}

/// Half of what a client waits: there must be time for an own fetch after it.
pub(super) fn max_wait(overall: Duration) -> Duration {
    overall / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_travel(millis in 0..4_102_444_800_000i64, typed: bool, code in "[0-9]{1,7}") {
            let body = format!(r#"{{"resultCode":"{code}"}}"#);
            let mut headers = HeaderMap::new();
            if typed {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            let reply = BufferedResponse {
                status: StatusCode::OK,
                headers: headers.clone(),
                parsed: None,
                body: body.clone().into(),
                attempts: AttemptSummary::default(),
            };
            let time = Timestamp::from_millisecond(millis).unwrap();
            let (read_time, found) = decode(&encode(time, &reply)).unwrap();
            prop_assert_eq!(read_time, time);
            prop_assert_eq!(found.headers, headers);
            prop_assert_eq!(&found.body, &body);
            let json = found.parsed.unwrap();
            prop_assert_eq!(json.result_code.as_deref(), Some(code.as_str()));
        }

        #[test]
        fn garbage_is_no_answer(garbage: Vec<u8>) {
            prop_assert!(decode(&garbage).is_none());
        }
    }
}
