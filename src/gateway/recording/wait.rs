//! `Prefer: wait=N` on a response without data: the client waits for the recording, and the gateway polls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::super::context::wall_clock;
use super::super::response::GatewayResponse;
use super::super::{Gateway, Rejection, RequestContext};
use super::fetch::Fetch;
use super::prefer;
use super::waits::{Polled, WaitEnd, Waited};
use super::{FetchOrigin, FetchOutcome, fetch_completed};
use crate::auth::AuthError;
use crate::cache::Freshness;
use crate::ccfs::NO_DATA;
use crate::config::Validation;
use crate::http_fields::PREFERENCE_APPLIED;

impl Gateway {
    /// Returns `response`, or what a wait brings if it is one without data and its client wants to wait.
    pub(super) async fn or_wait(
        self: &Arc<Self>,
        context: &mut RequestContext,
        fetch: Arc<Fetch>,
        response: GatewayResponse,
    ) -> Result<GatewayResponse, Rejection> {
        if context.record.result_code.as_deref() != Some(NO_DATA) {
            return Ok(response);
        }
        match context.remaining_wait(&fetch) {
            Some(wait) => Box::pin(self.wait_for_recording(context, fetch, wait, response)).await,
            None => Ok(response),
        }
    }

    /// Waits at most for `wait`. The response is `unchanged` if there is no room, or no recording then.
    async fn wait_for_recording(
        self: &Arc<Self>,
        context: &mut RequestContext,
        fetch: Arc<Fetch>,
        wait: Duration,
        unchanged: GatewayResponse,
    ) -> Result<GatewayResponse, Rejection> {
        let access_key = fetch.key.access_key().as_str();
        let Some(account) = context.snapshot.account(access_key).cloned() else {
            return Ok(unchanged);
        };
        let room = account.wait_room();
        let seat = self
            .state
            .waits
            .join(&fetch.key, room, context.snapshot.waits);
        let Some(seat) = seat else {
            return Ok(unchanged);
        };
        let cluster = &fetch.upstream_request.cluster.settings().name;
        let payer = context.payer(&account);
        let poll = Arc::new(fetch.for_poll(payer.clone()));
        let deadline = Instant::now() + wait;
        let waited = tokio::select! {
            biased;
            waited = seat.wait(cluster, deadline, || self.poll(poll.clone())) => waited,
            () = self.state.ended(&payer) => Waited::Ended(WaitEnd::Revoked, false),
        };
        drop(seat);
        poll.tell_charge(context);
        context.now = wall_clock();
        let elapsed = context.record.elapsed();
        context.record.wait_time = Some(elapsed);
        let mut response = match waited {
            Waited::InVain => unchanged,
            Waited::Ended(WaitEnd::Revoked, _) => {
                return Err(Rejection::Unauthenticated(AuthError::Disabled));
            }
            Waited::Ended(WaitEnd::Found(mut outcome), mut is_leader) => {
                if !outcome.is_accepted_by(&fetch.upstream_request.headers) {
                    // The leader requested a coding that this client does not accept.
                    outcome = self.clone().run_fetch(fetch).await;
                    is_leader = true;
                }
                let origin = FetchOrigin {
                    no_cache: false,
                    is_leader,
                };
                fetch_completed(context, outcome, origin)?
            }
        };
        if let Some(applied) = prefer::applied(elapsed) {
            response.headers.insert(PREFERENCE_APPLIED, applied);
        }
        Ok(response)
    }

    /// Looks for the recording once: in the cache, else at a node.
    async fn poll(self: &Arc<Self>, poll: Arc<Fetch>) -> Polled {
        let access_key = poll.key.access_key().as_str();
        let snapshot = self.state.snapshot.load_full();
        let account = snapshot.account(access_key);
        if !account.is_some_and(|account| account.is_usable(wall_clock())) {
            return Polled::Ended(WaitEnd::Revoked);
        }
        let caller = poll.payer.as_ref().and_then(|payer| payer.caller.as_ref());
        if let Some(caller) = caller {
            let current = snapshot.caller(caller.name());
            if !current.is_some_and(|caller| caller.is_usable(wall_clock())) {
                // Others that wait for the key may go on.
                return Polled::NoBudget;
            }
        }
        let cached = self
            .state
            .cache
            .get(&poll.key, &snapshot.rules, wall_clock());
        if let Some(hit) = cached
            && hit.freshness == Freshness::Fresh
            && !hit.entry.is_negative
        {
            return Polled::Ended(WaitEnd::Found(FetchOutcome::Cached(hit)));
        }
        let mut role = self
            .state
            .fetches
            .join(&poll.key, || self.clone().run_fetch(poll.clone()));
        let is_leader = role.is_leader();
        let overall = poll.upstream_request.cluster.settings().timeouts.overall;
        let outcome = timeout_at(Instant::now() + overall, role.outcome()).await;
        let Ok(Some(outcome)) = outcome else {
            return Polled::Nothing;
        };
        match &outcome {
            FetchOutcome::RateLimited(..) if is_leader => Polled::NoBudget,
            FetchOutcome::Response(response, _) => {
                let parsed = response.parsed.as_ref();
                let is_found = response.status == http::StatusCode::OK
                    && parsed.is_some_and(|parsed| snapshot.rules.is_success(parsed));
                if is_found {
                    Polled::Ended(WaitEnd::Found(outcome))
                } else {
                    Polled::Nothing
                }
            }
            FetchOutcome::Cached(hit) if !hit.entry.is_negative => {
                Polled::Ended(WaitEnd::Found(outcome))
            }
            FetchOutcome::Cached(_) | FetchOutcome::Failed(_) | FetchOutcome::RateLimited(..) => {
                Polled::Nothing
            }
        }
    }
}

impl RequestContext {
    /// Returns how long the client of a response without data wants to wait still. It counts from the
    /// request's arrival (RFC 7240, 4.3).
    fn remaining_wait(&self, fetch: &Fetch) -> Option<Duration> {
        let wait = fetch.preferred_wait?;
        let policy = self.snapshot.listener_policy(&self.listener).ok()?;
        let is_served = policy.validation == Validation::Enforce;
        let remaining = wait.checked_sub(self.record.elapsed())?;
        (is_served && !remaining.is_zero()).then_some(remaining)
    }
}
