//! One fetch of a recording URL, from the budget to the store: what it needs, what it comes to. It
//! belongs to nobody and may outlive the request that started it.

use std::pin::pin;
use std::sync::Arc;

use compact_str::CompactString;
use http::request::Parts;

use super::super::context::wall_clock;
use super::super::shared_cache::{self, Replicas};
use super::super::{Account, Exchange, Gateway, Snapshot};
use crate::cache::{Held, Offered};
use crate::ccfs::Verdict;
use crate::limit::{Exceeded, Permit};
use crate::message::{Authorization, CacheKey, Call, Delivery, Failure, Trail, WholeReply};
use crate::metrics::{Limited, Refresh, Shard};
use crate::shared_store::{Patience, Sought};

/// What a fetch came to; shared with all who wait.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// A node answered.
    Answered(Arc<WholeReply>, Offered),
    /// The budget of the ak is used up.
    Limited(Limited, Exceeded),
    /// Another replica had fetched it.
    Held(Held),
    /// No node answered.
    Failed(Failure),
}

impl Gateway {
    /// One fetch, from the budget to the store. Nothing begins before it is polled.
    pub(super) async fn bring(self: Arc<Self>, fetch: Arc<Fetch>) -> Fetched {
        let (shared, metrics) = (&*self.shared, &*self.sink.metrics);
        let (call_id, rules) = (fetch.call_id.as_deref(), &fetch.snapshot.rules);
        let timeouts = &fetch.delivery.cluster.settings().timeouts;
        let ticket = shared.cache.ticket(&fetch.key, call_id);
        let mut replicas = Replicas::of(shared, fetch.patience);
        if let Some(replicas) = &mut replicas {
            replicas.begin(&fetch.key, call_id);
            let sought = Sought {
                key: &fetch.key,
                call_id,
                longest: shared_cache::longest_wait(timeouts.overall),
            };
            if !fetch.no_cache
                && !rules.is_off()
                && let Some(held) = replicas
                    .find(shared, sought, (&ticket, rules), metrics)
                    .await
            {
                let fetched = Fetched::Held(held);
                fetch.count(&fetched, metrics);
                return fetched;
            }
        }
        if let Some(account) = &fetch.charged
            && let Err((limiter, exceeded)) =
                shared_cache::charge(account, replicas.as_mut(), metrics).await
        {
            if let Some(replicas) = replicas {
                replicas.leave(&fetch.key, None, metrics).await;
            }
            // Nothing to count: what renews is not charged.
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
        fetch.count(&fetched, metrics);
        fetched
    }
}

/// What a fetch needs; owned, since it may outlive the request that started it.
pub(super) struct Fetch {
    snapshot: Arc<Snapshot>,
    pub(super) key: CacheKey,
    call_id: Option<CompactString>,
    pub(super) delivery: Delivery,
    charged: Option<Arc<Account>>,
    /// The caller's place in flight: a fetch whose client has left still counts as his.
    _permit: Option<Arc<Permit>>,
    /// Only a node will do.
    pub(super) no_cache: bool,
    /// For an entry that is about to end; nobody waits.
    renews: bool,
    /// Time left for the store that replicas share.
    patience: Option<Patience>,
}

impl Fetch {
    /// For a client who waits.
    pub(super) fn asked(
        exchange: &mut Exchange,
        head: &mut Parts,
        call: Call,
        key: CacheKey,
        charged: Option<Arc<Account>>,
    ) -> Self {
        let call_id = call.payload.owned_call_id();
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

    /// For an entry in its last tenth: signed by the gateway, charged to no budget.
    pub(super) fn renewing(
        exchange: &mut Exchange,
        head: &mut Parts,
        call: Call,
        key: CacheKey,
    ) -> Self {
        let mut fetch = Self::asked(exchange, head, call, key, None);
        fetch.renews = true;
        if let Authorization::Kept(Some(caller)) = fetch.delivery.authorization {
            fetch.delivery.authorization = Authorization::Sign(caller);
        }
        fetch
    }

    /// Counts what came of a renewal.
    fn count(&self, fetched: &Fetched, metrics: &Shard) {
        if self.renews {
            let stored = matches!(
                fetched,
                Fetched::Answered(_, Offered::Stored) | Fetched::Held(_)
            );
            metrics.count(if stored { Refresh::Ok } else { Refresh::Failed });
        }
    }
}

impl Fetched {
    /// Would the client get an error only because no node could answer? Then an entry inside the
    /// margin may speak.
    pub(super) fn is_for_want_of_a_node(&self) -> bool {
        match self {
            Self::Answered(reply, _) => reply
                .json
                .as_ref()
                .is_some_and(|json| json.verdict() == Verdict::Busy),
            Self::Failed(_) => true,
            Self::Held(_) | Self::Limited(..) => false,
        }
    }

    /// Which way it took to the nodes, if it went there.
    pub(super) fn trail(&self) -> Option<&Trail> {
        match self {
            Self::Answered(reply, _) => Some(&reply.trail),
            Self::Failed(failure) => Some(&failure.trail),
            Self::Held(_) | Self::Limited(..) => None,
        }
    }

    /// The answer, if it was stored.
    fn stored(&self) -> Option<&WholeReply> {
        match self {
            Self::Answered(reply, Offered::Stored | Offered::HeldNegative) => Some(reply),
            Self::Answered(_, Offered::Passed)
            | Self::Failed(_)
            | Self::Held(_)
            | Self::Limited(..) => None,
        }
    }
}
