//! The retry loop: one request, several attempts, one deadline.
//!
//! | an attempt ended with | idempotent interface | other, request not sent | other, request sent |
//! |---|---|---|---|
//! | flow control (resultCode 0300008, 0300009) | retry or wait, free | - | retry or wait, free |
//! | 500, 502, 503, 504, a configured resultCode | retry, pays | - | pass on |
//! | 3xx of a JSON interface | retry, pays | - | pass on |
//! | 401 to a verified request | one retry, signed anew, pays | - | pass on |
//! | no connection, or node at its connection limit | retry, free | retry, free | - |
//! | closed before the first byte of a response | retry, free | - | fail |
//! | cut off, invalid response | retry, pays | - | fail |
//! | per-try timeout | retry, paid before leaving | retry, paid before leaving | wait on |
//! | node found down by its health check | retry, free | retry, free | wait on |
//! | no usable node, each one so far gone | the fallback cluster, free | - | - |
//!
//! A retry needs, in this order, time left, a node that was not tried, and, unless it is free, a token of
//! the cluster's retry budget: the node is chosen before the token is taken, so that no token is spent on
//! a retry that cannot be made. No node is tried twice. Without a retry the last response is passed on, if
//! there was one, else the last failure.
//!
//! A request that has no node only because each usable one is at its flow-control bound waits for one. Once
//! it has waited for `max_wait` in all, it is sent to the node with most room, and the next flow control
//! is passed on. Where flow control is not learned (`mode = "pass"`), nothing waits and the retry pays.
//!
//! A request that is forwarded unverified goes to one node: to another one only if no connection was
//! established, without the budget. It changes nothing about a node but by failures to connect.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Upstream;
use super::attempt::{AttemptError, ResponseMode};
use super::attempt_report::EndedAttempt;
use super::attempt_telemetry::AttemptTelemetry;
use super::flow_control::{FlowState, RoomWait, flow_request, wait_for_room};
use super::progress::AttemptProgress;
use super::response::{NodeResponse, RetryDecision};
use crate::ccfs::RetrySafety;
use crate::cluster::{Choice, Cluster, FlowRequest, Node, NodeGuard, NodeId, RefusalAdvice};
use crate::message::{
    AttemptSummary, ConnectError, UpstreamError, UpstreamErrorKind, UpstreamRequest,
};
use crate::metrics::{RetryOverflow, RetryReason};
use crate::tick_timer::TickTimer;

/// The state of one request over its attempts.
#[derive(Debug)]
pub(super) struct RetryState<'a> {
    request: &'a UpstreamRequest,
    started: Instant,
    overall_deadline: Instant,
    /// When the last attempt ended, or the request began. Saves the next attempt a clock reading.
    now: Instant,
    tried: Vec<NodeId>,
    last_node: Option<Arc<str>>,
    attempts: u32,
    /// Whether a node may have acted on the request.
    request_sent: bool,
    /// Why the next attempt is a retry.
    retry_reason: Option<RetryReason>,
    /// Whether the request was already retried after a 401; from then on it is signed anew.
    is_signed_anew: bool,
    /// Whether each attempt so far found its node gone.
    all_gone: bool,
    /// Whether another cluster handed the request over: it is signed anew for the node's own Host.
    is_fallback: bool,
    /// The fallback cluster that takes over.
    hand_over: Option<Arc<Cluster>>,
    /// What is known about nodes that refuse the signer's signatures.
    advice: Option<RefusalAdvice>,
    flow: FlowState,
    /// The node of the next attempt, chosen and paid for when the last one was ended early.
    reserved: Option<NodeGuard>,
    last_error: Option<AttemptError>,
    last_response: Option<NodeResponse>,
}

/// Until when one attempt is waited for.
struct AttemptDeadline<'a> {
    node: &'a Node,
    progress: &'a AttemptProgress,
    /// The end of the attempt while another node is left.
    until: Instant,
}

impl Upstream {
    /// Runs attempts until one of them is final, or no retry is possible.
    pub(super) async fn send_with_retries(
        &self,
        state: &mut RetryState<'_>,
        mode: ResponseMode,
    ) -> Result<NodeResponse, UpstreamError> {
        let cluster = &state.request.cluster;
        let now = state.now.into_std();
        if state.is_verified() {
            cluster.retry_budget().record_request(now);
        }
        let mut timer = TickTimer::default();
        let mut next = state.first_node(now);
        loop {
            if next.is_none() {
                next = state.wait_for_room().await;
            }
            let Some(guard) = next else { break };
            next = match self.run_attempt(state, guard, mode, &mut timer).await {
                Ok(response) => {
                    let mut node = state.node_after_response(&response);
                    if !state.is_free_retry(&response) {
                        node = self.paid(state, node);
                    }
                    if node.is_none() && !state.flow.awaits_room {
                        return Ok(response);
                    }
                    state.record_response(response);
                    node
                }
                Err(error) => {
                    state.record_failure(error);
                    if state.hand_over.is_some() {
                        break;
                    }
                    let node = state.node_after_failure(error);
                    if error.outside_retry_budget {
                        node
                    } else {
                        self.paid(state, node)
                    }
                }
            };
        }
        state.take_result()
    }

    /// Runs one attempt under its deadline, records it, and reports its outcome to the node's health.
    async fn run_attempt(
        &self,
        state: &mut RetryState<'_>,
        guard: NodeGuard,
        mode: ResponseMode,
        timer: &mut TickTimer,
    ) -> Result<NodeResponse, AttemptError> {
        let request = state.request;
        let node = guard.node().clone();
        state.begin_attempt(&node);
        if let Some(reason) = state.retry_reason.take() {
            self.metrics.count(reason);
        }
        let started = state.now;
        let per_try = request.cluster.settings().timeouts.per_try;
        let mut telemetry = AttemptTelemetry::start(self, request, &node, state.attempts, started);
        let mut progress = AttemptProgress::start(telemetry.trace(), started);
        progress.is_signed_anew = state.signs_anew(&node);
        progress.is_fallback = state.is_fallback;
        let deadline = AttemptDeadline {
            node: &node,
            progress: &progress,
            until: state.overall_deadline.min(started + per_try),
        };

        let mut attempt = std::pin::pin!(self.attempt(request, guard, mode, &progress));
        let result = self
            .await_attempt(state, &deadline, attempt.as_mut(), timer)
            .await;

        state.now = Instant::now();
        let elapsed = state.now - started;
        telemetry.record_result(&result, elapsed);
        let ended = EndedAttempt {
            request,
            node: &node,
            progress: &progress,
            result: &result,
            elapsed,
        };
        ended.report(state.now);
        result
    }

    /// Waits for an attempt until its deadline, or until failing over to another node is better.
    async fn await_attempt(
        &self,
        state: &mut RetryState<'_>,
        deadline: &AttemptDeadline<'_>,
        mut attempt: Pin<&mut impl Future<Output = Result<NodeResponse, AttemptError>>>,
        timer: &mut TickTimer,
    ) -> Result<NodeResponse, AttemptError> {
        let until = deadline.until;
        timer.reset_look(deadline.progress.started + PROGRESS_CHECK_INTERVAL, until);
        loop {
            tokio::select! {
                biased;
                result = attempt.as_mut() => return result,
                () = &mut *timer => {}
            }
            let (sent, now) = (deadline.progress.is_request_sent(), Instant::now());
            let is_dead = state.may_fail_over_from_dead(deadline.node, sent);
            if !is_dead && now < until {
                timer.reset_look(now + PROGRESS_CHECK_INTERVAL, until);
                continue;
            }
            // The per-try timeout ends the attempt only if another node may be tried instead.
            let node = state.node_for_fail_over(sent);
            if is_dead && node.is_none() && state.may_hand_over() {
                state.hand_over = state.usable_fallback(now.into_std()).cloned();
            }
            let is_free = is_dead || node.is_none();
            state.reserved = if is_free {
                node
            } else {
                self.paid(state, node)
            };
            let fails_over = state.reserved.is_some() || state.hand_over.is_some();
            if !fails_over && !state.is_past_deadline() {
                timer.reset_look(now + PROGRESS_CHECK_INTERVAL, state.overall_deadline);
                continue;
            }
            return Err(AttemptError {
                kind: UpstreamErrorKind::Timeout,
                request_sent: sent,
                outside_retry_budget: fails_over,
            });
        }
    }

    /// Takes a retry at the chosen node out of the cluster's budget; `None` if the budget is exhausted.
    fn paid(&self, state: &RetryState<'_>, node: Option<NodeGuard>) -> Option<NodeGuard> {
        let node = node?;
        let cluster = &state.request.cluster;
        let limits = &cluster.settings().retries;
        let now = Instant::now().into_std();
        let allowed = cluster.retry_budget().try_withdraw(now, limits);
        if !allowed {
            self.metrics.count(RetryOverflow::BudgetExhausted);
        }
        allowed.then_some(node)
    }
}

impl<'a> RetryState<'a> {
    pub(super) fn new(request: &'a UpstreamRequest, overall_timeout: Duration) -> Self {
        let started = Instant::now();
        let advice = request.signer().and_then(|signer| {
            let access_key = signer.access_key().as_str();
            request.cluster.advise(access_key, started.into_std())
        });
        Self {
            advice,
            flow: FlowState::default(),
            all_gone: true,
            is_fallback: false,
            hand_over: None,
            request,
            started,
            overall_deadline: started + overall_timeout,
            now: started,
            tried: Vec::new(),
            last_node: None,
            attempts: 0,
            request_sent: false,
            retry_reason: None,
            is_signed_anew: false,
            reserved: None,
            last_error: None,
            last_response: None,
        }
    }

    /// Takes the fallback cluster to which the request is handed over.
    pub(super) fn take_hand_over(&mut self) -> Option<Arc<Cluster>> {
        self.hand_over.take()
    }

    /// Returns the state of `request`, the same one for a fallback cluster, which goes on where this one
    /// ends.
    pub(super) fn handed_over<'b>(&self, request: &'b UpstreamRequest) -> RetryState<'b> {
        RetryState {
            started: self.started,
            overall_deadline: self.overall_deadline,
            attempts: self.attempts,
            request_sent: self.request_sent,
            retry_reason: self.retry_reason,
            last_error: self.last_error,
            is_fallback: true,
            flow: FlowState {
                waited: self.flow.waited,
                ..FlowState::default()
            },
            ..RetryState::new(request, Duration::ZERO)
        }
    }

    /// Chooses the node of the first attempt, or hands the request over.
    fn first_node(&mut self, now: std::time::Instant) -> Option<NodeGuard> {
        let cluster = &self.request.cluster;
        if self.may_hand_over() && !cluster.is_usable(now) {
            self.hand_over = self.usable_fallback(now).cloned();
            if self.hand_over.is_some() {
                return None;
            }
        }
        let choice = self.choice(now);
        // Newcomers do not overtake the requests that wait.
        let waits = choice
            .flow
            .is_some_and(|flow| cluster.has_waiters(flow.class));
        let node = (!waits || !self.is_verified())
            .then(|| cluster.pick_first(choice))
            .flatten();
        self.flow.awaits_room = node.is_none() && (waits || cluster.is_at_bound(choice));
        node
    }

    /// Whether a fallback cluster may take over: a verified request that may be repeated, which found each
    /// node gone.
    fn may_hand_over(&self) -> bool {
        let cluster = &self.request.cluster;
        cluster.has_fallback()
            && !self.is_fallback
            && self.all_gone
            && self.is_idempotent()
            && self.is_verified()
    }

    fn usable_fallback(&self, now: std::time::Instant) -> Option<&Arc<Cluster>> {
        self.request.cluster.usable_fallback(now)
    }

    pub(super) fn summary(&self) -> AttemptSummary {
        AttemptSummary {
            node: self.last_node.clone(),
            count: self.attempts,
            fallback: self
                .is_fallback
                .then(|| self.request.cluster.settings().name.clone()),
            elapsed: self.now - self.started,
            queued: self.flow.waited,
        }
    }

    /// Chooses a node that may give a better response. An unhealthy one is not worth an attempt then.
    fn node_after_response(&mut self, response: &NodeResponse) -> Option<NodeGuard> {
        if !self.is_verified() {
            return None;
        }
        if self.is_free_retry(response) {
            return self.node_after_flow_control();
        }
        let may_retry = match response.decision {
            RetryDecision::RetryAlways => true,
            RetryDecision::PassOn => false,
            RetryDecision::RetryIfIdempotent => self.is_idempotent(),
            RetryDecision::RetrySignedAnew => return self.node_after_refusal(),
        };
        if may_retry { self.healthy_node() } else { None }
    }

    /// Chooses the one other node that is asked after a refused signature: not one that refuses the signer
    /// too.
    fn node_after_refusal(&self) -> Option<NodeGuard> {
        let advice = self.advice.as_ref();
        if !self.is_idempotent()
            || self.is_signed_anew
            || advice.is_some_and(|advice| advice.one_attempt)
        {
            return None;
        }
        let refuses = |node: &NodeGuard| self.avoided().contains(&node.node().id());
        self.healthy_node().filter(|node| !refuses(node))
    }

    /// Whether the response is flow control that is learned: a retry pays nothing.
    fn is_free_retry(&self, response: &NodeResponse) -> bool {
        response.decision == RetryDecision::RetryAlways && self.flow_request().is_some()
    }

    fn flow_request(&self) -> Option<FlowRequest<'_>> {
        flow_request(self.request, self.flow.beyond_bound)
    }

    /// Chooses another node with room after flow control, or waits for one, unless the request has waited in
    /// vain before.
    fn node_after_flow_control(&mut self) -> Option<NodeGuard> {
        if self.flow.beyond_bound || self.is_past_deadline() {
            return None;
        }
        self.flow.refused_by.extend(self.tried.last());
        let node = self.healthy_node();
        self.flow.awaits_room = node.is_none();
        node
    }

    /// Waits for a node with room, if that is all that the request lacks. After a wait in vain, chooses the
    /// node with most room.
    async fn wait_for_room(&mut self) -> Option<NodeGuard> {
        let request = self.request;
        if !std::mem::take(&mut self.flow.awaits_room) || request.is_refresh || !self.is_verified()
        {
            return None;
        }
        // Where it was refused before, it may be taken now.
        let refused_by = std::mem::take(&mut self.flow.refused_by);
        self.tried.retain(|node| !refused_by.contains(node));
        let began = Instant::now();
        let max_wait = request.cluster.settings().flow_control.max_wait;
        let left = max_wait.saturating_sub(self.flow.waited);
        let wait = if left.is_zero() {
            RoomWait::InVain
        } else {
            let deadline = self.overall_deadline.min(began + left);
            let choice = self.choice(began.into_std());
            // Boxed, because few requests wait and the futures of all stay small.
            Box::pin(wait_for_room(request, choice, deadline)).await
        };
        self.now = Instant::now();
        self.flow.waited += self.now - began;
        match wait {
            RoomWait::Place(place) => return Some(place),
            // The refusal before the wait is not what its client is told.
            RoomWait::Revoked => {
                self.last_response = None;
                return None;
            }
            RoomWait::InVain => {}
        }
        if self.is_past_deadline() {
            self.last_error.get_or_insert(AttemptError {
                kind: UpstreamErrorKind::Timeout,
                request_sent: false,
                outside_retry_budget: false,
            });
            return None;
        }
        self.flow.beyond_bound = true;
        let choice = self.choice(self.now.into_std());
        let cluster = &request.cluster;
        cluster
            .pick_most_room(choice)
            .or_else(|| cluster.pick_any(choice))
    }

    fn avoided(&self) -> &[NodeId] {
        self.advice.as_ref().map_or(&[], |advice| &advice.avoided)
    }

    /// Chooses a node after an attempt without a response. An unhealthy one is better than none, unless
    /// there is a response to pass on.
    fn node_after_failure(&mut self, error: AttemptError) -> Option<NodeGuard> {
        if let Some(node) = self.reserved.take() {
            return Some(node);
        }
        let may_retry = match self.is_verified() {
            true => self.is_idempotent() || !error.request_sent,
            false => error.outside_retry_budget && !error.request_sent,
        };
        if !may_retry || self.is_past_deadline() {
            return None;
        }
        if self.last_response.is_some() {
            let node = self.healthy_node();
            self.flow.awaits_room = node.is_none() && self.is_at_bound();
            return node;
        }
        let (cluster, now) = (&self.request.cluster, self.now.into_std());
        if self.may_hand_over()
            && let Some(fallback) = self.usable_fallback(now).cloned()
        {
            let node = cluster.pick_usable(self.choice(now));
            let is_at_bound = node.is_none() && self.is_at_bound();
            self.flow.awaits_room = is_at_bound;
            if node.is_none() && !is_at_bound {
                self.hand_over = Some(fallback);
            }
            return node;
        }
        let node = cluster.pick_any(self.choice(now));
        self.flow.awaits_room = node.is_none() && self.is_at_bound();
        node
    }

    /// Whether no node is left only because of flow control.
    fn is_at_bound(&self) -> bool {
        let choice = self.choice(self.now.into_std());
        self.request.cluster.is_at_bound(choice)
    }

    /// Chooses a node for an attempt that is ended early.
    fn node_for_fail_over(&self, request_sent: bool) -> Option<NodeGuard> {
        let may_retry = self.is_verified() && (self.is_idempotent() || !request_sent);
        if may_retry { self.healthy_node() } else { None }
    }

    fn healthy_node(&self) -> Option<NodeGuard> {
        if self.is_past_deadline() {
            return None;
        }
        let choice = self.choice(Instant::now().into_std());
        self.request.cluster.pick_for_retry(choice)
    }

    /// Returns what the choice of a node at `now` depends on.
    fn choice(&self, now: std::time::Instant) -> Choice<'_> {
        Choice {
            hash_key: self.request.hash_key,
            tried: &self.tried,
            avoided: self.avoided(),
            flow: self.flow_request(),
            now,
        }
    }

    /// Whether the gateway signs what goes to `node`, although nothing was changed.
    fn signs_anew(&self, node: &Node) -> bool {
        let advice = self.advice.as_ref();
        self.is_signed_anew
            || self.is_fallback
            || advice.is_some_and(|advice| advice.signs_anew(node.id()))
    }

    fn begin_attempt(&mut self, node: &Node) {
        node.record_attempt();
        self.attempts += 1;
        self.tried.push(node.id());
        self.last_node = Some(node.name().clone());
    }

    fn record_response(&mut self, response: NodeResponse) {
        self.retry_reason = Some(match response.decision {
            RetryDecision::RetryAlways => RetryReason::FlowControl,
            RetryDecision::RetrySignedAnew => RetryReason::Unauthorized,
            RetryDecision::PassOn | RetryDecision::RetryIfIdempotent => RetryReason::ServerError,
        });
        self.is_signed_anew |= response.decision == RetryDecision::RetrySignedAnew;
        self.last_response = Some(response);
    }

    fn record_failure(&mut self, error: AttemptError) {
        self.request_sent |= error.request_sent;
        self.all_gone &= error.is_node_gone() || self.hand_over.is_some();
        self.retry_reason = Some(error.retry_reason());
        // The failure of a node explains more than the connection limit of the last one.
        if error.kind != UpstreamErrorKind::NoNodeAvailable || self.last_error.is_none() {
            self.last_error = Some(error);
        }
    }

    /// Whether the gateway has verified the request.
    fn is_verified(&self) -> bool {
        self.request.signer().is_some()
    }

    fn is_idempotent(&self) -> bool {
        self.request.endpoint.retry_safety == RetrySafety::Idempotent
    }

    fn is_past_deadline(&self) -> bool {
        Instant::now() >= self.overall_deadline
    }

    /// Whether an attempt at a node that is now known to be down may be ended for a healthy one.
    fn may_fail_over_from_dead(&self, node: &Node, request_sent: bool) -> bool {
        let now = Instant::now().into_std();
        self.is_verified()
            && (self.is_idempotent() || !request_sent)
            && !self.is_past_deadline()
            && node.is_down()
            && (self.request.cluster.has_usable_node(self.choice(now))
                || self.may_hand_over() && self.usable_fallback(now).is_some())
    }

    /// The result without a further attempt: the last response, unless a node may have acted on a
    /// request that is not idempotent, which that response does not show; else the last failure.
    fn take_result(&mut self) -> Result<NodeResponse, UpstreamError> {
        if (self.is_idempotent() || !self.request_sent)
            && let Some(response) = self.last_response.take()
        {
            return Ok(response);
        }
        let kind = self.last_error.map(|error| error.kind);
        let no_node = || match self.request.cluster.lacks_addresses() {
            true => UpstreamErrorKind::ConnectFailed(ConnectError::NoAddress),
            false => UpstreamErrorKind::NoNodeAvailable,
        };
        Err(UpstreamError {
            kind: kind.unwrap_or_else(no_node),
            request_sent: self.request_sent,
            attempts: self.summary(),
        })
    }
}

/// How often a waiting attempt checks whether its node was found down; a health check takes about as long.
const PROGRESS_CHECK_INTERVAL: Duration = Duration::from_secs(1);
