//! Cooperation with the other replicas through the shared store. A fetch reads the shared store before it
//! queries a node, and writes its result there; the replicas share one rate limit per access key. Without
//! `[shared]`, and on a cache hit, none of this runs. The store futures are boxed, so that requests that
//! never wait do not grow by their size.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::caller::{Caller, Charged};
use super::context::wall_clock;
use super::{Account, Gateway, Rejection, RequestContext};
use crate::cache::{Cache, CacheHit, CachePolicy, FetchTimes, Freshness, InsertToken};
use crate::ccfs::{Endpoint, ParsedResponse};
use crate::limit::{RateLimited, Remaining};
use crate::message::{AttemptSummary, BufferedResponse, CacheKey};
use crate::metrics::{Decision, Limiter, Shard};
use crate::shared_store::{
    Lease, LookupOutcome, LookupRequest, PurgeSnapshot, Store, TokensLeft, WaitBudget, WriteRequest,
};

/// The shared store, as one request or fetch uses it.
#[derive(Debug)]
pub(super) struct SharedCache {
    store: Arc<Store>,
    wait_budget: WaitBudget,
    lease: Option<Lease>,
    purges: PurgeSnapshot,
}

/// Where a value of another replica is inserted, and under which policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Insertion<'a> {
    pub(super) cache: &'a Cache,
    pub(super) token: &'a InsertToken<'a>,
    pub(super) policy: &'a CachePolicy,
}

impl SharedCache {
    /// Opens the store with the remaining `wait_budget`, or a new one; `None` without `[shared]`.
    pub(super) fn open(
        store: &ArcSwapOption<Store>,
        wait_budget: Option<WaitBudget>,
    ) -> Option<Self> {
        let store = store.load_full()?;
        Some(Self {
            wait_budget: wait_budget.unwrap_or_else(|| store.wait_budget()),
            store,
            lease: None,
            purges: PurgeSnapshot::default(),
        })
    }

    /// Records the purges so far. Call before the lookup: a purge after this point invalidates the fetched
    /// entry.
    pub(super) fn note_purges_before_fetch(&mut self, key: &CacheKey, call_id: Option<&str>) {
        self.purges = self.store.purge_snapshot(key, call_id);
    }

    /// Looks up another replica's response and inserts it into the local cache. On a miss, acquires the
    /// lease to fetch if it is free.
    pub(super) async fn lookup(
        &mut self,
        request: LookupRequest<'_>,
        insertion: Insertion<'_>,
        metrics: &Shard,
    ) -> Option<CacheHit> {
        let Insertion {
            cache,
            token,
            policy,
        } = insertion;
        let accept = |value: &[u8]| {
            let (fetched_at, response) = decode(value)?;
            let times = FetchTimes {
                fetched_at,
                now: wall_clock(),
            };
            let hit = cache.insert_remote(token, &response, policy, times)?;
            (hit.freshness == Freshness::Fresh).then_some(hit)
        };
        let wait_budget = &mut self.wait_budget;
        let lookup = self.store.lookup(request, wait_budget, metrics, accept);
        match Box::pin(lookup).await {
            LookupOutcome::Hit(hit) => Some(hit),
            LookupOutcome::LeaseAcquired(lease) => {
                self.lease = Some(lease);
                None
            }
            LookupOutcome::Miss => None,
        }
    }

    /// Runs the fetch and keeps the lease alive meanwhile.
    pub(super) async fn run_with_lease<T>(&self, fetch: impl Future<Output = T>) -> T {
        let Some(lease) = &self.lease else {
            return fetch.await;
        };
        tokio::select! {
            biased;
            result = fetch => result,
            () = Box::pin(self.store.keep_lease_alive(lease)) => std::future::pending().await,
        }
    }

    /// Writes the response that the local cache stored, if there is one, and releases the lease.
    pub(super) async fn publish(
        mut self,
        key: &CacheKey,
        stored: Option<(CacheHit, &BufferedResponse)>,
        metrics: &Shard,
    ) {
        let Self {
            store,
            wait_budget,
            lease,
            purges,
        } = &mut self;
        let is_stored = stored.is_some();
        if let Some((hit, response)) = stored {
            let now = wall_clock();
            let value = encode(now, response);
            let request = WriteRequest {
                value: &value,
                ttl: hit.remaining_lifetime(now),
                is_negative: hit.entry.is_negative,
                purge_snapshot: purges,
            };
            Box::pin(store.write(key, &request, wait_budget, metrics)).await;
        }
        if let Some(lease) = lease.take() {
            Box::pin(store.release_lease(lease, is_stored, wait_budget)).await;
        }
    }

    /// Charges the rate limit of all replicas; `None` if there is none or the store does not respond.
    async fn charge(
        &mut self,
        account: &Account,
        metrics: &Shard,
    ) -> Option<Result<Remaining, RateLimited>> {
        let rate = account.rate()?;
        let access_key = account.credential.access_key();
        let wait_budget = &mut self.wait_budget;
        let charge = self
            .store
            .acquire_rate_limit(access_key, rate, wait_budget, metrics);
        let left = |TokensLeft { tokens, next_in }| Remaining {
            rate,
            tokens,
            next_in,
        };
        let charged = Box::pin(charge).await.ok()?;
        Some(charged.map(left).map_err(|wait| RateLimited { rate, wait }))
    }
}

/// Charges the rate limits of a caller, if there is one, and of its account, or neither. Returns what is left of
/// the one with the least; `None` is unlimited.
pub(super) async fn charge(
    account: &Account,
    caller: Option<&Caller>,
    shared: Option<&mut SharedCache>,
    metrics: &Shard,
) -> Result<Option<Charged>, (Limiter, RateLimited)> {
    let Some(caller) = caller else {
        let left = charge_account(account, shared, metrics).await?;
        return Ok(Charged::fewest(left, None));
    };
    let of_caller = caller
        .charge()
        .map_err(|exceeded| (Limiter::Caller, exceeded))?;
    match charge_account(account, shared, metrics).await {
        Ok(of_account) => {
            metrics.count(Decision::CallerAllowed);
            Ok(Charged::fewest(of_account, of_caller))
        }
        Err(refused) => {
            caller.refund();
            Err(refused)
        }
    }
}

/// Charges the rate limit of an account: first the local one, so that the store never sees more than one
/// replica alone would allow, then the one of all replicas, if the store responds. Returns what is left of the
/// one that decided; `None` is unlimited.
async fn charge_account(
    account: &Account,
    shared: Option<&mut SharedCache>,
    metrics: &Shard,
) -> Result<Option<Remaining>, (Limiter, RateLimited)> {
    let local = account
        .charge()
        .map_err(|exceeded| (Limiter::AccessKey, exceeded))?;
    let result = match shared {
        Some(shared) => shared.charge(account, metrics).await,
        None => None,
    };
    match result {
        None => {
            metrics.count(Decision::AccessKeyAllowed);
            Ok(local)
        }
        Some(Ok(shared)) => {
            metrics.count(Decision::SharedAllowed);
            // This replica has less left than all together after the store lost its state. Charges under way
            // may be in the local budget already, and not in the shared one.
            let under_way = u32::try_from(account.in_flight.in_use()).unwrap_or(u32::MAX);
            let is_less =
                |local: &Remaining| local.tokens.saturating_add(under_way) < shared.tokens;
            let fewer = local.filter(is_less);
            Ok(Some(fewer.unwrap_or(shared)))
        }
        Some(Err(exceeded)) => Err((Limiter::SharedAccessKey, exceeded)),
    }
}

impl Gateway {
    /// Charges the account's rate limit for a request that starts no fetch.
    pub(super) async fn charge(
        &self,
        context: &mut RequestContext,
        account: &Account,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        let caller = context.caller.as_deref();
        let mut shared = account
            .is_limited()
            .then(|| SharedCache::open(&self.state.store, context.wait_budget))
            .flatten();
        let metrics = context.record.metrics();
        let charged = charge(account, caller, shared.as_mut(), metrics).await;
        context.wait_budget = shared.map(|shared| shared.wait_budget);
        let charged = charged.map(|left| context.remaining = left);
        let charged = charged.map_err(|(limiter, exceeded)| Rejection::RateLimited {
            limiter,
            exceeded: Some(exceeded),
            code: endpoint.flow_control_code,
        });
        let is_dry_run = context.snapshot.limits.dry_run;
        context.unless_dry_run(is_dry_run, charged)
    }
}

/// Encodes a response for the store: when it was fetched (8 bytes, milliseconds), the length of its
/// Content-Type (2 bytes), Content-Type, body. The replica that reads it parses the body again and applies
/// its own policy.
fn encode(fetched_at: Timestamp, response: &BufferedResponse) -> Vec<u8> {
    let content_type = response.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map_or(&[][..], HeaderValue::as_bytes);
    let length = u16::try_from(content_type.len()).unwrap_or_default();
    let mut value = fetched_at.as_millisecond().to_be_bytes().to_vec();
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(&content_type[..usize::from(length)]);
    value.extend_from_slice(&response.body);
    value
}

fn decode(value: &[u8]) -> Option<(Timestamp, BufferedResponse)> {
    let (fetched_at, rest) = value.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (content_type, body) = rest.split_at_checked(length)?;
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        let content_type = HeaderValue::from_bytes(content_type).ok()?;
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    let response = BufferedResponse {
        status: StatusCode::OK,
        headers,
        parsed: Some(Arc::new(ParsedResponse::parse(body)?)),
        body: Bytes::copy_from_slice(body),
        attempts: AttemptSummary::default(),
    };
    let fetched_at = Timestamp::from_millisecond(i64::from_be_bytes(*fetched_at)).ok()?;
    Some((fetched_at, response))
}

/// Returns how long a fetch waits for another replica: half of the request's deadline, so that a fetch of
/// its own still fits.
pub(super) fn max_wait(overall: Duration) -> Duration {
    overall / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_response_survives_encoding(millis in 0..4_102_444_800_000i64, typed: bool, code in "[0-9]{1,7}") {
            let body = format!(r#"{{"resultCode":"{code}"}}"#);
            let mut headers = HeaderMap::new();
            if typed {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            let response = BufferedResponse {
                status: StatusCode::OK,
                headers: headers.clone(),
                parsed: None,
                body: body.clone().into(),
                attempts: AttemptSummary::default(),
            };
            let time = Timestamp::from_millisecond(millis).unwrap();
            let (fetched_at, found) = decode(&encode(time, &response)).unwrap();
            prop_assert_eq!(fetched_at, time);
            prop_assert_eq!(found.headers, headers);
            prop_assert_eq!(&found.body, &body);
            let json = found.parsed.unwrap();
            prop_assert_eq!(json.result_code.as_deref(), Some(code.as_str()));
        }

        #[test]
        fn arbitrary_bytes_are_no_response(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes).is_none());
        }
    }
}
