//! One fetch of a recording URL, from the budget to the store: what it needs, what it comes to. It
//! belongs to nobody and may outlive the request that started it.

use std::pin::pin;
use std::sync::Arc;

use compact_str::CompactString;
use http::request::Parts;

use super::super::context::wall_clock;
use super::super::shared_cache::{self, SharedCache};
use super::super::{Account, Gateway, RequestContext, Snapshot};
use crate::cache::{CacheHit, InsertOutcome};
use crate::ccfs::ResultKind;
use crate::limit::{Permit, RateLimited};
use crate::message::{
    AttemptSummary, Authorization, BufferedResponse, CacheKey, UpstreamError, UpstreamRequest,
    VerifiedRequest,
};
use crate::metrics::{Limiter, RefreshResult, Shard};
use crate::shared_store::{LookupRequest, WaitBudget};

/// What a fetch came to; shared with all who wait.
#[derive(Clone, Debug)]
pub enum FetchOutcome {
    /// A node answered.
    Response(Arc<BufferedResponse>, InsertOutcome),
    /// The budget of the ak is used up.
    RateLimited(Limiter, RateLimited),
    /// Another replica had fetched it.
    Cached(CacheHit),
    /// No node answered.
    Failed(UpstreamError),
}

impl Gateway {
    /// One fetch, from the budget to the store. Nothing begins before it is polled.
    pub(super) async fn run_fetch(self: Arc<Self>, fetch: Arc<Fetch>) -> FetchOutcome {
        let (shared, metrics) = (&*self.state, &*self.sink.metrics);
        let (call_id, rules) = (fetch.call_id.as_deref(), &fetch.snapshot.rules);
        let timeouts = &fetch.upstream_request.cluster.settings().timeouts;
        let ticket = shared.cache.begin_insert(&fetch.key, call_id);
        let mut replicas = SharedCache::open(shared, fetch.wait_budget);
        if let Some(replicas) = &mut replicas {
            replicas.note_purges_before_fetch(&fetch.key, call_id);
            let sought = LookupRequest {
                key: &fetch.key,
                call_id,
                max_wait: shared_cache::max_wait(timeouts.overall),
            };
            if !fetch.no_cache
                && !rules.is_disabled()
                && let Some(held) = replicas
                    .lookup(shared, sought, (&ticket, rules), metrics)
                    .await
            {
                let fetched = FetchOutcome::Cached(held);
                fetch.count_refresh(&fetched, metrics);
                return fetched;
            }
        }
        if let Some(account) = &fetch.charged_account
            && let Err((limiter, exceeded)) =
                shared_cache::charge(account, replicas.as_mut(), metrics).await
        {
            if let Some(replicas) = replicas {
                replicas.publish(&fetch.key, None, metrics).await;
            }
            // Nothing to count: what renews is not charged.
            return FetchOutcome::RateLimited(limiter, exceeded);
        }
        let mut delivered = pin!(
            self.upstream
                .send_buffered(&fetch.upstream_request, timeouts.fetch)
        );
        let delivered = match &replicas {
            Some(replicas) => replicas.run_with_lease(delivered.as_mut()).await,
            None => delivered.await,
        };
        let fetched = match delivered {
            Ok(reply) => {
                let offered = shared.cache.insert(&ticket, &reply, rules, wall_clock());
                FetchOutcome::Response(Arc::new(reply), offered)
            }
            Err(failure) => FetchOutcome::Failed(failure),
        };
        if let Some(replicas) = replicas {
            let held = fetched.stored().and_then(|reply| {
                let held = shared.cache.get(&fetch.key, wall_clock())?;
                Some((held, reply))
            });
            replicas.publish(&fetch.key, held, metrics).await;
        }
        fetch.count_refresh(&fetched, metrics);
        fetched
    }
}

/// What a fetch needs; owned, since it may outlive the request that started it.
pub(super) struct Fetch {
    snapshot: Arc<Snapshot>,
    pub(super) key: CacheKey,
    call_id: Option<CompactString>,
    pub(super) upstream_request: UpstreamRequest,
    charged_account: Option<Arc<Account>>,
    /// The caller's place in flight: a fetch whose client has left still counts as his.
    _permit: Option<Arc<Permit>>,
    /// Only a node will do.
    pub(super) no_cache: bool,
    /// For an entry that is about to end; nobody waits.
    is_refresh: bool,
    /// Time left for the store that replicas share.
    wait_budget: Option<WaitBudget>,
}

impl Fetch {
    /// For a client who waits.
    pub(super) fn for_request(
        exchange: &mut RequestContext,
        head: &mut Parts,
        call: VerifiedRequest,
        key: CacheKey,
        charged: Option<Arc<Account>>,
    ) -> Self {
        let call_id = call.payload.owned_call_id();
        let delivery = exchange.upstream_request(head, call);
        Self {
            snapshot: exchange.snapshot.clone(),
            key,
            call_id,
            upstream_request: delivery,
            charged_account: charged,
            _permit: exchange.share_permit(),
            no_cache: false,
            is_refresh: false,
            wait_budget: exchange.wait_budget,
        }
    }

    /// For an entry in its last tenth: signed by the gateway, charged to no budget.
    pub(super) fn for_refresh(
        exchange: &mut RequestContext,
        head: &mut Parts,
        call: VerifiedRequest,
        key: CacheKey,
    ) -> Self {
        let mut fetch = Self::for_request(exchange, head, call, key, None);
        fetch.is_refresh = true;
        if let Authorization::PassThrough(Some(caller)) = fetch.upstream_request.authorization {
            fetch.upstream_request.authorization = Authorization::Resign(caller);
        }
        fetch
    }

    /// Counts what came of a renewal.
    fn count_refresh(&self, fetched: &FetchOutcome, metrics: &Shard) {
        if self.is_refresh {
            let stored = matches!(
                fetched,
                FetchOutcome::Response(_, InsertOutcome::Stored) | FetchOutcome::Cached(_)
            );
            metrics.count(if stored {
                RefreshResult::Ok
            } else {
                RefreshResult::Failed
            });
        }
    }
}

impl FetchOutcome {
    /// Would the client get an error only because no node could answer? Then an entry inside the
    /// margin may speak.
    pub(super) fn may_serve_stale(&self) -> bool {
        match self {
            Self::Response(reply, _) => {
                matches!(reply.status.as_u16(), 500 | 502..=504)
                    || reply
                        .parsed
                        .as_ref()
                        .is_some_and(|json| json.result_kind() == ResultKind::FlowControlled)
            }
            Self::Failed(_) => true,
            Self::Cached(_) | Self::RateLimited(..) => false,
        }
    }

    /// Which way it took to the nodes, if it went there.
    pub(super) fn attempts(&self) -> Option<&AttemptSummary> {
        match self {
            Self::Response(reply, _) => Some(&reply.attempts),
            Self::Failed(failure) => Some(&failure.attempts),
            Self::Cached(_) | Self::RateLimited(..) => None,
        }
    }

    /// The answer, if it was stored.
    fn stored(&self) -> Option<&BufferedResponse> {
        match self {
            Self::Response(reply, InsertOutcome::Stored | InsertOutcome::StoredNegative) => {
                Some(reply)
            }
            Self::Response(_, InsertOutcome::NotStored)
            | Self::Failed(_)
            | Self::Cached(_)
            | Self::RateLimited(..) => None,
        }
    }
}
