//! One fetch of a recording URL: charges, sends, stores. Independent of the request that started it: it
//! may outlive it and holds its own permits.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use compact_str::CompactString;
use http::HeaderMap;
use http::request::Parts;
use parking_lot::Mutex;

use super::super::caller::{Charged, Payer};
use super::super::context::wall_clock;
use super::super::shared_cache::{self, Insertion, SharedCache};
use super::super::{Gateway, RequestContext, Snapshot};
use super::prefer;
use crate::cache::{Cache, CacheHit, CachePolicy, InsertOutcome, InsertToken};
use crate::ccfs::ResultKind;
use crate::http_fields::accepts_codings;
use crate::limit::{Permit, RateLimited};
use crate::message::{
    AttemptSummary, Authorization, BufferedResponse, CacheKey, UpstreamError, UpstreamErrorKind,
    UpstreamRequest, VerifiedRequest,
};
use crate::metrics::{Decision, Limiter, RefreshResult, Shard};
use crate::shared_store::{LookupRequest, WaitBudget};

/// The result of a fetch, shared with all its followers.
#[derive(Clone, Debug)]
pub enum FetchOutcome {
    /// A node responded.
    Response(Arc<BufferedResponse>, InsertOutcome),
    /// A rate limit of the account is exhausted; no request was sent to a node.
    RateLimited(Limiter, RateLimited),
    /// Another replica had stored a response.
    Cached(CacheHit),
    /// No node responded.
    Failed(UpstreamError),
}

impl Gateway {
    /// Runs one fetch. Nothing happens before the future is first polled.
    pub(super) async fn run_fetch(self: Arc<Self>, fetch: Arc<Fetch>) -> FetchOutcome {
        let (state, metrics) = (&*self.state, &*self.sink.metrics);
        let (call_id, policy) = (fetch.call_id.as_deref(), &fetch.snapshot.rules);
        let timeouts = &fetch.upstream_request.cluster.settings().timeouts;

        // The shared store: a response of another replica, or the lease to fetch one.
        let token = state.cache.begin_insert(&fetch.key, call_id);
        let mut shared = SharedCache::open(&state.store, fetch.wait_budget);
        if let Some(shared) = &mut shared {
            shared.note_purges_before_fetch(&fetch.key, call_id);
            if !fetch.no_cache && !policy.is_disabled() {
                let lookup = LookupRequest {
                    key: &fetch.key,
                    call_id,
                    max_wait: shared_cache::max_wait(timeouts.overall),
                };
                let insertion = Insertion {
                    cache: &state.cache,
                    token: &token,
                    policy,
                };
                if let Some(hit) = shared.lookup(lookup, insertion, metrics).await {
                    return fetch.counted(FetchOutcome::Cached(hit), metrics);
                }
            }
        }

        // The rate limit.
        if let Some(payer) = &fetch.payer
            && let Err((limiter, exceeded)) =
                fetch.note_charge(payer.charge(shared.as_mut(), metrics).await, metrics)
        {
            if let Some(shared) = shared {
                shared.publish(&fetch.key, None, metrics).await;
            }
            // A refresh is never charged, so there is no refresh to count.
            return FetchOutcome::RateLimited(limiter, exceeded);
        }

        // The nodes, then both caches.
        let mut response = pin!(
            self.upstream
                .send_buffered(&fetch.upstream_request, timeouts.fetch)
        );
        let result = match &shared {
            Some(shared) => shared.run_with_lease(response.as_mut()).await,
            None => response.await,
        };
        let outcome = match result {
            Ok(response) => {
                let inserted = insert(&state.cache, &token, &response, policy);
                FetchOutcome::Response(Arc::new(response), inserted)
            }
            Err(error) => FetchOutcome::Failed(error),
        };
        if let Some(shared) = shared {
            let stored = outcome.stored().and_then(|response| {
                let hit = state.cache.get(&fetch.key, policy, wall_clock())?;
                Some((hit, response))
            });
            shared.publish(&fetch.key, stored, metrics).await;
        }
        fetch.counted(outcome, metrics)
    }
}

/// Stores a response in the cache. Of a fallback cluster only success: the cluster of the request may have
/// the recording that the fallback lacks.
fn insert(
    cache: &Cache,
    token: &InsertToken<'_>,
    response: &BufferedResponse,
    policy: &CachePolicy,
) -> InsertOutcome {
    let parsed = response.parsed.as_ref();
    let has_no_data = parsed.is_some_and(|parsed| parsed.result_kind() == ResultKind::NoData);
    if response.attempts.fallback.is_some() && has_no_data {
        return InsertOutcome::NotStored;
    }
    cache.insert(token, response, policy, wall_clock())
}

/// What a fetch needs; owned, since it may outlive the request that started it.
pub(super) struct Fetch {
    snapshot: Arc<Snapshot>,
    pub(super) key: CacheKey,
    call_id: Option<CompactString>,
    pub(super) upstream_request: UpstreamRequest,
    /// Whom it is charged to; `None` is free.
    pub(super) payer: Option<Payer>,
    /// A fetch counts against the in-flight limits of its account and caller, also after its client
    /// disconnected.
    _permits: [Option<Arc<Permit>>; 2],
    /// What was left of the rate limit when the fetch was last charged.
    remaining: Mutex<Option<Charged>>,
    /// The limit that would have refused the fetch, in a dry run.
    would_refuse: OnceLock<Limiter>,
    /// Whether only a node's response will do (`Cache-Control: no-cache`).
    pub(super) no_cache: bool,
    /// How long its client wants to wait if there is no recording yet.
    pub(super) preferred_wait: Option<Duration>,
    /// Whether it renews an entry in the background.
    is_refresh: bool,
    /// The remaining wait of the request for the shared store.
    wait_budget: Option<WaitBudget>,
}

impl Fetch {
    /// Creates the fetch of a request that waits for it.
    pub(super) fn for_request(
        context: &mut RequestContext,
        head: &mut Parts,
        request: VerifiedRequest,
        key: CacheKey,
        payer: Option<Payer>,
    ) -> Self {
        let call_id = request.payload.owned_call_id();
        // Of the head that goes to a node for a caller it is no part.
        let preferred_wait = prefer::wait(&head.headers, context.snapshot.waits.max_wait);
        let upstream_request = context.upstream_request(head, request);
        Self {
            snapshot: context.snapshot.clone(),
            key,
            call_id,
            upstream_request,
            payer,
            _permits: [context.share_permit(), context.guards.caller.clone()],
            remaining: Mutex::default(),
            would_refuse: OnceLock::new(),
            no_cache: false,
            preferred_wait,
            is_refresh: false,
            wait_budget: context.wait_budget,
        }
    }

    /// Creates the fetch that renews an entry in the last tenth of its lifetime: signed by the gateway,
    /// not charged.
    pub(super) fn for_refresh(
        context: &mut RequestContext,
        head: &mut Parts,
        request: VerifiedRequest,
        key: CacheKey,
    ) -> Self {
        let mut fetch = Self::for_request(context, head, request, key, None);
        fetch.is_refresh = true;
        fetch.upstream_request.is_refresh = true;
        if let Authorization::PassThrough(Some(signer)) = fetch.upstream_request.authorization {
            fetch.upstream_request.authorization = Authorization::Resign(signer);
        }
        fetch
    }

    /// Notes the result of the charge for the leader. The refusal of a limit on trial is only counted and
    /// noted.
    fn note_charge(
        &self,
        charged: Result<Option<Charged>, (Limiter, RateLimited)>,
        metrics: &Shard,
    ) -> Result<(), (Limiter, RateLimited)> {
        match charged {
            Ok(Some(remaining)) => *self.remaining.lock() = Some(remaining),
            Ok(None) => {}
            Err((limiter, _)) if self.snapshot.limits.dry_run => {
                metrics.count(Decision::would_refuse(limiter));
                // A fetch that runs twice keeps the first.
                let _kept = self.would_refuse.set(limiter);
            }
            Err(refused) => return Err(refused),
        }
        Ok(())
    }

    /// Creates a poll for clients that wait: signed by the gateway, answered by a node, and charged. The
    /// waiting client holds the permit.
    pub(super) fn for_poll(&self, payer: Payer) -> Self {
        let mut upstream_request = self.upstream_request.clone();
        if let Authorization::PassThrough(Some(signer)) = upstream_request.authorization {
            upstream_request.authorization = Authorization::Resign(signer);
        }
        Self {
            snapshot: self.snapshot.clone(),
            key: self.key.clone(),
            call_id: self.call_id.clone(),
            upstream_request,
            payer: Some(payer),
            _permits: [None, None],
            remaining: Mutex::default(),
            would_refuse: OnceLock::new(),
            no_cache: true,
            preferred_wait: None,
            is_refresh: false,
            wait_budget: None,
        }
    }

    /// Tells the request what its own fetch or poll was charged; that of a follower never ran.
    pub(super) fn tell_charge(&self, context: &mut RequestContext) {
        if let Some(&limiter) = self.would_refuse.get() {
            context.record.would_refuse.get_or_insert(limiter.key());
        }
        let remaining = *self.remaining.lock();
        context.remaining = remaining.or(context.remaining);
    }

    /// Whether the request may be answered with the outcome of the fetch that it joined. Not if that fetch
    /// accepted another replica's entry, and the request said `no-cache` or has other rules after a reload; nor
    /// if the limit of another caller refused it.
    pub(super) fn accepts(&self, joined: &FetchOutcome, is_leader: bool) -> bool {
        match joined {
            FetchOutcome::Cached(hit) => {
                !self.no_cache && hit.is_fresh(&self.snapshot.rules, wall_clock())
            }
            outcome => is_leader || !outcome.is_refused_to_caller(),
        }
    }

    /// Counts the outcome if it is that of a refresh, and returns it.
    fn counted(&self, outcome: FetchOutcome, metrics: &Shard) -> FetchOutcome {
        if self.is_refresh {
            let is_stored = matches!(
                outcome,
                FetchOutcome::Response(_, InsertOutcome::Stored) | FetchOutcome::Cached(_)
            );
            metrics.count(if is_stored {
                RefreshResult::Ok
            } else {
                RefreshResult::Failed
            });
        }
        outcome
    }
}

impl FetchOutcome {
    /// Returns the outcome of a request whose deadline passed before the end of its fetch.
    pub(super) fn timed_out() -> Self {
        Self::Failed(UpstreamError {
            kind: UpstreamErrorKind::Timeout,
            request_sent: true,
            attempts: AttemptSummary::default(),
        })
    }

    /// Whether a client with these request headers accepts the content coding of the response.
    pub(super) fn is_accepted_by(&self, request: &HeaderMap) -> bool {
        match self {
            Self::Response(response, _) => accepts_codings(request, &response.headers),
            Self::Cached(_) | Self::Failed(_) | Self::RateLimited(..) => true,
        }
    }

    /// Whether the limit of the caller that started the fetch refused it, which says nothing to others.
    pub(super) fn is_refused_to_caller(&self) -> bool {
        matches!(self, Self::RateLimited(limiter, _) if limiter.is_of_caller())
    }

    /// Whether a stale entry may replace this outcome (RFC 5861, stale-if-error): no node responded, or
    /// the nodes are at their flow-control limit.
    pub(super) fn may_serve_stale(&self) -> bool {
        match self {
            Self::Response(response, _) => {
                matches!(response.status.as_u16(), 500 | 502..=504)
                    || response
                        .parsed
                        .as_ref()
                        .is_some_and(|parsed| parsed.result_kind() == ResultKind::FlowControlled)
            }
            Self::Failed(_) => true,
            Self::Cached(_) | Self::RateLimited(..) => false,
        }
    }

    /// Returns the attempts at nodes, if there were any.
    pub(super) fn attempts(&self) -> Option<&AttemptSummary> {
        match self {
            Self::Response(response, _) => Some(&response.attempts),
            Self::Failed(error) => Some(&error.attempts),
            Self::Cached(_) | Self::RateLimited(..) => None,
        }
    }

    /// Returns the node's response if the cache stored it.
    fn stored(&self) -> Option<&BufferedResponse> {
        match self {
            Self::Response(response, InsertOutcome::Stored | InsertOutcome::StoredNegative) => {
                Some(response)
            }
            Self::Response(_, InsertOutcome::NotStored)
            | Self::Failed(_)
            | Self::Cached(_)
            | Self::RateLimited(..) => None,
        }
    }
}
