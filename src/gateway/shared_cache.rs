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
use super::{Account, Exchange, Gateway, Rejection, Shared};
use crate::cache::{Freshness, Held, Rules, Ticket};
use crate::ccfs::{Endpoint, Json};
use crate::limit::Exceeded;
use crate::message::{CacheKey, Trail, WholeReply};
use crate::metrics::{Decision, Limited, Shard};
use crate::shared_store::{Answer, Found, Knowledge, Lease, Patience, Sought, Store};

/// The store on the way of one request or fetch.
#[derive(Debug)]
pub(super) struct Replicas {
    store: Arc<Store>,
    patience: Patience,
    lease: Option<Lease>,
    knowledge: Knowledge,
}

impl Replicas {
    /// None without `[shared]`. `patience` is what is left of it, if some was used up.
    pub(super) fn of(shared: &Shared, patience: Option<Patience>) -> Option<Self> {
        let store = shared.store.load_full()?;
        Some(Self {
            patience: patience.unwrap_or_else(|| store.patience()),
            store,
            lease: None,
            knowledge: Knowledge::default(),
        })
    }

    /// To be called before anything is looked for: from here on, a purge makes void what is brought.
    pub(super) fn begin(&mut self, key: &CacheKey, call_id: Option<&str>) {
        self.knowledge = self.store.knowledge(key, call_id);
    }

    /// The answer that another replica has left, now in the own cache too. Without one, the fetch is
    /// this replica's alone if that can be had.
    pub(super) async fn find(
        &mut self,
        shared: &Shared,
        sought: Sought<'_>,
        (ticket, rules): (&Ticket<'_>, &Rules),
        metrics: &Shard,
    ) -> Option<Held> {
        let accept = |text: &[u8]| {
            let (fetched_at, reply) = read(text)?;
            let times = (fetched_at, wall_clock());
            let held = shared.cache.adopt(ticket, &reply, rules, times)?;
            (held.freshness == Freshness::Fresh).then_some(held)
        };
        let patience = &mut self.patience;
        let found = self.store.find(sought, patience, metrics, accept);
        let found = Box::pin(found).await;
        match found {
            Found::Answer(held) => return Some(held),
            Found::Lease(lease) => self.lease = Some(lease),
            Found::Nothing => {}
        }
        None
    }

    /// Runs the fetch, and tells the others for how long.
    pub(super) async fn hold<T>(&self, fetch: impl Future<Output = T>) -> T {
        let Some(lease) = &self.lease else {
            return fetch.await;
        };
        tokio::select! {
            biased;
            brought = fetch => brought,
            () = Box::pin(self.store.hold(lease)) => std::future::pending().await,
        }
    }

    /// Leaves what was brought for the others, if the own cache took it; ends the lease.
    pub(super) async fn leave(
        mut self,
        key: &CacheKey,
        held: Option<(Held, &WholeReply)>,
        metrics: &Shard,
    ) {
        let Self {
            store,
            patience,
            lease,
            knowledge,
        } = &mut self;
        let brought = held.is_some();
        if let Some((held, reply)) = held {
            let now = wall_clock();
            let text = write(now, reply);
            let answer = Answer {
                text: &text,
                life: held.entry.life(now),
                provisional: held.entry.negative,
                knowledge,
            };
            Box::pin(store.write(key, &answer, patience, metrics)).await;
        }
        if let Some(lease) = lease.take() {
            Box::pin(store.end(lease, brought, patience)).await;
        }
    }

    async fn charge(&mut self, account: &Account, metrics: &Shard) -> Option<Result<(), Exceeded>> {
        let rate = account.rate()?;
        let access_key = account.credential.access_key();
        let patience = &mut self.patience;
        let answer = self.store.charge(access_key, rate, patience, metrics);
        Some(match Box::pin(answer).await.ok()? {
            None => Ok(()),
            Some(wait) => Err(Exceeded { rate, wait }),
        })
    }
}

/// Charges the budget of an ak: the local one first, which keeps from the store whatever is more than
/// one replica alone would allow; then the one of all replicas, if it answers.
pub(super) async fn charge(
    account: &Account,
    replicas: Option<&mut Replicas>,
    metrics: &Shard,
) -> Result<(), (Limited, Exceeded)> {
    account
        .charge()
        .map_err(|exceeded| (Limited::AccessKey, exceeded))?;
    let answer = match replicas {
        Some(replicas) => replicas.charge(account, metrics).await,
        None => None,
    };
    match answer {
        None => metrics.count(Decision::AccessKeyAllowed),
        Some(Ok(())) => metrics.count(Decision::SharedAllowed),
        Some(Err(exceeded)) => return Err((Limited::Shared, exceeded)),
    }
    Ok(())
}

impl Gateway {
    /// Charges the ak's budget for a request that no fetch charges.
    pub(super) async fn charge(
        &self,
        exchange: &mut Exchange,
        account: &Account,
        endpoint: &Endpoint,
    ) -> Result<(), Rejection> {
        let mut replicas = account
            .is_limited()
            .then(|| Replicas::of(&self.shared, exchange.patience))
            .flatten();
        let charged = charge(account, replicas.as_mut(), exchange.record.metrics()).await;
        exchange.patience = replicas.map(|it| it.patience);
        charged.map_err(|(limiter, exceeded)| Rejection::RateLimited {
            limiter,
            exceeded: Some(exceeded),
            code: endpoint.flow_control_code,
        })
    }
}

/// What is left in the store: when it was fetched, its Content-Type, its body. All that is judged of
/// an answer is read from the body again, by the rules of whoever finds it.
fn write(fetched_at: Timestamp, reply: &WholeReply) -> Vec<u8> {
    let content_type = reply.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map_or(&[][..], HeaderValue::as_bytes);
    let length = u16::try_from(content_type.len()).unwrap_or_default();
    let mut text = fetched_at.as_millisecond().to_be_bytes().to_vec();
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(&content_type[..usize::from(length)]);
    text.extend_from_slice(&reply.body);
    text
}

fn read(text: &[u8]) -> Option<(Timestamp, WholeReply)> {
    let (time, rest) = text.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (content_type, body) = rest.split_at_checked(length)?;
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        let value = HeaderValue::from_bytes(content_type).ok()?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    let reply = WholeReply {
        status: StatusCode::OK,
        headers,
        json: Some(Arc::new(Json::read(body)?)),
        body: Bytes::copy_from_slice(body),
        trail: Trail::default(),
    };
    let time = Timestamp::from_millisecond(i64::from_be_bytes(*time)).ok()?;
    Some((time, reply))
}

/// Half of what a client waits: there must be time for an own fetch after it.
pub(super) fn longest_wait(overall: Duration) -> Duration {
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
            let reply = WholeReply {
                status: StatusCode::OK,
                headers: headers.clone(),
                json: None,
                body: body.clone().into(),
                trail: Trail::default(),
            };
            let time = Timestamp::from_millisecond(millis).unwrap();
            let (read_time, found) = read(&write(time, &reply)).unwrap();
            prop_assert_eq!(read_time, time);
            prop_assert_eq!(found.headers, headers);
            prop_assert_eq!(&found.body, &body);
            let json = found.json.unwrap();
            prop_assert_eq!(json.result_code.as_deref(), Some(code.as_str()));
        }

        #[test]
        fn garbage_is_no_answer(garbage: Vec<u8>) {
            prop_assert!(read(&garbage).is_none());
        }
    }
}
